//! A few connections, made when they are needed and kept while they work.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config};

use super::connect::{Connection, Connector, Hear};
use super::error::RoleStoreError;
use crate::limits::{ROLE_STORE_CONNECTIONS_MAX, ROLE_STORE_GRACE_MS};
use crate::schema::VERSION;

/// How one gets at the routines of the role store.
#[derive(Clone)]
pub(super) struct Access {
    connector: Connector,
    config: Config,
    limit: Duration,
}

/// The connections of one login thread.
pub(super) struct Pool {
    access: Access,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// A connection that is in use. It is closed when it is dropped, unless [`Lease::keep`] is
/// called: a call that was given up must not leave its transaction to the next user.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    client: Connection,
    /// The connection has served before, so that it may have died in the meantime.
    pub(super) reused: bool,
    _permit: SemaphorePermit<'a>,
}

impl Access {
    pub(super) fn new(connector: Connector, mut config: Config, limit: Duration) -> Self {
        // A standby says so at once instead of at the first change (25006).
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Self {
            connector,
            config,
            limit,
        }
    }

    /// A new connection to a schema of the right version. The answer about the version is waited
    /// for as long as that of any call: a server that hangs may still accept connections.
    pub(super) async fn connect(&self, hear: Option<Hear>) -> Result<Connection, RoleStoreError> {
        let client = self.connector.connect_hearing(&self.config, hear).await?;
        let rows = self
            .answer(client.query_typed("SELECT postern.version()", &[]))
            .await?;
        let found = rows
            .first()
            .and_then(|row| row.try_get::<_, i32>(0).ok())
            .unwrap_or(0);
        if found != VERSION {
            return Err(RoleStoreError::SchemaVersion {
                found,
                wanted: VERSION,
            });
        }
        Ok(client)
    }

    /// Host and port, for messages.
    pub(super) fn place(&self) -> &str {
        self.connector.place()
    }

    /// Waits for an answer as long as a call may take.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, RoleStoreError> {
        let limit_ms = self.limit.as_millis();
        let patience = self.limit + Duration::from_millis(ROLE_STORE_GRACE_MS);
        tokio::time::timeout(patience, call)
            .await
            .map_err(|_| RoleStoreError::TimedOut { limit_ms })?
            .map_err(|e| RoleStoreError::from_call(&e, self.place(), limit_ms))
    }
}

impl Pool {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            permits: Semaphore::new(ROLE_STORE_CONNECTIONS_MAX),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// How the connections are made.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// Host and port, for messages.
    pub(super) fn place(&self) -> &str {
        self.access.place()
    }

    /// How the server's certificate is checked, in words.
    pub(super) fn verification(&self) -> &'static str {
        self.access.connector.verification()
    }

    /// Whether `sslmode` is content without TLS.
    pub(super) fn plaintext_allowed(&self) -> bool {
        self.access.connector.plaintext_allowed()
    }

    /// An idle connection, or a new one. Waits as long as a call may take while all are in use.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, RoleStoreError> {
        let waited = tokio::time::timeout(self.access.limit, self.permits.acquire());
        // The semaphore is never closed; both errors mean that no connection came free.
        let Ok(Ok(permit)) = waited.await else {
            return Err(RoleStoreError::TimedOut {
                limit_ms: self.access.limit.as_millis(),
            });
        };
        while let Some(client) = self.pop() {
            if !client.is_closed() {
                return Ok(Lease {
                    pool: self,
                    client,
                    reused: true,
                    _permit: permit,
                });
            }
        }
        let client = self.connect().await?;
        Ok(Lease {
            pool: self,
            client,
            reused: false,
            _permit: permit,
        })
    }

    /// A new connection; see [`Access::connect`].
    pub(super) async fn connect(&self) -> Result<Connection, RoleStoreError> {
        self.access.connect(None).await
    }

    /// Forgets the idle connections: the server has changed under them.
    pub(super) fn forget(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn pop(&self) -> Option<Connection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }
}

