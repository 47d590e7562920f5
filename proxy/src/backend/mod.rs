//! The login to the database: dial, then authenticate as the role.

mod cancel;
mod dial;
mod login;
mod relay;

use postern_core::scram::ScramError;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::BackendError as WireError;
use postern_core::wire::startup::StartupError;

pub(crate) use dial::{Encryption, Target};
pub(crate) use login::{BackendReady, log_in};
pub(crate) use relay::{Sides, relay};

use crate::stream::StreamError;

/// Why a backend could not be logged in to. Every `host` is `host:port` as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// No connection, no TLS where it is required, or lost before the role was let in.
    #[error("{host}: {why}")]
    Unreachable {
        /// Which one.
        host: String,
        /// What failed.
        why: String,
    },
    /// No backend is configured for the database.
    #[error("{database}")]
    NotServed {
        /// The database.
        database: String,
    },
    /// The client's startup packet is too long once the role's name is put into it.
    #[error("the startup packet is too long with the name of the role")]
    StartupTooLong,
    /// It took longer than `connect_timeout_ms`.
    #[error("{host}")]
    TimedOut {
        /// Which one.
        host: String,
    },
    /// The connection broke during the login, after the role was let in.
    #[error("{host}: {error}")]
    Lost {
        /// Which one.
        host: String,
        /// What failed.
        error: StreamError,
    },
    /// What the backend sent is not the protocol.
    #[error("{host}: {error}")]
    Protocol {
        /// Which one.
        host: String,
        /// The rule that it broke.
        error: WireError,
    },
    /// It sent a message that is out of place.
    #[error("{host} sent another message where {wanted} was due")]
    Unexpected {
        /// Which one.
        host: String,
        /// What was due.
        wanted: &'static str,
    },
    /// It sent more than [`postern_core::limits::BACKEND_LOGIN_BYTES_MAX`] before it was ready.
    #[error("{host} sent too much before it was ready")]
    TooMuch {
        /// Which one.
        host: String,
    },
    /// Its side of SCRAM is wrong.
    #[error("{host}: {error}")]
    Scram {
        /// Which one.
        host: String,
        /// The rule that it broke.
        error: ScramError,
    },
    /// It asked for a kind of authentication that the configuration does not allow.
    #[error("{host} asked for {asked}, which auth_methods does not allow")]
    AuthMethod {
        /// Which one.
        host: String,
        /// What it asked for.
        asked: &'static str,
    },
    /// It does not ask a service account for SCRAM-SHA-256.
    #[error("{host} asked a service account for {asked}")]
    ServiceMethod {
        /// Which one.
        host: String,
        /// What it asked for.
        asked: &'static str,
    },
    /// It does not take the role's secret: somebody changed it behind Postern's back.
    #[error("the role's secret was refused again after it was set")]
    SecretRefused,
    /// It refused for another reason, and said so.
    #[error("{sqlstate}")]
    Refused {
        /// The ErrorResponse as it came.
        message: Vec<u8>,
        /// Its SQLSTATE; empty when it gave none.
        sqlstate: String,
    },
}

impl BackendError {
    /// Whether the database itself says that a password is wrong.
    pub(crate) fn is_wrong_password(&self) -> bool {
        let wrong = Sqlstate::INVALID_PASSWORD.as_str();
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == wrong)
    }
}

/// Of another role's name nothing but the length can be wrong: the rest was checked when it came.
impl From<StartupError> for BackendError {
    fn from(_: StartupError) -> Self {
        Self::StartupTooLong
    }
}
