//! Whose password it is: what the directory says, or said a short while ago.
//!
//! The rules are in [`postern_core::cache`]; here they meet the map, the clock and the directory.

mod memory;
mod proof;
mod wrong;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postern_core::audit::Source;
use postern_core::cache::{Entry, Outage, PasswordDigest};
use postern_core::login_name::LoginName;
use postern_core::principal::{EntryId, Principal};
use postern_core::secret::Secret;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::time::timeout;

use crate::config::Config;
use crate::directory::{Breaker, Directories, DirectoryError, is_local};
use crate::error::{Denied, Full, LoginError};
use crate::limits::{DIRECTORY_QUEUE_WAIT, PERSON_QUEUE_WAIT};
use crate::single_flight::SingleFlight;
use crate::turns::Turns;
use memory::{Memory, Remembered};
use wrong::Wrong;

/// Evidence that a directory verified this person's password, now or a short while ago.
#[must_use = "a person may be authorized only with this evidence"]
pub(crate) struct Authenticated {
    principal: Arc<Principal>,
    source: Source,
    asked_at: Instant,
    /// The password and its digest, where it was shown.
    password: Option<(Rc<Secret<Vec<u8>>>, PasswordDigest)>,
}

impl Authenticated {
    /// The person and their groups.
    pub(crate) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The same person, as the directory sees them since a later moment.
    pub(crate) fn seen_again(self, principal: Principal, asked_at: Instant) -> Self {
        Self {
            principal: Arc::new(principal),
            source: Source::Directory,
            asked_at,
            ..self
        }
    }

    /// Who said so.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// When the question to the directory began whose answer this is.
    pub(crate) fn asked_at(&self) -> Instant {
        self.asked_at
    }

    /// True when no directory was asked for this login.
    pub(crate) fn is_from_memory(&self) -> bool {
        matches!(self.source, Source::Memory | Source::StaleMemory)
    }

    /// The digest of the password, under a key that lives as long as the process; none where the
    /// password was not shown.
    pub(crate) fn digest(&self) -> Option<&PasswordDigest> {
        self.password.as_ref().map(|(_, digest)| digest)
    }

    /// The password itself, for the mode that mirrors it into the database; none where it was not
    /// shown.
    pub(crate) fn password(&self) -> Option<&Secret<Vec<u8>>> {
        self.password.as_ref().map(|(password, _)| &**password)
    }
}

/// Checks passwords with the directory, and remembers the answers for as long as the rules allow.
pub(crate) struct Authenticator {
    memory: Arc<Memory>,
    wrong: Arc<Wrong>,
    /// Passwords for one person are tried one after the other: those under way are counted as
    /// wrong ones until the directory has spoken.
    turns: Arc<Turns<String>>,
    flights: SingleFlight<(String, PasswordDigest), Answer>,
    permits: Arc<Semaphore>,
    calls: AtomicU64,
    /// Whether the directory could be talked to lately.
    breaker: Arc<Breaker>,
}

/// What memory says of a login and its password.
pub(crate) enum Recalled {
    /// The directory accepted it a short while ago.
    Known(Authenticated),
    /// The directory has to be asked.
    Ask(Box<Question>),
}

/// What the directory has to be asked.
pub(crate) struct Question {
    login: LoginName,
    password: Rc<Secret<Vec<u8>>>,
    digest: PasswordDigest,
    /// From where it is asked.
    client: IpAddr,
    /// What is remembered of the login, though not enough to go by while the directory answers.
    remembered: Option<Remembered>,
}

type Answer = Result<Told, Failure>;

/// What the directory said of a person, and when the question began, since the process did.
#[derive(Clone)]
struct Told {
    principal: Arc<Principal>,
    asked_at: Duration,
}

impl Told {
    fn of(entry: &Entry) -> Self {
        let (principal, asked_at) = (entry.principal().clone(), entry.checked_at());
        Self {
            principal,
            asked_at,
        }
    }
}

