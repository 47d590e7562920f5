//! A few connections, made when they are needed and kept while they work.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config};

use super::connect::Connector;
use super::error::RoleStoreError;
use crate::limits::ROLE_STORE_CONNECTIONS_MAX;
use crate::schema::VERSION;

/// The connections of one login thread.
pub(super) struct Pool {
    connector: Connector,
    config: Config,
    permits: Semaphore,
    idle: Mutex<Vec<Client>>,
    limit: Duration,
}

/// A connection that is in use. It is closed when it is dropped, unless [`Lease::keep`] is
/// called: a call that was given up must not leave its transaction to the next user.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    client: Client,
    /// The connection has served before, so that it may have died in the meantime.
    pub(super) reused: bool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn new(connector: Connector, mut config: Config, limit: Duration) -> Self {
        // A standby says so at once instead of at the first change (25006).
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Self {
            connector,
            config,
            permits: Semaphore::new(ROLE_STORE_CONNECTIONS_MAX),
            idle: Mutex::new(Vec::new()),
            limit,
        }
    }

    /// Host and port, for messages.
    pub(super) fn place(&self) -> &str {
        self.connector.place()
    }

    /// How the server's certificate is checked, in words.
    pub(super) fn verification(&self) -> &'static str {
        self.connector.verification()
    }

    /// Whether `sslmode` is content without TLS.
    pub(super) fn plaintext_allowed(&self) -> bool {
        self.connector.plaintext_allowed()
    }

    /// An idle connection, or a new one. Waits as long as a call may take while all are in use.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, RoleStoreError> {
        let waited = tokio::time::timeout(self.limit, self.permits.acquire());
        // The semaphore is never closed; both errors mean that no connection came free.
        let Ok(Ok(permit)) = waited.await else {
            return Err(RoleStoreError::TimedOut {
                limit_ms: self.limit.as_millis(),
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

    /// A new connection to a schema of the right version.
    pub(super) async fn connect(&self) -> Result<Client, RoleStoreError> {
        let client = self.connector.connect(&self.config).await?;
        let rows = client
            .query_typed("SELECT postern.version()", &[])
            .await
            .map_err(|e| RoleStoreError::from_call(&e, self.place(), self.limit.as_millis()))?;
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

    /// Forgets the idle connections: the server has changed under them.
    pub(super) fn forget(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn pop(&self) -> Option<Client> {
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
