//! What stands between a directory server and the LDAP library.
//!
//! The library reads elements of any depth by recursion, and keeps a message of any length until it
//! is whole: a hostile server could end the process by either. So every message passes through
//! here first, and goes on only when it is one that a directory sends (RFC 4511, section 5.1); the
//! library has the other end of a pair of sockets.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use postern_core::directory::ber::{INTEGER, SEQUENCE};
use postern_core::directory::message::{Request, answers};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::UnixStream;

use crate::limits::{
    LDAP_ANSWER_BYTES_MAX, LDAP_ANSWER_ELEMENTS_MAX, LDAP_DEPTH_MAX, LDAP_ELEMENTS_MAX,
    LDAP_MESSAGE_BYTES_MAX, READ_BYTES,
};

/// The bit of a tag that says that elements are inside (X.690, 8.1.2.5).
const CONSTRUCTED: u8 = 0x20;

/// Passes messages on in both directions until either side ends, or the server sends what no
/// directory does.
pub(super) async fn pass(
    server: impl AsyncRead + AsyncWrite,
    library: UnixStream,
    url: &str,
    answer: &Answer,
) {
    let (from_server, to_server) = split(server);
    let (from_library, to_library) = library.into_split();
    let ended = tokio::select! {
        ended = inward(from_server, to_library, answer) => ended,
        ended = outward(from_library, to_server, answer) => ended,
    };
    match ended {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(server = url, %error, "the connection to the directory is closed");
        }
        // What else a connection ends by, the library tells those who wait for an answer.
        Ok(()) | Err(_) => {}
    }
}

/// How much the server has answered to what it was asked last.
#[derive(Debug, Default)]
pub(super) struct Answer {
    bytes: AtomicUsize,
    elements: AtomicUsize,
    /// What is asked next is another page of the same search.
    is_in_pages: AtomicBool,
    request: Mutex<Option<Request>>,
}

impl Answer {
    /// Until what is returned is dropped, the answers to all that is asked count as one: those who
    /// ask keep all pages of a search.
    pub(super) fn in_pages(&self) -> Pages<'_> {
        self.begin();
        self.is_in_pages.store(true, Ordering::Relaxed);
        Pages(self)
    }

    /// Something was asked, by the beginning of what the library sent.
    fn asked(&self, sent: &[u8]) {
        // Each request is sent at once. What is none has no answer, or is the rest of a long one.
        if let Some(request) = Request::of(sent) {
            *self.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        }
        if !self.is_in_pages.load(Ordering::Relaxed) {
            self.begin();
        }
    }

    fn request(&self) -> Option<Request> {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.elements.store(0, Ordering::Relaxed);
    }

    fn add_bytes(&self, count: usize) -> io::Result<()> {
        let before = self.bytes.fetch_add(count, Ordering::Relaxed);
        match before.saturating_add(count) {
            0..=LDAP_ANSWER_BYTES_MAX => Ok(()),
            _ => Err(refused("an answer without end")),
        }
    }

    fn add_elements(&self, count: usize) -> io::Result<()> {
        let before = self.elements.fetch_add(count, Ordering::Relaxed);
        match before.saturating_add(count) {
            0..=LDAP_ANSWER_ELEMENTS_MAX => Ok(()),
            _ => Err(refused("an answer of too many elements")),
        }
    }
}

/// A search whose pages are one answer.
#[must_use]
pub(super) struct Pages<'a>(&'a Answer);

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        self.0.is_in_pages.store(false, Ordering::Relaxed);
    }
}

async fn outward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    answer: &Answer,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let sent = buffer.get(..count).unwrap_or_default();
        answer.asked(sent);
        to.write_all(sent).await?;
        to.flush().await?;
        // A bind has a password.
        zeroize::Zeroize::zeroize(&mut buffer);
        buffer.resize(READ_BYTES, 0);
    }
}

async fn inward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    answer: &Answer,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut held = Vec::new();
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        answer.add_bytes(count)?;
        held.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let whole = whole_messages(&held, answer)?;
        to.write_all(held.get(..whole).unwrap_or_default()).await?;
        held.drain(..whole);
    }
}

