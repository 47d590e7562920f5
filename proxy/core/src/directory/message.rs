//! What a message of a directory server has to be made of, before the LDAP library reads it: that
//! takes parts for granted which a hostile server leaves out (RFC 4511, 4.1.1, 4.1.9 and 4.1.11).

use super::ber::{BOOLEAN, ENUMERATED, INTEGER, OCTET_STRING, SEQUENCE, take, take_any, take_if};

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

/// What a server was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A bind.
    Bind,
    /// A search.
    Search,
    /// An extended request: StartTLS, who am I.
    Extended,
}

impl Request {
    /// The request that a message of the client is, by the whole beginning of the message; none for
    /// others, which have no answer, and for what is none.
    pub fn of(mut message: &[u8]) -> Option<Self> {
        // It may be longer than what is here, so that only its header is read.
        let (&SEQUENCE, rest) = message.split_first()? else {
            return None;
        };
        let (&first, rest) = rest.split_first()?;
        let digits = if first < 0x80 { 0 } else { first & 0x7f };
        message = rest.get(usize::from(digits)..)?;
        take(&mut message, INTEGER)?;
        match message.first()? {
            0x60 => Some(Self::Bind),
            0x63 => Some(Self::Search),
            0x77 => Some(Self::Extended),
            _ => None,
        }
    }

    fn is_answered_by(self, operation: u8) -> bool {
        match self {
            Self::Bind => operation == BIND_RESPONSE,
            Self::Search => matches!(
                operation,
                SEARCH_RESULT_ENTRY
                    | SEARCH_RESULT_DONE
                    | SEARCH_RESULT_REFERENCE
                    | INTERMEDIATE_RESPONSE
            ),
            Self::Extended => matches!(operation, EXTENDED_RESPONSE | INTERMEDIATE_RESPONSE),
        }
    }
}

/// Whether the content of a message is an answer to what was asked, whole in every part that is
/// taken for granted. What nobody has asked for has the number 0 and is an extended response.
pub fn answers(request: Option<Request>, content: &[u8]) -> bool {
    read(request, content).is_some()
}

fn read(request: Option<Request>, mut content: &[u8]) -> Option<()> {
    let number = take(&mut content, INTEGER)?;
    let (operation, inside) = take_any(&mut content)?;
    let is_unsolicited = number == [0] && operation == EXTENDED_RESPONSE;
    if !is_unsolicited && !request?.is_answered_by(operation) {
        return None;
    }
    match operation {
        BIND_RESPONSE | SEARCH_RESULT_DONE | EXTENDED_RESPONSE => result(inside)?,
        SEARCH_RESULT_REFERENCE => texts(inside)?,
        _ => {}
    }
    if let Some(controls) = take_if(&mut content, CONTROLS) {
        self::controls(controls)?;
    }
    content.is_empty().then_some(())
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
    fn an_answer_is_that_of_its_request() {
        for (request, operation, is_one) in [
            (Request::Bind, BIND_RESPONSE, true),
            (Request::Search, SEARCH_RESULT_DONE, true),
            (Request::Extended, EXTENDED_RESPONSE, true),
            (Request::Search, BIND_RESPONSE, false),
            (Request::Bind, SEARCH_RESULT_DONE, false),
            (Request::Bind, SEARCH_RESULT_ENTRY, false),
            (Request::Search, 0x67, false),
            (Request::Search, 0x41, false),
        ] {
            let found = answers(Some(request), &message(operation, DONE, b""));
            assert_eq!(found, is_one, "{request:?} {operation:x}");
        }
        assert!(!answers(None, &message(SEARCH_RESULT_DONE, DONE, b"")));
        let unsolicited = [b"\x02\x01\0", element(0x78, DONE).as_slice()].concat();
        assert!(answers(Some(Request::Search), &unsolicited) && answers(None, &unsolicited));
    }

    #[test]
    fn parts_that_are_taken_for_granted_are_there() {
        let control = |inside: &[u8]| element(CONTROLS, &element(SEQUENCE, inside));
        let done = |inside: &[u8], controls: &[u8]| {
            answers(
                Some(Request::Search),
                &message(SEARCH_RESULT_DONE, inside, controls),
            )
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

    #[test]
    fn requests_are_known_by_their_beginning() {
        for (bytes, request) in [
            (
                &b"\x30\x0c\x02\x01\x01\x60\x07\x02"[..],
                Some(Request::Bind),
            ),
            (
                b"\x30\x84\0\0\x20\0\x02\x02\x01\x01\x63\x84",
                Some(Request::Search),
            ),
            (b"\x30\x0c\x02\x01\x01\x77\x07", Some(Request::Extended)),
            (b"\x30\x05\x02\x01\x03\x42\0", None),
            (b"\x30", None),
            (b"", None),
        ] {
            assert_eq!(Request::of(bytes), request);
        }
    }
}
