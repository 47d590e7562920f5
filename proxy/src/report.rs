//! What a client is told, what the audit file says, and which counter goes up: the only place
//! that decides it.
//!
//! All credential failures get one and the same refusal, in PostgreSQL's own words; the audit
//! record has the truth.

mod full;
mod proof;

use postern_core::audit::RefusedReason as Reason;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};
use postern_core::wire::frontend::FrontendError;
use postern_core::wire::startup::StartupError;

use crate::backend::BackendError;
use crate::directory::DirectoryError;
use crate::error::{ClientError, Denied, LoginError};
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
        LoginError::Client(error) => client_verdict(error),
        LoginError::Denied(denied) => denied_verdict(denied),
        LoginError::Directory(error) => directory_verdict(error),
        LoginError::NotFromMemory => (
            unavailable("the directory that checks passwords is not available"),
            Reason::DirectoryUnreachable,
            "a strict group is not let in from memory".to_owned(),
        ),
        LoginError::RoleName(error) => {
            let text = "the directory's name for this account cannot be a role".to_owned();
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text, ASK);
            (told, Reason::RoleNameInvalid, error.to_string())
        }
        LoginError::RoleStore(error) => role_store_verdict(error),
        LoginError::Backend(error) => backend_verdict(error),
        LoginError::Full(full) => full::verdict(*full),
        LoginError::ShareFull(full) => full::share_verdict(full),
        LoginError::Paused => {
            let told = unavailable("logins are paused; try again later");
            (told, Reason::Paused, "waited long enough".to_owned())
        }
        LoginError::Draining => {
            let told = unavailable("the proxy is draining: it lets no more sessions begin");
            (told, Reason::Draining, String::new())
        }
        LoginError::Revoked => {
            let text = "access was changed while you were logging in; log in again".to_owned();
            let told = Told::Error(Sqlstate::ADMIN_SHUTDOWN, text, None);
            (told, Reason::Revoked, String::new())
        }
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
        LoginError::Internal => {
            let text = "an internal error ended the login".to_owned();
            (
                Told::Error(Sqlstate::INTERNAL_ERROR, text, ASK),
                Reason::Internal,
                String::new(),
            )
        }
    }
}

/// What an administrator has to mend; the audit log has the reason.
const ASK: Option<&str> = Some("Ask your administrator; the reason is in the audit log.");

fn client_verdict(error: &ClientError) -> (Told, Reason, String) {
    let violation = |text: String| {
        let told = Told::Error(Sqlstate::PROTOCOL_VIOLATION, text.clone(), None);
        (told, Reason::ProtocolViolation, text)
    };
    match error {
        ClientError::Gone(error) => (Told::Nothing, Reason::ClientGone, error.to_string()),
        ClientError::LeftAsked(asked) => proof::left_verdict(asked),
        ClientError::Scram(error) => proof::scram_verdict(*error),
        ClientError::ServiceMechanism => proof::mechanism_verdict(),
        ClientError::ServiceBinding => proof::binding_verdict(),
        ClientError::Tls(error) => (Told::Nothing, Reason::ClientTlsFailed, error.to_string()),
        ClientError::TimedOut => (Told::Nothing, Reason::LoginTimedOut, String::new()),
        // Nobody waits there for PostgreSQL's words but a proxy that is set up wrongly.
        ClientError::ProxyHeader(error) => {
            (Told::Nothing, Reason::ProtocolViolation, error.to_string())
        }
        ClientError::NegotiatedTwice => violation("encryption was requested twice".to_owned()),
        ClientError::PlaintextAfterNegotiation => {
            violation("received unencrypted data after an encryption request".to_owned())
        }
        // Whoever cancels waits for no answer, and PostgreSQL gives none.
        ClientError::Startup(error @ StartupError::CancelLength) => {
            (Told::Nothing, Reason::ProtocolViolation, error.to_string())
        }
        ClientError::Startup(error) => violation(format!("invalid startup packet: {error}")),
        ClientError::ParameterDenied(name) => {
            let text = format!("the startup parameter \"{name}\" is not allowed here");
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text, None);
            (told, Reason::ParameterDenied, name.clone())
        }
        ClientError::TlsRequired => {
            let text = "this server accepts encrypted connections only".to_owned();
            let hint = Some("Connect with sslmode=require or stronger.");
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text, hint);
            (told, Reason::TlsRequired, String::new())
        }
        ClientError::Password(error) => match error {
            FrontendError::EmptyPassword => {
                (Told::BadPassword, Reason::PasswordEmpty, error.to_string())
            }
            FrontendError::NulInPassword => (
                Told::BadPassword,
                Reason::PasswordInvalid,
                error.to_string(),
            ),
            FrontendError::Terminated => (Told::Nothing, Reason::ClientGone, error.to_string()),
            FrontendError::Tag(_)
            | FrontendError::Length(_)
            | FrontendError::Sasl
            | FrontendError::NotTerminated => violation(error.to_string()),
        },
    }
}

