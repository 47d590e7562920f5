//! The values of DirSync, which tells what has changed in a naming context since a cookie (MS-ADTS,
//! 3.1.1.3.4.1.3).

use super::ber::{INTEGER, OCTET_STRING, SEQUENCE, element, number, take};

/// The control.
pub const DIRSYNC: &str = "1.2.840.113556.1.4.841";

/// `LDAP_DIRSYNC_INCREMENTAL_VALUES`: the sign of a number of 32 bits.
const INCREMENTAL_VALUES: [u8; 4] = [0x80, 0, 0, 0];
/// The same and `LDAP_DIRSYNC_OBJECT_SECURITY`: what the principal may read, instead of
/// everything, for which it would need a right.
const WITH_OBJECT_SECURITY: [u8; 4] = [0x80, 0, 0, 1];

/// The answer's control.
#[derive(Debug, PartialEq, Eq)]
pub struct Reached<'a> {
    /// There is more to ask for.
    pub more: bool,
    /// The place to go on from.
    pub cookie: &'a [u8],
}

/// The value of the request's control: what has changed since a cookie, in an answer of so many
/// bytes at most.
///
/// `sees_all` is for a principal that has the right to see every change.
pub fn request(sees_all: bool, answer_bytes_max: i32, cookie: &[u8]) -> Vec<u8> {
    let flags = if sees_all {
        INCREMENTAL_VALUES
    } else {
        WITH_OBJECT_SECURITY
    };
    let content = [
        element(INTEGER, &flags),
        element(INTEGER, &answer_bytes_max.to_be_bytes()),
        element(OCTET_STRING, cookie),
    ];
    element(SEQUENCE, &content.concat())
}

/// Reads the value of the answer's control; `None` when it is malformed.
pub fn reached(mut value: &[u8]) -> Option<Reached<'_>> {
    let mut content = take(&mut value, SEQUENCE)?;
    let more = number(take(&mut content, INTEGER)?)? != 0;
    take(&mut content, INTEGER)?;
    let cookie = take(&mut content, OCTET_STRING)?;
    Some(Reached { more, cookie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_flags_a_limit_and_the_cookie() {
        let size = b"\x02\x04\x00\x10\x00\x00";
        let all = [&b"\x30\x0f\x02\x04\x80\x00\x00\x00"[..], size, b"\x04\x01c"].concat();
        assert_eq!(request(true, 1_048_576, b"c"), all);
        let some = [&b"\x30\x0e\x02\x04\x80\x00\x00\x01"[..], size, b"\x04\x00"].concat();
        assert_eq!(request(false, 1_048_576, b""), some);
    }

    #[test]
    fn an_answer_says_whether_there_is_more() {
        for (flag, more) in [(0, false), (1, true)] {
            let value = [0x30, 9, 2, 1, flag, 2, 1, 0, 4, 1, 7];
            let cookie = &[7][..];
            assert_eq!(reached(&value), Some(Reached { more, cookie }));
            for end in 0..value.len() {
                assert_eq!(reached(value.get(..end).unwrap_or_default()), None);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_from_a_server_panic(bytes: Vec<u8>) {
            reached(&bytes);
            reached(&element(SEQUENCE, &bytes));
        }
    }
}
