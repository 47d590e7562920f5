//! What a client is told, what the audit file says, and which counter goes up: the only place
//! that decides it.
//!
//! All credential failures get one and the same refusal, in PostgreSQL's own words; the audit
//! record has the truth.

use postern_core::audit::RefusedReason as Reason;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};
use postern_core::wire::frontend::FrontendError;

use crate::directory::DirectoryError;
use crate::error::LoginError;
use crate::role_store::{Refusal, RoleStoreError};

/// What is to be done about a login that ended before the splice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The message for the client; none when there is nobody to read it.
    pub(crate) message: Option<Vec<u8>>,
    /// True for credential failures, which are answered after a fixed time.
    pub(crate) delayed: bool,
    /// Why, for the audit file and the counters.
    pub(crate) reason: Reason,
    /// Why, in words, for the audit file and the log; never for the client.
    pub(crate) detail: String,
}

/// What the client is told.
enum Told {
    /// Nothing: it has gone, or TLS is broken and nothing can be said.
    Nothing,
    /// The one refusal of every credential failure.
    BadPassword,
    /// An error of its own.
    Error(Sqlstate, String, Option<&'static str>),
    /// The backend's own error.
    AsItCame(Vec<u8>),
}

/// Decides.
pub(crate) fn report(error: &LoginError, login: Option<&str>) -> Report {
    let (told, reason, detail) = verdict(error);
    let delayed = matches!(told, Told::BadPassword);
    let fatal = |sqlstate, text: &str, hint| {
        let severity = Severity::Fatal;
        let fields = ErrorFields {
            severity,
            sqlstate,
            message: text,
            detail: None,
            hint,
        };
        Some(error_response(&fields))
    };
    let message = match told {
        Told::Nothing => None,
        Told::BadPassword => {
            let login = login.unwrap_or_default();
            let text = format!("password authentication failed for user \"{login}\"");
            fatal(Sqlstate::INVALID_PASSWORD, &text, None)
        }
        Told::Error(sqlstate, text, hint) => fatal(sqlstate, &text, hint),
        Told::AsItCame(message) => Some(message),
    };
    Report {
        message,
        delayed,
        reason,
        detail,
    }
}

fn verdict(error: &LoginError) -> (Told, Reason, String) {
    match error {
        LoginError::Client(error) => (Told::Nothing, Reason::ClientGone, error.to_string()),
        LoginError::ClientTls(error) => (Told::Nothing, Reason::ClientTlsFailed, error.to_string()),
        LoginError::ClientTimedOut
        | LoginError::NegotiatedTwice
        | LoginError::PlaintextAfterNegotiation
        | LoginError::Startup(_)
        | LoginError::TlsRequired
        | LoginError::ParameterDenied(_)
        | LoginError::NoBackend(_) => client_verdict(error),
        LoginError::Password(error) => password_verdict(*error),
        LoginError::LoginName(error) => (
            Told::BadPassword,
            Reason::LoginNameInvalid,
            error.to_string(),
        ),
        LoginError::PasswordRefusedBefore => bad(Reason::WrongPasswordRemembered),
        LoginError::PasswordTriedTooOften => bad(Reason::RefreshLimit),
        LoginError::NoGroup { groups } => {
            let detail = format!("none of {groups} groups counts");
            (Told::BadPassword, Reason::NoGroup, detail)
        }
        LoginError::DatabaseNotGranted { database } => {
            let detail = format!("no group opens the database {database}");
            (Told::BadPassword, Reason::DatabaseNotGranted, detail)
        }
        LoginError::Directory(error) => directory_verdict(error),
        LoginError::RoleName(error) => {
            let text = "the directory's name for this account cannot be a role".to_owned();
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text, ASK);
            (told, Reason::RoleNameInvalid, error.to_string())
        }
        LoginError::RoleStore(error) => role_store_verdict(error),
        LoginError::BackendUnreachable { .. }
        | LoginError::BackendTimedOut { .. }
        | LoginError::BackendLost(_)
        | LoginError::BackendProtocol(_)
        | LoginError::BackendTooMuch
        | LoginError::BackendScram(_)
        | LoginError::BackendAuthMethod { .. }
        | LoginError::SecretRefused { .. }
        | LoginError::BackendRefused { .. } => backend_verdict(error),
        LoginError::TooManyLogins
        | LoginError::TooManySessions
        | LoginError::DirectoryBusy
        | LoginError::AuditUnavailable
        | LoginError::ShuttingDown
        | LoginError::Internal => proxy_verdict(error),
    }
}

/// What an administrator has to mend; the session identifier in the log leads to the reason.
const ASK: Option<&str> = Some("Ask your administrator; the reason is in the audit log.");