fn denied_verdict(denied: &Denied) -> (Told, Reason, String) {
    let (reason, detail) = match denied {
        Denied::LoginName(error) => (Reason::LoginNameInvalid, error.to_string()),
        Denied::PasswordRefusedBefore => (Reason::WrongPasswordRemembered, String::new()),
        Denied::PasswordTriedTooOften => (Reason::RefreshLimit, String::new()),
        Denied::ServiceRole(role) => (
            Reason::RoleReserved,
            format!("{role} is the role of a service account"),
        ),
        Denied::NoRight => (
            Reason::NoGroup,
            "none of its groups is a right of the admin console".to_owned(),
        ),
        Denied::NoGroup { groups } => (Reason::NoGroup, format!("none of {groups} groups counts")),
        Denied::Database(database) => (
            Reason::DatabaseNotGranted,
            format!("no group opens the database {database}"),
        ),
        // The password was right, and opens other sessions: there is nothing to hide.
        Denied::Replication => {
            let text = "permission denied to start a replication connection".to_owned();
            let hint = Some("None of your groups opens replication; ask your administrator.");
            let told = Told::Error(Sqlstate::INSUFFICIENT_PRIVILEGE, text, hint);
            return (told, Reason::ReplicationNotGranted, String::new());
        }
    };
    (Told::BadPassword, reason, detail)
}

fn directory_verdict(error: &DirectoryError) -> (Told, Reason, String) {
    let reason = match error {
        DirectoryError::UnknownLogin | DirectoryError::EntryGone { .. } => Reason::UnknownLogin,
        DirectoryError::WrongPassword => Reason::WrongPassword,
        DirectoryError::AmbiguousLogin | DirectoryError::OtherEntry => Reason::AmbiguousLogin,
        DirectoryError::AccountRefused(_) | DirectoryError::TooManyGroups { .. } => {
            Reason::AccountRefused
        }
        DirectoryError::Unreachable { .. } => Reason::DirectoryUnreachable,
        DirectoryError::TimedOut { .. } => Reason::DirectoryTimedOut,
        DirectoryError::Refused { .. }
        | DirectoryError::ServiceBind { .. }
        | DirectoryError::ServicePassword { .. }
        | DirectoryError::Attribute(_)
        | DirectoryError::Protocol { .. }
        | DirectoryError::NoSource
        | DirectoryError::Filter { .. }
        | DirectoryError::Tls(_)
        | DirectoryError::Local(_) => Reason::DirectoryFailed,
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
            Refusal::Held => (
                misfit("an operator has suspended the access of this account"),
                Reason::RoleHeld,
            ),
        },
        RoleStoreError::Settings { .. }
        | RoleStoreError::Tls(_)
        | RoleStoreError::Unproven { .. }
        | RoleStoreError::NotInstalled { .. }
        | RoleStoreError::Privilege { .. }
        | RoleStoreError::SchemaVersion { .. }
        | RoleStoreError::Database { .. }
        | RoleStoreError::UnknownAction(_) => (
            unavailable("the database's roles cannot be managed"),
            Reason::RoleStoreFailed,
        ),
    };
    (told, reason, error.to_string())
}

