//! The privileged connection that makes a person's role and memberships match the directory.
//!
//! Everything is decided and done by the routines of the `postern` schema in one statement each
//! (`sql/functions/apply_login.sql` first of all); this module carries the wish there, and the
//! steps or the refusal back. The parameters of a client never come near this connection.

pub(crate) mod connect;
mod error;
mod pool;
mod probe;
mod retry;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use postern_core::mapping::RoleName;
use postern_core::perimeter::Plan;
use postern_core::principal::EntryId;
use postern_core::scram::Verifier;
use postern_core::secret::Secret;
use ring::rand::SecureRandom as _;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::config::{Config, MissingGroup};
use crate::limits::{REVOKE_WAIT_MS, ROLE_STORE_GRACE_MS, SECRET_FILE_BYTES_MAX};
use connect::Connector;
use pool::Pool;

pub(crate) use error::{Refusal, RoleStoreError, describe};

/// What the directory says a person's role should be.
#[derive(Clone)]
pub(crate) struct Wish {
    /// The session that asks, for the change log.
    pub(crate) session: String,
    /// The role's name.
    pub(crate) role: RoleName,
    /// The directory entry that the role belongs to, now and for good.
    pub(crate) directory_id: EntryId,
    /// What was typed.
    pub(crate) login: String,
    /// The entry's present name.
    pub(crate) dn: String,
    /// The roles of the groups that count.
    pub(crate) groups: Vec<RoleName>,
    /// The role's secret, as PostgreSQL keeps it.
    pub(crate) verifier: Verifier,
    /// What happens to a group whose role does not exist.
    pub(crate) missing: MissingGroup,
    /// Write the secret even if it seems to be the same: somebody changed it behind our back.
    pub(crate) force_secret: bool,
}

/// One row of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) action: Action,
    /// To which role.
    pub(crate) target: String,
    /// Why, or what an administrator should know. A refusal begins with its code.
    pub(crate) note: String,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Make the person's role.
    CreateRole,
    /// Give LOGIN back to a role that Postern had disabled.
    EnableRole,
    /// Remember a changed login, DN or name.
    RecordEntry,
    /// Write the role's secret.
    SetSecret,
    /// Make the role of a group.
    CreateGroup,
    /// Make the person a member.
    Grant,
    /// Take back a membership that Postern granted.
    Revoke,
    /// Leave a group out. Changes nothing.
    SkipGroup,
    /// Refuse the login. Only in plans: [`RoleStore::apply`] returns an error instead.
    Refuse,
}

/// Evidence that the role and its memberships match; made by [`RoleStore::apply`] only.
#[derive(Debug)]
pub(crate) struct Applied {
    steps: Vec<Step>,
}

/// What was left when everything was taken away from a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// Postern manages no such role: there was nothing to take.
    NotManaged,
    /// The role is disabled and stripped.
    Stripped {
        /// Its name in the database.
        role: String,
        /// Backends that were told to end and had not yet; ask again until there is none.
        backends_left: u32,
    },
}

/// The connections of one login thread to the role store.
pub(crate) struct RoleStore {
    pool: Pool,
    limit: Duration,
}

const APPLY: &str = "SELECT a.action, a.target, a.note \
    FROM postern.apply_login($1, $2, $3, $4, $5, $6, $7, $8, $9) a ORDER BY a.step";
const PLAN: &str = "SELECT p.action, p.target, p.note \
    FROM postern.plan_login($1, $2, $3, $4, $5, $6, $7, $8) p ORDER BY p.step";
const DISABLE: &str = "SELECT postern.disable_login($1, $2, $3, $4)";
const REVOKE: &str = "SELECT postern.revoke_login($1, $2, $3, $4, $5)";

