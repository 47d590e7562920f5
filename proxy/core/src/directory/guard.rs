//! What a directory's server may answer on one connection, judged before the LDAP library sees it.
//!
//! The library reads elements of any depth by recursion, keeps a message of any length until it is
//! whole, and takes parts of it for granted: a hostile server could end the process by each. So
//! only messages pass that a directory sends (RFC 4511, section 5.1), and only answers.

mod requests;

use self::requests::Requests;
use super::ber::{INTEGER, NoLength, SEQUENCE, header};
use super::message::Answer;
use crate::limits::{
    LDAP_ANSWER_BYTES_MAX, LDAP_ANSWER_ELEMENTS_MAX, LDAP_DEPTH_MAX, LDAP_ELEMENTS_MAX,
    LDAP_MESSAGE_BYTES_MAX,
};

/// The bit of a tag that says that elements are inside (X.690, 8.1.2.5).
const CONSTRUCTED: u8 = 0x20;

/// Follows both directions of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    requests: Requests,
    /// What is asked next is another page of the same search.
    is_in_pages: bool,
    /// All that was answered to what was asked last.
    bytes: usize,
    elements: usize,
    breach: Option<Breach>,
}

/// Which rule the server breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A message is something else than a sequence.
    #[error("it sent what is not LDAP")]
    NotLdap,
    /// A length has a form that LDAP does not allow.
    #[error("it sent {0}")]
    Length(#[from] NoLength),
    /// A message has more than [`LDAP_MESSAGE_BYTES_MAX`].
    #[error("it sent a message that is too long")]
    MessageBytes,
    /// An answer has more than [`LDAP_ANSWER_BYTES_MAX`].
    #[error("it sent an answer without end")]
    AnswerBytes,
    /// An answer has more than [`LDAP_ANSWER_ELEMENTS_MAX`].
    #[error("it sent an answer of too many elements")]
    AnswerElements,
    /// A message has more than [`LDAP_ELEMENTS_MAX`].
    #[error("it sent too many elements")]
    Elements,
    /// An element is on a level above [`LDAP_DEPTH_MAX`].
    #[error("it sent elements that are too deep")]
    Depth,
    /// The header of an element is cut.
    #[error("it sent an element that does not end")]
    Cut,
    /// The content of an element is cut.
    #[error("it sent an element that is longer than what it is in")]
    TooLong,
    /// A message begins with something else.
    #[error("it sent a message without a number")]
    NoNumber,
    /// A message ends with its number.
    #[error("it sent a message without content")]
    NoContent,
    /// A message is none that the client waits for, or lacks a part.
    #[error("it sent what is no answer to what it was asked")]
    NoAnswer,
}

impl Guard {
    /// Until [`Guard::end_pages`], the answers to all that is asked count as one.
    pub fn begin_pages(&mut self) {
        self.begin_answer();
        self.is_in_pages = true;
    }

    /// See [`Guard::begin_pages`].
    pub fn end_pages(&mut self) {
        self.is_in_pages = false;
    }

    /// Learns what is asked from the next bytes to the server, cut anywhere.
    pub fn sent(&mut self, bytes: &[u8]) {
        if self.requests.sent(bytes) && !self.is_in_pages {
            self.begin_answer();
        }
    }

    fn begin_answer(&mut self) {
        self.bytes = 0;
        self.elements = 0;
    }

    /// Judges what has come from the server and has not passed yet: how many bytes of whole
    /// messages at its beginning may go on, and what is wrong with the next message, if anything
    /// is. What is left has to be given again when more has come; after a breach nothing passes.
    pub fn pass(&mut self, bytes: &[u8]) -> (usize, Result<(), Breach>) {
        let mut passed = 0;
        while self.breach.is_none() {
            match self.message(bytes.get(passed..).unwrap_or_default()) {
                Ok(Some(length)) => passed += length,
                Ok(None) => return (passed, Ok(())),
                Err(breach) => self.breach = Some(breach),
            }
        }
        (passed, self.breach.map_or(Ok(()), Err))
    }

    /// The length of the first message, if it is whole and may go on.
    fn message(&mut self, bytes: &[u8]) -> Result<Option<usize>, Breach> {
        if bytes.first().is_some_and(|tag| *tag != SEQUENCE) {
            return Err(Breach::NotLdap);
        }
        let Some(header) = header(bytes)? else {
            return Ok(None);
        };
        // A length is judged before what it announces is kept.
        if header.content > LDAP_MESSAGE_BYTES_MAX {
            return Err(Breach::MessageBytes);
        }
        let length = header.bytes + header.content;
        let all_bytes = self.bytes + length;
        if all_bytes > LDAP_ANSWER_BYTES_MAX {
            return Err(Breach::AnswerBytes);
        }
        let Some(content) = bytes.get(header.bytes..length) else {
            return Ok(None);
        };
        let all_elements = self.elements + count_elements(content)?;
        if all_elements > LDAP_ANSWER_ELEMENTS_MAX {
            return Err(Breach::AnswerElements);
        }
        let answer = Answer::read(content).ok_or(Breach::NoAnswer)?;
        if !self.requests.answered_by(answer) {
            return Err(Breach::NoAnswer);
        }
        (self.bytes, self.elements) = (all_bytes, all_elements);
        Ok(Some(length))
    }
}

/// How many elements there are in a message: a number and something else first, elements that end
/// inside theirs, and not too many or too deep. Nothing recurs here.
fn count_elements(message: &[u8]) -> Result<usize, Breach> {
    let mut ends = vec![message.len()];
    let (mut at, mut elements, mut outermost) = (0, 0, 0);
    while let Some(&end) = ends.last() {
        if at == end {
            ends.pop();
            continue;
        }
        let inside = message.get(at..end).unwrap_or_default();
        let header = header(inside)?.ok_or(Breach::Cut)?;
        let content = inside.get(header.bytes..).unwrap_or_default();
        if content.len() < header.content {
            return Err(Breach::TooLong);
        }
        elements += 1;
        if ends.len() == 1 {
            outermost += 1;
            let is_number = header.tag == INTEGER && matches!(header.content, 1..=4);
            if outermost == 1 && !is_number {
                return Err(Breach::NoNumber);
            }
        }
        at += header.bytes;
        if header.tag & CONSTRUCTED == 0 {
            at += header.content;
        } else if ends.len() < LDAP_DEPTH_MAX {
            ends.push(at + header.content);
        } else {
            return Err(Breach::Depth);
        }
        if elements > LDAP_ELEMENTS_MAX {
            return Err(Breach::Elements);
        }
    }
    match outermost {
        0 | 1 => Err(Breach::NoContent),
        _ => Ok(elements),
    }
}

#[cfg(test)]
mod tests;
