//! What a directory's server sends on a connection.

use postern_core::directory::ber::{INTEGER, SEQUENCE, number, take, take_any};
use postern_core::directory::guard::{Breach, Guard};
use postern_core::limits::LDAP_DEPTH_MAX;

/// A bind, a search and an extended request, by their numbers.
const ASKED: &[u8] =
    b"\x30\x05\x02\x01\x01\x60\0\x30\x05\x02\x01\x02\x63\0\x30\x05\x02\x01\x03\x77\0";
/// The end of the search.
const DONE: &[u8] = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\0\x04\0\x04\0";
/// The bit of a tag that says that elements are inside.
const CONSTRUCTED: u8 = 0x20;

/// A stream of messages, after those requests; and the same from the client.
pub(crate) fn ldap(data: &[u8]) {
    let mut asked = Guard::default();
    asked.sent(ASKED);
    let mut guard = asked.clone();
    let (passed, verdict) = guard.pass(data);
    assert_eq!(one_by_one(asked, data), (passed, verdict));
    if verdict.is_err() {
        guard.sent(ASKED);
        assert_eq!(guard.pass(DONE), (0, verdict));
    }
    let mut messages = data.get(..passed).unwrap_or_default();
    while !messages.is_empty() {
        check_message(&mut messages);
    }
    check_requests(data);
}

/// What passes and the verdict, when one byte comes after the other.
fn one_by_one(mut guard: Guard, data: &[u8]) -> (usize, Result<(), Breach>) {
    let (mut held, mut all) = (Vec::new(), 0);
    for byte in data {
        held.push(*byte);
        let (passed, verdict) = guard.pass(&held);
        all += passed;
        held.drain(..passed);
        if verdict.is_err() {
            return (all, verdict);
        }
    }
    (all, Ok(()))
}

/// A message that passes answers what was asked, and is whole in all its parts.
fn check_message(messages: &mut &[u8]) {
    let Some(message) = take(messages, SEQUENCE) else {
        panic!("what passes is no message");
    };
    check_elements(message, 1);
    let mut rest = message;
    let asked = take(&mut rest, INTEGER).and_then(number);
    let operation = take_any(&mut rest).map(|(tag, _)| tag);
    let (Some(asked), Some(operation)) = (asked, operation) else {
        panic!("{message:?} has no number or no operation");
    };
    let answers: &[u8] = match asked {
        0 | 3 => &[0x78],
        1 => &[0x61],
        2 => &[0x64, 0x65, 0x73, 0x79],
        _ => &[],
    };
    assert!(answers.contains(&operation), "{operation:x} for {asked}");
}

/// Elements end inside of theirs, have a length, and are not too deep.
fn check_elements(mut elements: &[u8], level: usize) {
    assert!(level <= LDAP_DEPTH_MAX);
    while !elements.is_empty() {
        assert!(elements.get(1).is_some_and(|first| *first != 0x80));
        let Some((tag, content)) = take_any(&mut elements) else {
            panic!("an element does not end");
        };
        if tag & CONSTRUCTED != 0 {
            check_elements(content, level + 1);
        }
    }
}

/// The same is asked wherever the client's bytes are cut.
fn check_requests(data: &[u8]) {
    let mut at_once = Guard::default();
    at_once.sent(data);
    let mut cut_up = Guard::default();
    for byte in data.chunks(1) {
        cut_up.sent(byte);
    }
    assert_eq!(at_once, cut_up);
}
