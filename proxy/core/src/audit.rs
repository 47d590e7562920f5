//! The audit log: a closed set of records, sealed into a chain of JSON lines.
//!
//! A line is one record: `seq`, `at`, `session`, `event`, the record's own fields, `prev`, `hash`,
//! always in this order.
//! `hash` is HMAC-SHA256, under the audit key, of every byte of the line before `,"hash":`, and
//! `prev` is the `hash` of the line before, so that a line can neither be changed nor added,
//! removed or moved without the key.
//! The chain may go through several files: the last record of one names the file's name from then
//! on, and the first of the next names it too, with the number and the `prev` that follow.
//! What the chain cannot show by itself is that the last lines, or the whole file, are gone:
//! compare the last `seq` and `hash` with what was noted elsewhere.
//!
//! A line is printable ASCII; everything else in a text is written as `\uXXXX`, so that no name
//! can forge, hide or reorder a line, in a file or on a terminal.

mod chain;
mod line;
mod time;
mod verify;

pub use chain::{Chain, Position, ResumeError};
pub use time::rfc3339;
pub use verify::{Broken, Summary, Verifier, Why};

/// The event of a record that a file may begin with which is not the first of its chain.
const FILE_BEGUN: &str = "file_begun";

/// One thing that happened.
///
/// A session has at most one `Attempted` and `Opened`, and exactly one terminal record: `Refused`
/// or `Closed`. A second `Authenticated` follows a `SecretForced`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The process began to write.
    Started {
        /// The version of the program.
        version: String,
        /// A digest of the configuration, to tell restarts with another one.
        config_digest: Option<String>,
    },
    /// A client said whom it wants to be, before any password.
    Attempted {
        /// The client's address and port.
        client: String,
        /// The user of the startup packet, as sent.
        user: String,
        /// The database of the startup packet.
        database: String,
        /// The TLS version and cipher suite; none on a connection in clear text.
        tls: Option<String>,
    },
    /// The session ended before it was open. Terminal.
    Refused {
        /// The client's address and port: a connection that was refused before it said who it
        /// is has no `Attempted`.
        client: String,
        /// Why, from a closed list.
        reason: RefusedReason,
        /// Why, in words, for a reader; may hold what a peer sent.
        detail: String,
    },
    /// The password was accepted.
    Authenticated {
        /// The directory's identifier of the entry.
        principal: String,
        /// The entry's distinguished name.
        dn: String,
        /// The canonical login name.
        name: String,
        /// Who accepted it.
        source: Source,
        /// How many groups the directory names.
        groups: u64,
        /// How many roles those groups become.
        roles: u64,
    },
    /// Roles are made to match the directory.
    RolesChanged {
        /// The person's role.
        role: String,
        /// What is changed, one step a text, for example `grant readers`.
        steps: Vec<String>,
    },
    /// The backend refused the role's secret, and it is set again.
    SecretForced {
        /// The person's role.
        role: String,
        /// The backend's address and port.
        backend: String,
    },
    /// The session is open: from here on the client talks to the backend.
    Opened {
        /// The person's role.
        role: String,
        /// The database.
        database: String,
        /// The backend's address and port.
        backend: String,
        /// The process identifier that the backend sent, if it sent one.
        backend_pid: Option<u32>,
        /// What the client calls itself.
        application_name: Option<String>,
    },
    /// The session ended after it was open. Terminal.
    Closed {
        /// Why, from a closed list.
        reason: ClosedReason,
        /// Bytes of the protocol from the backend to the client.
        bytes_to_client: u64,
        /// Bytes of the protocol from the client to the backend.
        bytes_to_backend: u64,
        /// From open to close, in milliseconds.
        duration_ms: u64,
    },
    /// A person loses all access, or a part of it; written before anything is taken away.
    AccessLost {
        /// The directory's identifier of the entry.
        principal: String,
        /// The person's name, or what is known of it.
        name: String,
        /// Why, from a closed list.
        reason: LostReason,
        /// Why, in words, for a reader.
        detail: String,
        /// Where it was heard of: `feed`, `comparison`, `timer`, `login`, `role_store`, `operator`.
        heard: String,
        /// When, as RFC 3339.
        detected_at: String,
        /// Live sessions that are ended.
        sessions: u64,
    },
    /// What was to be taken away is gone.
    AccessEnded {
        /// The directory's identifier of the entry.
        principal: String,
        /// The role in the database; none where Postern manages none of this person.
        role: Option<String>,
        /// Backends that were told to end and had not when it was given up.
        backends_left: u64,
        /// From when it was heard of until the last backend had gone, in milliseconds.
        took_ms: u64,
    },
    /// An operator is about to do something, or to look at something from elsewhere.
    Ordered {
        /// Who: the name of the user on this machine, or of the console's account.
        by: String,
        /// From where: `control socket`, `signal`, or the address of the console's client.
        from: String,
        /// What: `revoke`, `restore`, `kill`, `adopt`, `reconcile`, `reload`, `upgrade`,
        /// `log_level`, `drain`, `pause`, `resume`, `rotate`, `audit_taken`, `show`.
        order: String,
        /// To whom or what.
        subject: String,
        /// Why, and what else was said.
        detail: String,
    },
    /// What came of an order.
    OrderEnded {
        /// Who gave it.
        by: String,
        /// From where.
        from: String,
        /// What it was.
        order: String,
        /// What came of it, from a closed list.
        outcome: OrderOutcome,
        /// What was done, or why it was not.
        detail: String,
    },
    /// The perimeter refused a packet or a call.
    Denied {
        /// When it was refused, by the kernel's clock, as RFC 3339: the record is written later.
        refused_at: String,
        /// Whether it was dropped, or only reported.
        dropped: bool,
        /// The hook: `ingress`, `egress`, `connect`, `send`, `socket`.
        hook: String,
        /// Why, from the closed list of the perimeter.
        reason: String,
        /// Where from, with the port where there is one.
        source: String,
        /// Where to, with the port where there is one.
        destination: String,
        /// The interface of the hook, where there is one.
        interface: Option<String>,
        /// The process that called, where one did.
        pid: Option<u32>,
        /// Its command.
        command: Option<String>,
        /// Its cgroup.
        cgroup: Option<String>,
    },
    /// The perimeter refused more than it could report.
    DenialsUnreported {
        /// Because there were too many.
        suppressed: u64,
        /// Because nobody had read earlier ones.
        lost: u64,
    },
    /// Something of the log itself was lost; what, is counted here.
    Recovered {
        /// Bytes of an unfinished last line, which a crash or a full disk left behind.
        /// Nobody was told that this line was written.
        dropped_bytes: u64,
        /// Records that could not be written. Whoever waited for one of them was refused.
        lost_records: u64,
    },
    /// The file is about to be closed, and the next one to be begun. It is the last record of its
    /// file, unless that could not be done: then others follow.
    FileEnded {
        /// The name that the file has from then on.
        file: String,
    },
    /// The first record of a file that goes on with the chain of another.
    FileBegun {
        /// The name of the file before.
        after: String,
    },
    /// The process stopped writing in an orderly way.
    Stopped,
}

