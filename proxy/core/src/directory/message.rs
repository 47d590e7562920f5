//! What a message of a directory server has to be made of, before the LDAP library reads it: that
//! takes parts for granted which a hostile server leaves out (RFC 4511, 4.1.1, 4.1.9 and 4.1.11).

use super::ber::{
    BOOLEAN, ENUMERATED, INTEGER, OCTET_STRING, SEQUENCE, number, take, take_any, take_if,
};

/// The tag of the controls of a message.
const CONTROLS: u8 = 0xa0;
/// The tags of what a result may have more: references, credentials, and the name and the value of
/// an extended one.
const REFERENCES: u8 = 0xa3;
const CREDENTIALS: u8 = 0x87;
const NAME: u8 = 0x8a;
const VALUE: u8 = 0x8b;
const BIND_RESPONSE: u8 = 0x61;
const SEARCH_RESULT_ENTRY: u8 = 0x64;
const SEARCH_RESULT_DONE: u8 = 0x65;
const SEARCH_RESULT_REFERENCE: u8 = 0x73;
const EXTENDED_RESPONSE: u8 = 0x78;
const INTERMEDIATE_RESPONSE: u8 = 0x79;

/// A kind of request that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// A bind.
    Bind,
    /// A search.
    Search,
    /// An extended request: who am I.
    Extended,
}

impl Request {
    /// By the tag of a message's operation; none for what has no answer.
    pub(super) fn of(operation: u8) -> Option<Self> {
        match operation {
            0x60 => Some(Self::Bind),
            0x63 => Some(Self::Search),
            0x77 => Some(Self::Extended),
            _ => None,
        }
    }

    pub(super) fn is_answered_by(self, operation: u8) -> bool {
        match self {
            Self::Bind => operation == BIND_RESPONSE,
            Self::Search => matches!(
                operation,
                SEARCH_RESULT_ENTRY
                    | SEARCH_RESULT_DONE
                    | SEARCH_RESULT_REFERENCE
                    | INTERMEDIATE_RESPONSE
            ),
            Self::Extended => operation == EXTENDED_RESPONSE,
        }
    }
}

/// A message of a server, whole in every part that is taken for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The number of the request that it answers.
    pub(super) number: i64,
    /// The tag of what it is.
    pub(super) operation: u8,
}

impl Answer {
    /// Reads the content of a message; none if it lacks a part.
    pub(super) fn read(mut content: &[u8]) -> Option<Self> {
        let number = number(take(&mut content, INTEGER)?)?;
        let (operation, inside) = take_any(&mut content)?;
        match operation {
            BIND_RESPONSE | SEARCH_RESULT_DONE | EXTENDED_RESPONSE => result(inside)?,
            SEARCH_RESULT_REFERENCE => texts(inside)?,
            _ => {}
        }
        if let Some(controls) = take_if(&mut content, CONTROLS) {
            self::controls(controls)?;
        }
        content.is_empty().then_some(Self { number, operation })
    }

    /// What nobody has asked for: that the server disconnects (RFC 4511, 4.4).
    pub(super) fn is_unsolicited(self) -> bool {
        self.number == 0 && self.operation == EXTENDED_RESPONSE
    }

    /// Whether it ends its request.
    pub(super) fn is_last(self) -> bool {
        matches!(
            self.operation,
            BIND_RESPONSE | SEARCH_RESULT_DONE | EXTENDED_RESPONSE
        )
    }
}

/// A code, the name of an entry, a text; and more.
fn result(mut inside: &[u8]) -> Option<()> {
    let code = take(&mut inside, ENUMERATED)?;
    // More bytes would be no number for the library.
    if !matches!(code.len(), 1..=4) {
        return None;
    }
    for _ in 0..2 {
        std::str::from_utf8(take(&mut inside, OCTET_STRING)?).ok()?;
    }
    while !inside.is_empty() {
        match take_any(&mut inside)? {
            (REFERENCES, references) => texts(references)?,
            (NAME, name) => {
                std::str::from_utf8(name).ok()?;
            }
            (CREDENTIALS | VALUE, _) => {}
            _ => return None,
        }
    }
    Some(())
}

