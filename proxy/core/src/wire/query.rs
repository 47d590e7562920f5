//! The messages of a session that Postern answers itself: queries, and what comes of them.
//!
//! Both query protocols are here, the simple and the extended one.
//! A message is judged by its length before any of its body is kept, and a body is accepted only
//! when every byte of it is accounted for.
//!
//! Source: PostgreSQL, "Message Flow",
//! <https://www.postgresql.org/docs/current/protocol-flow.html>.

mod answer;

pub use answer::{
    BIND_COMPLETE, CLOSE_COMPLETE, EMPTY_QUERY, Field, NO_DATA, NO_PARAMETERS, PARSE_COMPLETE,
    PORTAL_SUSPENDED, Status, command_complete, data_row, notice, parameter_status,
    ready_for_query, row_description,
};

use super::{HEADER_BYTES, LENGTH_BYTES, Reader};
use crate::limits::CONSOLE_MESSAGE_BYTES_MAX;

/// What a client sends in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// A simple query.
    Query(&'a str),
    /// A statement to be prepared.
    Parse {
        /// What it is to be called; the empty name is replaced by the next one.
        name: &'a str,
        /// The statement.
        query: &'a str,
    },
    /// A portal to be made of a prepared statement.
    Bind(Bind<'a>),
    /// What a statement or a portal returns.
    Describe(Target<'a>),
    /// A portal to be run.
    Execute {
        /// Which.
        portal: &'a str,
        /// How many rows at most; 0 is all.
        rows_max: u32,
    },
    /// A statement or a portal that is not needed any more.
    Close(Target<'a>),
    /// The end of a series of messages, after which an error counts no more.
    Sync,
    /// All answers so far are to be sent.
    Flush,
    /// Goodbye.
    Terminate,
    /// Another message, by its tag.
    Other(u8),
}

/// A portal to be made of a prepared statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// What the portal is to be called.
    pub portal: &'a str,
    /// The statement.
    pub statement: &'a str,
    /// How many parameters come with it.
    pub parameters: u16,
    /// In which formats the columns are wanted: two bytes each, checked.
    formats: &'a [u8],
}

impl Bind<'_> {
    /// The format of a column: none given is text, and one is that of all.
    pub fn format(&self, column: usize) -> Format {
        let codes = self.formats.chunks_exact(2);
        let code = match codes.len() {
            0 => None,
            1 => self.formats.get(..2),
            _ => self.formats.chunks_exact(2).nth(column),
        };
        match code {
            Some([0, 1]) => Format::Binary,
            _ => Format::Text,
        }
    }

    /// How many formats are given.
    pub fn formats(&self) -> usize {
        self.formats.len() / 2
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As people read it.
    Text,
    /// As PostgreSQL's `send` functions write it.
    Binary,
}

/// What a Describe or a Close is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a str),
    /// A portal.
    Portal(&'a str),
}

/// The first message of `bytes` and its length in bytes, or [`None`] when it has not arrived
/// whole.
///
/// # Errors
///
/// [`QueryError::Length`] as soon as the length word is there, when it is under its own size or
/// the message would be longer than [`CONSOLE_MESSAGE_BYTES_MAX`]; else what is wrong with the
/// body.
pub fn read(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, QueryError> {
    let Some((&[tag, ref word @ ..], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*word);
    let body_bytes = usize::try_from(length)
        .ok()
        .and_then(|it| it.checked_sub(LENGTH_BYTES))
        .filter(|it| *it <= CONSOLE_MESSAGE_BYTES_MAX - HEADER_BYTES)
        .ok_or(QueryError::Length(length))?;
    let Some(body) = rest.get(..body_bytes) else {
        return Ok(None);
    };
    let request = request(tag, Reader(body))?;
    Ok(Some((request, HEADER_BYTES + body_bytes)))
}

fn request(tag: u8, mut body: Reader<'_>) -> Result<Request<'_>, QueryError> {
    let request = match tag {
        b'Q' => Request::Query(text(&mut body)?),
        b'P' => {
            let (name, query) = (text(&mut body)?, text(&mut body)?);
            let types = short(&mut body)?;
            for _ in 0..types {
                body.u32().ok_or(QueryError::Malformed(tag))?;
            }
            Request::Parse { name, query }
        }
        b'B' => Request::Bind(bind(&mut body)?),
        b'D' => Request::Describe(target(tag, &mut body)?),
        b'C' => Request::Close(target(tag, &mut body)?),
        b'E' => Request::Execute {
            portal: text(&mut body)?,
            rows_max: body.u32().ok_or(QueryError::Malformed(tag))?,
        },
        b'S' => Request::Sync,
        b'H' => Request::Flush,
        b'X' => Request::Terminate,
        other => {
            // What is in it makes no difference: it is not answered.
            body.rest();
            Request::Other(other)
        }
    };
    match body.is_empty() {
        true => Ok(request),
        false => Err(QueryError::Malformed(tag)),
    }
}

fn bind<'a>(body: &mut Reader<'a>) -> Result<Bind<'a>, QueryError> {
    let malformed = QueryError::Malformed(b'B');
    let (portal, statement) = (text(body)?, text(body)?);
    formats(body)?;
    let parameters = short(body)?;
    for _ in 0..parameters {
        let length = body.u32().ok_or(malformed)?;
        // -1 on the wire is NULL, which has no bytes.
        if length != u32::MAX {
            let length = usize::try_from(length).map_err(|_| malformed)?;
            body.bytes(length).ok_or(malformed)?;
        }
    }
    Ok(Bind {
        portal,
        statement,
        parameters,
        formats: formats(body)?,
    })
}

/// Format codes, each of which is 0 or 1.
fn formats<'a>(body: &mut Reader<'a>) -> Result<&'a [u8], QueryError> {
    let count = usize::from(short(body)?);
    let codes = body.bytes(count * 2).ok_or(QueryError::Malformed(b'B'))?;
    let are_known = codes.chunks_exact(2).all(|it| matches!(it, [0, 0 | 1]));
    are_known
        .then_some(codes)
        .ok_or(QueryError::Malformed(b'B'))
}

fn target<'a>(tag: u8, body: &mut Reader<'a>) -> Result<Target<'a>, QueryError> {
    match body.u8() {
        Some(b'S') => Ok(Target::Statement(text(body)?)),
        Some(b'P') => Ok(Target::Portal(text(body)?)),
        _ => Err(QueryError::Malformed(tag)),
    }
}

