//! Installs and upgrades the `postern` schema: what `postern init-sql` does.
//!
//! The schema belongs to `postern_owner`, a role that nobody can log in as and that may create
//! roles without being a superuser; people are created by `postern_people`, one like it.
//! The provisioner, whose password the proxies hold, may call the schema's routines and nothing
//! else, so that a stolen password cannot make or grant an arbitrary role.
//!
//! Everything happens in one transaction. What has to be done is read from the catalogs first and
//! is data ([`Step`]), so that the dry run prints exactly what a real run would execute.

pub(crate) mod adopt;
mod found;
mod manifest;
mod plan;

use postern_core::mapping::RoleName;
use postern_core::secret::Secret;
use tokio_postgres::Client;

use crate::role_store::connect::{ConnectError, Connector};
use crate::role_store::describe;

use found::Found;

/// The version of the schema that this program installs and works with.
/// It is raised with every change of a table or of a routine's parameters, and every new routine
/// that is called.
pub(crate) const VERSION: i32 = 4;

/// The role that owns the schema and grants groups.
pub(crate) const OWNER: &str = "postern_owner";

/// The role that creates and alters people, so that since PostgreSQL 16 the owner is not a
/// member of every one of them, which would make each of its grants slower.
pub(crate) const PEOPLE: &str = "postern_people";

/// The PostgreSQL versions that the schema is written for, as `server_version_num`.
pub(crate) const SERVER_VERSIONS: std::ops::Range<i32> = 130_000..190_000;

/// What to install.
pub(crate) struct Install<'a> {
    /// The role that the proxies log in as. It is created if it is missing.
    pub(crate) provisioner: &'a RoleName,
    /// Its password. PostgreSQL gets it as a SCRAM verifier, and only if it is not already it.
    pub(crate) password: &'a Secret<Vec<u8>>,
    /// Only say what would be done.
    pub(crate) dry_run: bool,
}

/// One thing that was done, or that would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What, in a few words.
    pub(crate) what: String,
    /// The SQL, secrets masked, without a semicolon at the end.
    pub(crate) sql: String,
}

/// Why the schema could not be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    /// The server cannot be reached, or does not let the administrator in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The schema is not written for this server.
    #[error("PostgreSQL 13 to 18 is needed, and this is version {0}")]
    ServerVersion(i32),
    /// The database has a newer schema than this program.
    #[error("the installed schema has version {found}, newer than this program's {VERSION}")]
    Newer {
        /// The installed version.
        found: i32,
    },
    /// The schema's name, or a role's, is taken by something that Postern did not make.
    #[error("{what}; {cure}")]
    Taken {
        /// What is in the way.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// The administrator may not do what is needed.
    #[error("{user} is neither a superuser nor a role with CREATEROLE")]
    NotAdministrator {
        /// Who was logged in.
        user: String,
    },
    /// The provisioner's password cannot be turned into a verifier.
    #[error("no random numbers from the system")]
    Random,
    /// A statement failed.
    #[error("{step}: {}", describe(.source))]
    Database {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
}

/// Connects as an administrator and installs or upgrades the schema; see [`install`].
///
/// `admin` says who and where; its database is where the schema goes.
///
/// # Errors
///
/// [`SchemaError::Connect`], and what [`install`] returns.
pub(crate) async fn connect_and_install(
    connector: &Connector,
    admin: &tokio_postgres::Config,
    order: &Install<'_>,
) -> Result<Vec<Step>, SchemaError> {
    let mut client = connector.connect(admin).await?;
    install(&mut client, order).await
}

/// Installs or upgrades the schema and returns what was done, which is nothing the second time.
///
/// # Errors
///
/// A [`SchemaError`]; then nothing was done.
pub(crate) async fn install(
    client: &mut Client,
    order: &Install<'_>,
) -> Result<Vec<Step>, SchemaError> {
    let transaction = client.transaction().await.map_err(at("begin"))?;
    // A second installer waits for the first and then finds nothing to do.
    transaction
        .batch_execute(
            "SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL lock_timeout = '10s'; \
             SELECT pg_advisory_xact_lock(1886352500, 0)",
        )
        .await
        .map_err(at("lock"))?;
    let found = Found::read(&transaction, order.provisioner).await?;
    let work = plan::plan(&found, order)?;
    if order.dry_run || work.is_empty() {
        transaction.rollback().await.map_err(at("roll back"))?;
    } else {
        for task in &work {
            transaction
                .batch_execute(&task.sql)
                .await
                .map_err(at(&task.step.what))?;
        }
        transaction.commit().await.map_err(at("commit"))?;
    }
    Ok(work.into_iter().map(|task| task.step).collect())
}

fn at(step: &str) -> impl FnOnce(tokio_postgres::Error) -> SchemaError {
    let step = step.to_owned();
    move |source| SchemaError::Database { step, source }
}
