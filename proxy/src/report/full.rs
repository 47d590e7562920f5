//! What a client is told of a limit that it meets, in PostgreSQL's own words where it has some.

use postern_core::audit::RefusedReason as Reason;
use postern_core::sqlstate::Sqlstate;

use super::Told;
use crate::error::Full;
use crate::session::ShareFull;

/// Of a limit of the whole process, or of an address before anybody has logged in.
pub(super) fn verdict(full: Full) -> (Told, Reason, String) {
    let everybody = "sorry, too many clients already";
    let (text, limit) = match full {
        Full::Logins => (everybody, "limits.logins_max"),
        Full::ColdLogins => (everybody, "limits.cold_logins_max"),
        Full::Connections => (everybody, "connections on their way"),
        Full::Address => (everybody, "limits.connections_per_address_max"),
        Full::Descriptors => (everybody, "no file descriptor is left"),
        Full::Turns => (everybody, "the login threads are behind"),
        Full::Sessions => (everybody, "limits.sessions_max"),
        Full::DirectoryCalls => (everybody, "limits.directory_calls_max"),
        Full::Rate => (
            "too many logins from this address within a minute",
            "limits.logins_per_address_and_minute_max",
        ),
        Full::Paused => (everybody, "logins that wait while they are paused"),
        Full::PausedAddress => (
            "too many logins from this address wait already",
            "logins of one address that wait while they are paused",
        ),
        Full::Console => (
            "too many sessions of the admin console",
            "sessions of the admin console",
        ),
        Full::ConsoleAccount => (
            "too many sessions of this account of the admin console",
            "sessions of one account of the admin console",
        ),
    };
    over(text.to_owned(), limit.to_owned())
}

/// Of a limit of one role, address or database.
pub(super) fn share_verdict(full: &ShareFull) -> (Told, Reason, String) {
    match full {
        ShareFull::Role(role) => over(
            format!("too many connections for role \"{role}\""),
            format!("limits.sessions_per_role_max, of {role}"),
        ),
        ShareFull::Address => over(
            "too many connections from this address".to_owned(),
            "limits.sessions_per_address_max".to_owned(),
        ),
        ShareFull::Database(database) => over(
            format!("too many connections for database \"{database}\""),
            format!("limits.sessions_per_database_max, of {database}"),
        ),
    }
}

fn over(text: String, limit: String) -> (Told, Reason, String) {
    let told = Told::Error(Sqlstate::TOO_MANY_CONNECTIONS, text, None);
    (told, Reason::TooManyConnections, limit)
}
