//! Why the directory did not say yes.

use std::path::PathBuf;

use postern_core::directory::account::AccountRefusal;
use postern_core::directory::entry::AttributeError;
use postern_core::principal::EntryId;
use thiserror::Error;

use crate::tls::TlsError;

/// Why a directory did not verify a login.
///
/// The caller tells the client one and the same thing for every refusal; the audit record gets
/// the truth. No variant carries a password.
#[derive(Debug, Clone, Error)]
pub(crate) enum DirectoryError {
    /// No entry has this login name.
    #[error("no entry has this login name")]
    UnknownLogin,
    /// The entry that is asked for by its identifier is gone, or out of what may be seen.
    #[error("the entry {id} is gone, or out of what the service principal may see")]
    EntryGone {
        /// The identifier.
        id: EntryId,
    },
    /// The password is not this person's, or cannot be anybody's (empty, or with a NUL byte).
    #[error("wrong password")]
    WrongPassword,
    /// More than one entry has this login name.
    #[error("more than one entry has this login name")]
    AmbiguousLogin,
    /// The entry exists, and may not log in.
    #[error("the account is refused: {0}")]
    AccountRefused(AccountRefusal),
    /// The password is somebody's, but not the one's that the login name finds.
    #[error("the password belongs to another entry than the login name")]
    OtherEntry,
    /// The person is in more groups than are looked at; granting some of them would be a guess.
    #[error("{dn} is in more than {groups_max} groups")]
    TooManyGroups {
        /// The person's entry.
        dn: String,
        /// The limit.
        groups_max: usize,
    },
    /// The server could not be reached, or the connection was lost.
    #[error("{server} is not reachable: {why}")]
    Unreachable {
        /// The server's URL.
        server: String,
        /// The cause in words.
        why: String,
    },
    /// The server was silent for longer than the configuration allows.
    #[error("{server} did not answer within {after_ms} ms ({what})")]
    TimedOut {
        /// The server's URL, or all of them for the total timeout.
        server: String,
        /// What it was asked.
        what: &'static str,
        /// The timeout that ran out, in milliseconds.
        after_ms: u128,
    },
    /// The server answered with a result code that is neither yes nor no (RFC 4511, 4.1.9).
    #[error(
        "{server} answered {what} with result code {code} ({}): {message}",
        code_meaning(*.code)
    )]
    Refused {
        /// The server's URL.
        server: String,
        /// What it was asked.
        what: &'static str,
        /// The result code.
        code: u32,
        /// Its diagnostic message, cut and without control characters.
        message: String,
    },
    /// The service principal could not log in.
    #[error("{server} refused the service principal {dn}: result code {code}: {message}")]
    ServiceBind {
        /// The server's URL.
        server: String,
        /// The service principal.
        dn: String,
        /// The result code.
        code: u32,
        /// Its diagnostic message.
        message: String,
    },
    /// The file with the service principal's password cannot be used.
    #[error("service_password_file {path}: {why}")]
    ServicePassword {
        /// The file.
        path: PathBuf,
        /// The cause in words.
        why: String,
    },
    /// An attribute that an identity needs is missing or unusable.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// What the server sent is not LDAP as Postern understands it.
    #[error("{server} sent something unexpected: {why}")]
    Protocol {
        /// The server's URL.
        server: String,
        /// What was unexpected.
        why: &'static str,
    },
    /// The configuration names neither a directory nor a file of accounts.
    #[error("directory.kind is \"local\" and [local] is missing")]
    NoSource,
    /// A filter of the configuration is not one (RFC 4515).
    #[error("directory.{key}: {filter} is not an LDAP filter")]
    Filter {
        /// The configuration's key.
        key: &'static str,
        /// The filter.
        filter: String,
    },
    /// TLS cannot be set up as configured.
    #[error(transparent)]
    Tls(#[from] std::sync::Arc<TlsError>),
    /// The local file of accounts cannot be used.
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl DirectoryError {
    /// True when no directory said anything about the person: the password is neither right nor
    /// wrong. A break-glass account may then log in, and memory where [`Self::may_be_outlived`].
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::UnknownLogin
            | Self::EntryGone { .. }
            | Self::WrongPassword
            | Self::AmbiguousLogin
            | Self::AccountRefused(_)
            | Self::OtherEntry
            | Self::TooManyGroups { .. } => false,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Refused { .. }
            | Self::ServiceBind { .. }
            | Self::ServicePassword { .. }
            | Self::Attribute(_)
            | Self::Protocol { .. }
            | Self::Filter { .. }
            | Self::NoSource
            | Self::Tls(_)
            | Self::Local(_) => true,
        }
    }

    /// True when a cached answer may be used for a while. A result code that is neither yes nor
    /// "ask me later" is an answer, if an odd one, and memory does not overrule it.
    pub(crate) fn may_be_outlived(&self) -> bool {
        let is_answer = matches!(self, Self::Refused { .. }) && !self.is_transport();
        self.is_outage() && !is_answer
    }

    /// True when the directory would have said so of the name whatever the password was.
    pub(crate) fn is_for_any_password(&self) -> bool {
        match self {
            Self::UnknownLogin | Self::AmbiguousLogin => true,
            Self::AccountRefused(refusal) => match refusal {
                AccountRefusal::Locked
                | AccountRefusal::NoPassword
                | AccountRefusal::Other { .. } => true,
                // A server says so to whoever knows the password.
                AccountRefusal::Disabled
                | AccountRefusal::AccountExpired
                | AccountRefusal::PasswordExpired
                | AccountRefusal::PasswordMustChange
                | AccountRefusal::NotNow => false,
            },
            Self::EntryGone { .. }
            | Self::WrongPassword
            | Self::OtherEntry
            | Self::TooManyGroups { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Refused { .. }
            | Self::ServiceBind { .. }
            | Self::ServicePassword { .. }
            | Self::Attribute(_)
            | Self::Protocol { .. }
            | Self::NoSource
            | Self::Filter { .. }
            | Self::Tls(_)
            | Self::Local(_) => false,
        }
    }

    /// True when another server may be asked: this one could not be talked to.
    pub(crate) fn is_transport(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Protocol { .. } => true,
            Self::Refused { code, .. } | Self::ServiceBind { code, .. } => {
                matches!(*code, code::BUSY | code::UNAVAILABLE)
            }
            Self::UnknownLogin
            | Self::EntryGone { .. }
            | Self::WrongPassword
            | Self::AmbiguousLogin
            | Self::AccountRefused(_)
            | Self::OtherEntry
            | Self::TooManyGroups { .. }
            | Self::ServicePassword { .. }
            | Self::Attribute(_)
            | Self::Filter { .. }
            | Self::NoSource
            | Self::Tls(_)
            | Self::Local(_) => false,
        }
    }
}