fn backend_verdict(error: &BackendError) -> (Told, Reason, String) {
    const LOST: &str = "the connection to the database was lost";
    let (told, reason) = match error {
        BackendError::NotServed { database } => {
            let text = format!("database \"{database}\" is not served here");
            let told = Told::Error(Sqlstate::INVALID_CATALOG_NAME, text, None);
            (told, Reason::DatabaseUnknown)
        }
        BackendError::StartupTooLong => {
            let text = "invalid startup packet: it is too long".to_owned();
            let told = Told::Error(Sqlstate::PROTOCOL_VIOLATION, text, None);
            (told, Reason::ProtocolViolation)
        }
        BackendError::Unreachable { .. } => (
            unavailable("the database is not available"),
            Reason::BackendUnreachable,
        ),
        BackendError::TimedOut { .. } => (
            unavailable("the database does not answer in time"),
            Reason::BackendTimedOut,
        ),
        BackendError::Refused { message, .. } => {
            let reason = match error.is_wrong_password() {
                true => Reason::WrongPassword,
                false => Reason::BackendRefused,
            };
            (Told::AsItCame(message.clone()), reason)
        }
        BackendError::ServiceMethod { .. } => {
            let text = "the database does not ask this service account for SCRAM-SHA-256";
            let hint = Some(
                "Give the role a SCRAM-SHA-256 password, and its line in pg_hba.conf the method \
                 scram-sha-256.",
            );
            let told = Told::Error(Sqlstate::INVALID_AUTHORIZATION, text.to_owned(), hint);
            (told, Reason::BackendProtocol)
        }
        BackendError::AuthMethod { .. } => (
            lost("the database asks for a login that is not allowed"),
            Reason::BackendProtocol,
        ),
        BackendError::SecretRefused => (
            lost("the database does not accept the role's secret"),
            Reason::BackendRefused,
        ),
        BackendError::Lost { .. } => (lost(LOST), Reason::BackendUnreachable),
        BackendError::Scram { .. }
        | BackendError::Protocol { .. }
        | BackendError::Unexpected { .. }
        | BackendError::TooMuch { .. } => (lost(LOST), Reason::BackendProtocol),
    };
    (told, reason, error.to_string())
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
    use crate::stream::StreamError;

    fn told(error: &LoginError) -> Option<Vec<u8>> {
        report(error, Some("alice")).message
    }

    #[test]
    fn every_credential_failure_is_told_the_same() {
        let refusal = told(&LoginError::Denied(Denied::PasswordRefusedBefore));
        let failures = [
            LoginError::Directory(Arc::new(DirectoryError::UnknownLogin)),
            LoginError::Directory(Arc::new(DirectoryError::WrongPassword)),
            LoginError::Directory(Arc::new(DirectoryError::AmbiguousLogin)),
            LoginError::Denied(Denied::PasswordTriedTooOften),
            LoginError::Denied(Denied::NoGroup { groups: 3 }),
            LoginError::Denied(Denied::Database("hr".to_owned())),
            FrontendError::EmptyPassword.into(),
            FrontendError::NulInPassword.into(),
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

    #[test]
    fn the_log_says_which_backend_and_the_client_is_not_told() {
        let host = || "db1:5432".to_owned();
        let error = StreamError::Closed;
        let errors = [
            (
                BackendError::Lost {
                    host: host(),
                    error,
                },
                "08006",
            ),
            (BackendError::TooMuch { host: host() }, "08006"),
            (
                BackendError::Unexpected {
                    host: host(),
                    wanted: "a SASL challenge",
                },
                "08006",
            ),
            (
                BackendError::Unreachable {
                    host: host(),
                    why: "closed".to_owned(),
                },
                "57P03",
            ),
        ];
        for (error, sqlstate) in errors {
            let report = report(&LoginError::Backend(error), Some("alice"));
            let text = report.message.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains(sqlstate) && !text.contains("db1"), "{text}");
            assert!(report.detail.starts_with("db1:5432"), "{}", report.detail);
        }
    }

    #[test]
    fn a_startup_packet_that_is_too_long_is_a_protocol_violation() {
        let error = BackendError::from(StartupError::Length(10_001));
        let text = told(&LoginError::Backend(error)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("08P01") && !text.contains("served"), "{text}");
    }
}