fn texts(mut inside: &[u8]) -> Option<()> {
    while !inside.is_empty() {
        std::str::from_utf8(take(&mut inside, OCTET_STRING)?).ok()?;
    }
    Some(())
}

/// Each is a name, whether it is critical, and a value.
fn controls(mut inside: &[u8]) -> Option<()> {
    while !inside.is_empty() {
        let mut control = take(&mut inside, SEQUENCE)?;
        std::str::from_utf8(take(&mut control, OCTET_STRING)?).ok()?;
        if let Some(critical) = take_if(&mut control, BOOLEAN)
            && critical.len() != 1
        {
            return None;
        }
        take_if(&mut control, OCTET_STRING);
        if !control.is_empty() {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::ber::element;
    use super::*;

    const DONE: &[u8] = b"\x0a\x01\0\x04\0\x04\0";

    fn message(operation: u8, inside: &[u8], controls: &[u8]) -> Vec<u8> {
        let operation = element(operation, inside);
        [b"\x02\x01\x07", operation.as_slice(), controls].concat()
    }

    #[test]
    fn an_answer_has_a_number_and_an_operation() {
        let read = |operation| Answer::read(&message(operation, DONE, b""));
        for (operation, is_last) in [
            (BIND_RESPONSE, true),
            (SEARCH_RESULT_DONE, true),
            (EXTENDED_RESPONSE, true),
            (SEARCH_RESULT_ENTRY, false),
            (INTERMEDIATE_RESPONSE, false),
        ] {
            let number = 7;
            assert_eq!(read(operation), Some(Answer { number, operation }));
            assert_eq!(read(operation).map(Answer::is_last), Some(is_last));
        }
        assert_eq!(read(SEARCH_RESULT_REFERENCE), None);
    }

    #[test]
    fn parts_that_are_taken_for_granted_are_there() {
        let control = |inside: &[u8]| element(CONTROLS, &element(SEQUENCE, inside));
        let done = |inside: &[u8], controls: &[u8]| {
            Answer::read(&message(SEARCH_RESULT_DONE, inside, controls)).is_some()
        };
        assert!(done(DONE, &control(b"\x04\x031.2\x01\x01\xff\x04\x01x")));
        assert!(done(DONE, &control(b"\x04\x031.2")));
        assert!(done(
            &[DONE, &element(REFERENCES, b"\x04\x01x")].concat(),
            b""
        ));
        for inside in [
            &b""[..],
            b"\x0a\x01\0",
            b"\x0a\0\x04\0\x04\0",
            b"\x0a\x05\0\0\0\0\0\x04\0\x04\0",
            b"\x02\x01\0\x04\0\x04\0",
            b"\x0a\x01\0\x04\x01\xff\x04\0",
            b"\x0a\x01\0\x04\0\x24\0",
            b"\x0a\x01\0\x04\0\x04\0\xa3\x02\x30\0",
            b"\x0a\x01\0\x04\0\x04\0\x8a\x01\xff",
            b"\x0a\x01\0\x04\0\x04\0\xa7\0",
            b"\x0a\x01\0\x04\0\x04\0\x83\0",
        ] {
            assert!(
                !done(inside, b""),
                "{:?}",
                inside.escape_ascii().to_string()
            );
        }
        for inside in [
            &b""[..],
            b"\x04\x01\xff",
            b"\x24\0",
            b"\x04\x031.2\x01\0",
            b"\x04\x031.2\x0a\x01\0",
            b"\x04\x031.2\x24\0",
        ] {
            assert!(
                !done(DONE, &control(inside)),
                "{:?}",
                inside.escape_ascii().to_string()
            );
        }
        assert!(!done(DONE, &element(CONTROLS, b"\x04\0")));
    }
}
