//! The login to the database: dial, then authenticate as the role.

mod dial;
mod login;

use postern_core::scram::ScramError;
use postern_core::wire::backend::BackendError as WireError;

pub(crate) use dial::Target;
pub(crate) use login::{BackendReady, log_in};

use crate::stream::StreamError;

/// Why a backend could not be logged in to.
#[derive(Debug)]
pub(crate) enum BackendError {
    /// No connection, or no TLS where it is required.
    Unreachable {
        /// `host:port` as configured.
        host: String,
        /// What failed.
        why: String,
    },
    /// No backend is configured for the database.
    NotServed {
        /// The database.
        database: String,
    },
    /// It took longer than `connect_timeout_ms`.
    TimedOut {
        /// `host:port` as configured.
        host: String,
    },
    /// The connection broke during the login.
    Lost(StreamError),
    /// What the backend sent is not the protocol.
    Protocol(WireError),
    /// It sent more than [`crate::limits::BACKEND_LOGIN_BYTES_MAX`] before it was ready.
    TooMuch,
    /// Its side of SCRAM is wrong.
    Scram(ScramError),
    /// It asked for a kind of authentication that the configuration does not allow.
    AuthMethod {
        /// `host:port` as configured.
        host: String,
        /// What it asked for.
        asked: &'static str,
    },
    /// It does not take the role's secret: somebody changed it behind Postern's back.
    SecretRefused,
    /// It refused for another reason, and said so.
    Refused {
        /// The ErrorResponse as it came.
        message: Vec<u8>,
        /// Its SQLSTATE; empty when it gave none.
        sqlstate: String,
    },
}

impl From<WireError> for BackendError {
    fn from(error: WireError) -> Self {
        Self::Protocol(error)
    }
}

impl From<ScramError> for BackendError {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}
