//! What a directory was asked and has not answered to its end.

use std::collections::VecDeque;

use super::Breach;
use crate::directory::ber::{INTEGER, SEQUENCE, header, number};
use crate::directory::message::{Answer, Request};
use crate::limits::LDAP_REQUESTS_MAX;

/// Follows what the client sends, cut anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Requests {
    /// The beginning of a message, until it says what it asks.
    begun: Vec<u8>,
    /// What is missing of a message that has said it, in bytes.
    left: usize,
    /// The number and the kind of each request that has no last answer, the oldest first.
    waiting: VecDeque<(i64, Request)>,
}

/// What a message of the client begins with.
struct Beginning {
    /// The whole message, in bytes.
    length: usize,
    number: i64,
    operation: u8,
}

impl Requests {
    /// Reads the next bytes; whether something is asked in them.
    pub(super) fn sent(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_asked = false;
        loop {
            let known = self.left.min(bytes.len());
            self.left -= known;
            let rest = bytes.get(known..).unwrap_or_default();
            let Some((&next, rest)) = rest.split_first() else {
                return is_asked;
            };
            bytes = rest;
            self.begun.push(next);
            match Beginning::read(&self.begun) {
                Ok(None) => {}
                Ok(Some(beginning)) => {
                    self.left = beginning.length - self.begun.len();
                    self.begun.clear();
                    is_asked |= self.asked(&beginning);
                }
                // The LDAP library sends no such thing. Behind it nothing is a request any more,
                // so that nothing is an answer either.
                Err(_) => self.left = usize::MAX,
            }
        }
    }

    fn asked(&mut self, beginning: &Beginning) -> bool {
        let Some(request) = Request::of(beginning.operation) else {
            return false;
        };
        // Only a server that leaves requests without their last answer lets them become so many.
        if self.waiting.len() == LDAP_REQUESTS_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((beginning.number, request));
        true
    }

    /// Whether this answers what was asked. After its last answer a request has none.
    pub(super) fn answered_by(&mut self, answer: Answer) -> bool {
        if answer.is_unsolicited() {
            return true;
        }
        let is_its = |(number, request): &(i64, Request)| {
            *number == answer.number && request.is_answered_by(answer.operation)
        };
        let place = self.waiting.iter().position(is_its);
        if answer.is_last() {
            return place.and_then(|it| self.waiting.remove(it)).is_some();
        }
        place.is_some()
    }
}

