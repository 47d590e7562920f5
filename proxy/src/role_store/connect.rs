//! One connection to PostgreSQL as libpq would make it.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use postern_core::wire::role_store::{Breach, Guard, Logins};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, Host, SslMode as Negotiation, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dial::Dial;
use crate::backend::Encryption;
use crate::config::{Endpoint, SslMode};
use crate::role_store::describe;
use crate::tls::{self, TlsError};

/// How connections to one server are made.
#[derive(Clone)]
pub(crate) struct Connector {
    mode: SslMode,
    tls: Option<MakeRustlsConnect>,
    ca_file: bool,
    timeout: Duration,
    place: String,
}

/// A connection that is logged in. It ends when this is dropped, also while an answer is pending:
/// by itself it would wait for a server that has fallen silent.
pub(crate) struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What is called with every notification of a connection (`NOTIFY`), at once: it must not wait.
/// Dropped when the connection ends.
pub(super) type Hear = Arc<dyn Fn(Notification) + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody answers, or not in time, or TLS fails.
    #[error("{place} is not reachable: {why}")]
    Unreachable {
        /// Host and port.
        place: String,
        /// The causes, outermost first.
        why: String,
    },
    /// The server asks for a login that anybody could ask for in its place.
    #[error(
        "{place} {why}, and nothing else proves that it is the one that was meant: set its \
         sslmode to verify-full, or have its pg_hba.conf ask for scram-sha-256"
    )]
    Unproven {
        /// Host and port.
        place: String,
        /// What it does.
        why: &'static str,
    },
    /// The server lets in, and takes no change.
    #[error("{place} is a standby")]
    Standby {
        /// Host and port.
        place: String,
    },
    /// The server answers with an error.
    #[error("{place}: {}", describe(.source))]
    Server {
        /// Host and port.
        place: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
}

impl Connector {
    /// Reads the CA file. Connects to nothing.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the certificates cannot be read.
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self, TlsError> {
        let tls = tls::postgres_client_config(endpoint)?;
        Ok(Self {
            mode: endpoint.sslmode,
            tls: tls.map(|tls| MakeRustlsConnect::new((*tls).clone())),
            ca_file: endpoint.tls_ca_file.is_some(),
            timeout: endpoint.connect_timeout,
            place: format!("PostgreSQL at {}:{}", endpoint.host, endpoint.port),
        })
    }

