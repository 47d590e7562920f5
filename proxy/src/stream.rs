//! One leg of a login: a TCP socket on tokio-uring, with TLS when it has been negotiated.
//!
//! rustls is driven by hand, because the TLS state has to leave with the socket when the login is
//! over and the splice begins.
//! tokio-uring does not cancel an operation whose future is dropped, so a [`Stream`] that is
//! dropped shuts its socket down: that ends the operation, and only then the kernel frees it.
//!
//! A password passes through the buffers, so they are wiped: when it has been read, when a buffer
//! is replaced by a larger one, and when the stream is dropped.

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

use postern_ring::Leg;
use rustls::pki_types::ServerName;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio_uring::net::TcpStream as UringStream;
use zeroize::Zeroize as _;

use crate::limits::{
    CLIENT_HANDSHAKE_BYTES_MAX, FIRST_READ_BYTES, LINGER, LINGER_BYTES_MAX, READ_BYTES,
};

/// Why a leg failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The peer closed the connection in the middle of something.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The TLS session failed.
    #[error("TLS failed: {0}")]
    Tls(#[from] rustls::Error),
    /// A client began with TLS, and did not say by ALPN that it means PostgreSQL.
    #[error("direct TLS without the ALPN protocol \"postgresql\"")]
    NoAlpn,
    /// A client's handshake is longer than any.
    #[error("a TLS handshake of more than {CLIENT_HANDSHAKE_BYTES_MAX} bytes")]
    LongHandshake,
    /// A client began with TLS, and the listener has no certificate.
    #[error("direct TLS, and the listener has no certificate")]
    NoCertificate,
}

/// The fatal alert no_application_protocol as a record in the clear (RFC 7301, section 3.2).
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// A leg during the login.
pub(crate) struct Stream {
    /// Reads and writes; a duplicate of `socket`.
    uring: UringStream,
    /// The socket itself, which is handed over to the splice. `None` once it has been.
    socket: Option<TcpStream>,
    tls: Option<Box<Connection>>,
    /// Bytes received and decrypted, and not yet consumed.
    received: Vec<u8>,
    /// The buffer of the next read, kept between reads.
    spare: Vec<u8>,
    /// Whether the last read filled its buffer, so that the next one should be large.
    has_more: bool,
    /// True while a write is under way. If it is true when the next one begins, the future of the
    /// last was dropped, and how much of it the peer got is not known.
    writing: Rc<Cell<bool>>,
}

impl Stream {
    /// Takes a connected socket over.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated or its modes cannot be set. The socket comes back,
    /// for a last word.
    pub(crate) fn new(socket: TcpStream) -> Result<Self, (TcpStream, io::Error)> {
        // io_uring waits by itself; on a non-blocking socket it would return EAGAIN instead.
        let set_up = socket
            .set_nonblocking(false)
            .and_then(|()| socket.set_nodelay(true))
            .and_then(|()| socket.try_clone());
        let twin = match set_up {
            Ok(twin) => twin,
            Err(error) => return Err((socket, error)),
        };
        Ok(Self {
            uring: UringStream::from_std(twin),
            socket: Some(socket),
            tls: None,
            received: Vec::new(),
            spare: Vec::new(),
            has_more: false,
            writing: Rc::default(),
        })
    }

    /// The bytes that were received and not yet consumed.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Drops the first `count` received bytes; more than there are is all of them.
    pub(crate) fn consume(&mut self, count: usize) {
        self.received.drain(..count.min(self.received.len()));
        if self.received.is_empty() && self.received.capacity() > FIRST_READ_BYTES {
            // A client that waits now does not keep what its long packet needed.
            self.received.zeroize();
            self.received = Vec::new();
        }
    }

    /// The socket, for a last word past everything else.
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Tells, also while it is lent, whether a write is under way.
    pub(crate) fn writing(&self) -> Rc<Cell<bool>> {
        self.writing.clone()
    }

