//! What is remembered of the directory's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postern_core::cache::{Decision, DigestKey, Entry, Negative, PasswordDigest, Policy, Refusal};
use postern_core::login_name::LoginName;
use postern_core::principal::{EntryId, Principal};
use postern_core::secret::Secret;
use quick_cache::sync::Cache;

use super::Told;
use crate::config::Config;
use crate::directory::DirectoryError;
use crate::limits::REFUSED_PASSWORDS_MAX;
use crate::random;

/// What is remembered. Each map is consistent by itself; an answer is entered into one after the
/// other.
pub(super) struct Memory {
    pub(super) policy: Policy,
    pub(super) key: DigestKey,
    pub(super) started: Instant,
    pub(super) accepted: Cache<String, Remembered>,
    refused: Cache<PasswordDigest, Negative>,
    /// What the local file said of accounts that proved themselves, and since when.
    proven: Cache<EntryId, Told>,
}

/// An entry, and the digest of its password for the person instead of for the login: by it a new
/// password is told from another spelling of the login name.
#[derive(Clone)]
pub(super) struct Remembered {
    pub(super) entry: Arc<Entry>,
    person: PasswordDigest,
    /// All spellings of a login name that may be the same person have the same one.
    person_key: String,
}

impl Memory {
    /// Remembers nothing yet.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            policy: config.cache.policy.clone(),
            key: DigestKey::new(random::bytes()),
            started: Instant::now(),
            accepted: Cache::new(config.cache.entries_max),
            refused: Cache::new(REFUSED_PASSWORDS_MAX),
            proven: Cache::new(config.cache.entries_max),
        }
    }

    /// Whether this is the remembered password, which may be due for another look.
    pub(super) fn knows(&self, login: &LoginName, digest: &PasswordDigest) -> bool {
        let remembered = self.accepted.get(login.text());
        let now = self.started.elapsed();
        let decision = remembered.map(|it| it.entry.decide(&self.policy, now, digest));
        matches!(decision, Some(Decision::Fresh(_) | Decision::Recheck))
    }

    /// Whether the directory refused this very password a moment ago.
    pub(super) fn has_refused(&self, digest: &PasswordDigest) -> bool {
        let negative = self.refused.get(digest);
        negative.is_some_and(|it| it.holds(&self.policy, self.started.elapsed()).is_some())
    }

    /// What is remembered of this very password, if nobody needs to be asked about it.
    pub(super) fn fresh(&self, login: &str, digest: &PasswordDigest) -> Option<Arc<Entry>> {
        let entry = self.accepted.get(login)?.entry;
        self.is_fresh(&entry, digest).then_some(entry)
    }

    pub(super) fn is_fresh(&self, entry: &Entry, digest: &PasswordDigest) -> bool {
        let decision = entry.decide(&self.policy, self.started.elapsed(), digest);
        matches!(decision, Decision::Fresh(_))
    }

    /// What the file says of an account that has just proved itself, since when it says so: a
    /// login that finds nothing new rests on the answer of one before, so that a role that was
    /// made to match since then is known to.
    pub(super) fn proven(&self, principal: Principal, asked_at: Duration) -> Told {
        if let Some(told) = self.proven.get(&principal.id) {
            let age = asked_at.saturating_sub(told.asked_at);
            if *told.principal == principal && age < self.policy.recheck {
                return told;
            }
        }
        let told = Told {
            principal: Arc::new(principal),
            asked_at,
        };
        self.proven.insert(told.principal.id.clone(), told.clone());
        told
    }

    /// Whether it is remembered of an account since when the file says what it says.
    pub(super) fn has_proven(&self, entry: &EntryId) -> bool {
        self.proven.get(entry).is_some()
    }

    /// The accounts of which that is remembered.
    pub(super) fn who_proved(&self) -> impl Iterator<Item = Arc<Principal>> {
        self.proven.iter().map(|(_, told)| told.principal)
    }

    /// Forgets since when the file says what it says of an account.
    pub(super) fn forget_proven(&self, entry: &EntryId) {
        self.proven.remove(entry);
    }

    /// The directory accepted the password.
    ///
    /// The newest answer about a person ends every older one that says something else, under all
    /// spellings of the login name: another password, or other groups. An answer to an older
    /// question is not kept beside a newer one: a directory may take an old password for a while.
    pub(super) fn accept(
        &self,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
        digest: PasswordDigest,
        told: &Told,
    ) {
        let (principal, asked_at) = (&told.principal, told.asked_at);
        let person = self.key.digest(principal.id.as_str(), password.expose());
        let outdated = AtomicBool::new(false);
        self.accepted.retain(|_, it| {
            if it.entry.principal().id != principal.id {
                return true;
            }
            let agrees = it.person == person && it.entry.principal() == principal;
            let newer = it.entry.bound_at() > asked_at;
            if newer && !agrees {
                outdated.store(true, Ordering::Relaxed);
            }
            agrees || newer
        });
        if outdated.into_inner() {
            return;
        }
        self.refused.remove(&digest);
        let entry = Arc::new(Entry::new(digest, principal.clone(), asked_at));
        let known = self.accepted.get(login.text());
        if known.is_none_or(|it| entry.supersedes(&it.entry)) {
            let remembered = Remembered {
                entry,
                person,
                person_key: login.person_key(),
            };
            self.accepted.insert(login.text().to_owned(), remembered);
        }
    }

    /// The directory did not accept the password. What it said ends what is remembered of the
    /// person under every spelling: all of it when the account is refused, and otherwise only
    /// what rests on this very password.
    pub(super) fn refuse(
        &self,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
        digest: PasswordDigest,
        error: &DirectoryError,
        asked_at: Duration,
    ) {
        let Some(refusal) = refusal_of(error) else {
            return;
        };
        let person_key = login.person_key();
        self.accepted.retain(|_, it| {
            if it.person_key != person_key {
                return true;
            }
            let person = self
                .key
                .digest(it.entry.principal().id.as_str(), password.expose());
            // To the entry it is the same password if it is the same person's.
            let as_asked = if it.person == person {
                it.entry.digest()
            } else {
                &digest
            };
            it.entry.survives(refusal, as_asked, asked_at)
        });
        self.refused
            .insert(digest, Negative::new(refusal, asked_at));
    }
}

