//! What made somebody's access be looked at, and what it comes to.

use std::fmt;
use std::time::{Instant, SystemTime};

use postern_core::audit::LostReason;

use crate::directory::DirectoryError;

/// Where it was heard that somebody's access may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The feed named the person, or a group of theirs.
    Feed,
    /// Everybody was compared.
    Comparison,
    /// The time came at which the account ends.
    Timer,
    /// The person logged in.
    Login,
    /// Another proxy, or somebody else who changed the role store.
    RoleStore,
    /// An operator.
    Operator,
}

/// Why somebody's access is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause {
    /// Where it was heard.
    pub(crate) heard: Heard,
    /// When, for measuring.
    pub(crate) at: Instant,
    /// When, for people.
    pub(crate) time: SystemTime,
    /// Whether the person's own entry changed: then the password may be another one, too.
    pub(crate) own_entry: bool,
    /// Whether something was done to the person in the role store.
    pub(crate) in_store: bool,
    /// Whether it is on record already what the person loses, which the role store could not be
    /// told of.
    pub(crate) is_on_record: bool,
}

/// Why somebody loses access, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    /// From the closed list.
    pub(crate) reason: LostReason,
    /// In words, for the audit file and the log.
    pub(crate) detail: String,
}

impl Cause {
    /// Just now.
    pub(crate) fn now(heard: Heard) -> Self {
        Self {
            heard,
            at: Instant::now(),
            time: SystemTime::now(),
            own_entry: false,
            in_store: heard == Heard::RoleStore,
            is_on_record: false,
        }
    }

    /// The earlier of two, with what either knows.
    pub(crate) fn and(self, other: Self) -> Self {
        let first = match self.at <= other.at {
            true => self,
            false => other,
        };
        Self {
            heard: match first.heard.may_wait() {
                // What was named by itself does not wait behind everybody.
                true if !self.heard.may_wait() => self.heard,
                true => other.heard,
                false => first.heard,
            },
            own_entry: self.own_entry || other.own_entry,
            in_store: self.in_store || other.in_store,
            is_on_record: self.is_on_record || other.is_on_record,
            ..first
        }
    }
}

impl Heard {
    /// Whether it concerns many at once, so that it waits for what names somebody.
    pub(crate) const fn may_wait(self) -> bool {
        matches!(self, Self::Comparison | Self::RoleStore)
    }
}

impl Loss {
    /// What the directory's refusal of a person means; none while it cannot be asked.
    pub(crate) fn of(error: &DirectoryError) -> Option<Self> {
        if error.is_outage() {
            return None;
        }
        let reason = match error {
            DirectoryError::EntryGone { .. } | DirectoryError::UnknownLogin => {
                LostReason::EntryGone
            }
            DirectoryError::AccountRefused(_) => LostReason::AccountRefused,
            DirectoryError::WrongPassword
            | DirectoryError::AmbiguousLogin
            | DirectoryError::OtherEntry
            | DirectoryError::TooManyGroups { .. }
            | DirectoryError::Unreachable { .. }
            | DirectoryError::TimedOut { .. }
            | DirectoryError::Refused { .. }
            | DirectoryError::ServiceBind { .. }
            | DirectoryError::ServicePassword { .. }
            | DirectoryError::Attribute(_)
            | DirectoryError::Protocol { .. }
            | DirectoryError::NoSource
            | DirectoryError::Filter { .. }
            | DirectoryError::Tls(_)
            | DirectoryError::Local(_) => LostReason::Unusable,
        };
        Some(Self {
            reason,
            detail: error.to_string(),
        })
    }

    /// What the client is told.
    pub(crate) fn told(&self) -> &'static str {
        match self.reason {
            LostReason::NoGroup => "None of your groups in the directory counts any more.",
            LostReason::LostGroup => {
                "You have lost a group in the directory; log in again for what is left."
            }
            LostReason::LostDatabase => {
                "None of your groups in the directory opens this database any more."
            }
            LostReason::AccountRefused => {
                "Your account in the directory is disabled, locked or expired, or its password \
                 has to be changed."
            }
            LostReason::EntryGone => "Your account is not in the directory any more.",
            LostReason::Unusable => "What the directory says of your account cannot be used.",
            LostReason::DirectoryAway => {
                "The directory has been out of reach for too long; log in again when it is back."
            }
            LostReason::Unconfigured => "The proxy's configuration does not let you in any more.",
            LostReason::Held => "An operator has revoked your access.",
            LostReason::OtherProxy => "Your access was revoked.",
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Feed => "feed",
            Self::Comparison => "comparison",
            Self::Timer => "timer",
            Self::Login => "login",
            Self::RoleStore => "role_store",
            Self::Operator => "operator",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_two_causes_the_earlier_counts_and_nothing_is_forgotten() {
        let first = Cause::now(Heard::Comparison);
        let second = Cause {
            heard: Heard::Feed,
            at: first.at + Duration::from_secs(1),
            own_entry: true,
            in_store: true,
            ..first
        };
        for both in [first.and(second), second.and(first)] {
            assert_eq!((both.heard, both.at), (Heard::Feed, first.at));
            assert!(both.own_entry && both.in_store);
        }
    }

    #[test]
    fn an_outage_is_no_loss() {
        let away = DirectoryError::TimedOut {
            server: "ldaps://dc1".to_owned(),
            what: "a search",
            after_ms: 1,
        };
        assert_eq!(Loss::of(&away), None);
        let gone = Loss::of(&DirectoryError::UnknownLogin).map(|it| it.reason);
        assert_eq!(gone, Some(LostReason::EntryGone));
    }
}