/// How many bytes of the whole messages there are at the beginning, each of which is looked at.
fn whole_messages(bytes: &[u8], answer: &Answer) -> io::Result<usize> {
    let mut whole = 0;
    while let Some(rest) = bytes.get(whole..).filter(|rest| !rest.is_empty()) {
        if rest.first() != Some(&SEQUENCE) {
            return Err(refused("what is not LDAP"));
        }
        let Some(header) = header(rest)? else { break };
        if header.content > LDAP_MESSAGE_BYTES_MAX {
            return Err(refused("a message that is too long"));
        }
        let Some(message) = rest.get(..header.bytes + header.content) else {
            break;
        };
        let content = message.get(header.bytes..).unwrap_or_default();
        answer.add_elements(check(content)?)?;
        if !answers(answer.request(), content) {
            return Err(refused("what is no answer to what it was asked"));
        }
        whole += message.len();
    }
    Ok(whole)
}

/// The tag and the lengths of an element.
struct Header {
    tag: u8,
    /// Of the header itself.
    bytes: usize,
    /// Of what follows it.
    content: usize,
}

/// Reads the header of an element; none as long as it is not whole.
fn header(bytes: &[u8]) -> io::Result<Option<Header>> {
    let [tag, first, rest @ ..] = bytes else {
        return Ok(None);
    };
    let digits = match first {
        0..=0x7f => 0,
        0x81..=0x84 => usize::from(first & 0x7f),
        // Lengths that are not known beforehand are forbidden, and longer ones nobody needs.
        _ => return Err(refused("a length that is none")),
    };
    let Some(long) = rest.get(..digits) else {
        return Ok(None);
    };
    let content = match digits {
        0 => usize::from(*first),
        _ => long
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit)),
    };
    Ok(Some(Header {
        tag: *tag,
        bytes: 2 + digits,
        content,
    }))
}

/// Looks at what is in a message: a number and something else first, elements that end inside
/// theirs, and not too many or too deep. Returns how many there are. Nothing recurs here.
fn check(message: &[u8]) -> io::Result<usize> {
    let mut ends = vec![message.len()];
    let (mut at, mut elements, mut outermost) = (0, 0, 0);
    while let Some(&end) = ends.last() {
        if at == end {
            ends.pop();
            continue;
        }
        let inside = message.get(at..end).unwrap_or_default();
        let header = header(inside)?.ok_or_else(|| refused("an element that does not end"))?;
        let content = inside.get(header.bytes..).unwrap_or_default();
        if content.len() < header.content {
            return Err(refused("an element that is longer than what it is in"));
        }
        elements += 1;
        if ends.len() == 1 {
            outermost += 1;
            let is_number = header.tag == INTEGER && matches!(header.content, 1..=4);
            if outermost == 1 && !is_number {
                return Err(refused("a message without a number"));
            }
        }
        at += header.bytes;
        if header.tag & CONSTRUCTED == 0 {
            at += header.content;
        } else if ends.len() < LDAP_DEPTH_MAX {
            ends.push(at + header.content);
        } else {
            return Err(refused("elements that are too deep"));
        }
        if elements > LDAP_ELEMENTS_MAX {
            return Err(refused("too many elements"));
        }
    }
    match outermost {
        0 | 1 => Err(refused("a message without content")),
        _ => Ok(elements),
    }
}