impl Beginning {
    /// None as long as it is not whole.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Breach> {
        let Some(message) = header(bytes)? else {
            return Ok(None);
        };
        let inside = bytes.get(message.bytes..).unwrap_or_default();
        let Some(first) = header(inside)? else {
            return Ok(None);
        };
        if message.tag != SEQUENCE || first.tag != INTEGER || !matches!(first.content, 1..=4) {
            return Err(Breach::NotLdap);
        }
        let rest = inside.get(first.bytes..).unwrap_or_default();
        let Some((digits, [operation, ..])) = rest.split_at_checked(first.content) else {
            return Ok(None);
        };
        let length = message.bytes + message.content;
        match number(digits) {
            Some(number) if length >= bytes.len() => Ok(Some(Self {
                length,
                number,
                operation: *operation,
            })),
            _ => Err(Breach::NotLdap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ber::element;

    const BIND: u8 = 0x60;
    const SEARCH: u8 = 0x63;
    const EXTENDED: u8 = 0x77;
    const ABANDON: u8 = 0x50;
    const BIND_RESPONSE: u8 = 0x61;
    const ENTRY: u8 = 0x64;
    const DONE: u8 = 0x65;
    const EXTENDED_RESPONSE: u8 = 0x78;

    fn request(number: u8, operation: u8, inside: &[u8]) -> Vec<u8> {
        let operation = element(operation, inside);
        element(SEQUENCE, &[&[2, 1, number], operation.as_slice()].concat())
    }

    fn after(sent: &[u8]) -> Requests {
        let mut requests = Requests::default();
        requests.sent(sent);
        requests
    }

    fn answer(number: i64, operation: u8) -> Answer {
        Answer { number, operation }
    }

    #[test]
    fn requests_are_known_wherever_they_are_cut() {
        let long = request(2, SEARCH, &vec![0x60; 70_000]);
        let all = [request(1, BIND, b""), long, request(3, EXTENDED, b"")].concat();
        let expected = [
            (1, Request::Bind),
            (2, Request::Search),
            (3, Request::Extended),
        ];
        for size in [1, 2, 3, 5, 7, 11, 13, 17 * 1024, all.len()] {
            let mut requests = Requests::default();
            for part in all.chunks(size) {
                requests.sent(part);
            }
            assert_eq!(requests.waiting, expected, "{size}");
        }
        // A length of four digits, and a number with zeros.
        let long = b"\x30\x84\0\0\0\x08\x02\x04\0\0\0\x05\x63\0";
        assert_eq!(after(long).waiting, [(5, Request::Search)]);
    }

    #[test]
    fn what_has_no_answer_asks_nothing() {
        let mut requests = Requests::default();
        assert!(!requests.sent(&request(1, ABANDON, b"")));
        assert!(!requests.sent(b"\x30\x05\x02\x01\x03\x42\0"));
        assert!(requests.sent(&request(4, SEARCH, b"")));
        assert_eq!(requests.waiting, [(4, Request::Search)]);
    }

    #[test]
    fn an_answer_is_that_of_its_request() {
        for (request_is, operation, expected) in [
            (BIND, BIND_RESPONSE, true),
            (SEARCH, ENTRY, true),
            (SEARCH, DONE, true),
            (EXTENDED, EXTENDED_RESPONSE, true),
            (SEARCH, BIND_RESPONSE, false),
            (BIND, DONE, false),
            (BIND, ENTRY, false),
            (SEARCH, 0x67, false),
            (SEARCH, 0x41, false),
        ] {
            let mut requests = after(&request(7, request_is, b""));
            assert!(!requests.answered_by(answer(6, operation)));
            let found = requests.answered_by(answer(7, operation));
            assert_eq!(found, expected, "{request_is:x} {operation:x}");
        }
        assert!(after(b"").answered_by(answer(0, EXTENDED_RESPONSE)));
        assert!(!after(b"").answered_by(answer(0, DONE)));
    }

    #[test]
    fn requests_under_way_at_once_are_told_apart_and_each_ends() {
        let mut requests = after(&[request(1, SEARCH, b""), request(2, BIND, b"")].concat());
        for (number, operation, expected) in [
            (1, BIND_RESPONSE, false),
            (2, ENTRY, false),
            (1, ENTRY, true),
            (2, BIND_RESPONSE, true),
            (2, BIND_RESPONSE, false),
            (1, ENTRY, true),
            (1, DONE, true),
            (1, ENTRY, false),
            (1, DONE, false),
        ] {
            let found = requests.answered_by(answer(number, operation));
            assert_eq!(found, expected, "{number} {operation:x}");
        }
    }

    #[test]
    fn requests_without_a_last_answer_are_not_kept_for_ever() {
        let mut requests = Requests::default();
        for number in 0..=u8::try_from(LDAP_REQUESTS_MAX).unwrap_or(u8::MAX) {
            requests.sent(&request(number, SEARCH, b""));
        }
        assert_eq!(requests.waiting.len(), LDAP_REQUESTS_MAX);
        assert!(!requests.answered_by(answer(0, ENTRY)));
        assert!(requests.answered_by(answer(1, ENTRY)));
    }

    #[test]
    fn after_what_is_no_message_nothing_is_asked() {
        for odd in [
            &b"HTTP/1.1"[..],
            b"\x30\x80",
            b"\x30\0\x02\x01\x01\x60",
            b"\x30\x05\x04\x01\x01\x60\0",
            b"\x30\x05\x02\0\x60\0\0",
        ] {
            let mut requests = after(odd);
            assert!(!requests.sent(&request(1, SEARCH, b"")), "{odd:?}");
            assert!(requests.waiting.is_empty() && requests.begun.len() <= 17);
        }
    }
}
