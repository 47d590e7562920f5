//! The rules of the credential cache.
//!
//! Pure rules: the map that holds the entries and the clock belong to the caller.
//! Every time is a `Duration` since one arbitrary start of the process, on a monotonic clock, so
//! that a change of the wall clock neither extends nor ends anything.
//!
//! How it is used, for one login:
//! 1. A [`Negative`] under the same [`PasswordDigest`] that [`Negative::holds`]: refuse, no call.
//! 2. No [`Entry`] under the login: ask the directory.
//! 3. [`Entry::decide`]: see [`Decision`]. Before the directory is asked about any other password
//!    than the remembered one, the person's [`Budget`](crate::lockout::Budget) has to have room,
//!    as that of a name has of which nothing is remembered.
//! 4. The directory accepted: put [`Entry::new`] in the map if it [`Entry::supersedes`] what is
//!    there by now. It refused: drop the entry unless it [`Entry::survives`], and remember a
//!    [`Negative`]. It could not be reached: [`Entry::during_outage`].
//!
//! The map's key is the login as typed, domain included, so that an entry never serves another
//! login; the key of the budgets is [`crate::login_name::LoginName::person_key`], so that
//! another spelling does not buy more attempts at a person.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;

use crate::principal::Principal;

/// How long a directory's answer is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// From this age on an entry is checked with the directory again. 60 s.
    pub recheck: Duration,
    /// From this age of the last bind on an entry is as if it were not there. 15 minutes.
    pub dead: Duration,
    /// While the directory cannot be reached, an entry is believed up to this age of the last
    /// success. 90 s.
    pub stale: Duration,
    /// How long a refused password is refused without asking again. 60 s.
    pub negative: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            recheck: Duration::from_secs(60),
            dead: Duration::from_secs(15 * 60),
            stale: Duration::from_secs(90),
            negative: Duration::from_secs(60),
        }
    }
}

/// The key under which passwords are remembered, made at random when the process starts.
#[derive(Clone)]
pub struct DigestKey(hmac::Key);

impl DigestKey {
    /// Takes 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The digest of one password for one login.
    /// The same password of another login has another digest.
    pub fn digest(&self, login: &str, password: &[u8]) -> PasswordDigest {
        let mut context = hmac::Context::with_key(&self.0);
        // The length keeps `ab` + `c` and `a` + `bc` apart.
        context.update(&(login.len() as u64).to_be_bytes());
        context.update(login.as_bytes());
        context.update(password);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        PasswordDigest(digest)
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

/// HMAC-SHA256 of a login and a password. Compared in constant time, and never shown.
#[derive(Clone, Copy)]
pub struct PasswordDigest([u8; 32]);

impl PartialEq for PasswordDigest {
    fn eq(&self, other: &Self) -> bool {
        let mut difference = 0;
        for (a, b) in self.0.iter().zip(&other.0) {
            difference |= a ^ b;
        }
        std::hint::black_box(difference) == 0
    }
}

impl Eq for PasswordDigest {}

impl Hash for PasswordDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest")
    }
}

/// A password that the directory accepted, and whom it belongs to.
///
/// No method changes an entry: use does not extend it, and only a successful check with the
/// directory makes a new one.
#[derive(Debug, Clone)]
pub struct Entry {
    digest: PasswordDigest,
    principal: Arc<Principal>,
    bound_at: Duration,
    checked_at: Duration,
}

/// What an entry says about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The right password, checked recently: use it, without a packet to the directory.
    Fresh(Arc<Principal>),
    /// The right password, but it is time to ask the directory again.
    /// If that cannot be reached, ask [`Entry::during_outage`].
    Recheck,
    /// Another password than the remembered one: ask the directory if the person's budget has
    /// room, and refuse without asking if it has not.
    OtherPassword,
    /// Too old to say anything: as if there were no entry.
    Dead,
}

/// What an entry says while the directory cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outage {
    /// The right password, and the last success is recent enough.
    Use(Arc<Principal>),
    /// The last success is too long ago.
    Stale,
    /// Another password: only the directory could accept it.
    OtherPassword,
}

