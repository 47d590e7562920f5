//! Reaching a backend: TCP, then TLS as libpq's `sslmode` means it.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use postern_core::wire::backend;
use rustls::ClientConfig;

use crate::backend::BackendError;
use crate::config::{Backend, Endpoint, SslMode};
use crate::session::BackendAddress;
use crate::stream::{Stream, StreamError};
use crate::tls::{self, TlsError};

/// A backend and all that is prepared for reaching it.
pub(crate) struct Target {
    /// Its place in the configuration.
    pub(crate) index: usize,
    /// The configuration.
    pub(crate) config: Backend,
    tls: Option<Arc<ClientConfig>>,
}

/// Whether a connection is to be encrypted, in one attempt to make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// No TLS is asked for.
    Plain,
    /// TLS, if the server has it.
    IfOffered,
    /// TLS, or the attempt fails.
    Required,
}

/// A connection to a backend, on which nothing has been said yet but SSLRequest.
pub(crate) struct Dialled {
    /// The connection.
    pub(crate) stream: Stream,
    /// Where it leads.
    pub(crate) address: BackendAddress,
    /// `host:port` as configured.
    pub(crate) host: String,
    /// The channel binding of the connection (RFC 5929, tls-server-end-point), where TLS and the
    /// server's certificate give one.
    pub(crate) binding: Option<Vec<u8>>,
}

impl Target {
    /// Prepares a backend's TLS.
    ///
    /// # Errors
    ///
    /// When its CA file cannot be read or used.
    pub(crate) fn new(index: usize, config: Backend) -> Result<Self, TlsError> {
        let tls = tls::postgres_client_config(&config.endpoint)?;
        Ok(Self { index, config, tls })
    }

    /// The attempts that `sslmode` asks for, in libpq's order.
    pub(crate) fn attempts(&self) -> &'static [Encryption] {
        match self.config.endpoint.sslmode {
            SslMode::Disable => &[Encryption::Plain],
            SslMode::Allow => &[Encryption::Plain, Encryption::Required],
            SslMode::Prefer => &[Encryption::IfOffered, Encryption::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Required],
        }
    }

    /// `host:port` as configured.
    pub(crate) fn host(&self) -> String {
        host_of(&self.config.endpoint)
    }

    /// Connects. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// No address of the host accepts the connection, or TLS is wanted and fails.
    pub(crate) async fn dial(&self, encryption: Encryption) -> Result<Dialled, BackendError> {
        let endpoint = &self.config.endpoint;
        let unreachable = |why: String| BackendError::Unreachable {
            host: host_of(endpoint),
            why,
        };
        let named = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port));
        let addresses = named
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let mut failure = "the name has no address".to_owned();
        for address in addresses {
            match connect(address).await {
                Ok(socket) => {
                    let stream =
                        Stream::new(socket).map_err(|error| unreachable(error.to_string()))?;
                    return self.encrypt(stream, address, encryption).await;
                }
                Err(error) => failure = format!("{address}: {error}"),
            }
        }
        Err(unreachable(failure))
    }

    /// Connects to an address that was dialled before, for a cancel request.
    ///
    /// # Errors
    ///
    /// As [`Target::dial`].
    pub(crate) async fn dial_again(&self, address: SocketAddr) -> Result<Dialled, BackendError> {
        let unreachable = |error: std::io::Error| BackendError::Unreachable {
            host: self.host(),
            why: error.to_string(),
        };
        let stream = Stream::new(connect(address).await.map_err(unreachable)?);
        let first = self
            .attempts()
            .first()
            .copied()
            .unwrap_or(Encryption::Required);
        self.encrypt(stream.map_err(unreachable)?, address, first)
            .await
    }

    async fn encrypt(
        &self,
        mut stream: Stream,
        address: SocketAddr,
        encryption: Encryption,
    ) -> Result<Dialled, BackendError> {
        let host = self.host();
        let unreachable = |why: String| BackendError::Unreachable {
            host: host.clone(),
            why,
        };
        if let Some(config) = &self.tls
            && encryption != Encryption::Plain
        {
            let offer = offers_tls(&mut stream).await;
            match offer.map_err(|error| unreachable(error.to_string()))? {
                Offer::Tls => {
                    let name = tls::server_name(&self.config.endpoint.host)
                        .map_err(|error| unreachable(error.to_string()))?;
                    let encrypted = stream.connect_tls(config.clone(), name).await;
                    encrypted.map_err(|error| unreachable(error.to_string()))?;
                }
                Offer::Plain if encryption == Encryption::IfOffered => {}
                Offer::Plain => {
                    let why = "the server does not offer TLS, and sslmode requires it";
                    return Err(unreachable(why.to_owned()));
                }
                Offer::Nonsense => {
                    let why = "what the server answers to SSLRequest is not the protocol";
                    return Err(unreachable(why.to_owned()));
                }
            }
        }
        let binding = stream
            .peer_certificate()
            .and_then(tls::tls_server_end_point);
        let address = BackendAddress {
            index: self.index,
            address,
        };
        Ok(Dialled {
            stream,
            address,
            host,
            binding,
        })
    }
}

fn host_of(endpoint: &Endpoint) -> String {
    format!("{}:{}", endpoint.host, endpoint.port)
}

/// tokio makes the connection, because its future can be dropped: tokio-uring would leave the
/// attempt running.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    tokio::net::TcpStream::connect(address).await?.into_std()
}

enum Offer {
    Tls,
    Plain,
    Nonsense,
}

/// Sends SSLRequest and reads the one byte of the answer.
///
/// Bytes that follow it in the clear are refused: they could be taken for what is sent inside TLS
/// (CVE-2021-23222).
async fn offers_tls(stream: &mut Stream) -> Result<Offer, StreamError> {
    stream.send(&backend::ssl_request()).await?;
    stream.receive_at_least(1).await?;
    let offer = match stream.received() {
        b"S" => Offer::Tls,
        b"N" => Offer::Plain,
        _ => Offer::Nonsense,
    };
    stream.consume(1);
    Ok(offer)
}