fn bad(reason: Reason) -> (Told, Reason, String) {
    (Told::BadPassword, reason, String::new())
}

fn client_verdict(error: &LoginError) -> (Told, Reason, String) {
    let violation = |text: String| {
        (
            Told::Error(Sqlstate::PROTOCOL_VIOLATION, text.clone(), None),
            Reason::ProtocolViolation,
            text,
        )
    };
    match error {
        LoginError::ClientTimedOut => (Told::Nothing, Reason::LoginTimedOut, String::new()),
        LoginError::NegotiatedTwice => violation("encryption was requested twice".to_owned()),
        LoginError::PlaintextAfterNegotiation => {
            violation("received unencrypted data after an encryption request".to_owned())
        }
        LoginError::Startup(error) => violation(format!("invalid startup packet: {error}")),
        LoginError::ParameterDenied(name) => {
            let text = format!("the startup parameter \"{name}\" is not allowed here");
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text, None);
            (told, Reason::ParameterDenied, name.clone())
        }
        LoginError::NoBackend(database) => {
            let text = format!("database \"{database}\" is not served here");
            let told = Told::Error(Sqlstate::INVALID_CATALOG_NAME, text, None);
            (told, Reason::DatabaseUnknown, database.clone())
        }
        _ => {
            let text = "this server accepts encrypted connections only".to_owned();
            let hint = Some("Connect with sslmode=require or stronger.");
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text, hint);
            (told, Reason::TlsRequired, String::new())
        }
    }
}

fn password_verdict(error: FrontendError) -> (Told, Reason, String) {
    let detail = error.to_string();
    match error {
        FrontendError::EmptyPassword => (Told::BadPassword, Reason::PasswordEmpty, detail),
        FrontendError::NulInPassword => (Told::BadPassword, Reason::PasswordInvalid, detail),
        FrontendError::Terminated => (Told::Nothing, Reason::ClientGone, detail),
        FrontendError::Tag(_) | FrontendError::Length(_) | FrontendError::NotTerminated => {
            let told = Told::Error(Sqlstate::PROTOCOL_VIOLATION, detail.clone(), None);
            (told, Reason::ProtocolViolation, detail)
        }
    }
}

fn directory_verdict(error: &DirectoryError) -> (Told, Reason, String) {
    let reason = match error {
        DirectoryError::UnknownLogin => Reason::UnknownLogin,
        DirectoryError::WrongPassword => Reason::WrongPassword,
        DirectoryError::AmbiguousLogin => Reason::AmbiguousLogin,
        DirectoryError::AccountRefused(_) | DirectoryError::TooManyGroups { .. } => {
            Reason::AccountRefused
        }
        DirectoryError::Unreachable { .. } => Reason::DirectoryUnreachable,
        DirectoryError::TimedOut { .. } => Reason::DirectoryTimedOut,
        _ => Reason::DirectoryFailed,
    };
    let told = match error.is_outage() {
        false => Told::BadPassword,
        true => unavailable("the directory that checks passwords is not available"),
    };
    (told, reason, error.to_string())
}

fn role_store_verdict(error: &RoleStoreError) -> (Told, Reason, String) {
    let misfit = |text: &str| Told::Error(Sqlstate::INVALID_AUTHORIZATION, text.to_owned(), ASK);
    let (told, reason) = match error {
        RoleStoreError::Unreachable { .. } | RoleStoreError::Standby { .. } => (
            unavailable("the database is not available"),
            Reason::RoleStoreUnreachable,
        ),
        RoleStoreError::TimedOut { .. } => (
            unavailable("the database does not answer in time"),
            Reason::RoleStoreTimedOut,
        ),
        RoleStoreError::Refused { refusal, .. } => match refusal {
            Refusal::NotManaged => (
                misfit("a role with this name exists in the database and is not managed here"),
                Reason::RoleNotManaged,
            ),
            Refusal::OtherEntry => (
                misfit("the role with this name belongs to another directory entry"),
                Reason::RoleOfAnother,
            ),
            Refusal::Reserved => (
                misfit("this name cannot be used as a role"),
                Reason::RoleReserved,
            ),
            Refusal::GroupMissing => (
                misfit("a role of your groups is missing"),
                Reason::GroupRoleMissing,
            ),
            Refusal::NoGroup => (Told::BadPassword, Reason::NoGroupRoleLeft),
            Refusal::OtherRole => (
                misfit("this person has a role under another name"),
                Reason::RoleOfAnother,
            ),
            Refusal::Disabled => (
                misfit("this role was disabled by an administrator"),
                Reason::RoleDisabled,
            ),
        },
        _ => (
            unavailable("the database's roles cannot be managed"),
            Reason::RoleStoreFailed,
        ),
    };
    (told, reason, error.to_string())
}

