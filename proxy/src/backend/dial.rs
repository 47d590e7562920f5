//! Reaching a backend: TCP, then TLS as libpq's `sslmode` means it.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::wire::backend;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::backend::BackendError;
use crate::config::{Backend, Endpoint, SslMode};
use crate::limits::{CANCELS_PER_SERVER_MAX, CONNECT_SHARE_MIN};
use crate::stream::{Stream, StreamError};
use crate::tls::{self, TlsError};

/// A backend and all that is prepared for reaching it.
pub(crate) struct Target {
    /// The configuration.
    pub(crate) config: Backend,
    /// Places for cancel requests to it.
    pub(crate) cancels: Semaphore,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
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
    /// Which backend it is.
    pub(crate) target: Arc<Target>,
    /// Where it leads.
    pub(crate) address: SocketAddr,
    /// How long the connection took, with its TLS.
    pub(crate) took: Duration,
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
    pub(crate) fn new(config: Backend) -> Result<Self, TlsError> {
        let tls = tls::postgres_client_config(&config.endpoint)?;
        Ok(Self {
            config,
            cancels: Semaphore::new(CANCELS_PER_SERVER_MAX),
            tls,
        })
    }

    /// Dials with as many attempts as `sslmode` asks for, until `ask` is let in. The caller bounds
    /// the time.
    ///
    /// # Errors
    ///
    /// No address of the host accepts the connection, TLS is wanted and fails, or what `ask` says.
    pub(super) async fn let_in<T>(
        self: &Arc<Self>,
        mut ask: impl AsyncFnMut(&mut Dialled) -> Result<T, BackendError>,
    ) -> Result<(Dialled, T), BackendError> {
        let mut attempts = self.attempts().iter().peekable();
        while let Some(encryption) = attempts.next() {
            let last = attempts.peek().is_none();
            let mut dialled = match self.dial(*encryption).await {
                Ok(dialled) => dialled,
                // TLS itself failed.
                Err(BackendError::Unreachable { .. })
                    if *encryption == Encryption::IfOffered && !last =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            match ask(&mut dialled).await.map_err(not_let_in) {
                Ok(answer) => return Ok((dialled, answer)),
                // The server refuses this encryption (no pg_hba.conf line).
                Err(BackendError::Refused { sqlstate, .. }) if sqlstate == "28000" && !last => {}
                Err(error) => return Err(error),
            }
        }
        // The last attempt returns, so that there was none.
        Err(BackendError::Unreachable {
            host: self.host(),
            why: "sslmode makes no attempt".to_owned(),
        })
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

    /// TLS as it is prepared; none where `sslmode` never asks for it.
    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
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
    pub(crate) async fn dial(
        self: &Arc<Self>,
        encryption: Encryption,
    ) -> Result<Dialled, BackendError> {
        let (endpoint, begun) = (&self.config.endpoint, Instant::now());
        let unreachable = |why: String| BackendError::Unreachable {
            host: host_of(endpoint),
            why,
        };
        let named = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port));
        let addresses = named
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let addresses: Vec<_> = addresses.collect();
        let connected = connect_to_one(&addresses, endpoint.connect_timeout).await;
        let (socket, address) = connected.map_err(unreachable)?;
        let stream = Stream::new(socket).map_err(|(_, error)| unreachable(error.to_string()))?;
        let dialled = self.encrypt(stream, address, encryption).await?;
        Ok(Dialled {
            took: begun.elapsed(),
            ..dialled
        })
    }

    async fn encrypt(
        self: &Arc<Self>,
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
        Ok(Dialled {
            target: self.clone(),
            // Whoever began to connect knows.
            took: Duration::ZERO,
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

/// Connects to the first address that accepts. Each may take an equal share of `limit`, so that
/// one that never answers leaves time for the next; the caller bounds the last.
async fn connect_to_one(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), String> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let share = (limit / count.max(1)).max(CONNECT_SHARE_MIN);
    let mut failure = "the name has no address".to_owned();
    let mut addresses = addresses.iter().copied().peekable();
    while let Some(address) = addresses.next() {
        let connected = match addresses.peek() {
            None => Ok(connect(address).await),
            Some(_) => timeout(share, connect(address)).await,
        };
        match connected {
            Ok(Ok(socket)) => return Ok((socket, address)),
            Ok(Err(error)) => failure = format!("{address}: {error}"),
            Err(_) => failure = format!("{address}: no answer in {} ms", share.as_millis()),
        }
    }
    Err(failure)
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

/// A backend that hangs up before it has let anybody in is away, or about to be.
pub(super) fn not_let_in(error: BackendError) -> BackendError {
    if let BackendError::Lost { host, error } = error {
        let why = format!("lost before the login was through: {error}");
        return BackendError::Unreachable { host, why };
    }
    error
}

#[cfg(test)]
impl Target {
    /// A backend that nobody dials.
    #[expect(clippy::unwrap_used, reason = "without TLS nothing can fail")]
    pub(crate) fn for_tests() -> Arc<Self> {
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            sslmode: SslMode::Disable,
            tls_ca_file: None,
            connect_timeout: CONNECT_SHARE_MIN,
        };
        let config = Backend {
            endpoint,
            databases: Vec::new(),
            auth_methods: Vec::new(),
            client_address: false,
        };
        Arc::new(Self::new(config).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A listener whose queue is full: the kernel drops every further SYN.
    fn black_hole() -> io::Result<(Socket, Vec<TcpStream>, SocketAddr)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(0)?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut queued = Vec::new();
        while let Ok(client) = TcpStream::connect_timeout(&address, Duration::from_millis(50)) {
            queued.push(client);
        }
        Ok((socket, queued, address))
    }

    /// What is made of a server's answer to the request for TLS.
    fn offer_for(said: &[u8]) -> anyhow::Result<&'static str> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        // Before it is asked, so that all of it is there at once.
        server.write_all(said)?;
        tokio_uring::start(async move {
            let mut stream = Stream::new(client).map_err(|(_, error)| error)?;
            Ok(match offers_tls(&mut stream).await? {
                Offer::Tls => "TLS",
                Offer::Plain => "clear text",
                Offer::Nonsense => "nonsense",
            })
        })
    }

    #[test]
    fn what_follows_the_answer_in_the_clear_does_not_get_into_tls() -> anyhow::Result<()> {
        for (said, offer) in [
            (&b"S"[..], "TLS"),
            (b"N", "clear text"),
            (b"SR\0\0\0\x08\0\0\0\0", "nonsense"),
            (b"S\x16", "nonsense"),
            (b"SS", "nonsense"),
            (b"NR\0\0\0\x08\0\0\0\0", "nonsense"),
            (b"E\0\0\0\x05\0", "nonsense"),
        ] {
            assert_eq!(offer_for(said)?, offer, "{:?}", said.escape_ascii());
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_address_that_never_answers_leaves_time_for_the_next() -> io::Result<()> {
        let (_socket, _queued, dead) = black_hole()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let alive = listener.local_addr()?;
        let addresses = [dead, alive];
        let connecting = connect_to_one(&addresses, CONNECT_SHARE_MIN);
        let connected = timeout(Duration::from_secs(20), connecting).await?;
        assert_eq!(connected.map(|(_, address)| address), Ok(alive));
        Ok(())
    }
}
