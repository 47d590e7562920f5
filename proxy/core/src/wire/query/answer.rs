//! What a session is answered.

use super::Format;
use crate::wire::tag::{NOTICE_RESPONSE, PARAMETER_STATUS, READY_FOR_QUERY};
use crate::wire::{put_message, put_text};

/// ParseComplete.
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// BindComplete.
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
/// CloseComplete.
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// EmptyQueryResponse: there was no statement in the query.
pub const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";
/// NoData: a statement returns no rows.
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
/// ParameterDescription of a statement without parameters.
pub const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";
/// PortalSuspended: there are more rows than were asked for.
pub const PORTAL_SUSPENDED: &[u8] = b"s\0\0\0\x04";

/// A column, as a client is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type's number in `pg_type`.
    pub type_oid: u32,
    /// The type's size in bytes; -1 where it differs from value to value.
    pub type_bytes: i16,
    /// How its values are written.
    pub format: Format,
}

/// Whether a session is within a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is not.
    Idle,
    /// It is.
    InTransaction,
}

/// RowDescription.
pub fn row_description(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(b'T'), |out| {
        // Every caller's columns are a constant few.
        let count = u16::try_from(fields.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for field in fields {
            put_text(out, field.name.as_bytes());
            // It is no column of a table: no table, no attribute number.
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&field.type_oid.to_be_bytes());
            out.extend_from_slice(&field.type_bytes.to_be_bytes());
            // No type modifier.
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            let format: u16 = match field.format {
                Format::Text => 0,
                Format::Binary => 1,
            };
            out.extend_from_slice(&format.to_be_bytes());
        }
    });
    out
}

/// Appends a DataRow; [`None`] is NULL.
pub fn data_row(out: &mut Vec<u8>, values: &[Option<Vec<u8>>]) {
    put_message(out, Some(b'D'), |out| {
        let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for value in values {
            match value {
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(bytes) => {
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(bytes);
                }
            }
        }
    });
}

/// CommandComplete, with what psql prints when there are no rows.
pub fn command_complete(tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(b'C'), |out| put_text(out, tag.as_bytes()));
    out
}

/// ReadyForQuery.
pub fn ready_for_query(status: Status) -> Vec<u8> {
    let status = match status {
        Status::Idle => b'I',
        Status::InTransaction => b'T',
    };
    vec![READY_FOR_QUERY, 0, 0, 0, 5, status]
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(PARAMETER_STATUS), |out| {
        put_text(out, name.as_bytes());
        put_text(out, value.as_bytes());
    });
    out
}

/// NoticeResponse: a text that a client shows beside what it asked for.
pub fn notice(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(NOTICE_RESPONSE), |out| {
        for (code, text) in [
            (b'S', "NOTICE"),
            (b'V', "NOTICE"),
            (b'C', "00000"),
            (b'M', text),
        ] {
            out.push(code);
            put_text(out, text.as_bytes());
        }
        out.push(0);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_what_the_protocol_says() {
        let field = Field {
            name: "n",
            type_oid: 20,
            type_bytes: 8,
            format: Format::Binary,
        };
        assert_eq!(
            row_description(&[field]),
            b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01"
        );
        let mut row = Vec::new();
        data_row(&mut row, &[Some(b"ab".to_vec()), None]);
        assert_eq!(row, b"D\0\0\0\x10\0\x02\0\0\0\x02ab\xff\xff\xff\xff");
        assert_eq!(command_complete("SHOW"), b"C\0\0\0\x09SHOW\0");
        assert_eq!(ready_for_query(Status::Idle), b"Z\0\0\0\x05I");
        assert_eq!(ready_for_query(Status::InTransaction), b"Z\0\0\0\x05T");
        assert_eq!(parameter_status("a", "b"), b"S\0\0\0\x08a\0b\0");
        assert_eq!(notice("x"), b"N\0\0\0\x1fSNOTICE\0VNOTICE\0C00000\0Mx\0\0");
    }
}