fn refused(what: &'static str) -> io::Error {
    let why = format!("it sent {what}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use postern_core::directory::ber::{OCTET_STRING, element};

    /// The end of a search that succeeded.
    const DONE: &[u8] = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00";

    /// A search for nothing.
    const SEARCH: &[u8] = b"\x30\x05\x02\x01\x02\x63\0";
    /// The tag of an entry.
    const ENTRY: u8 = 0x64;

    fn of_a_search() -> Answer {
        let answer = Answer::default();
        answer.asked(SEARCH);
        answer
    }

    fn why(bytes: &[u8]) -> String {
        let refused = whole_messages(bytes, &of_a_search()).err();
        refused.map(|it| it.to_string()).unwrap_or_default()
    }

    fn message(content: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[b"\x02\x01\x02", content].concat())
    }

    #[test]
    fn whole_messages_pass_and_the_rest_waits() {
        let twice = [DONE, DONE].concat();
        for end in 0..=twice.len() {
            let whole = whole_messages(twice.get(..end).unwrap_or_default(), &of_a_search());
            assert_eq!(whole.ok(), Some(end / DONE.len() * DONE.len()), "{end}");
        }
        // Active Directory writes every length in four digits.
        let long = b"\x30\x84\0\0\0\x10\x02\x01\x02\x65\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0";
        assert_eq!(whole_messages(long, &of_a_search()).ok(), Some(long.len()));
    }

    #[test]
    fn what_no_directory_sends_does_not_pass() {
        for (bytes, expected) in [
            (b"HTTP/1.1 400 Bad Request".to_vec(), "not LDAP"),
            (b"\x30\x84\x7f\xff\xff\xff".to_vec(), "too long"),
            (b"\x30\x80".to_vec(), "length that is none"),
            (b"\x30\x88\0\0\0\0\0\0\0\0".to_vec(), "length that is none"),
            (b"\x30\0".to_vec(), "without content"),
            (b"\x30\x03\x02\x01\x01".to_vec(), "without content"),
            (element(SEQUENCE, b"\x04\x01\x01\x65\0"), "without a number"),
            (element(SEQUENCE, b"\x02\0\x65\0"), "without a number"),
            (message(b"\x65\x7f"), "longer than"),
            (message(b"\x65\x03\x0a\x7f\0"), "longer than"),
            (message(b"\x65"), "does not end"),
            (message(b"\x65\0"), "no answer"),
            (message(b"\x61\x07\x0a\x01\0\x04\0\x04\0"), "no answer"),
        ] {
            assert!(
                why(&bytes).contains(expected),
                "{expected}: {}",
                why(&bytes)
            );
        }
    }

    #[test]
    fn depth_and_number_of_elements_have_a_limit() {
        let nested = |levels: usize| {
            let inner = (0..levels).fold(Vec::new(), |inner, _| element(ENTRY, &inner));
            why(&message(&inner))
        };
        assert_eq!(nested(LDAP_DEPTH_MAX - 1), "");
        assert!(nested(LDAP_DEPTH_MAX).contains("too deep"));
        assert!(nested(5_000).contains("too deep"));
        let many = |count: usize| {
            let one = element(OCTET_STRING, b"");
            why(&message(&element(ENTRY, &one.repeat(count))))
        };
        assert_eq!(many(LDAP_ELEMENTS_MAX - 2), "");
        assert!(many(LDAP_ELEMENTS_MAX).contains("too many"));
    }

    /// How many of `asked` answers of this message each pass, as pages of one search or as answers
    /// to questions of their own.
    async fn passed(message: &[u8], asked: usize, is_in_pages: bool) -> usize {
        let answer = Answer::default();
        let pages = is_in_pages.then(|| answer.in_pages());
        let (mut server, guarded) = tokio::io::duplex(READ_BYTES);
        let (mut library, ours) = UnixStream::pair().unwrap();
        let asking = async {
            let (mut request, mut buffer) = ([0; SEARCH.len()], vec![0; message.len()]);
            for count in 0..asked {
                library.write_all(SEARCH).await.unwrap();
                server.read_exact(&mut request).await.unwrap();
                let writing = server.write_all(message);
                let (_written, read) = tokio::join!(writing, library.read_exact(&mut buffer));
                if read.is_err() {
                    return count;
                }
            }
            asked
        };
        let passing = async {
            pass(guarded, ours, "ldap://test", &answer).await;
            // Those who ask notice it by themselves.
            std::future::pending().await
        };
        let count = tokio::select! {
            count = asking => count,
            count = passing => count,
        };
        drop(pages);
        count
    }

    #[tokio::test]
    async fn all_pages_of_a_search_are_one_answer() {
        let one = element(OCTET_STRING, b"");
        let many = message(&element(ENTRY, &one.repeat(LDAP_ELEMENTS_MAX - 2)));
        let long = message(&element(
            ENTRY,
            &element(OCTET_STRING, &vec![0; LDAP_MESSAGE_BYTES_MAX - 32]),
        ));
        for (message, fit) in [
            (&many, LDAP_ANSWER_ELEMENTS_MAX / LDAP_ELEMENTS_MAX),
            (&long, LDAP_ANSWER_BYTES_MAX / long.len()),
        ] {
            assert_eq!(passed(message, fit + 1, true).await, fit);
            assert_eq!(passed(message, fit + 1, false).await, fit + 1);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_from_a_server_panic(bytes: Vec<u8>) {
            // What does not pass is an error, and nothing else.
            for bytes in [element(SEQUENCE, &bytes), message(&bytes), bytes] {
                let passed = whole_messages(&bytes, &of_a_search());
                assert!(passed.is_ok_and(|whole| whole <= bytes.len()) || !why(&bytes).is_empty());
            }
        }
    }
}