/// Why the directory did not say yes.
#[derive(Clone)]
enum Failure {
    Directory(Arc<DirectoryError>),
    RefusedBefore,
    TriedTooOften,
    Busy,
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
        let permits = Arc::new(Semaphore::new(config.limits.directory_calls_max));
        Self {
            memory: Arc::new(Memory::new(config)),
            wrong: Arc::new(Wrong::new(config.lockout.person, config.lockout.address)),
            turns: Arc::new(Turns::new()),
            flights: SingleFlight::new(),
            permits,
            calls: AtomicU64::new(0),
            breaker: Arc::default(),
        }
    }

    /// The places of conversations with the directory that are free.
    pub(crate) fn free_calls(&self) -> &Semaphore {
        &self.permits
    }

    /// Goes on counting how many logins asked the directory where an earlier one ends.
    pub(crate) fn counting_on(self, earlier: &Self) -> Self {
        self.calls.store(earlier.calls(), Ordering::Relaxed);
        self
    }

    /// Goes on counting wrong passwords where an earlier one ends, by the same limits: the
    /// directory does, too.
    pub(crate) fn with_tries_of(self, earlier: &Self) -> Self {
        Self {
            wrong: earlier.wrong.clone(),
            ..self
        }
    }

    /// Answers from memory where the rules allow it. Never waits.
    ///
    /// # Errors
    ///
    /// The directory refused this very password a moment ago.
    pub(crate) fn recall(
        &self,
        login: LoginName,
        password: Secret<Vec<u8>>,
        client: IpAddr,
    ) -> Result<Recalled, LoginError> {
        let memory = &self.memory;
        let digest = memory.key.digest(login.text(), password.expose());
        if memory.has_refused(&digest) {
            return Err(LoginError::Denied(Denied::PasswordRefusedBefore));
        }
        let question = Question {
            remembered: memory.accepted.get(login.text()),
            password: Rc::new(password),
            login,
            digest,
            client,
        };
        match &question.remembered {
            Some(it) if memory.is_fresh(&it.entry, &digest) => {
                let told = Told::of(&it.entry);
                let known = self.authenticated(&question, told, Source::Memory);
                Ok(Recalled::Known(known))
            }
            Some(_) | None => Ok(Recalled::Ask(Box::new(question))),
        }
    }

    /// Asks the directory. All who bring the same login and the same password at the same time
    /// share one question.
    ///
    /// # Errors
    ///
    /// The directory refused or could not be reached, or too many wait for it.
    pub(crate) async fn ask(
        &self,
        directories: &Arc<Directories>,
        question: &Question,
    ) -> Result<Authenticated, LoginError> {
        match self.told(directories, question).await {
            Ok(told) => {
                let source = match is_local(&told.principal.id) {
                    true => Source::Local,
                    false => Source::Directory,
                };
                Ok(self.authenticated(question, told, source))
            }
            Err(LoginError::Directory(error)) if error.may_be_outlived() => {
                let outlived = self.outlive(question);
                outlived.ok_or(LoginError::Directory(error))
            }
            Err(LoginError::Full(full)) => self.go_without(question, full),
            Err(error) => Err(error),
        }
    }

    /// Goes on without asking, because there are too many of something. Memory stands in only
    /// while the directory is known to be out of reach: filling a queue must not be a way to use
    /// what has to be checked again.
    ///
    /// # Errors
    ///
    /// `full`, when memory does not stand in.
    pub(crate) fn go_without(
        &self,
        question: &Question,
        full: Full,
    ) -> Result<Authenticated, LoginError> {
        let outlived = self
            .breaker
            .is_lost()
            .then(|| self.outlive(question))
            .flatten();
        outlived.ok_or(LoginError::Full(full))
    }

    /// What memory says while the directory is out of reach.
    fn outlive(&self, question: &Question) -> Option<Authenticated> {
        let memory = &self.memory;
        let entry = &question.remembered.as_ref()?.entry;
        let now = memory.started.elapsed();
        let outage = entry.during_outage(&memory.policy, now, &question.digest);
        matches!(outage, Outage::Use(_))
            .then(|| self.authenticated(question, Told::of(entry), Source::StaleMemory))
    }

    fn authenticated(&self, question: &Question, told: Told, source: Source) -> Authenticated {
        Authenticated {
            principal: told.principal,
            source,
            asked_at: self.memory.started + told.asked_at,
            password: Some((question.password.clone(), question.digest)),
        }
    }

    /// Forgets what is remembered of a login, so that the directory is asked.
    pub(crate) fn forget(&self, login: &str) {
        self.memory.accepted.remove(login);
    }

    /// Forgets what is remembered of a person, under every spelling of the login name.
    pub(crate) fn forget_person(&self, entry: &EntryId) {
        self.memory.forget_proven(entry);
        let of_others = |it: &Remembered| it.entry.principal().id != *entry;
        self.memory.accepted.retain(|_, it| of_others(it));
    }

    /// Forgets what is remembered of a person, unless it is just what the directory says now.
    pub(crate) fn forget_unless(&self, principal: &Principal) {
        let agrees = |it: &Remembered| {
            it.entry.principal().id != principal.id || **it.entry.principal() == *principal
        };
        self.memory.accepted.retain(|_, it| agrees(it));
    }

    /// Whether a person is remembered.
    pub(crate) fn remembers(&self, entry: &EntryId) -> bool {
        let mut remembered = self.memory.accepted.iter();
        remembered.any(|(_, it)| it.entry.principal().id == *entry) || self.memory.has_proven(entry)
    }

    /// Everybody who is remembered, each at most once for each spelling.
    pub(crate) fn people(&self) -> Vec<Arc<Principal>> {
        let people = self.memory.accepted.iter();
        let people = people.map(|(_, it)| it.entry.principal().clone());
        people.chain(self.memory.who_proved()).collect()
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

    async fn told(
        &self,
        directories: &Arc<Directories>,
        question: &Question,
    ) -> Result<Told, LoginError> {
        let (login, password) = (question.login.clone(), question.password.clone());
        let digest = question.digest;
        let flight = (login.text().to_owned(), digest);
        let (memory, permits) = (self.memory.clone(), self.permits.clone());
        let (wrong, client) = (self.wrong.clone(), question.client);
        let turn = self.turns.of(&login.person_key());
        let (directories, breaker) = (directories.clone(), self.breaker.clone());
        self.calls.fetch_add(1, Ordering::Relaxed);
        let call = || async move {
            // Who found nothing in memory may come here only after the call that filled it ended.
            if let Some(entry) = memory.fresh(login.text(), &digest) {
                return Ok(Told::of(&entry));
            }
            if memory.has_refused(&digest) {
                return Err(Failure::RefusedBefore);
            }
            let is_known = memory.knows(&login, &digest);
            let _turn = match is_known {
                true => None,
                false => Some(in_turn(&turn).await?),
            };
            // A storm of logins must not become a storm of binds: whoever would wait long is
            // told at once that there are too many.
            let waited = timeout(DIRECTORY_QUEUE_WAIT, permits.acquire()).await;
            let Ok(Ok(_permit)) = waited else {
                return Err(Failure::Busy);
            };
            let asked_at = memory.started.elapsed();
            let tried = match is_known {
                true => None,
                // Whoever guesses must not lock the account in the directory.
                false => match wrong.take(login.person_key(), client) {
                    Some(tried) => Some(tried),
                    None => return Err(Failure::TriedTooOften),
                },
            };
            match directories.authenticate(&login, &password, &breaker).await {
                Ok(verified) => {
                    tried.iter().for_each(|it| wrong.was_right(it));
                    let principal = Arc::new(verified.into_principal());
                    let told = Told {
                        principal,
                        asked_at,
                    };
                    memory.accept(&login, &password, digest, &told);
                    Ok(told)
                }
                Err(error) => {
                    tried.iter().for_each(|it| wrong.was_refused(it, &error));
                    memory.refuse(&login, &password, digest, &error, asked_at);
                    Err(Failure::Directory(Arc::new(error)))
                }
            }
        };
        match self.flights.run(flight, call).await {
            Ok(answer) => answer.map_err(LoginError::from),
            Err(_) => Err(LoginError::Internal),
        }
    }
}

/// Waits for those who try another password for the same person.
async fn in_turn(turn: &Mutex<()>) -> Result<MutexGuard<'_, ()>, Failure> {
    let waited = timeout(PERSON_QUEUE_WAIT, turn.lock()).await;
    waited.map_err(|_| Failure::Busy)
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Directory(error) => Self::Directory(error),
            Failure::RefusedBefore => Self::Denied(Denied::PasswordRefusedBefore),
            Failure::TriedTooOften => Self::Denied(Denied::PasswordTriedTooOften),
            Failure::Busy => Self::Full(Full::DirectoryCalls),
        }
    }
}