fn text<'a>(body: &mut Reader<'a>) -> Result<&'a str, QueryError> {
    let bytes = body.text().ok_or(QueryError::NotTerminated)?;
    std::str::from_utf8(bytes).map_err(|_| QueryError::NotUtf8)
}

fn short(body: &mut Reader<'_>) -> Result<u16, QueryError> {
    let bytes = body.take().ok_or(QueryError::NotTerminated)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Which rule a message breaks. The stream cannot be followed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The length is out of bounds.
    #[error("a message's length of {0} bytes is out of bounds")]
    Length(u32),
    /// A text or a number does not end within the message.
    #[error("a message ends too early")]
    NotTerminated,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// The body of a message with this tag is not what the protocol says.
    #[error("the message of type {0} is malformed")]
    Malformed(u8),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or(0).to_be_bytes();
        [&[tag], length.as_slice(), body].concat()
    }

    fn read_whole(tag: u8, body: &[u8]) -> Result<Option<String>, QueryError> {
        let bytes = message(tag, body);
        let read = read(&bytes)?;
        Ok(read.map(|(request, _)| format!("{request:?}")))
    }

    #[test]
    fn every_request_reads_as_it_was_sent() {
        let bytes = message(b'Q', b"show help\0");
        assert_eq!(read(&bytes), Ok(Some((Request::Query("show help"), 15))));
        let bytes = message(b'P', b"s\0show help\0\0\x01\0\0\0\x17");
        let parse = Request::Parse {
            name: "s",
            query: "show help",
        };
        assert_eq!(read(&bytes), Ok(Some((parse, bytes.len()))));
        let bytes = message(b'E', b"p\0\0\0\0\x05");
        let execute = Request::Execute {
            portal: "p",
            rows_max: 5,
        };
        assert_eq!(read(&bytes), Ok(Some((execute, bytes.len()))));
        for (tag, body, request) in [
            (
                b'D',
                &b"Ss\0"[..],
                Request::Describe(Target::Statement("s")),
            ),
            (b'C', b"Pp\0", Request::Close(Target::Portal("p"))),
            (b'S', b"", Request::Sync),
            (b'H', b"", Request::Flush),
            (b'X', b"", Request::Terminate),
            (b'F', b"anything", Request::Other(b'F')),
        ] {
            let bytes = message(tag, body);
            assert_eq!(read(&bytes), Ok(Some((request, bytes.len()))));
        }
    }

    #[test]
    fn a_bind_says_the_format_of_each_column() {
        let bytes = message(b'B', b"p\0s\0\0\0\0\x01\0\0\0\x01x\0\x02\0\x01\0\0");
        let Ok(Some((Request::Bind(bind), _))) = read(&bytes) else {
            panic!("not a Bind");
        };
        assert_eq!((bind.parameters, bind.formats()), (1, 2));
        assert_eq!(bind.format(0), Format::Binary);
        assert_eq!(bind.format(1), Format::Text);
        assert_eq!(bind.format(2), Format::Text);
        let bytes = message(b'B', b"\0\0\0\0\0\0\0\x01\0\x01");
        let Ok(Some((Request::Bind(bind), _))) = read(&bytes) else {
            panic!("not a Bind");
        };
        assert_eq!(bind.format(7), Format::Binary);
    }

    #[test]
    fn a_length_is_judged_before_the_body_is_awaited() {
        let longest = u32::try_from(CONSOLE_MESSAGE_BYTES_MAX - 1).unwrap_or(0);
        for length in [0, 3, longest + 1, u32::MAX] {
            let header = [&b"Q"[..], &length.to_be_bytes()].concat();
            assert_eq!(read(&header), Err(QueryError::Length(length)));
        }
        let header = [&b"Q"[..], &longest.to_be_bytes()].concat();
        assert_eq!(read(&header), Ok(None));
    }

    #[test]
    fn a_body_counts_only_as_a_whole() {
        for (tag, body, error) in [
            (b'Q', &b"show"[..], QueryError::NotTerminated),
            (b'Q', b"show\0x", QueryError::Malformed(b'Q')),
            (b'Q', b"\xff\0", QueryError::NotUtf8),
            (b'P', b"s\0q\0", QueryError::NotTerminated),
            (b'P', b"s\0q\0\0\x01", QueryError::Malformed(b'P')),
            (
                b'B',
                b"p\0s\0\0\x01\0\x02\0\0\0\0",
                QueryError::Malformed(b'B'),
            ),
            (
                b'B',
                b"p\0s\0\0\0\0\x01\0\0\0\x09x\0\0",
                QueryError::Malformed(b'B'),
            ),
            (b'D', b"Qs\0", QueryError::Malformed(b'D')),
            (b'E', b"p\0", QueryError::Malformed(b'E')),
            (b'S', b"x", QueryError::Malformed(b'S')),
        ] {
            assert_eq!(read_whole(tag, body), Err(error), "{}", tag as char);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = read(&bytes);
            for tag in b"QPBDCESHX" {
                let _ = read(&message(*tag, &bytes));
            }
        }

        #[test]
        fn a_message_is_read_only_when_it_is_whole(text in "[a-z ]{0,40}", cut in 0_usize..46) {
            let bytes = message(b'Q', &[text.as_bytes(), b"\0"].concat());
            let read = read(&bytes[..cut.min(bytes.len())]);
            prop_assert_eq!(read.map(|it| it.is_some()), Ok(cut >= bytes.len()));
        }
    }
}
