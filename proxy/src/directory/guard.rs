//! What stands between a directory server and the LDAP library: every byte of both passes through
//! here, and what the server sends goes on only as far as [`Guard`] lets it. The library has the
//! other end of a pair of sockets.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_core::directory::guard::Guard;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::UnixStream;

use crate::limits::READ_BYTES;

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

/// What the server may answer, for those who pass it on and those who ask.
#[derive(Debug, Default)]
pub(super) struct Answer(Mutex<Guard>);

impl Answer {
    /// Until what is returned is dropped, the answers to all that is asked count as one: those who
    /// ask keep all pages of a search.
    pub(super) fn in_pages(&self) -> Pages<'_> {
        self.guard().begin_pages();
        Pages(self)
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search whose pages are one answer.
#[must_use]
pub(super) struct Pages<'a>(&'a Answer);

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        self.0.guard().end_pages();
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
        answer.guard().sent(sent);
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
        held.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let (passed, judged) = answer.guard().pass(&held);
        to.write_all(held.get(..passed).unwrap_or_default()).await?;
        judged.map_err(|breach| io::Error::new(io::ErrorKind::InvalidData, breach))?;
        held.drain(..passed);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// A search for nothing.
    const SEARCH: &[u8] = b"\x30\x05\x02\x01\x02\x63\0";
    /// An entry of nothing, and the end of a search that succeeded.
    const ENTRY: &[u8] = b"\x30\x05\x02\x01\x02\x64\0";
    const DONE: &[u8] = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\0\x04\0\x04\0";

    /// What the library gets of a server's answer to a search, to the end of the connection.
    async fn got(answer: &[u8]) -> Vec<u8> {
        let (mut server, guarded) = tokio::io::duplex(READ_BYTES);
        let (mut library, ours) = UnixStream::pair().unwrap();
        let asking = async {
            let mut request = [0; SEARCH.len()];
            library.write_all(SEARCH).await.unwrap();
            server.read_exact(&mut request).await.unwrap();
            assert_eq!(request, SEARCH);
            server.write_all(answer).await.unwrap();
            drop(server);
            let mut got = Vec::new();
            library.read_to_end(&mut got).await.unwrap();
            got
        };
        let counted = Answer::default();
        let passing = pass(guarded, ours, "ldap://test", &counted);
        let (got, ()) = tokio::join!(asking, passing);
        got
    }

    #[tokio::test]
    async fn messages_pass_whole_until_one_is_none() {
        let answer = [ENTRY, DONE].concat();
        assert_eq!(got(&answer).await, answer);
        let cut = answer.split_last().map(|(_, cut)| cut).unwrap();
        assert_eq!(got(cut).await, ENTRY);
        assert_eq!(got(&[ENTRY, b"HTTP/1.1", DONE].concat()).await, ENTRY);
        assert_eq!(got(&[&answer[..], ENTRY].concat()).await, answer);
        let in_many_reads = [&ENTRY.repeat(5_000)[..], DONE].concat();
        assert_eq!(got(&in_many_reads).await, in_many_reads);
    }
}
