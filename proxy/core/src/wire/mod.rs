//! The part of PostgreSQL's frontend/backend protocol that a login and the admin console need.
//!
//! Everything here turns bytes into values and values into bytes; nothing reads a socket.
//! A decoder accepts a message only when every byte of it is accounted for, and an encoder takes
//! the message's length from the bytes that it wrote.
//!
//! Source: PostgreSQL, Message Formats,
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

pub mod backend;
pub mod frontend;
mod options;
pub mod proxy_header;
pub mod query;
pub mod role_store;
pub mod startup;
mod tag;

/// Appends one message: the tag when there is one, the length word, and the body that `body`
/// writes.
///
/// The length word counts itself and the body, not the tag.
/// Every caller's input is bounded, so the length fits; were it ever too large, the word says
/// `u32::MAX`, which every receiver refuses, and never a small number with bytes left over.
fn put_message(out: &mut Vec<u8>, tag: Option<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend(tag);
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(start..start + LENGTH_BYTES) {
        word.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a NUL-terminated string; what follows a NUL in `text` is left out, because it would
/// be read as the next field.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().take_while(|byte| **byte != 0));
    out.push(0);
}

/// The size of a message's length word, in bytes.
const LENGTH_BYTES: usize = 4;

/// The size of a tag and a length word, in bytes.
const HEADER_BYTES: usize = 1 + LENGTH_BYTES;

/// A message's body, consumed from the front.
///
/// Each method returns `None`, and consumes nothing, when the body is too short for what was
/// asked.
#[derive(Debug, Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// The bytes up to the next NUL, which is consumed with them.
    fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        Some(text)
    }

    /// So many bytes.
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Everything that is left.
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_the_length_of_what_was_written() {
        let mut out = b"before".to_vec();
        put_message(&mut out, Some(b'p'), |out| put_text(out, b"abc"));
        assert_eq!(out, b"beforep\0\0\0\x08abc\0");
    }

    #[test]
    fn text_after_a_nul_never_becomes_a_field() {
        let mut out = Vec::new();
        put_text(&mut out, b"ab\0Sforged");
        assert_eq!(out, b"ab\0");
    }

    #[test]
    fn a_reader_consumes_nothing_when_too_little_is_left() {
        let mut reader = Reader(b"abc");
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.text(), None);
        assert_eq!(reader.rest(), b"abc");
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), None);
    }
}