/// Why the directory refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The password is wrong.
    WrongPassword,
    /// There is no such entry, or more than one.
    UnknownLogin,
    /// The account is disabled, locked or expired.
    AccountRefused,
}

impl Entry {
    /// The directory accepted this password by a bind that began at `asked_at`.
    ///
    /// The time of the question counts, not that of the answer: a slow directory must not make an
    /// answer younger than the state that it describes.
    pub fn new(digest: PasswordDigest, principal: Arc<Principal>, asked_at: Duration) -> Self {
        Self {
            digest,
            principal,
            bound_at: asked_at,
            checked_at: asked_at,
        }
    }

    /// The entry after the directory was asked about the person without a bind, at `asked_at`:
    /// the account is still good and these are its groups.
    /// It is fresh again, and dies when it would have died before.
    #[must_use]
    pub fn looked_up(&self, principal: Arc<Principal>, asked_at: Duration) -> Self {
        let checked_at = asked_at.max(self.checked_at);
        Self {
            digest: self.digest,
            principal,
            bound_at: self.bound_at,
            checked_at,
        }
    }

    /// What to do with a login that brings this password.
    pub fn decide(&self, policy: &Policy, now: Duration, digest: &PasswordDigest) -> Decision {
        if self.is_dead(policy, now) {
            return Decision::Dead;
        }
        if self.digest != *digest {
            return Decision::OtherPassword;
        }
        if now.saturating_sub(self.checked_at) >= policy.recheck {
            return Decision::Recheck;
        }
        Decision::Fresh(Arc::clone(&self.principal))
    }

    /// Whether the entry may be used although the directory cannot be reached.
    pub fn during_outage(&self, policy: &Policy, now: Duration, digest: &PasswordDigest) -> Outage {
        if self.digest != *digest {
            return Outage::OtherPassword;
        }
        let stale = now.saturating_sub(self.checked_at) >= policy.stale;
        if stale || self.is_dead(policy, now) {
            return Outage::Stale;
        }
        Outage::Use(Arc::clone(&self.principal))
    }

    /// Whether the entry stays after the directory refused this password at `asked_at`.
    ///
    /// A wrong password says nothing about the right one.
    /// That the remembered password is refused, or the account itself, ends the entry, unless the
    /// entry comes from a later question than the refusal.
    pub fn survives(&self, refusal: Refusal, digest: &PasswordDigest, asked_at: Duration) -> bool {
        if self.checked_at > asked_at {
            return true;
        }
        match refusal {
            Refusal::WrongPassword => self.digest != *digest,
            Refusal::UnknownLogin | Refusal::AccountRefused => false,
        }
    }

    /// Whether this entry may take the place of `other`: its bind began no earlier.
    /// A slow answer to an old password must not bring it back after a new one was accepted.
    pub fn supersedes(&self, other: &Entry) -> bool {
        self.bound_at > other.bound_at
            || (self.bound_at == other.bound_at && self.checked_at >= other.checked_at)
    }

    /// True when the entry is as if it were not there.
    pub fn is_dead(&self, policy: &Policy, now: Duration) -> bool {
        now.saturating_sub(self.bound_at) >= policy.dead
    }

    /// The digest of the accepted password.
    pub fn digest(&self) -> &PasswordDigest {
        &self.digest
    }

    /// Whom the password belongs to.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// When the bind that accepted the password began.
    pub fn bound_at(&self) -> Duration {
        self.bound_at
    }

    /// When the last successful question to the directory began.
    pub fn checked_at(&self) -> Duration {
        self.checked_at
    }
}

/// A password that the directory refused, kept under its [`PasswordDigest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negative {
    refusal: Refusal,
    refused_at: Duration,
}

impl Negative {
    /// The directory refused the password at this time.
    pub fn new(refusal: Refusal, refused_at: Duration) -> Self {
        Self {
            refusal,
            refused_at,
        }
    }

    /// Why, while the refusal is still believed; none when the directory is to be asked again.
    /// A repeated attempt does not extend it.
    pub fn holds(&self, policy: &Policy, now: Duration) -> Option<Refusal> {
        let young = now.saturating_sub(self.refused_at) < policy.negative;
        young.then_some(self.refusal)
    }
}

#[cfg(test)]
mod tests;
