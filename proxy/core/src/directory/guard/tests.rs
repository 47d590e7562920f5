//! Tests of [`super`].

use super::*;
use crate::directory::ber::{OCTET_STRING, element};

/// The end of a search that succeeded.
const DONE: &[u8] = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
/// A search for nothing.
const SEARCH: &[u8] = b"\x30\x05\x02\x01\x02\x63\0";
/// The tag of an entry.
const ENTRY: u8 = 0x64;

fn of_a_search() -> Guard {
    let mut guard = Guard::default();
    guard.sent(SEARCH);
    guard
}

fn judge(bytes: &[u8]) -> (usize, Result<(), Breach>) {
    of_a_search().pass(bytes)
}

fn message(content: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[b"\x02\x01\x02", content].concat())
}

/// An entry of so many elements, and its message.
fn entry_of(elements: usize) -> Vec<u8> {
    let empty = element(OCTET_STRING, b"");
    message(&element(ENTRY, &empty.repeat(elements - 2)))
}

#[test]
fn whole_messages_pass_and_the_rest_waits() {
    let entry = message(&element(ENTRY, b""));
    let both = [entry.as_slice(), DONE].concat();
    for end in 0..=both.len() {
        let whole = match end {
            _ if end == both.len() => end,
            _ if end >= entry.len() => entry.len(),
            _ => 0,
        };
        let judged = judge(both.get(..end).unwrap_or_default());
        assert_eq!(judged, (whole, Ok(())), "{end}");
    }
    // Active Directory writes every length in four digits.
    let long = b"\x30\x84\0\0\0\x10\x02\x01\x02\x65\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0";
    assert_eq!(judge(long), (long.len(), Ok(())));
}

#[test]
fn what_no_directory_sends_does_not_pass() {
    for (bytes, expected) in [
        (b"HTTP/1.1 400 Bad Request".to_vec(), Breach::NotLdap),
        (b"\x30\x84\x7f\xff\xff\xff".to_vec(), Breach::MessageBytes),
        (b"\x30\x80".to_vec(), Breach::Length(NoLength)),
        (
            b"\x30\x88\0\0\0\0\0\0\0\0".to_vec(),
            Breach::Length(NoLength),
        ),
        (b"\x30\0".to_vec(), Breach::NoContent),
        (b"\x30\x03\x02\x01\x01".to_vec(), Breach::NoContent),
        (element(SEQUENCE, b"\x04\x01\x01\x65\0"), Breach::NoNumber),
        (element(SEQUENCE, b"\x02\0\x65\0"), Breach::NoNumber),
        (message(b"\x65\x7f"), Breach::TooLong),
        (message(b"\x65\x03\x0a\x7f\0"), Breach::TooLong),
        (message(b"\x65"), Breach::Cut),
        (message(b"\x65\0"), Breach::NoAnswer),
        (message(b"\x61\x07\x0a\x01\0\x04\0\x04\0"), Breach::NoAnswer),
    ] {
        assert_eq!(judge(&bytes), (0, Err(expected)), "{bytes:?}");
        // What came before it has passed.
        let entry = message(&element(ENTRY, b""));
        let behind = judge(&[entry.as_slice(), &bytes].concat());
        assert_eq!(behind, (entry.len(), Err(expected)), "{bytes:?}");
    }
}

#[test]
fn after_a_breach_nothing_passes() {
    let mut guard = of_a_search();
    assert_eq!(guard.pass(b"x"), (0, Err(Breach::NotLdap)));
    guard.sent(SEARCH);
    assert_eq!(guard.pass(DONE), (0, Err(Breach::NotLdap)));
}

#[test]
fn depth_and_number_of_elements_have_a_limit() {
    let nested = |levels: usize| {
        let inner = (0..levels).fold(Vec::new(), |inner, _| element(ENTRY, &inner));
        judge(&message(&inner)).1
    };
    assert_eq!(nested(LDAP_DEPTH_MAX - 1), Ok(()));
    assert_eq!(nested(LDAP_DEPTH_MAX), Err(Breach::Depth));
    assert_eq!(nested(5_000), Err(Breach::Depth));
    assert_eq!(judge(&entry_of(LDAP_ELEMENTS_MAX)).1, Ok(()));
    assert_eq!(
        judge(&entry_of(LDAP_ELEMENTS_MAX + 1)).1,
        Err(Breach::Elements)
    );
}

/// How many answers of this message each pass, as pages of one search or as answers to questions
/// of their own; and why the next one does not.
fn passed(message: &[u8], asked: usize, is_in_pages: bool) -> (usize, Result<(), Breach>) {
    let mut guard = Guard::default();
    if is_in_pages {
        guard.begin_pages();
    }
    for count in 0..asked {
        guard.sent(SEARCH);
        let (_, judged) = guard.pass(message);
        if judged.is_err() {
            return (count, judged);
        }
    }
    (asked, Ok(()))
}

#[test]
fn all_pages_of_a_search_are_one_answer() {
    let many = entry_of(LDAP_ELEMENTS_MAX);
    let text = element(OCTET_STRING, &vec![0; LDAP_MESSAGE_BYTES_MAX - 32]);
    let long = message(&element(ENTRY, &text));
    for (message, fit, breach) in [
        (
            &many,
            LDAP_ANSWER_ELEMENTS_MAX / LDAP_ELEMENTS_MAX,
            Breach::AnswerElements,
        ),
        (
            &long,
            LDAP_ANSWER_BYTES_MAX / long.len(),
            Breach::AnswerBytes,
        ),
    ] {
        assert_eq!(passed(message, fit + 1, true), (fit, Err(breach)));
        assert_eq!(passed(message, fit + 1, false), (fit + 1, Ok(())));
    }
}

#[test]
fn an_answer_ends_where_the_next_one_would_be_too_much() {
    let mut guard = of_a_search();
    let long = element(OCTET_STRING, &vec![0; LDAP_MESSAGE_BYTES_MAX - 32]);
    let long = message(&element(ENTRY, &long));
    for _ in 0..LDAP_ANSWER_BYTES_MAX / long.len() {
        assert_eq!(guard.pass(&long), (long.len(), Ok(())));
    }
    // By its length, before the rest of it has come.
    let begins = long.get(..6).unwrap_or_default();
    assert_eq!(guard.pass(begins), (0, Err(Breach::AnswerBytes)));
}

proptest::proptest! {
    #[test]
    fn no_bytes_from_a_server_panic(bytes: Vec<u8>) {
        for bytes in [element(SEQUENCE, &bytes), message(&bytes), bytes] {
            let (passed, _) = judge(&bytes);
            assert!(passed <= bytes.len());
        }
    }
}