    /// Host and port, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// How the server's certificate is checked, in words.
    pub(crate) fn verification(&self) -> &'static str {
        match (self.mode, self.ca_file) {
            (SslMode::VerifyFull, _) => "certificate and host name verified",
            (SslMode::VerifyCa, _) | (SslMode::Require, true) => "certificate verified",
            (SslMode::Require | SslMode::Prefer | SslMode::Allow | SslMode::Disable, _) => {
                "certificate NOT verified"
            }
        }
    }

    /// Whether TLS proves that the server is the one that was meant.
    fn is_proven(&self) -> bool {
        match self.mode {
            SslMode::VerifyFull | SslMode::VerifyCa => true,
            SslMode::Require => self.ca_file,
            SslMode::Prefer | SslMode::Allow | SslMode::Disable => false,
        }
    }

    /// Whether `sslmode` is content without TLS.
    pub(crate) fn plaintext_allowed(&self) -> bool {
        matches!(
            self.mode,
            SslMode::Disable | SslMode::Allow | SslMode::Prefer
        )
    }

    /// Connects and logs in. The timeout covers name resolution, TCP, TLS and authentication,
    /// and both attempts where `sslmode` makes two.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub(crate) async fn connect(&self, config: &Config) -> Result<Connection, ConnectError> {
        self.connect_hearing(config, None).await
    }

    /// [`Connector::connect`], for a connection that will `LISTEN`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub(super) async fn connect_hearing(
        &self,
        config: &Config,
        hear: Option<Hear>,
    ) -> Result<Connection, ConnectError> {
        match tokio::time::timeout(self.timeout, self.attempts(config, hear)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => {
                Err(self.unreachable(format!("no answer in {} ms", self.timeout.as_millis())))
            }
        }
    }

    fn failed(&self, error: tokio_postgres::Error) -> ConnectError {
        let place = self.place.clone();
        if error.as_db_error().is_some() {
            return ConnectError::Server {
                place,
                source: error,
            };
        }
        if is_standby(&error) {
            return ConnectError::Standby { place };
        }
        let why = match inside::<Breach>(&error) {
            Some(Breach::Login(why)) => why,
            _ if is_unbound(&error) => {
                "does not bind the login to its certificate (SCRAM-SHA-256-PLUS)"
            }
            _ => return self.unreachable(describe(&error)),
        };
        ConnectError::Unproven { place, why }
    }

    fn unreachable(&self, why: String) -> ConnectError {
        ConnectError::Unreachable {
            place: self.place.clone(),
            why,
        }
    }

    /// `allow` asks without TLS first and `prefer` with; the other way is tried only when it was
    /// the encryption that the server or the handshake objected to. libpq also tries again after
    /// a wrong password, which would count every mistake twice.
    async fn attempts(
        &self,
        config: &Config,
        hear: Option<Hear>,
    ) -> Result<Connection, tokio_postgres::Error> {
        match self.mode {
            SslMode::Disable => self.attempt(config, Encryption::Plain, hear).await,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                self.attempt(config, Encryption::Required, hear).await
            }
            SslMode::Allow => match self.attempt(config, Encryption::Plain, hear.clone()).await {
                Err(error) if is_refused(&error) => {
                    self.attempt(config, Encryption::Required, hear).await
                }
                result => result,
            },
            SslMode::Prefer => {
                let encryption = Encryption::IfOffered;
                match self.attempt(config, encryption, hear.clone()).await {
                    Err(error)
                        if is_refused(&error) || inside::<rustls::Error>(&error).is_some() =>
                    {
                        self.attempt(config, Encryption::Plain, hear).await
                    }
                    result => result,
                }
            }
        }
    }

    async fn attempt(
        &self,
        config: &Config,
        encryption: Encryption,
        hear: Option<Hear>,
    ) -> Result<Connection, tokio_postgres::Error> {
        let mut config = config.clone();
        if let [Host::Unix(_)] = config.get_hosts() {
            // Whoever owns the folder of a unix socket is known; there is nobody in between.
            config.ssl_mode(Negotiation::Disable);
            let (client, connection) = config.connect(NoTls).await?;
            return Ok(drive(client, connection, hear));
        }
        let logins = match self.is_proven() || config.get_password().is_none() {
            true => Logins::All,
            false => Logins::Scram,
        };
        if logins == Logins::Scram && self.mode == SslMode::Require {
            // The login itself has to tell the server from somebody in between. Where TLS may be
            // missing altogether, who is in between takes it away.
            config.channel_binding(ChannelBinding::Require);
        }
        config
            .ssl_mode(Negotiation::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        let dial = Dial {
            tls: self.tls.clone(),
            encryption,
            guard: Guard::new(logins),
        };
        let (client, connection) = config.connect(dial).await?;
        Ok(drive(client, connection, hear))
    }
}

/// The server's `pg_hba.conf` does not let this kind of connection in (28000).
fn is_refused(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// An error of this kind, where it is the cause: inside of an I/O error, as rustls and the guard
/// report theirs.
fn inside<E: std::error::Error + 'static>(error: &tokio_postgres::Error) -> Option<&E> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        let found = io.and_then(|io| io.get_ref()?.downcast_ref());
        if found.is_some() {
            return found;
        }
        cause = error.source();
    }
    None
}

/// Whether the server was left because it did not bind the login to the connection.
fn is_unbound(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|it| it.to_string() == "server did not use channel binding")
}

/// Whether the server was left because it takes no change: tokio-postgres says that by the kind of
/// error that nothing else in a login has.
fn is_standby(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|it| it.downcast_ref::<std::io::Error>());
    cause.is_some_and(|it| {
        it.kind() == std::io::ErrorKind::PermissionDenied && it.raw_os_error().is_none()
    })
}

/// Reads what comes on a connection for as long as it lives.
fn drive<S, T>(
    client: Client,
    mut connection: tokio_postgres::Connection<S, T>,
    hear: Option<Hear>,
) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let driver = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match (message, &hear) {
                (Ok(AsyncMessage::Notification(notification)), Some(hear)) => hear(notification),
                // Warnings of the server are in its own log.
                (Ok(_), _) => {}
                // The client of this connection sees the same end as a closed connection, with
                // the error of its own call, so that nothing is lost by saying it only here.
                (Err(error), _) => {
                    ended(&error);
                    break;
                }
            }
        }
    });
    Connection { client, driver }
}

fn ended(error: &tokio_postgres::Error) {
    match inside::<Breach>(error) {
        Some(breach) => tracing::warn!(%breach, "a connection to the role store was ended"),
        None => {
            let error = describe(error);
            tracing::debug!(%error, "a connection to the role store ended");
        }
    }
}