fn backend_verdict(error: &LoginError) -> (Told, Reason, String) {
    match error {
        LoginError::BackendUnreachable { host, why } => (
            unavailable("the database is not available"),
            Reason::BackendUnreachable,
            format!("{host}: {why}"),
        ),
        LoginError::BackendTimedOut { host } => (
            unavailable("the database does not answer in time"),
            Reason::BackendTimedOut,
            host.clone(),
        ),
        LoginError::BackendRefused { message, sqlstate } => (
            Told::AsItCame(message.clone()),
            Reason::BackendRefused,
            sqlstate.clone(),
        ),
        LoginError::BackendAuthMethod { host, asked } => {
            let detail = format!("{host} asked for {asked}, which auth_methods does not allow");
            (
                lost("the database asks for a login that is not allowed"),
                Reason::BackendProtocol,
                detail,
            )
        }
        LoginError::SecretRefused { role } => (
            lost("the database does not accept the role's secret"),
            Reason::BackendRefused,
            format!("the secret of {role} was refused again after it was set"),
        ),
        LoginError::BackendLost(error) => {
            (lost(LOST), Reason::BackendUnreachable, error.to_string())
        }
        LoginError::BackendScram(error) => (lost(LOST), Reason::BackendProtocol, error.to_string()),
        LoginError::BackendProtocol(error) => {
            (lost(LOST), Reason::BackendProtocol, error.to_string())
        }
        _ => (
            lost(LOST),
            Reason::BackendProtocol,
            "too much before it was ready".to_owned(),
        ),
    }
}

const LOST: &str = "the connection to the database was lost";

fn proxy_verdict(error: &LoginError) -> (Told, Reason, String) {
    let many = |detail: &str| {
        let told = Told::Error(
            Sqlstate::TOO_MANY_CONNECTIONS,
            "sorry, too many clients already".to_owned(),
            None,
        );
        (told, Reason::TooManyConnections, detail.to_owned())
    };
    match error {
        LoginError::TooManyLogins => many("limits.logins_max"),
        LoginError::TooManySessions => many("limits.sessions_max"),
        LoginError::DirectoryBusy => many("limits.directory_calls_max"),
        LoginError::AuditUnavailable => (
            unavailable("logins cannot be recorded at the moment, and are refused"),
            Reason::AuditUnavailable,
            String::new(),
        ),
        LoginError::ShuttingDown => {
            let text = "the proxy is shutting down".to_owned();
            (
                Told::Error(Sqlstate::ADMIN_SHUTDOWN, text, None),
                Reason::ShuttingDown,
                String::new(),
            )
        }
        _ => {
            let text = "an internal error ended the login".to_owned();
            (
                Told::Error(Sqlstate::INTERNAL_ERROR, text, ASK),
                Reason::Internal,
                String::new(),
            )
        }
    }
}

fn unavailable(text: &str) -> Told {
    Told::Error(Sqlstate::CANNOT_CONNECT_NOW, text.to_owned(), None)
}

fn lost(text: &str) -> Told {
    Told::Error(Sqlstate::CONNECTION_FAILURE, text.to_owned(), None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn told(error: &LoginError) -> Option<Vec<u8>> {
        report(error, Some("alice")).message
    }

    #[test]
    fn every_credential_failure_is_told_the_same() {
        let refusal = told(&LoginError::PasswordRefusedBefore);
        let failures = [
            LoginError::Directory(Arc::new(DirectoryError::UnknownLogin)),
            LoginError::Directory(Arc::new(DirectoryError::WrongPassword)),
            LoginError::Directory(Arc::new(DirectoryError::AmbiguousLogin)),
            LoginError::PasswordTriedTooOften,
            LoginError::NoGroup { groups: 3 },
            LoginError::DatabaseNotGranted {
                database: "hr".to_owned(),
            },
            LoginError::Password(FrontendError::EmptyPassword),
            LoginError::Password(FrontendError::NulInPassword),
        ];
        for failure in failures {
            assert_eq!(told(&failure), refusal, "{failure:?}");
            assert!(report(&failure, Some("alice")).delayed);
        }
        let text = refusal.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let words = "password authentication failed for user \"alice\"";
        assert!(text.is_some_and(|text| text.contains("28P01") && text.contains(words)));
    }

    #[test]
    fn an_outage_is_not_told_as_a_wrong_password() {
        let error = DirectoryError::TimedOut {
            server: "ldaps://dc1".to_owned(),
            what: "a bind",
            after_ms: 5_000,
        };
        let report = report(&LoginError::Directory(Arc::new(error)), Some("alice"));
        let text = report
            .message
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(text.is_some_and(|text| text.contains("57P03") && !text.contains("dc1")));
        assert!(report.detail.contains("dc1"));
    }
}
