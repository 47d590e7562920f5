//! Whose password it is: what the directory says, or said a short while ago.
//!
//! The rules are in [`postern_core::cache`]; here they meet the map, the clock and the directory.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postern_core::audit::Source;
use postern_core::cache::{
    Decision, DigestKey, Entry, LiveChecks, Negative, Outage, PasswordDigest, Policy, Refusal,
};
use postern_core::login_name::LoginName;
use postern_core::principal::Principal;
use postern_core::secret::Secret;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::Config;
use crate::directory::{Directories, DirectoryError};
use crate::error::{Denied, Full, LoginError};
use crate::limits::{DIRECTORY_QUEUE_WAIT, LIVE_CHECKED_MAX, REFUSED_PASSWORDS_MAX};
use crate::random;
use crate::single_flight::SingleFlight;

/// How the DN of an account of the local file begins.
const LOCAL_DN: &str = "local:";

/// Evidence that a directory verified this person's password, now or a short while ago.
#[must_use = "a person may be authorized only with this evidence"]
pub(crate) struct Authenticated {
    principal: Arc<Principal>,
    source: Source,
    digest: PasswordDigest,
    password: Rc<Secret<Vec<u8>>>,
}

impl Authenticated {
    /// The person and their groups.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who said so.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// True when no directory was asked for this login.
    pub(crate) fn is_from_memory(&self) -> bool {
        matches!(self.source, Source::Memory | Source::StaleMemory)
    }

    /// The digest of the password, under a key that lives as long as the process.
    pub(crate) fn digest(&self) -> &PasswordDigest {
        &self.digest
    }

    /// The password itself, for the mode that mirrors it into the database.
    pub(crate) fn password(&self) -> &Secret<Vec<u8>> {
        &self.password
    }
}

/// Checks passwords with the directory, and remembers the answers for as long as the rules allow.
pub(crate) struct Authenticator {
    memory: Arc<Memory>,
    flights: SingleFlight<(String, PasswordDigest), Answer>,
    permits: Arc<Semaphore>,
    calls: AtomicU64,
}

type Answer = Result<Arc<Principal>, Failure>;

/// Why the directory did not say yes.
#[derive(Clone)]
enum Failure {
    Directory(Arc<DirectoryError>),
    RefusedBefore,
    Busy,
}

/// What is remembered. Each map is consistent by itself; an answer is entered into one after the
/// other.
struct Memory {
    policy: Policy,
    key: DigestKey,
    started: Instant,
    accepted: Cache<String, Remembered>,
    refused: Cache<PasswordDigest, Negative>,
    checks: Mutex<HashMap<String, LiveChecks>>,
}

/// An entry, and the digest of its password for the person instead of for the login: by it a new
/// password is told from another spelling of the login name.
#[derive(Clone)]
struct Remembered {
    entry: Arc<Entry>,
    person: PasswordDigest,
}

/// What `explain-login` says of a login's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheState {
    /// Since the bind that accepted the password.
    pub(crate) bound_ago: Duration,
    /// Since the directory was last asked.
    pub(crate) checked_ago: Duration,
    /// True when the next login is answered without the directory.
    pub(crate) fresh: bool,
}

impl Authenticator {
    /// Remembers nothing yet.
    pub(crate) fn new(config: &Config) -> Self {
        let memory = Memory {
            policy: config.cache.policy.clone(),
            key: DigestKey::new(random::bytes()),
            started: Instant::now(),
            accepted: Cache::new(config.cache.entries_max),
            refused: Cache::new(REFUSED_PASSWORDS_MAX),
            checks: Mutex::default(),
        };
        let permits = Arc::new(Semaphore::new(config.limits.directory_calls_max));
        Self {
            memory: Arc::new(memory),
            flights: SingleFlight::new(),
            permits,
            calls: AtomicU64::new(0),
        }
    }

