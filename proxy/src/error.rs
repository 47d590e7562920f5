//! Why a login ended before the splice.

use std::sync::Arc;

use postern_core::login_name::LoginNameError;
use postern_core::mapping::{RoleName, RoleNameError};
use postern_core::scram::ScramError;
use postern_core::wire::backend::BackendError as WireError;
use postern_core::wire::frontend::FrontendError;
use postern_core::wire::startup::StartupError;

use crate::directory::DirectoryError;
use crate::role_store::RoleStoreError;
use crate::stream::StreamError;

/// Why a login ended before the splice: one variant a reason.
///
/// What the client is told of it is decided in `report` and nowhere else.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// The client went away. psql does so when it has to ask for a password first.
    Client(StreamError),
    /// The client took longer than `login_timeout_ms`.
    ClientTimedOut,
    /// The TLS handshake with the client failed.
    ClientTls(StreamError),
    /// SSLRequest or GSSENCRequest came twice, or inside TLS.
    NegotiatedTwice,
    /// Bytes in clear text followed a negotiation request.
    PlaintextAfterNegotiation,
    /// The first packet is not one of the protocol's.
    Startup(StartupError),
    /// The client did not ask for TLS, and the listener requires it.
    TlsRequired,
    /// A startup parameter that the configuration denies.
    ParameterDenied(String),
    /// The answer to the password request is not a password, or not one that anybody can have.
    Password(FrontendError),
    /// The user name is not a login name.
    LoginName(LoginNameError),
    /// The directory did not verify the password.
    Directory(Arc<DirectoryError>),
    /// This password was refused a moment ago.
    PasswordRefusedBefore,
    /// Too many other passwords were tried for this person a moment ago.
    PasswordTriedTooOften,
    /// No group of the person counts.
    NoGroup {
        /// How many groups the directory returned.
        groups: usize,
    },
    /// The person's groups do not open this database.
    DatabaseNotGranted {
        /// The database.
        database: String,
    },
    /// The directory's name for the person is no role name.
    RoleName(RoleNameError),
    /// The role store did not make the roles match.
    RoleStore(Arc<RoleStoreError>),
    /// No backend is configured for the database.
    NoBackend(String),
    /// The backend could not be reached.
    BackendUnreachable {
        /// `host:port` as configured.
        host: String,
        /// What failed.
        why: String,
    },
    /// The backend took longer than `connect_timeout_ms`.
    BackendTimedOut {
        /// `host:port` as configured.
        host: String,
    },
    /// The backend closed or broke the connection during the login.
    BackendLost(StreamError),
    /// What the backend sent is not the protocol.
    BackendProtocol(WireError),
    /// The backend sent too much before it was ready for queries.
    BackendTooMuch,
    /// The backend's side of SCRAM is wrong: it does not know the role's secret.
    BackendScram(ScramError),
    /// The backend asked for a kind of authentication that the configuration does not allow.
    BackendAuthMethod {
        /// `host:port` as configured.
        host: String,
        /// What it asked for.
        asked: &'static str,
    },
    /// The backend refused the role's secret even after it was set anew.
    SecretRefused {
        /// The role.
        role: RoleName,
    },
    /// The backend refused for a reason of its own, and said so to the client: the message as it
    /// came.
    BackendRefused {
        /// The whole ErrorResponse, passed on as it is.
        message: Vec<u8>,
        /// Its SQLSTATE, for the audit log.
        sqlstate: String,
    },
    /// More than `logins_max` logins are under way.
    TooManyLogins,
    /// `sessions_max` sessions are live.
    TooManySessions,
    /// More than `directory_calls_max` conversations with the directory wait.
    DirectoryBusy,
    /// The audit file cannot be written.
    AuditUnavailable,
    /// The process is about to stop.
    ShuttingDown,
    /// A defect of Postern.
    Internal,
}

impl From<StreamError> for LoginError {
    fn from(error: StreamError) -> Self {
        Self::Client(error)
    }
}

impl From<StartupError> for LoginError {
    fn from(error: StartupError) -> Self {
        Self::Startup(error)
    }
}

impl From<FrontendError> for LoginError {
    fn from(error: FrontendError) -> Self {
        Self::Password(error)
    }
}

impl From<LoginNameError> for LoginError {
    fn from(error: LoginNameError) -> Self {
        Self::LoginName(error)
    }
}

/// Whose fault it is that a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client: what it sent, or what it may not do.
    Client,
    /// The directory.
    Directory,
    /// The role store.
    RoleStore,
    /// The backend.
    Backend,
    /// Postern itself, or its limits.
    Proxy,
}

impl LoginError {
    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Client(_)
            | Self::ClientTimedOut
            | Self::ClientTls(_)
            | Self::NegotiatedTwice
            | Self::PlaintextAfterNegotiation
            | Self::Startup(_)
            | Self::TlsRequired
            | Self::ParameterDenied(_)
            | Self::Password(_)
            | Self::LoginName(_)
            | Self::PasswordRefusedBefore
            | Self::PasswordTriedTooOften
            | Self::NoGroup { .. }
            | Self::DatabaseNotGranted { .. }
            | Self::NoBackend(_)
            | Self::BackendRefused { .. } => Fault::Client,
            Self::Directory(error) if error.is_outage() => Fault::Directory,
            Self::Directory(_) => Fault::Client,
            Self::RoleName(_) | Self::RoleStore(_) => Fault::RoleStore,
            Self::BackendUnreachable { .. }
            | Self::BackendTimedOut { .. }
            | Self::BackendLost(_)
            | Self::BackendProtocol(_)
            | Self::BackendTooMuch
            | Self::BackendScram(_)
            | Self::BackendAuthMethod { .. }
            | Self::SecretRefused { .. } => Fault::Backend,
            Self::TooManyLogins
            | Self::TooManySessions
            | Self::DirectoryBusy
            | Self::AuditUnavailable
            | Self::ShuttingDown
            | Self::Internal => Fault::Proxy,
        }
    }
}