/// Why the local file of accounts cannot be used.
#[derive(Debug, Clone, Error)]
pub(crate) enum LocalError {
    /// It cannot be read or written.
    #[error("the file of accounts {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause in words.
        why: String,
    },
    /// Everybody on the machine can read it.
    #[error(
        "the file of accounts {path}: everybody may read it (mode {mode:o}); run: chmod 600 {path}"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its content is not what it must be.
    #[error("the file of accounts {path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause, with the line where there is one.
        why: String,
    },
    /// There is no such account.
    #[error("the file of accounts {path}: no account is called {name}")]
    NoAccount {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
    },
}

/// What a result code means, for the log: where it has an obvious cause, that too.
fn code_meaning(code: u32) -> &'static str {
    match code {
        1 => "operations error: not bound, or not as whom the server expects",
        2 => "protocol error",
        3 => "time limit exceeded",
        4 => "size limit exceeded: raise the server's limit for the service principal",
        8 | 13 => "TLS required",
        10 => "referral, which is not followed: name the right server and base DN",
        11 => "administrative limit exceeded",
        12 => "unavailable critical extension",
        32 => "no such object: the base DN does not exist or may not be read",
        34 => "invalid DN",
        50 => "insufficient access rights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwilling to perform",
        4_096 => "refresh required: it has forgotten the place to go on from",
        _ => "see RFC 4511, Appendix A",
    }
}

/// The result codes that decide something (RFC 4511, Appendix A).
pub(super) mod code {
    pub(in super::super) const SUCCESS: u32 = 0;
    pub(in super::super) const SIZE_LIMIT_EXCEEDED: u32 = 4;
    pub(in super::super) const STRONGER_AUTH_REQUIRED: u32 = 8;
    pub(in super::super) const CONFIDENTIALITY_REQUIRED: u32 = 13;
    pub(in super::super) const CONSTRAINT_VIOLATION: u32 = 19;
    pub(in super::super) const NO_SUCH_OBJECT: u32 = 32;
    pub(in super::super) const INVALID_DN_SYNTAX: u32 = 34;
    pub(in super::super) const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
    pub(in super::super) const INVALID_CREDENTIALS: u32 = 49;
    pub(in super::super) const INSUFFICIENT_ACCESS: u32 = 50;
    pub(in super::super) const BUSY: u32 = 51;
    pub(in super::super) const UNAVAILABLE: u32 = 52;
    pub(in super::super) const UNWILLING: u32 = 53;
}

