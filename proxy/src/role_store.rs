//! The privileged connection that makes a person's role and memberships match the directory.
//!
//! Everything is decided and done by the routines of the `postern` schema in one statement each
//! (`sql/functions/apply_login.sql` first of all); this module carries the wish there, and the
//! steps or the refusal back. The parameters of a client never come near this connection.

mod change;
pub(crate) mod connect;
mod deprovision;
mod dial;
mod error;
mod hold;
mod listen;
mod managed;
mod pool;
mod probe;
mod replication;
mod retry;
mod settings;
mod step;
mod wish;

use std::time::Duration;

use postern_core::perimeter::Plan;
use postern_core::principal::EntryId;
use ring::rand::SecureRandom as _;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::config::Config;
use crate::limits::ROLE_STORE_GRACE_MS;
use connect::Connector;
use pool::{Access, Pool};
use step::steps;
use wish::Bound;

pub(crate) use change::{MembershipChange, MembershipWish};
pub(crate) use deprovision::{Deprovision, Deprovisioned};
pub(crate) use error::{Refusal, RoleStoreError, describe};
pub(crate) use hold::Whom;
pub(crate) use listen::{StoreNotice, What};
pub(crate) use managed::ManagedLogin;
pub(crate) use settings::read_password;
pub(crate) use step::{Action, Step};
pub(crate) use wish::Wish;

/// Evidence that the role and its memberships match; made by [`RoleStore::apply`] only.
#[derive(Debug)]
pub(crate) struct Applied {
    steps: Vec<Step>,
}

/// The connections of one login thread to the role store.
pub(crate) struct RoleStore {
    pool: Pool,
    limit: Duration,
    /// Whether group rules open replication connections.
    replicates: bool,
}

const APPLY: &str = "SELECT a.action, a.target, a.note \
    FROM postern.apply_login($1, $2, $3, $4, $5, $6, $7, $8, $9) a ORDER BY a.step";
const PLAN: &str = "SELECT p.action, p.target, p.note \
    FROM postern.plan_login($1, $2, $3, $4, $5, $6, $7, $8) p ORDER BY p.step";
const DISABLE: &str = "SELECT postern.disable_login($1, $2, $3, $4)";

impl RoleStore {
    /// Reads the password and certificate files. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`RoleStoreError::Settings`] and [`RoleStoreError::Tls`] when a file cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, RoleStoreError> {
        let keys = &config.role_store;
        let password = read_password(&keys.password_file)?;
        let limit = keys.statement_timeout;
        let mut pg = tokio_postgres::Config::new();
        pg.host(&keys.endpoint.host)
            .port(keys.endpoint.port)
            .dbname(&keys.database)
            .user(&keys.user)
            .password(password.expose())
            .application_name("postern")
            .connect_timeout(keys.endpoint.connect_timeout)
            .options(settings::session_options(limit));
        let connector = Connector::new(&keys.endpoint)?;
        Ok(Self {
            pool: Pool::new(Access::new(connector, pg, limit)),
            limit,
            replicates: config.groups.rules.open_replication(),
        })
    }

    /// Makes the role and its memberships match, and returns what was done. With nothing to do,
    /// nothing is written.
    ///
    /// # Errors
    ///
    /// [`RoleStoreError::Refused`] when a rule forbids it, and what any call may fail with.
    pub(crate) async fn apply(&self, wish: &Wish) -> Result<Applied, RoleStoreError> {
        let rows = self.call(APPLY, &Bound::new(wish).list()).await?;
        let mut steps = steps(&rows)?;
        let (entry, session) = (&wish.directory_id, &wish.session);
        steps.extend(
            self.change_replication(entry, wish.replication, session)
                .await?,
        );
        Ok(Applied { steps })
    }

    /// What [`RoleStore::apply`] would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// What any call may fail with; a refusal is a step.
    pub(crate) async fn plan(&self, wish: &Wish) -> Result<Vec<Step>, RoleStoreError> {
        let bound = Bound::new(wish);
        let mut parameters = bound.list();
        // The last one is the session, which only a change is logged with.
        parameters.pop();
        steps(&self.call(PLAN, &parameters).await?)
    }

    /// Takes LOGIN away from the role of a directory entry, and returns its name if it has one.
    async fn disable(
        &self,
        directory_id: &EntryId,
        session: &str,
        why: &str,
    ) -> Result<Option<String>, RoleStoreError> {
        let id = directory_id.as_str();
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&None::<&str>, Type::TEXT),
            (&id, Type::TEXT),
            (&session, Type::TEXT),
            (&why, Type::TEXT),
        ];
        value(&self.call(DISABLE, &parameters).await?)
    }

    /// Looks at everything that a sync depends on, for `postern check`.
    pub(crate) async fn probe(&self, plan: Option<&Plan>) -> Vec<crate::check::Probe> {
        probe::probe(&self.pool, plan, self.replicates).await
    }

    /// One statement: a transaction of its own, repeated after a race or a dead connection.
    async fn call(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, RoleStoreError> {
        let mut dead = false;
        let mut try_number = 0;
        loop {
            let lease = self.pool.lease().await?;
            let answer = tokio::time::timeout(
                self.limit + Duration::from_millis(ROLE_STORE_GRACE_MS),
                lease.client().query_typed(sql, parameters),
            )
            .await;
            let error = match answer {
                Ok(Ok(rows)) => {
                    lease.keep();
                    return Ok(rows);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    return Err(RoleStoreError::TimedOut {
                        limit_ms: self.limit.as_millis(),
                    });
                }
            };
            let refused =
                RoleStoreError::from_call(&error, self.pool.place(), self.limit.as_millis());
            let Some(code) = error.code().filter(|_| !refused.is_outage()) else {
                // A connection that had served before may have died long ago, by a restart or a
                // failover; its neighbours too. One new connection decides.
                let again =
                    lease.reused && !dead && !matches!(refused, RoleStoreError::TimedOut { .. });
                drop(lease);
                self.pool.forget();
                if again {
                    dead = true;
                    continue;
                }
                return Err(refused);
            };
            lease.keep();
            try_number += 1;
            let Some(wait) = Some(code)
                .filter(|code| retry::is_retriable(code))
                .and_then(|_| retry::delay(try_number, random()))
            else {
                return Err(refused);
            };
            tracing::debug!(
                code = code.code(),
                try_number,
                "met another sync, trying again"
            );
            tokio::time::sleep(wait).await;
        }
    }
}

impl Applied {
    /// What was done, in order; empty if everything matched already.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// One column of a row.
fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, RoleStoreError> {
    row.try_get(index).map_err(|e| malformed(&e))
}

/// The only column of the only row.
fn value<'a, T: tokio_postgres::types::FromSql<'a>>(rows: &'a [Row]) -> Result<T, RoleStoreError> {
    let row = rows.first().ok_or_else(no_row)?;
    column(row, 0)
}

fn no_row() -> RoleStoreError {
    RoleStoreError::Database {
        sqlstate: "02000".to_owned(),
        message: "the routine returned no row".to_owned(),
    }
}

fn malformed(error: &tokio_postgres::Error) -> RoleStoreError {
    RoleStoreError::Database {
        sqlstate: "42804".to_owned(),
        message: describe(error),
    }
}

/// A random number for the jitter of a retry. Without one the wait is in the middle.
fn random() -> u8 {
    let mut byte = [128_u8];
    // Losing the error only costs the spread of the waits.
    let _ = ring::rand::SystemRandom::new().fill(&mut byte);
    let [byte] = byte;
    byte
}

#[cfg(test)]
mod tests;
