//! Why a login ended before the splice.

use std::sync::Arc;

use postern_core::login_name::LoginNameError;
use postern_core::mapping::{RoleName, RoleNameError};
use postern_core::scram::ClientScramError;
use postern_core::wire::frontend::FrontendError;
use postern_core::wire::proxy_header::ProxyHeaderError;
use postern_core::wire::startup::StartupError;

use crate::backend::BackendError;
use crate::directory::DirectoryError;
use crate::role_store::RoleStoreError;
use crate::session::{KeptOut, ShareFull};
use crate::stream::StreamError;

/// Why a login ended before the splice.
///
/// What the client is told of it is decided in `report` and nowhere else.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// What the client did, or failed to do.
    Client(ClientError),
    /// The person may not log in, as far as Postern itself can tell.
    Denied(Denied),
    /// The directory did not verify the password.
    Directory(Arc<DirectoryError>),
    /// The directory cannot be asked, and somebody of a strict group is not let in from memory.
    NotFromMemory,
    /// The directory's name for the person is no role name.
    RoleName(RoleNameError),
    /// The role store did not make the roles match.
    RoleStore(Arc<RoleStoreError>),
    /// The backend was not logged in to.
    Backend(BackendError),
    /// There are too many of something already.
    Full(Full),
    /// There are too many sessions for one role, address or database.
    ShareFull(ShareFull),
    /// Logins are paused, and it has waited long enough.
    Paused,
    /// The proxy lets no more sessions begin.
    Draining,
    /// The person lost access, or a part of it, while they were logging in.
    Revoked,
    /// The audit file cannot be written.
    AuditUnavailable,
    /// The process is about to stop.
    ShuttingDown,
    /// A defect of Postern.
    Internal,
}

/// What the client did, or failed to do.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// It went away. psql does so when it has to ask for a password first.
    Gone(StreamError),
    /// It went away when it was asked for this.
    LeftAsked(&'static str),
    /// Its side of a SCRAM exchange breaks a rule.
    Scram(ClientScramError),
    /// It chose channel binding for a service account, which was not offered.
    ServiceMechanism,
    /// It says that it could be bound to a service account's connection, where the database offers
    /// that to Postern.
    ServiceBinding,
    /// It took longer than `login_timeout_ms`.
    TimedOut,
    /// It comes from a trusted proxy, whose header says nothing that can be believed.
    ProxyHeader(ProxyHeaderError),
    /// Its TLS handshake failed.
    Tls(StreamError),
    /// SSLRequest or GSSENCRequest came twice, or inside TLS.
    NegotiatedTwice,
    /// Bytes in clear text followed a negotiation request.
    PlaintextAfterNegotiation,
    /// The first packet is not one of the protocol's.
    Startup(StartupError),
    /// It did not ask for TLS, and the listener requires it.
    TlsRequired,
    /// It sent a startup parameter that the configuration denies.
    ParameterDenied(String),
    /// Its answer to the password request is not a password, or not one that anybody can have.
    Password(FrontendError),
}

/// Why a person may not log in, as far as Postern itself can tell.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The user name is not a login name.
    LoginName(LoginNameError),
    /// This password was refused a moment ago.
    PasswordRefusedBefore,
    /// Too many other passwords were tried for this person a moment ago.
    PasswordTriedTooOften,
    /// An account of the admin console without a right.
    NoRight,
    /// No group of the person counts.
    NoGroup {
        /// How many groups the directory returned.
        groups: usize,
    },
    /// The person's role would be that of a service account.
    ServiceRole(RoleName),
    /// The person's groups do not open this database.
    Database(String),
    /// The person's groups open no replication connections.
    Replication,
}

/// What there are too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// `limits.logins_max`: logins under way.
    Logins,
    /// `limits.cold_logins_max`: logins under way that memory cannot answer.
    ColdLogins,
    /// [`crate::limits::CONNECTIONS_PER_LOGIN_MAX`]: connections on their way.
    Connections,
    /// `limits.connections_per_address_max`: connections on their way from one address.
    Address,
    /// The file descriptors of the process.
    Descriptors,
    /// [`crate::limits::FIRST_TURN_WAIT`]: the login thread is later than that.
    Turns,
    /// `limits.sessions_max`: live sessions.
    Sessions,
    /// `limits.directory_calls_max`: logins that wait for their turn with the directory.
    DirectoryCalls,
    /// `limits.logins_per_address_and_minute_max`: logins that began from one address.
    Rate,
    /// [`crate::limits::PAUSED_LOGINS_MAX`]: logins that wait until they are not paused any more.
    Paused,
    /// [`crate::limits::PAUSED_LOGINS_PER_ADDRESS_MAX`]: those of them that are of one address.
    PausedAddress,
    /// [`crate::limits::CONSOLE_SESSIONS_MAX`]: sessions of the admin console.
    Console,
    /// [`crate::limits::CONSOLE_SESSIONS_PER_ACCOUNT_MAX`]: those of them of one account.
    ConsoleAccount,
}

impl From<ShareFull> for LoginError {
    fn from(full: ShareFull) -> Self {
        Self::ShareFull(full)
    }
}

impl From<KeptOut> for LoginError {
    fn from(kept: KeptOut) -> Self {
        match kept {
            KeptOut::Lost => Self::Revoked,
            KeptOut::Draining => Self::Draining,
        }
    }
}

impl From<ClientError> for LoginError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<StreamError> for LoginError {
    fn from(error: StreamError) -> Self {
        Self::Client(ClientError::Gone(error))
    }
}

impl From<StartupError> for LoginError {
    fn from(error: StartupError) -> Self {
        Self::Client(ClientError::Startup(error))
    }
}

impl From<BackendError> for LoginError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<FrontendError> for LoginError {
    fn from(error: FrontendError) -> Self {
        Self::Client(ClientError::Password(error))
    }
}

impl From<LoginNameError> for LoginError {
    fn from(error: LoginNameError) -> Self {
        Self::Denied(Denied::LoginName(error))
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
            Self::Client(_) | Self::Denied(_) => Fault::Client,
            Self::NotFromMemory => Fault::Directory,
            Self::Directory(error) if error.is_outage() => Fault::Directory,
            Self::Directory(_) => Fault::Client,
            Self::RoleName(_) | Self::RoleStore(_) => Fault::RoleStore,
            Self::Backend(
                BackendError::Refused { .. }
                | BackendError::NotServed { .. }
                | BackendError::StartupTooLong,
            ) => Fault::Client,
            Self::Backend(_) => Fault::Backend,
            Self::Full(_)
            | Self::ShareFull(_)
            | Self::Paused
            | Self::Draining
            | Self::Revoked
            | Self::AuditUnavailable
            | Self::ShuttingDown
            | Self::Internal => Fault::Proxy,
        }
    }
}