/// What the result code of a person's bind says about the person, if it says anything.
///
/// `None` means that it is about the server.
/// Active Directory explains code 49 in the diagnostic message:
/// `80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 533, v2580`.
/// The sub-codes are Win32 errors in hexadecimal,
/// <https://learn.microsoft.com/en-us/windows/win32/debug/system-error-codes--1300-1699->.
pub(super) fn refusal_of_bind(code: u32, message: &str) -> Option<DirectoryError> {
    let refusal = match code {
        code::INVALID_CREDENTIALS => match active_directory_sub_code(message) {
            Some(0x525) | None => return Some(DirectoryError::WrongPassword),
            Some(0x530 | 0x531) => AccountRefusal::NotNow,
            Some(0x532) => AccountRefusal::PasswordExpired,
            Some(0x533) => AccountRefusal::Disabled,
            Some(0x701) => AccountRefusal::AccountExpired,
            Some(0x773) => AccountRefusal::PasswordMustChange,
            Some(0x775) => AccountRefusal::Locked,
            Some(_) => return Some(DirectoryError::WrongPassword),
        },
        // An entry that vanished between search and bind, or a template that names nobody.
        code::NO_SUCH_OBJECT | code::INVALID_DN_SYNTAX => {
            return Some(DirectoryError::UnknownLogin);
        }
        code::INAPPROPRIATE_AUTHENTICATION | code::INSUFFICIENT_ACCESS => {
            AccountRefusal::NoPassword
        }
        // 389 Directory Server says 19 for a lockout and 53 for an account made inactive.
        code::CONSTRAINT_VIOLATION | code::UNWILLING => AccountRefusal::Other {
            code,
            message: message.to_owned(),
        },
        _ => return None,
    };
    Some(DirectoryError::AccountRefused(refusal))
}

/// The hexadecimal number after `data ` in a diagnostic message.
fn active_directory_sub_code(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once(", data ")?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u32, message: &str) -> String {
        refusal_of_bind(code, message).map_or_else(String::new, |e| e.to_string())
    }

    #[test]
    fn active_directory_sub_codes_name_the_refusal() {
        for (data, want) in [
            ("525", "wrong password"),
            ("52e", "wrong password"),
            (
                "530",
                "the account is refused: not allowed at this hour or from this machine",
            ),
            ("532", "the account is refused: password expired"),
            ("533", "the account is refused: disabled"),
            ("701", "the account is refused: account expired"),
            (
                "773",
                "the account is refused: password must be changed first",
            ),
            ("775", "the account is refused: locked out"),
            ("", "wrong password"),
        ] {
            let message = format!(
                "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, \
                 data {data}, v2580"
            );
            assert_eq!(refusal(49, &message), want, "{message}");
        }
    }

    #[test]
    fn only_codes_about_the_person_are_refusals() {
        assert_eq!(refusal(49, ""), "wrong password");
        assert_eq!(refusal(32, ""), "no entry has this login name");
        assert!(refusal(48, "").contains("cannot log in with a password"));
        assert!(refusal(53, "Account inactivated").contains("Account inactivated"));
        for code in [0, 1, 2, 3, 4, 7, 8, 10, 11, 13, 51, 52, 80, 4_711] {
            assert!(refusal_of_bind(code, "").is_none(), "{code}");
        }
    }

    #[test]
    fn only_busy_and_unavailable_let_another_server_be_asked() {
        let with = |code| DirectoryError::Refused {
            server: String::new(),
            what: "a search",
            code,
            message: String::new(),
        };
        for code in [8, 10, 32, 49, 50, 53, 80] {
            assert!(!with(code).is_transport(), "{code}");
            assert!(with(code).is_outage(), "{code}");
            assert!(!with(code).may_be_outlived(), "{code}");
        }
        for code in [51, 52] {
            assert!(with(code).is_transport() && with(code).may_be_outlived());
        }
        assert!(!DirectoryError::WrongPassword.is_transport());
        assert!(!DirectoryError::WrongPassword.is_outage());
    }
}