impl Lease<'_> {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Gives the connection back for the next call.
    pub(super) fn keep(self) {
        if !self.client.is_closed() {
            self.pool
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write as _};
    use std::net::{Ipv4Addr, TcpListener};

    use postern_core::perimeter::{Place, Plan};
    use tokio::sync::oneshot;

    use super::*;
    use crate::check::Outcome;
    use crate::config::{Endpoint, SslMode};
    use crate::role_store::RoleStore;

    /// Lets one client log in, says that it is no standby, and answers nothing from then on; or
    /// only after it has told the version of its schema.
    fn fall_silent(listener: &TcpListener, tells_version: bool) -> io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        skip(&mut socket)?;
        socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")?;
        let mut tag = [0];
        socket.read_exact(&mut tag)?;
        skip(&mut socket)?;
        socket.write_all(b"T\0\0\0\x1a\0\x01s\0\0\0\0\0\0\0\0\0\0\x19\xff\xff")?;
        socket.write_all(b"\xff\xff\xff\xff\0\0D\0\0\0\x0d\0\x01\0\0\0\x03off")?;
        socket.write_all(b"C\0\0\0\x09SHOW\0Z\0\0\0\x05I")?;
        if tells_version {
            while tag != *b"S" {
                socket.read_exact(&mut tag)?;
                skip(&mut socket)?;
            }
            socket.write_all(b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1a\0\x01v\0\0\0\0\0\0\0")?;
            socket
                .write_all(b"\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01D\0\0\0\x0e\0\x01\0\0\0\x04")?;
            socket.write_all(&VERSION.to_be_bytes())?;
            socket.write_all(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I")?;
        }
        io::copy(&mut socket, &mut io::sink()).map(drop)
    }

    /// Reads a message from its length word on.
    fn skip(socket: &mut impl Read) -> io::Result<()> {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let body = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
        io::copy(&mut socket.take(body), &mut io::sink()).map(drop)
    }

    /// A server on a thread of its own, and who is told when its connection is closed.
    fn silent_server(
        tells_version: bool,
    ) -> io::Result<(Access, oneshot::Receiver<io::Result<()>>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr()?.port(),
            sslmode: SslMode::Disable,
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(20),
        };
        let (ended, has_ended) = oneshot::channel();
        // Not joined: if the connection were kept open, it would not end.
        let _server = std::thread::spawn(move || ended.send(fall_silent(&listener, tells_version)));
        let mut config = Config::new();
        config
            .host(&endpoint.host)
            .port(endpoint.port)
            .user("postern");
        let connector = Connector::new(&endpoint).map_err(io::Error::other)?;
        let access = Access::new(connector, config, Duration::from_millis(20));
        Ok((access, has_ended))
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_after_the_login_is_not_waited_for() -> io::Result<()> {
        let (access, has_ended) = silent_server(false)?;
        let pool = Pool::new(access);
        let connecting = tokio::time::timeout(Duration::from_secs(20), pool.connect());
        let outcome = connecting.await?;
        assert!(
            matches!(outcome, Err(RoleStoreError::TimedOut { limit_ms: 20 })),
            "{:?}",
            outcome.err()
        );
        let served = tokio::time::timeout(Duration::from_secs(20), has_ended).await?;
        assert!(
            served.is_ok_and(|served| served.is_ok()),
            "the connection is closed"
        );
        Ok(())
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_not_waited_for_to_tell_of_strangers() -> io::Result<()> {
        let (access, has_ended) = silent_server(true)?;
        let store = RoleStore {
            limit: access.limit,
            pool: Pool::new(access),
            replicates: false,
        };
        let plan = Plan {
            place: Place::Gateway,
            interfaces: Vec::new(),
            protected: Vec::new(),
            allowed: Vec::new(),
        };
        let looking = tokio::time::timeout(Duration::from_secs(20), store.strangers(&plan));
        let Outcome::Warning { why, .. } = looking.await?.outcome else {
            return Err(io::Error::other("something is known"));
        };
        assert!(why.starts_with("not known: "), "{why}");
        let served = tokio::time::timeout(Duration::from_secs(20), has_ended).await?;
        assert!(
            served.is_ok_and(|served| served.is_ok()),
            "the connection is closed"
        );
        Ok(())
    }
}
