//! What can go wrong with the role store.

use tokio_postgres::error::SqlState;

use super::connect::ConnectError;
use crate::tls::TlsError;

/// Why a role could not be made to match.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleStoreError {
    /// The settings cannot be used: a file, mostly.
    #[error("{what}: {why}")]
    Settings {
        /// The key of the configuration.
        what: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// The certificates cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody answers at the role store, or the connection was lost twice.
    #[error("{host}: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The causes, outermost first.
        why: String,
    },
    /// Whoever answers asks for a login that would tell a stranger the password.
    #[error("{why}")]
    Unproven {
        /// Who asks, for what, and what to do.
        why: String,
    },
    /// The role store did not answer in time.
    #[error("no answer from the role store in {limit_ms} ms")]
    TimedOut {
        /// How long was waited.
        limit_ms: u128,
    },
    /// The server is a standby, which cannot change roles.
    #[error("{host} is a standby and cannot change roles")]
    Standby {
        /// Host and port.
        host: String,
    },
    /// The database has no `postern` schema, or the provisioner may not use it.
    #[error("the postern schema is not installed for this provisioner: {why}; run init-sql")]
    NotInstalled {
        /// The server's words.
        why: String,
    },
    /// A statement inside of a routine was refused to the schema's owner, such as a GRANT of a role
    /// that it does not administer.
    #[error("postern_owner lacks a privilege: {why}")]
    Privilege {
        /// The server's words.
        why: String,
    },
    /// The schema is of another version than this program.
    #[error("the postern schema has version {found}, and {wanted} is needed; run init-sql")]
    SchemaVersion {
        /// What is installed.
        found: i32,
        /// What this program works with.
        wanted: i32,
    },
    /// A rule of Postern forbids it.
    #[error("{why}")]
    Refused {
        /// Which rule.
        refusal: Refusal,
        /// The words of the schema's routine, for the administrator.
        why: String,
    },
    /// The server reported another error.
    #[error("{message} ({sqlstate})")]
    Database {
        /// The SQLSTATE.
        sqlstate: String,
        /// The server's words.
        message: String,
    },
    /// The answer is not what the schema's routines return.
    #[error("the role store answered with an unknown action {0:?}")]
    UnknownAction(String),
}

/// The rules of the schema, by SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// PN001: the role exists and is not managed by Postern.
    NotManaged,
    /// PN002: the role belongs to another directory entry.
    OtherEntry,
    /// PN003: the name is reserved or too long, or the role is powerful.
    Reserved,
    /// PN004: a group's role is missing, and the policy is to refuse.
    GroupMissing,
    /// PN005: no group is left.
    NoGroup,
    /// PN006: the directory entry has a role of another name.
    OtherRole,
    /// PN007: an administrator has disabled the role.
    Disabled,
    /// PN008: an operator holds the person.
    Held,
}

impl Refusal {
    /// Whether it means that the person has nothing in the database any more.
    pub(crate) const fn is_loss(self) -> bool {
        matches!(self, Self::NoGroup | Self::Disabled | Self::Held)
    }

    /// The rule that an SQLSTATE stands for.
    pub(crate) fn from_sqlstate(code: &str) -> Option<Self> {
        Some(match code {
            "PN001" => Self::NotManaged,
            "PN002" => Self::OtherEntry,
            "PN003" => Self::Reserved,
            "PN004" => Self::GroupMissing,
            "PN005" => Self::NoGroup,
            "PN006" => Self::OtherRole,
            "PN007" => Self::Disabled,
            "PN008" => Self::Held,
            _ => return None,
        })
    }
}