    /// True when TLS is in place.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The TLS version and cipher suite, for the audit file; none in clear text.
    pub(crate) fn encryption(&self) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let version = tls.protocol_version()?;
        let suite = tls.negotiated_cipher_suite()?.suite();
        Some(format!("{version:?} {suite:?}"))
    }

    /// The certificate that the peer presented, in DER, if there is TLS and it presented one.
    pub(crate) fn peer_certificate(&self) -> Option<&[u8]> {
        Some(self.tls.as_ref()?.peer_certificates()?.first()?.as_ref())
    }

    /// Waits for more bytes.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`] at the end of input: truncation is never the end of a message.
    pub(crate) async fn receive(&mut self) -> Result<(), StreamError> {
        let before = self.received.len();
        while self.received.len() == before {
            if self.peer_has_closed() {
                // The socket may stay open; nothing that comes on it counts.
                return Err(StreamError::Closed);
            }
            let raw = self.receive_raw().await?;
            if self.tls.is_some() {
                let decrypted = self.decrypt(&raw);
                self.spare = raw;
                decrypted?;
                self.flush_tls().await?;
            } else {
                make_room(&mut self.received, raw.len());
                self.received.extend_from_slice(&raw);
                self.spare = raw;
            }
        }
        Ok(())
    }

    /// Waits until at least `count` bytes are there to be consumed.
    ///
    /// # Errors
    ///
    /// As [`Stream::receive`].
    pub(crate) async fn receive_at_least(&mut self, count: usize) -> Result<(), StreamError> {
        while self.received.len() < count {
            self.receive().await?;
        }
        Ok(())
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    ///
    /// When the socket or the TLS session failed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        match &mut self.tls {
            None => self.send_raw(bytes.to_vec()).await,
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                self.flush_tls().await
            }
        }
    }

    /// Answers the client's TLS handshake.
    ///
    /// # Errors
    ///
    /// When the handshake failed; the alert has been sent.
    pub(crate) async fn accept_tls(
        &mut self,
        config: Arc<ServerConfig>,
    ) -> Result<(), StreamError> {
        let tls = ServerConnection::new(config)?.into();
        self.handshake(tls, CLIENT_HANDSHAKE_BYTES_MAX).await
    }

    /// Answers the TLS handshake of a client that began with it, its first bytes being received
    /// already. It must offer ALPN, so that no client of another protocol can be led here.
    ///
    /// # Errors
    ///
    /// When the handshake failed; the alert has been sent.
    pub(crate) async fn accept_direct_tls(
        &mut self,
        config: Arc<ServerConfig>,
    ) -> Result<(), StreamError> {
        let accepted = self.client_hello().await?;
        if accepted.client_hello().alpn().is_none() {
            self.send_raw(NO_APPLICATION_PROTOCOL.to_vec()).await?;
            return Err(StreamError::NoAlpn);
        }
        match accepted.into_connection(config) {
            Ok(tls) => self.handshake(tls.into(), CLIENT_HANDSHAKE_BYTES_MAX).await,
            Err((error, alert)) => Err(self.refuse_hello(error, alert).await),
        }
    }

    /// Starts a TLS handshake with a server.
    ///
    /// # Errors
    ///
    /// When the handshake failed, for instance on the server's certificate.
    pub(crate) async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), StreamError> {
        // The library has a bound of its own, with room for a long chain of certificates.
        let tls = ClientConnection::new(config, name)?.into();
        self.handshake(tls, usize::MAX).await
    }

    /// Ends the connection in order: what was sent arrives, then the end of the stream.
    ///
    /// Closing a socket with unread input makes the kernel send a reset, and a reset may overtake
    /// the error message that the peer should read; so the input is read to its end, for a while.
    pub(crate) async fn close(mut self) {
        // A peer that neither reads nor closes is cut off; it has had its message.
        drop(tokio::time::timeout(LINGER, self.close_in_order()).await);
    }

    async fn close_in_order(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // The peer may have gone already; there is nobody left to tell.
            drop(self.flush_tls().await);
        }
        let Some(socket) = &self.socket else { return };
        if socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut bytes_left = LINGER_BYTES_MAX;
        while let Ok(raw) = self.receive_raw().await {
            bytes_left = bytes_left.saturating_sub(raw.len());
            self.spare = raw;
            if bytes_left == 0 {
                return;
            }
        }
    }

    /// Overwrites every buffer that a password may have passed through.
    pub(crate) fn wipe(&mut self) {
        self.spare.zeroize();
        let mut kept = self.received.clone();
        self.received.zeroize();
        self.received.extend_from_slice(&kept);
        kept.zeroize();
    }

    /// Gives the socket and its TLS state away, with the bytes that were received and not consumed.
    ///
    /// No operation is in flight: each one was awaited to its end, and a `Stream` whose future was
    /// dropped in the middle never gets here.
    pub(crate) fn into_leg(mut self) -> Option<(Leg, Vec<u8>)> {
        let socket = self.socket.take()?.into();
        // A copy of what there is; the buffer itself is large, and is wiped with the stream.
        let received = self.received.clone();
        let leg = match self.tls.take() {
            None => Leg::Plain(socket),
            Some(tls) => Leg::Tls(socket, tls),
        };
        Some((leg, received))
    }

    /// Reads a ClientHello.
    async fn client_hello(&mut self) -> Result<Accepted, StreamError> {
        let mut acceptor = Acceptor::default();
        let mut bytes_left = CLIENT_HANDSHAKE_BYTES_MAX;
        loop {
            let received = std::mem::take(&mut self.received);
            let left = bytes_left.checked_sub(received.len());
            bytes_left = left.ok_or(StreamError::LongHandshake)?;
            let mut unread = received.as_slice();
            while !unread.is_empty() {
                acceptor.read_tls(&mut unread)?;
                match acceptor.accept() {
                    Ok(None) => {}
                    // Nothing can follow before the server has answered.
                    Ok(Some(_)) if !unread.is_empty() => return Err(StreamError::Closed),
                    Ok(Some(accepted)) => return Ok(accepted),
                    Err((error, alert)) => return Err(self.refuse_hello(error, alert).await),
                }
            }
            // Whoever waits now has kept it already.
            drop(received);
            self.receive().await?;
        }
    }

    /// Sends the alert that says what is wrong with a ClientHello.
    async fn refuse_hello(
        &mut self,
        error: rustls::Error,
        mut alert: AcceptedAlert,
    ) -> StreamError {
        let mut out = Vec::new();
        // That it arrives is not certain and not needed.
        if alert.write_all(&mut out).is_ok() {
            drop(self.send_raw(out).await);
        }
        error.into()
    }

    /// Shakes hands with a peer that may send so many bytes for it.
    async fn handshake(
        &mut self,
        tls: Connection,
        mut bytes_left: usize,
    ) -> Result<(), StreamError> {
        self.tls = Some(Box::new(tls));
        loop {
            self.flush_tls().await?;
            if !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                return Ok(());
            }
            let raw = self.receive_raw().await?;
            let left = bytes_left.checked_sub(raw.len());
            bytes_left = left.ok_or(StreamError::LongHandshake)?;
            let decrypted = self.decrypt(&raw);
            self.spare = raw;
            if let Err(error) = decrypted {
                // The alert tells the peer why; that it arrives is not certain and not needed.
                drop(self.flush_tls().await);
                return Err(error);
            }
        }
    }

    /// Feeds ciphertext to the TLS session and collects what it decrypts to.
    ///
    /// After the peer's close_notify rustls takes no more bytes: what follows it is no part of the
    /// stream (RFC 8446, section 6.1) and is dropped.
    fn decrypt(&mut self, mut raw: &[u8]) -> Result<(), StreamError> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        let before = self.received.len();
        while !raw.is_empty() {
            let taken = tls.read_tls(&mut raw)?;
            let state = tls.process_new_packets()?;
            let count = state.plaintext_bytes_to_read();
            if count > 0 {
                let start = self.received.len();
                make_room(&mut self.received, count);
                self.received.resize(start + count, 0);
                if let Some(room) = self.received.get_mut(start..) {
                    tls.reader().read_exact(room)?;
                }
                // It makes the library give back the room that a long record needed.
                drop(tls.read_tls(&mut NothingYet));
            }
            if taken == 0 || state.peer_has_closed() {
                return match self.received.len() == before {
                    true => Err(StreamError::Closed),
                    false => Ok(()),
                };
            }
        }
        Ok(())
    }

    /// True when the peer has ended its side of the TLS session.
    fn peer_has_closed(&mut self) -> bool {
        let state = self.tls.as_mut().map(|tls| tls.process_new_packets());
        matches!(state, Some(Ok(state)) if state.peer_has_closed())
    }

    async fn flush_tls(&mut self) -> Result<(), StreamError> {
        let mut out = Vec::new();
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut out)?;
            }
        }
        if out.is_empty() {
            Ok(())
        } else {
            self.send_raw(out).await
        }
    }

    async fn receive_raw(&mut self) -> Result<Vec<u8>, StreamError> {
        let mut buffer = std::mem::take(&mut self.spare);
        let bytes = match self.has_more {
            true => READ_BYTES,
            false => FIRST_READ_BYTES,
        };
        if buffer.capacity() > bytes {
            // Whoever waits does not keep what a long message needed.
            buffer.zeroize();
            buffer = Vec::new();
        }
        buffer.clear();
        buffer.reserve_exact(bytes);
        let room = buffer.capacity();
        let (count, buffer) = self.uring.read(buffer).await;
        match count {
            Ok(count) if count > 0 => {
                self.has_more = count == room;
                Ok(buffer)
            }
            ended => {
                // It may hold what was received before, and is wiped with the stream.
                self.spare = buffer;
                ended?;
                Err(StreamError::Closed)
            }
        }
    }

    async fn send_raw(&mut self, bytes: Vec<u8>) -> Result<(), StreamError> {
        if self.writing.get() {
            return Err(StreamError::Closed);
        }
        self.writing.set(true);
        let (sent, mut bytes) = self.uring.write_all(bytes).await;
        self.writing.set(false);
        if self.tls.is_none() {
            // A password for the backend, perhaps. With TLS it is ciphertext.
            bytes.zeroize();
        }
        Ok(sent?)
    }
}

/// A source from which nothing can be read for now.
struct NothingYet;

impl io::Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // Both sides, so that a write in flight ends as well as a read: the kernel still
            // delivers what it has taken, and the end of the stream after it.
            // A socket that is not connected any more needs no shutdown.
            drop(socket.shutdown(Shutdown::Both));
        }
        self.spare.zeroize();
        self.received.zeroize();
    }
}

/// Makes room for `count` more bytes. A vector that grows by itself would leave a copy of what it
/// held in memory that nobody wipes.
fn make_room(buffer: &mut Vec<u8>, count: usize) {
    let needed = buffer.len().saturating_add(count);
    if needed <= buffer.capacity() {
        return;
    }
    let capacity = needed.max(buffer.capacity().saturating_mul(2));
    let mut grown = Vec::with_capacity(capacity.max(FIRST_READ_BYTES));
    grown.extend_from_slice(buffer);
    buffer.zeroize();
    *buffer = grown;
}

#[cfg(test)]
mod tests;