impl Record {
    /// The record's name, as it is in the `event` field.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Attempted { .. } => "attempted",
            Self::Refused { .. } => "refused",
            Self::Authenticated { .. } => "authenticated",
            Self::RolesChanged { .. } => "roles_changed",
            Self::SecretForced { .. } => "secret_forced",
            Self::Opened { .. } => "opened",
            Self::Closed { .. } => "closed",
            Self::AccessLost { .. } => "access_lost",
            Self::AccessEnded { .. } => "access_ended",
            Self::Ordered { .. } => "ordered",
            Self::OrderEnded { .. } => "order_ended",
            Self::Denied { .. } => "denied",
            Self::DenialsUnreported { .. } => "denials_unreported",
            Self::Recovered { .. } => "recovered",
            Self::FileEnded { .. } => "file_ended",
            Self::FileBegun { .. } => FILE_BEGUN,
            Self::Stopped => "stopped",
        }
    }
}

/// Who accepted a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The LDAP directory, by a bind.
    Directory,
    /// The local file of accounts.
    Local,
    /// The credential cache, within the age that needs no question.
    Memory,
    /// The credential cache, because the directory could not be reached.
    StaleMemory,
    /// The database itself, for a service account.
    Database,
    /// The file of the admin console's accounts.
    Console,
}

impl Source {
    /// The name in the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Local => "local",
            Self::Memory => "memory",
            Self::StaleMemory => "stale_memory",
            Self::Database => "database",
            Self::Console => "console",
        }
    }
}