/// What the directory said about the person; none when it said nothing.
fn refusal_of(error: &DirectoryError) -> Option<Refusal> {
    match error {
        DirectoryError::WrongPassword => Some(Refusal::WrongPassword),
        DirectoryError::UnknownLogin
        | DirectoryError::EntryGone { .. }
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
        | DirectoryError::Attribute(_)
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
    use postern_core::principal::Group;

    fn memory() -> Memory {
        Memory {
            policy: Policy::default(),
            key: DigestKey::new([7; 32]),
            started: Instant::now(),
            accepted: Cache::new(8),
            refused: Cache::new(8),
            proven: Cache::new(8),
        }
    }

    fn name(text: &str) -> LoginName {
        #[expect(clippy::unwrap_used, reason = "a literal that is a login name")]
        LoginName::parse(text, &["corp.example".to_owned()]).unwrap()
    }

    fn secret(password: &str) -> Secret<Vec<u8>> {
        Secret::new(password.as_bytes().to_vec())
    }

    /// The directory accepts alice, who is in these groups, under a spelling.
    fn accept(memory: &Memory, login: &str, password: &str, groups: &[&str], asked_s: u64) {
        let groups = groups.iter().map(|group| Group {
            name: (*group).to_owned(),
            dn: format!("CN={group}"),
            path: Vec::new(),
            direct: true,
        });
        let principal = Arc::new(Principal {
            id: EntryId::new("guid:1"),
            dn: "CN=alice".to_owned(),
            name: "alice".to_owned(),
            groups: groups.collect(),
            version: None,
        });
        let digest = memory.key.digest(login, password.as_bytes());
        let told = Told {
            principal,
            asked_at: Duration::from_secs(asked_s),
        };
        memory.accept(&name(login), &secret(password), digest, &told);
    }

    fn refuse(memory: &Memory, login: &str, password: &str, error: &DirectoryError, asked_s: u64) {
        let digest = memory.key.digest(login, password.as_bytes());
        let asked_at = Duration::from_secs(asked_s);
        memory.refuse(&name(login), &secret(password), digest, error, asked_at);
    }

    fn is_fresh(memory: &Memory, login: &str, password: &str) -> bool {
        let digest = memory.key.digest(login, password.as_bytes());
        memory.fresh(login, &digest).is_some()
    }

    #[test]
    fn a_late_answer_about_an_old_password_does_not_end_the_new_one() {
        let memory = memory();
        accept(&memory, "alice", "old", &[], 1);
        accept(&memory, "ALICE", "new", &[], 3);
        assert!(is_fresh(&memory, "ALICE", "new") && !is_fresh(&memory, "alice", "old"));
        accept(&memory, "ALICE", "old", &[], 2);
        assert!(is_fresh(&memory, "ALICE", "new") && !is_fresh(&memory, "ALICE", "old"));
        accept(&memory, "alice@corp.example", "old", &[], 2);
        assert!(!is_fresh(&memory, "alice@corp.example", "old"));
    }

    #[test]
    fn groups_that_are_gone_under_one_spelling_are_gone_under_all() {
        let memory = memory();
        accept(&memory, "alice", "right", &["hr"], 1);
        accept(&memory, "alice@corp.example", "right", &["hr"], 2);
        assert!(is_fresh(&memory, "alice", "right"), "the answers agree");
        accept(&memory, "ALICE", "right", &[], 3);
        assert!(is_fresh(&memory, "ALICE", "right"));
        assert!(!is_fresh(&memory, "alice", "right"));
        assert!(!is_fresh(&memory, "alice@corp.example", "right"));
    }

    #[test]
    fn a_refusal_under_one_spelling_counts_for_all() {
        let memory = memory();
        let remember = |asked_s| {
            accept(&memory, "alice", "right", &[], asked_s);
            accept(&memory, "ALICE", "right", &[], asked_s);
        };
        remember(1);
        refuse(&memory, "ALICE", "guess", &DirectoryError::WrongPassword, 2);
        assert!(is_fresh(&memory, "alice", "right") && is_fresh(&memory, "ALICE", "right"));
        refuse(&memory, "ALICE", "right", &DirectoryError::WrongPassword, 2);
        assert!(!is_fresh(&memory, "alice", "right") && !is_fresh(&memory, "ALICE", "right"));
        remember(3);
        refuse(&memory, "ALICE", "guess", &DirectoryError::UnknownLogin, 4);
        assert!(!is_fresh(&memory, "alice", "right") && !is_fresh(&memory, "ALICE", "right"));
    }
}
