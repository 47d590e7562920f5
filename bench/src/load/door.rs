//! How clients of our own get in: the address, TLS and the login of a route.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use postern_core::wire::backend::ssl_request;

use crate::route::{Encryption, Login, Route};

/// Whether a client remembers TLS sessions from one connection to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tickets {
    /// Every connection makes a full handshake.
    Forgotten,
    /// A session is resumed where the server lets it be.
    Kept,
}

/// A way in, which any number of clients use.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Who logs in.
    pub login: Login,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Door {
    /// The door of a route.
    ///
    /// # Errors
    /// If its host has no address, or TLS is wanted and it has no authority that can be read.
    pub fn new(route: &Route, encryption: Encryption, tickets: Tickets) -> Result<Self> {
        let named = (route.host.as_str(), route.port).to_socket_addrs();
        let named: Vec<SocketAddr> = named.with_context(|| route.host.clone())?.collect();
        // Servers of the bench listen on 127.0.0.1, and `localhost` may be ::1 first.
        let address = named.iter().find(|it| it.is_ipv4()).or(named.first());
        let address = *address.with_context(|| format!("{} has no address", route.host))?;
        let tls = match (encryption, &route.ca_file) {
            (Encryption::Plain, _) => None,
            (Encryption::Tls, Some(ca_file)) => {
                let name = ServerName::try_from(route.host.clone())?;
                Some((connector(ca_file, tickets)?, name))
            }
            (Encryption::Tls, None) => bail!("{} does not end TLS", route.name),
        };
        Ok(Self {
            address,
            tls,
            login: route.login.clone(),
        })
    }

    /// The same door for somebody else.
    #[must_use]
    pub fn for_login(&self, login: Login) -> Self {
        Self {
            login,
            ..self.clone()
        }
    }

    /// Connects, with TLS when the door has it.
    ///
    /// # Errors
    /// If nobody listens, or the server does not take TLS.
    pub async fn connect(&self) -> Result<Wire> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Wire::Plain(socket));
        };
        socket.write_all(&ssl_request()).await?;
        let mut answer = [0];
        socket.read_exact(&mut answer).await?;
        if answer != *b"S" {
            bail!("the server does not take TLS");
        }
        let encrypted = connector.connect(name.clone(), socket).await?;
        Ok(Wire::Tls(Box::new(encrypted)))
    }
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum Wire {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// The port of our end.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn local_port(&self) -> Result<u16> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
        };
        Ok(socket.local_addr()?.port())
    }

    /// Whether TLS was resumed, and no certificate sent; `false` without TLS.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => {
                let kind = tls.get_ref().1.handshake_kind();
                kind == Some(rustls::HandshakeKind::Resumed)
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

fn connector(ca_file: &Path, tickets: Tickets) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file);
    for certificate in certificates.with_context(|| ca_file.display().to_string())? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder?.with_root_certificates(roots).with_no_client_auth();
    config.resumption = match tickets {
        Tickets::Forgotten => Resumption::disabled(),
        Tickets::Kept => Resumption::default(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}