/// Makes an enum whose variants each have one label, so that none can be forgotten.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in the log and in metrics.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// Why a session did not open.
    RefusedReason {
        /// What the client sent is not the protocol.
        ProtocolViolation = "protocol_violation",
        /// The client asked for something that Postern does not offer.
        NotSupported = "not_supported",
        /// The TLS handshake with the client failed.
        ClientTlsFailed = "client_tls_failed",
        /// The client did not ask for TLS, and the listener insists.
        TlsRequired = "tls_required",
        /// The client's address is not allowed.
        AddressNotAllowed = "address_not_allowed",
        /// A startup parameter that the configuration denies.
        ParameterDenied = "parameter_denied",
        /// The login name breaks a rule of form, or its domain is not configured.
        LoginNameInvalid = "login_name_invalid",
        /// No password, which a directory would take for an anonymous bind.
        PasswordEmpty = "password_empty",
        /// The password has a NUL or is too long.
        PasswordInvalid = "password_invalid",
        /// The directory has no such entry.
        UnknownLogin = "unknown_login",
        /// The directory has more than one such entry.
        AmbiguousLogin = "ambiguous_login",
        /// The directory refused the password.
        WrongPassword = "wrong_password",
        /// The directory refused this password a moment ago, and was not asked again.
        WrongPasswordRemembered = "wrong_password_remembered",
        /// Too many other passwords for this person in the last minute; the directory was not
        /// asked.
        RefreshLimit = "refresh_limit",
        /// The account is disabled, locked or expired.
        AccountRefused = "account_refused",
        /// The directory cannot be reached.
        DirectoryUnreachable = "directory_unreachable",
        /// The directory did not answer in time.
        DirectoryTimedOut = "directory_timed_out",
        /// The directory answered what cannot be used, or refused the service principal.
        DirectoryFailed = "directory_failed",
        /// No group of the person counts.
        NoGroup = "no_group",
        /// The person's groups do not open this database.
        DatabaseNotGranted = "database_not_granted",
        /// The person's groups open no replication connections.
        ReplicationNotGranted = "replication_not_granted",
        /// No backend serves this database.
        DatabaseUnknown = "database_unknown",
        /// The person's name cannot be a role.
        RoleNameInvalid = "role_name_invalid",
        /// The role exists and is not managed by Postern (PN001).
        RoleNotManaged = "role_not_managed",
        /// The role belongs to another directory entry (PN002).
        RoleOfAnother = "role_of_another",
        /// The role's name is reserved or privileged (PN003).
        RoleReserved = "role_reserved",
        /// A group's role does not exist, and the configuration says to refuse (PN004).
        GroupRoleMissing = "group_role_missing",
        /// No group was left after the missing ones were skipped (PN005).
        NoGroupRoleLeft = "no_group_role_left",
        /// An administrator disabled the role (PN007).
        RoleDisabled = "role_disabled",
        /// An operator holds the person (PN008).
        RoleHeld = "role_held",
        /// The role store cannot be reached.
        RoleStoreUnreachable = "role_store_unreachable",
        /// The role store did not answer in time.
        RoleStoreTimedOut = "role_store_timed_out",
        /// The role store refused or failed.
        RoleStoreFailed = "role_store_failed",
        /// The backend cannot be reached.
        BackendUnreachable = "backend_unreachable",
        /// The backend did not answer in time.
        BackendTimedOut = "backend_timed_out",
        /// TLS with the backend failed or is not offered.
        BackendTlsFailed = "backend_tls_failed",
        /// The backend refused the login.
        BackendRefused = "backend_refused",
        /// The backend sent what is not the protocol, or asked for a method that is not allowed.
        BackendProtocol = "backend_protocol",
        /// Over the limit of sessions or of logins under way.
        TooManyConnections = "too_many_connections",
        /// Logins were paused for longer than a client waits.
        Paused = "paused",
        /// The proxy lets no more sessions begin.
        Draining = "draining",
        /// The client did not finish in time.
        LoginTimedOut = "login_timed_out",
        /// The client went away.
        ClientGone = "client_gone",
        /// The audit file cannot be written.
        AuditUnavailable = "audit_unavailable",
        /// Postern is stopping.
        ShuttingDown = "shutting_down",
        /// The person lost their access while logging in.
        Revoked = "revoked",
        /// A defect of Postern.
        Internal = "internal",
    }
}

labels! {
    /// Why a person loses access, or a part of it.
    LostReason {
        /// No group of the person counts any more.
        NoGroup = "no_group",
        /// Some of the groups that counted do not any more.
        LostGroup = "lost_group",
        /// No group opens a database any more that the person has a session with.
        LostDatabase = "lost_database",
        /// The account is disabled, locked, expired, or must change its password.
        AccountRefused = "account_refused",
        /// The entry is not in the directory any more.
        EntryGone = "entry_gone",
        /// What the directory says of the person cannot be used.
        Unusable = "unusable",
        /// The directory has been out of reach for longer than sessions may last without it.
        DirectoryAway = "directory_away",
        /// The configuration does not let the account in any more.
        Unconfigured = "unconfigured",
        /// An operator holds the person.
        Held = "held",
        /// Another proxy of the same database took it away.
        OtherProxy = "other_proxy",
    }
}

labels! {
    /// What came of an order.
    OrderOutcome {
        /// It was done.
        Done = "done",
        /// It could not be done.
        Failed = "failed",
        /// Whoever gave it may not.
        Denied = "denied",
    }
}

labels! {
    /// Why an open session ended.
    ClosedReason {
        /// The client closed in an orderly way.
        ClientClosed = "client_closed",
        /// The backend closed in an orderly way.
        BackendClosed = "backend_closed",
        /// The client's connection broke.
        ClientReset = "client_reset",
        /// The backend's connection broke.
        BackendReset = "backend_reset",
        /// The client broke the protocol, in a session of the admin console.
        ProtocolViolation = "protocol_violation",
        /// One side broke the rules of TLS.
        TlsFailed = "tls_failed",
        /// A time limit ran out.
        TimedOut = "timed_out",
        /// The person lost their access.
        Revoked = "revoked",
        /// An administrator ended it.
        Ended = "ended",
        /// Postern is stopping.
        ShuttingDown = "shutting_down",
        /// A defect or an exhausted resource of Postern.
        Internal = "internal",
    }
}

#[cfg(test)]
mod tests;