impl RoleStoreError {
    /// True when the role store is away, as opposed to having said no.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Standby { .. } => true,
            // Class 08 connection exception, 53 insufficient resources, 57 operator intervention,
            // 58 system error.
            Self::Database { sqlstate, .. } => ["08", "53", "57", "58"]
                .iter()
                .any(|class| sqlstate.starts_with(class)),
            Self::Settings { .. }
            | Self::Tls(_)
            | Self::Unproven { .. }
            | Self::NotInstalled { .. }
            | Self::Privilege { .. }
            | Self::SchemaVersion { .. }
            | Self::Refused { .. }
            | Self::UnknownAction(_) => false,
        }
    }

    /// What an error of a call means. Decided on codes, never on words: the server may speak any
    /// language.
    ///
    /// A lack of privilege is the provisioner's, who may not use the schema or call the routine,
    /// or the schema owner's, in a statement inside of a routine. Only the second has a context.
    pub(super) fn from_call(error: &tokio_postgres::Error, host: &str, limit_ms: u128) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Unreachable {
                host: host.to_owned(),
                why: describe(error),
            };
        };
        let inside = db.where_().is_some();
        Self::from_code(db.code(), inside, db.message().to_owned(), (host, limit_ms))
    }

    fn from_code(code: &SqlState, inside: bool, why: String, call: (&str, u128)) -> Self {
        let (host, limit_ms) = call;
        if let Some(refusal) = Refusal::from_sqlstate(code.code()) {
            return Self::Refused { refusal, why };
        }
        match code {
            &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE => {
                Self::TimedOut { limit_ms }
            }
            &SqlState::READ_ONLY_SQL_TRANSACTION => Self::Standby {
                host: host.to_owned(),
            },
            &SqlState::INSUFFICIENT_PRIVILEGE if inside => Self::Privilege { why },
            &SqlState::INVALID_SCHEMA_NAME
            | &SqlState::UNDEFINED_FUNCTION
            | &SqlState::INSUFFICIENT_PRIVILEGE => Self::NotInstalled { why },
            code => Self::Database {
                sqlstate: code.code().to_owned(),
                message: why,
            },
        }
    }
}

impl From<ConnectError> for RoleStoreError {
    fn from(error: ConnectError) -> Self {
        match error {
            error @ ConnectError::Unproven { .. } => Self::Unproven {
                why: error.to_string(),
            },
            ConnectError::Unreachable { place, why } => Self::Unreachable { host: place, why },
            ConnectError::Standby { place } => Self::Standby { host: place },
            ConnectError::Server { place, source } => match source.as_db_error() {
                Some(db) => Self::Database {
                    sqlstate: db.code().code().to_owned(),
                    message: format!("{place}: {}", db.message()),
                },
                None => Self::Unreachable {
                    host: place,
                    why: describe(&source),
                },
            },
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        // tokio-postgres repeats the message of its source in its own.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_schema_have_codes_of_their_own() {
        let found: Vec<_> = (0..=9)
            .filter_map(|n| Refusal::from_sqlstate(&format!("PN00{n}")))
            .collect();
        let different: std::collections::HashSet<_> = found.iter().collect();
        assert_eq!((found.len(), different.len()), (8, 8));
        assert_eq!(Refusal::from_sqlstate("28P01"), None);
    }

    #[test]
    fn a_privilege_that_a_routine_lacks_is_no_missing_schema() {
        let met = |inside| {
            let code = SqlState::INSUFFICIENT_PRIVILEGE;
            RoleStoreError::from_code(&code, inside, "no".to_owned(), ("db", 1))
        };
        assert!(matches!(met(true), RoleStoreError::Privilege { .. }));
        assert!(matches!(met(false), RoleStoreError::NotInstalled { .. }));
    }

    #[test]
    fn a_server_that_is_away_is_an_outage_and_one_that_says_no_is_not() {
        let database = |sqlstate: &str| RoleStoreError::Database {
            sqlstate: sqlstate.to_owned(),
            message: String::new(),
        };
        for code in ["57P01", "57P03", "53300", "08006", "58030"] {
            assert!(database(code).is_outage(), "{code}");
        }
        for code in ["28P01", "3D000", "42501", "XX000"] {
            assert!(!database(code).is_outage(), "{code}");
        }
        let refused = RoleStoreError::Refused {
            refusal: Refusal::NoGroup,
            why: String::new(),
        };
        assert!(!refused.is_outage());
        assert!(RoleStoreError::TimedOut { limit_ms: 1 }.is_outage());
    }
}