impl RoleStore {
    /// Reads the password and certificate files. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`RoleStoreError::Settings`] and [`RoleStoreError::Tls`] when a file cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, RoleStoreError> {
        let settings = &config.role_store;
        let password = read_password(&settings.password_file)?;
        let limit = settings.statement_timeout;
        let mut pg = tokio_postgres::Config::new();
        pg.host(&settings.endpoint.host)
            .port(settings.endpoint.port)
            .dbname(&settings.database)
            .user(&settings.user)
            .password(password.expose())
            .application_name("postern")
            .connect_timeout(settings.endpoint.connect_timeout)
            .options(session_options(limit));
        let connector = Connector::new(&settings.endpoint)?;
        Ok(Self {
            pool: Pool::new(connector, pg, limit),
            limit,
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
        Ok(Applied {
            steps: steps(&rows)?,
        })
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

    /// Takes LOGIN, the memberships that Postern granted and the live backends away from the role
    /// of a directory entry. LOGIN goes first, in a transaction of its own, so that no backend
    /// can appear behind the look at the running ones.
    ///
    /// # Errors
    ///
    /// What any call may fail with. LOGIN may be gone by then; calling again does the rest.
    pub(crate) async fn revoke(
        &self,
        directory_id: &EntryId,
        session: &str,
        why: &str,
    ) -> Result<Revoked, RoleStoreError> {
        let nobody: Option<&str> = None;
        let id = directory_id.as_str();
        let first: [(&(dyn ToSql + Sync), Type); 4] = [
            (&nobody, Type::TEXT),
            (&id, Type::TEXT),
            (&session, Type::TEXT),
            (&why, Type::TEXT),
        ];
        let rows = self.call(DISABLE, &first).await?;
        let Some(role) = value::<Option<String>>(&rows)? else {
            return Ok(Revoked::NotManaged);
        };
        let mut second = first.to_vec();
        second.push((&REVOKE_WAIT_MS, Type::INT4));
        let rows = self.call(REVOKE, &second).await?;
        Ok(match value::<Option<i32>>(&rows)? {
            None => Revoked::NotManaged,
            Some(left) => Revoked::Stripped {
                role,
                backends_left: u32::try_from(left).unwrap_or(0),
            },
        })
    }

    /// Looks at everything that a sync depends on, for `postern check`.
    pub(crate) async fn probe(&self, plan: Option<&Plan>) -> Vec<crate::check::Probe> {
        probe::probe(&self.pool, plan).await
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

impl Step {
    /// The step in one line, as the audit file has it: `grant hr_data`.
    pub(crate) fn describe(&self) -> String {
        match self.note.as_str() {
            "" => format!("{} {}", self.action.as_str(), self.target),
            note => format!("{} {} ({note})", self.action.as_str(), self.target),
        }
    }
}

/// A wish in the form in which it is bound to the parameters of a call.
struct Bound<'a> {
    wish: &'a Wish,
    role: &'a str,
    directory_id: &'a str,
    groups: Vec<&'a str>,
    verifier: Secret<String>,
    missing: &'static str,
}

impl<'a> Bound<'a> {
    fn new(wish: &'a Wish) -> Self {
        Self {
            wish,
            role: wish.role.as_str(),
            directory_id: wish.directory_id.as_str(),
            groups: wish.groups.iter().map(RoleName::as_str).collect(),
            verifier: Secret::new(wish.verifier.to_string()),
            missing: match wish.missing {
                MissingGroup::Create => "create",
                MissingGroup::Skip => "skip",
                MissingGroup::Refuse => "refuse",
            },
        }
    }

    /// The parameters in the order of `apply_login`; `plan_login` has all but the last.
    fn list(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![
            (&self.role, Type::TEXT),
            (&self.directory_id, Type::TEXT),
            (&self.wish.login, Type::TEXT),
            (&self.wish.dn, Type::TEXT),
            (&self.groups, Type::TEXT_ARRAY),
            (self.verifier.expose(), Type::TEXT),
            (&self.missing, Type::TEXT),
            (&self.wish.force_secret, Type::BOOL),
            (&self.wish.session, Type::TEXT),
        ]
    }
}

impl Applied {
    /// What was done, in order; empty if everything matched already.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Action {
    /// The action as the schema and the audit file write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CreateRole => "create_role",
            Self::EnableRole => "enable_role",
            Self::RecordEntry => "record_entry",
            Self::SetSecret => "set_secret",
            Self::CreateGroup => "create_group",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::SkipGroup => "skip_group",
            Self::Refuse => "refuse",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::CreateRole,
            Self::EnableRole,
            Self::RecordEntry,
            Self::SetSecret,
            Self::CreateGroup,
            Self::Grant,
            Self::Revoke,
            Self::SkipGroup,
            Self::Refuse,
        ]
        .into_iter()
        .find(|action| action.as_str() == text)
    }
}

fn steps(rows: &[Row]) -> Result<Vec<Step>, RoleStoreError> {
    rows.iter()
        .map(|row| {
            let action: &str = row.try_get(0).map_err(|e| malformed(&e))?;
            Ok(Step {
                action: Action::parse(action)
                    .ok_or_else(|| RoleStoreError::UnknownAction(action.to_owned()))?,
                target: row.try_get(1).map_err(|e| malformed(&e))?,
                note: row.try_get(2).map_err(|e| malformed(&e))?,
            })
        })
        .collect()
}

/// The only column of the only row.
fn value<'a, T: tokio_postgres::types::FromSql<'a>>(rows: &'a [Row]) -> Result<T, RoleStoreError> {
    let row = rows.first().ok_or_else(|| RoleStoreError::Database {
        sqlstate: "02000".to_owned(),
        message: "the routine returned no row".to_owned(),
    })?;
    row.try_get(0).map_err(|e| malformed(&e))
}

fn malformed(error: &tokio_postgres::Error) -> RoleStoreError {
    RoleStoreError::Database {
        sqlstate: "42804".to_owned(),
        message: describe(error),
    }
}

/// What is pinned for the whole session. Only numbers are put into the text.
/// The session runs the same few statements, so that each is planned once.
fn session_options(statement_timeout: Duration) -> String {
    let ms = statement_timeout.as_millis();
    format!(
        "-c search_path=pg_catalog,pg_temp -c client_min_messages=warning \
         -c statement_timeout={ms} -c lock_timeout={ms} \
         -c idle_in_transaction_session_timeout={ms} \
         -c default_transaction_isolation=read\\ committed \
         -c plan_cache_mode=force_generic_plan -c jit=off"
    )
}

/// The provisioner's password: the file without the line end that editors leave.
///
/// # Errors
///
/// [`RoleStoreError::Settings`] when the file cannot be read, holds nothing, or is longer than
/// [`SECRET_FILE_BYTES_MAX`].
pub(crate) fn read_password(path: &Path) -> Result<Secret<Vec<u8>>, RoleStoreError> {
    let settings = |why: String| RoleStoreError::Settings {
        what: "role_store.password_file",
        why: format!("{}{why}", path.display()),
    };
    // All at once, so that nothing is left behind where a buffer has grown.
    let limit = SECRET_FILE_BYTES_MAX + 1;
    let mut bytes = Vec::with_capacity(limit);
    let file = std::fs::File::open(path).map_err(|error| settings(format!(": {error}")))?;
    let read = file.take(limit as u64).read_to_end(&mut bytes);
    if read.map_err(|error| settings(format!(": {error}")))? == limit {
        return Err(settings(" is too long".to_owned()));
    }
    while bytes
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(settings(" is empty".to_owned()));
    }
    Ok(Secret::new(bytes))
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
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_as_it_is_written() {
        for text in [
            "create_role",
            "enable_role",
            "record_entry",
            "set_secret",
            "create_group",
            "grant",
            "revoke",
            "skip_group",
            "refuse",
        ] {
            assert_eq!(Action::parse(text).map(Action::as_str), Some(text));
        }
        assert_eq!(Action::parse("drop_role"), None);
    }

    #[test]
    fn a_password_file_loses_its_line_end_and_nothing_else() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("password");
        for (text, wanted) in [("a b \r\n", Some("a b ")), ("x", Some("x")), ("\n", None)] {
            std::fs::write(&path, text)?;
            let found = read_password(&path).ok();
            assert_eq!(
                found.as_ref().map(|s| s.expose().as_slice()),
                wanted.map(str::as_bytes)
            );
        }
        assert!(read_password(&folder.path().join("missing")).is_err());
        std::fs::write(&path, "x".repeat(SECRET_FILE_BYTES_MAX))?;
        assert!(read_password(&path).is_ok());
        std::fs::write(&path, "x".repeat(SECRET_FILE_BYTES_MAX + 1))?;
        assert!(read_password(&path).is_err());
        Ok(())
    }

    #[test]
    fn the_session_is_pinned_in_milliseconds() {
        let options = session_options(Duration::from_secs(3));
        assert!(options.contains("-c statement_timeout=3000 "), "{options}");
        assert!(options.contains("read\\ committed "), "{options}");
    }
}