    /// Answers from memory where the rules allow it, and asks the directory otherwise.
    ///
    /// All who bring the same login and the same password at the same time share one question.
    ///
    /// # Errors
    ///
    /// The directory refused or could not be reached, now or a moment ago.
    pub(crate) async fn authenticate(
        &self,
        directories: &Rc<Directories>,
        login: LoginName,
        password: Secret<Vec<u8>>,
    ) -> Result<Authenticated, LoginError> {
        let memory = &self.memory;
        let now = memory.started.elapsed();
        let digest = memory.key.digest(login.text(), password.expose());
        let password = Rc::new(password);
        let authenticated = |principal, source| Authenticated {
            principal,
            source,
            digest,
            password: password.clone(),
        };
        if memory.has_refused(&digest) {
            return Err(LoginError::Denied(Denied::PasswordRefusedBefore));
        }
        let remembered = memory.accepted.get(login.text());
        let decision = remembered
            .as_ref()
            .map(|it| memory.decide(&it.entry, &login, &digest, now));
        match decision {
            Some(Decision::Fresh(principal)) => {
                return Ok(authenticated(principal, Source::Memory));
            }
            Some(Decision::RefreshLimit) => {
                return Err(LoginError::Denied(Denied::PasswordTriedTooOften));
            }
            Some(Decision::Recheck | Decision::OtherPassword | Decision::Dead) | None => {}
        }
        match self.ask(directories, login, password.clone(), digest).await {
            Ok(principal) => {
                let source = match principal.dn.starts_with(LOCAL_DN) {
                    true => Source::Local,
                    false => Source::Directory,
                };
                Ok(authenticated(principal, source))
            }
            Err(LoginError::Directory(error)) if error.is_outage() => {
                let now = memory.started.elapsed();
                let outage =
                    remembered.map(|it| it.entry.during_outage(&memory.policy, now, &digest));
                match outage {
                    Some(Outage::Use(principal)) => {
                        Ok(authenticated(principal, Source::StaleMemory))
                    }
                    Some(Outage::Stale | Outage::OtherPassword) | None => {
                        Err(LoginError::Directory(error))
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets what is remembered of a login, so that the directory is asked.
    pub(crate) fn forget(&self, login: &str) {
        self.memory.accepted.remove(login);
    }

    /// What is remembered of a login, for `explain-login`.
    pub(crate) fn cache_state(&self, login: &str) -> Option<CacheState> {
        let memory = &self.memory;
        let now = memory.started.elapsed();
        let entry = memory.accepted.get(login)?.entry;
        let checked_ago = now.saturating_sub(entry.checked_at());
        Some(CacheState {
            bound_ago: now.saturating_sub(entry.bound_at()),
            checked_ago,
            fresh: checked_ago < memory.policy.recheck && !entry.is_dead(&memory.policy, now),
        })
    }

    /// How many logins asked the directory, those that shared a question counted one by one.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many people are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.memory.accepted.len()
    }

    async fn ask(
        &self,
        directories: &Rc<Directories>,
        login: LoginName,
        password: Rc<Secret<Vec<u8>>>,
        digest: PasswordDigest,
    ) -> Result<Arc<Principal>, LoginError> {
        let flight = (login.text().to_owned(), digest);
        let (memory, permits) = (self.memory.clone(), self.permits.clone());
        let directories = directories.clone();
        self.calls.fetch_add(1, Ordering::Relaxed);
        let call = || async move {
            // Who found nothing in memory may come here only after the call that filled it ended.
            if let Some(principal) = memory.fresh(login.text(), &digest) {
                return Ok(principal);
            }
            if memory.has_refused(&digest) {
                return Err(Failure::RefusedBefore);
            }
            // A storm of logins must not become a storm of binds: whoever would wait long is
            // told at once that there are too many.
            let waited = timeout(DIRECTORY_QUEUE_WAIT, permits.acquire()).await;
            let Ok(Ok(_permit)) = waited else {
                return Err(Failure::Busy);
            };
            let asked_at = memory.started.elapsed();
            let verified = directories.authenticate(&login, &password).await;
            match verified {
                Ok(verified) => {
                    let principal = Arc::new(verified.into_principal());
                    memory.accept(login.text(), &password, digest, principal.clone(), asked_at);
                    Ok(principal)
                }
                Err(error) => {
                    memory.refuse(login.text(), digest, &error, asked_at);
                    Err(Failure::Directory(Arc::new(error)))
                }
            }
        };
        match self.flights.run(flight, call).await {
            Ok(Ok(principal)) => Ok(principal),
            Ok(Err(Failure::Directory(error))) => Err(LoginError::Directory(error)),
            Ok(Err(Failure::RefusedBefore)) => {
                Err(LoginError::Denied(Denied::PasswordRefusedBefore))
            }
            Ok(Err(Failure::Busy)) => Err(LoginError::Full(Full::DirectoryCalls)),
            Err(_) => Err(LoginError::Internal),
        }
    }
}

impl Memory {
    fn decide(
        &self,
        entry: &Entry,
        login: &LoginName,
        digest: &PasswordDigest,
        now: Duration,
    ) -> Decision {
        // The map is consistent between two statements, so a panic elsewhere does not spoil it.
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.len() >= LIVE_CHECKED_MAX {
            checks.retain(|_, checks| !checks.is_idle(now));
        }
        let person = checks.entry(login.person_key()).or_default();
        entry.decide(&self.policy, now, digest, person)
    }

    /// Whether the directory refused this very password a moment ago.
    fn has_refused(&self, digest: &PasswordDigest) -> bool {
        let negative = self.refused.get(digest);
        negative.is_some_and(|it| it.holds(&self.policy, self.started.elapsed()).is_some())
    }

    /// What is remembered of this very password, if nobody needs to be asked about it.
    fn fresh(&self, login: &str, digest: &PasswordDigest) -> Option<Arc<Principal>> {
        let entry = self.accepted.get(login)?.entry;
        // Only tries of another password are counted, and they are not answered here.
        let mut uncounted = LiveChecks::default();
        match entry.decide(&self.policy, self.started.elapsed(), digest, &mut uncounted) {
            Decision::Fresh(principal) => Some(principal),
            Decision::Recheck
            | Decision::OtherPassword
            | Decision::RefreshLimit
            | Decision::Dead => None,
        }
    }

    /// The directory accepted the password by a question that began at `asked_at`.
    fn accept(
        &self,
        login: &str,
        password: &Secret<Vec<u8>>,
        digest: PasswordDigest,
        principal: Arc<Principal>,
        asked_at: Duration,
    ) {
        let person = self.key.digest(principal.id.as_str(), password.expose());
        // A new password ends the old one under every spelling of the login name. The answer to an
        // older question must not: a directory may take the old password for a while longer.
        self.accepted.retain(|_, it| {
            it.entry.principal().id != principal.id
                || it.person == person
                || it.entry.bound_at() > asked_at
        });
        self.refused.remove(&digest);
        let entry = Arc::new(Entry::new(digest, principal, asked_at));
        let newer = self
            .accepted
            .get(login)
            .is_none_or(|it| entry.supersedes(&it.entry));
        if newer {
            self.accepted
                .insert(login.to_owned(), Remembered { entry, person });
        }
    }

    /// The directory did not accept the password.
    fn refuse(
        &self,
        login: &str,
        digest: PasswordDigest,
        error: &DirectoryError,
        asked_at: Duration,
    ) {
        let Some(refusal) = refusal_of(error) else {
            return;
        };
        if let Some(it) = self.accepted.get(login)
            && !it.entry.survives(refusal, &digest, asked_at)
        {
            self.accepted.remove(login);
        }
        self.refused
            .insert(digest, Negative::new(refusal, asked_at));
    }
}

/// What the directory said about the person; none when it said nothing.
fn refusal_of(error: &DirectoryError) -> Option<Refusal> {
    match error {
        DirectoryError::WrongPassword => Some(Refusal::WrongPassword),
        DirectoryError::UnknownLogin
        | DirectoryError::AmbiguousLogin
        | DirectoryError::OtherEntry => Some(Refusal::UnknownLogin),
        DirectoryError::AccountRefused(_) | DirectoryError::TooManyGroups { .. } => {
            Some(Refusal::AccountRefused)
        }
        DirectoryError::Unreachable { .. }
        | DirectoryError::TimedOut { .. }
        | DirectoryError::Refused { .. }
        | DirectoryError::ServiceBind { .. }
        | DirectoryError::ServicePassword { .. }
        | DirectoryError::Attribute { .. }
        | DirectoryError::Protocol { .. }
        | DirectoryError::NoSource
        | DirectoryError::Filter { .. }
        | DirectoryError::Tls(_)
        | DirectoryError::Local(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_core::principal::EntryId;

    #[test]
    fn a_late_answer_about_an_old_password_does_not_end_the_new_one() {
        let memory = Memory {
            policy: Policy::default(),
            key: DigestKey::new([7; 32]),
            started: Instant::now(),
            accepted: Cache::new(8),
            refused: Cache::new(8),
            checks: Mutex::default(),
        };
        let principal = Arc::new(Principal {
            id: EntryId::new("guid:1"),
            dn: "CN=alice".to_owned(),
            name: "alice".to_owned(),
            groups: Vec::new(),
        });
        let accept = |login: &str, password: &str, asked_s| {
            let digest = memory.key.digest(login, password.as_bytes());
            let password = Secret::new(password.as_bytes().to_vec());
            let asked_at = Duration::from_secs(asked_s);
            memory.accept(login, &password, digest, principal.clone(), asked_at);
        };
        let is_fresh = |login: &str, password: &str| {
            let digest = memory.key.digest(login, password.as_bytes());
            memory.fresh(login, &digest).is_some()
        };
        accept("alice", "old", 1);
        accept("ALICE", "new", 3);
        assert!(is_fresh("ALICE", "new") && !is_fresh("alice", "old"));
        accept("ALICE", "old", 2);
        assert!(is_fresh("ALICE", "new") && !is_fresh("ALICE", "old"));
    }
}
