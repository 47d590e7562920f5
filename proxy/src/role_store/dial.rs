//! What tokio-postgres reads: the socket or TLS on it, and a [`Guard`] that judges every byte.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use postern_core::wire::backend::ssl_request;
use postern_core::wire::role_store::Guard;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::backend::Encryption;

type Tls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
type Handshake = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;

/// How one attempt to connect uses TLS. It asks the server for TLS itself, so that also a
/// connection without it comes through here: tokio-postgres has to be told that there is TLS
/// without being asked for (`sslnegotiation=direct`).
#[derive(Clone)]
pub(super) struct Dial {
    /// None where TLS is never used.
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) encryption: Encryption,
    /// As it is at the beginning of a connection.
    pub(super) guard: Guard,
}

/// [`Dial`] for one host.
pub(super) struct Dialling {
    handshake: Option<Handshake>,
    encryption: Encryption,
    guard: Guard,
}

/// A connection whose bytes are judged before they are used.
pub(super) struct Guarded {
    wire: Wire,
    guard: Guard,
}

enum Wire {
    Plain(Socket),
    Tls(Box<Tls>),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl MakeTlsConnect<Socket> for Dial {
    type Stream = Guarded;
    type TlsConnect = Dialling;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Dialling, Infallible> {
        let make = |tls| MakeTlsConnect::<Socket>::make_tls_connect(tls, host);
        Ok(Dialling {
            handshake: self.tls.as_mut().map(make).transpose()?,
            encryption: self.encryption,
            guard: self.guard,
        })
    }
}

impl TlsConnect<Socket> for Dialling {
    type Stream = Guarded;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Guarded>> + Send>>;

    fn connect(self, mut socket: Socket) -> Self::Future {
        Box::pin(async move {
            let has_tls = has_tls(&mut socket, self.encryption).await?;
            let wire = match (has_tls, self.handshake) {
                (false, _) => Wire::Plain(socket),
                (true, Some(handshake)) => Wire::Tls(Box::new(handshake.connect(socket).await?)),
                (true, None) => return Err(io::Error::other("TLS is not prepared")),
            };
            Ok(Guarded {
                wire,
                guard: self.guard,
            })
        })
    }
}

/// Asks for TLS. Only the one byte of the answer is read, so that what a stranger sends behind it
/// is no part of the session.
async fn has_tls(socket: &mut Socket, encryption: Encryption) -> io::Result<bool> {
    if encryption == Encryption::Plain {
        return Ok(false);
    }
    socket.write_all(&ssl_request()).await?;
    match (socket.read_u8().await?, encryption) {
        (b'S', _) => Ok(true),
        (b'N', Encryption::IfOffered) => Ok(false),
        _ => Err(io::Error::other("the server does not offer TLS")),
    }
}

impl Guarded {
    fn wire(self: Pin<&mut Self>) -> Pin<&mut dyn Duplex> {
        let wire: &mut dyn Duplex = match &mut self.get_mut().wire {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => tls.as_mut(),
        };
        Pin::new(wire)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.as_mut().wire().poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if let Err(breach) = self.guard.pass(read) {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, breach)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_shutdown(context)
    }
}

impl TlsStream for Guarded {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.wire {
            Wire::Plain(_) => ChannelBinding::none(),
            Wire::Tls(tls) => tls.channel_binding(),
        }
    }
}
