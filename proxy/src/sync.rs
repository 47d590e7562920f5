//! Making the role in the database match what the directory says, when it does not already.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use postern_core::cache::PasswordDigest;
use postern_core::credential::{self, ClusterKey};
use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use postern_core::scram::{Keys, Verifier};
use postern_core::secret::Secret;
use quick_cache::sync::Cache;

use crate::authorize::Authorized;
use crate::config::{CredentialMode, MissingGroup};
use crate::error::LoginError;
use crate::limits::{ANSWER_IS_CURRENT, SYNCED_ROLES_MAX};
use crate::role_store::{
    Action, Applied, Deprovision, Deprovisioned, MembershipChange, MembershipWish, RoleStore,
    RoleStoreError, Step, Wish,
};
use crate::session::SessionId;
use crate::single_flight::SingleFlight;
use crate::turns::Turns;

/// Evidence that the role store has what the directory says, and the means to log in as the role.
#[must_use = "a backend may be logged in to only with this evidence"]
pub(crate) struct Synced {
    authorized: Authorized,
    credential: Arc<RoleCredential>,
    /// What this login changed; empty when nothing was to be done, or another login did it.
    changes: Vec<String>,
    from_memory: bool,
}

impl Synced {
    /// What the role may do.
    pub(crate) fn authorized(&self) -> &Authorized {
        &self.authorized
    }

    /// How to log in as the role.
    pub(crate) fn credential(&self) -> &RoleCredential {
        &self.credential
    }

    /// What the role store changed for this login, one step a text.
    pub(crate) fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Whether this login took a membership away.
    pub(crate) fn has_revoked(&self) -> bool {
        let revoke = Action::Revoke.as_str();
        self.changes.iter().any(|step| step.starts_with(revoke))
    }

    /// True when the role store was not asked for this login.
    pub(crate) fn is_from_memory(&self) -> bool {
        self.from_memory
    }

    /// Takes the authorization back, for a sync that has to be forced.
    pub(crate) fn into_authorized(self) -> Authorized {
        self.authorized
    }
}

/// The means to log in to a backend as a role: a verifier for the role store, and the keys of the
/// exchange, so that a later login runs no PBKDF2.
pub(crate) struct RoleCredential {
    /// What PostgreSQL stores.
    pub(crate) verifier: Verifier,
    /// What the exchange needs, for the salt and the iterations of `verifier`.
    pub(crate) keys: Keys,
}

/// Brings roles up to date, and remembers which are.
pub(crate) struct Synchronizer {
    cluster_key: ClusterKey,
    mode: CredentialMode,
    epoch: u32,
    missing: MissingGroup,
    memory: Arc<Cache<RoleName, Arc<Memory>>>,
    flights: SingleFlight<Flight, Result<Landed, Arc<RoleStoreError>>>,
    /// Calls for one role go one after the other, so that the last one is known.
    turns: Turns<RoleName>,
    calls: AtomicU64,
}

/// What the role store was last made to match.
struct Memory {
    entry: EntryId,
    groups: Vec<RoleName>,
    replication: bool,
    /// In mirror mode the verifier belongs to one password; in derived mode to every one.
    password: Option<PasswordDigest>,
    credential: Arc<RoleCredential>,
    /// When the directory was asked whose answer this is.
    asked_at: Instant,
    at: Instant,
}

/// Two calls that would do the same are one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Flight {
    role: RoleName,
    entry: EntryId,
    groups: Vec<RoleName>,
    replication: bool,
    password: Option<PasswordDigest>,
    asked_at: Instant,
    force: bool,
}

/// What one call did, for all who waited for it; the first of them has it on record.
struct Outcome {
    credential: Arc<RoleCredential>,
    applied: Applied,
    taken: AtomicBool,
}

impl Outcome {
    fn take_changes(&self) -> Vec<String> {
        match self.taken.swap(true, Ordering::Relaxed) {
            true => Vec::new(),
            false => self.applied.steps().iter().map(Step::describe).collect(),
        }
    }
}

/// What a call under way comes to.
#[derive(Clone)]
enum Landed {
    /// Another call had done it just before this one began.
    Held(Arc<RoleCredential>),
    Done(Arc<Outcome>),
}

impl Synchronizer {
    /// Remembers nothing yet.
    pub(crate) fn new(cluster_key: ClusterKey, config: &crate::config::Config) -> Self {
        Self {
            cluster_key,
            mode: config.credential.mode,
            epoch: config.credential.epoch,
            missing: config.groups.missing,
            memory: Arc::new(Cache::new(SYNCED_ROLES_MAX)),
            flights: SingleFlight::new(),
            turns: Turns::new(),
            calls: AtomicU64::new(0),
        }
    }

    /// Goes on counting the calls of the role store where an earlier one ends.
    pub(crate) fn counting_on(self, earlier: &Self) -> Self {
        self.calls.store(earlier.calls(), Ordering::Relaxed);
        self
    }

    /// Goes on without the role store when the role is known to match, and gives the
    /// authorization back when it is not.
    pub(crate) fn recall(&self, authorized: Authorized) -> Result<Synced, Box<Authorized>> {
        match self.held(&self.flight(&authorized, false)) {
            None => Err(Box::new(authorized)),
            Some(credential) => Ok(Synced {
                authorized,
                credential,
                changes: Vec::new(),
                from_memory: true,
            }),
        }
    }

    /// Makes the role match. `force` has the role store set the role's secret anew.
    ///
    /// # Errors
    ///
    /// The role store refused or could not be reached.
    pub(crate) async fn sync(
        &self,
        store: &Arc<RoleStore>,
        authorized: Authorized,
        session: SessionId,
        force: bool,
    ) -> Result<Synced, LoginError> {
        let flight = self.flight(&authorized, force);
        let call = || self.call(store, &flight, &authorized, session);
        let landed = self.flights.run(flight.clone(), call).await;
        let landed = landed
            .map_err(|_| LoginError::Internal)?
            .map_err(LoginError::RoleStore)?;
        let (credential, changes) = match landed {
            Landed::Held(credential) => (credential, Vec::new()),
            Landed::Done(outcome) => (outcome.credential.clone(), outcome.take_changes()),
        };
        Ok(Synced {
            authorized,
            credential,
            changes,
            from_memory: false,
        })
    }

    /// True when the role store may be asked on the strength of this authorization: the directory
    /// has just spoken, or a call that rests on the same answer of it is under way.
    pub(crate) fn may_sync(&self, authorized: &Authorized) -> bool {
        let authenticated = authorized.authenticated();
        !authenticated.is_from_memory()
            || authenticated.asked_at().elapsed() < ANSWER_IS_CURRENT
            || self.flights.is_under_way(&self.flight(authorized, false))
    }

    fn flight(&self, authorized: &Authorized, force: bool) -> Flight {
        let roles = authorized.grants().roles.iter();
        Flight {
            role: authorized.role().clone(),
            entry: authorized.authenticated().principal().id.clone(),
            groups: roles.map(|grant| grant.role.clone()).collect(),
            replication: authorized.grants().may_replicate,
            password: self.password_of(authorized),
            asked_at: authorized.authenticated().asked_at(),
            force,
        }
    }

    /// The credential of a role that is known to match: it was made to after the question to the
    /// directory that this login rests on. What came before may be undone by another proxy since.
    fn held(&self, flight: &Flight) -> Option<Arc<RoleCredential>> {
        let memory = self.memory.get(&flight.role)?;
        let holds = !flight.force
            && memory.groups == flight.groups
            && memory.replication == flight.replication
            && memory.entry == flight.entry
            && memory.password == flight.password
            && memory.at >= flight.asked_at;
        holds.then(|| memory.credential.clone())
    }

    /// One call of the role store, which remembers what it did before its answer is given out.
    ///
    /// The memory is asked once more: a login that found nothing there may come here only after
    /// the call that filled it has ended.
    fn call(
        &self,
        store: &Arc<RoleStore>,
        flight: &Flight,
        authorized: &Authorized,
        session: SessionId,
    ) -> impl Future<Output = Result<Landed, Arc<RoleStoreError>>> + use<> {
        let asked = self.held(flight).map_or_else(
            || {
                self.calls.fetch_add(1, Ordering::Relaxed);
                let remembered = self.memory.get(&flight.role);
                let remembered = remembered.filter(|memory| memory.password == flight.password);
                let credential = match remembered {
                    Some(memory) => memory.credential.clone(),
                    None => Arc::new(self.credential(authorized)),
                };
                Ok((
                    self.wish(authorized, flight, &credential, session),
                    credential,
                ))
            },
            Err,
        );
        let (store, memory, flight) = (store.clone(), self.memory.clone(), flight.clone());
        let turn = self.turns.of(&flight.role);
        async move {
            let (mut wish, credential) = match asked {
                Ok(asked) => asked,
                Err(credential) => return Ok(Landed::Held(credential)),
            };
            let _turn = turn.lock().await;
            let mut flight = flight;
            // Of two answers of the directory the newer counts, whichever comes here first.
            let newer = memory
                .get(&flight.role)
                .filter(|it| it.entry == flight.entry && it.asked_at > flight.asked_at);
            if let Some(newer) = newer {
                if newer.password == flight.password && !flight.force {
                    return Ok(Landed::Held(newer.credential.clone()));
                }
                wish.groups.clone_from(&newer.groups);
                wish.replication = newer.replication;
                flight.replication = newer.replication;
                flight.groups.clone_from(&newer.groups);
                flight.asked_at = newer.asked_at;
            }
            let started = Instant::now();
            let applied = store.apply(&wish).await.map_err(Arc::new)?;
            let remembered = Memory {
                entry: flight.entry,
                groups: flight.groups,
                replication: flight.replication,
                password: flight.password,
                credential: credential.clone(),
                asked_at: flight.asked_at,
                at: started,
            };
            memory.insert(flight.role, Arc::new(remembered));
            Ok(Landed::Done(Arc::new(Outcome {
                credential,
                applied,
                taken: AtomicBool::new(false),
            })))
        }
    }

    /// Takes everything away from the role of a directory entry, if it has one; `session` and
    /// `why` are for the change log.
    ///
    /// # Errors
    ///
    /// The role store could not be reached, or could not do it.
    pub(crate) async fn deprovision(
        &self,
        store: &RoleStore,
        entry: &EntryId,
        what: Deprovision,
        (session, why): (&str, &str),
    ) -> Result<Deprovisioned, RoleStoreError> {
        self.forget(entry);
        store.deprovision(entry, what, session, why).await
    }

    /// Makes the memberships of a role match what the directory says between two logins.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) async fn change_memberships(
        &self,
        store: &RoleStore,
        wish: &MembershipWish<'_>,
    ) -> Result<MembershipChange, RoleStoreError> {
        let change = store.change_memberships(wish).await?;
        if change.has_changed() {
            self.forget(wish.entry);
        }
        Ok(change)
    }

    fn forget(&self, entry: &EntryId) {
        self.memory.retain(|_, memory| memory.entry != *entry);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what was done on a server that is lost: the one that takes its place may have missed
    /// it.
    pub(crate) fn forget_all(&self) {
        self.memory.clear();
    }

    /// How many times the role store was asked.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The role's secret itself, for servers that ask for it by md5 or in clear text.
    pub(crate) fn secret(&self, authorized: &Authorized) -> Secret<Vec<u8>> {
        let shown = match self.mode {
            CredentialMode::Mirror => authorized.authenticated().password().cloned(),
            CredentialMode::Derived => None,
        };
        match shown {
            Some(password) => password,
            None => {
                let secret = self
                    .cluster_key
                    .role_secret(authorized.role().as_str(), self.epoch);
                Secret::new(secret.expose().as_bytes().to_vec())
            }
        }
    }

    /// What the role store would be asked for, for `explain-login`, which has no password.
    pub(crate) fn derived_verifier(&self, role: &RoleName) -> Verifier {
        let secret = self.cluster_key.role_secret(role.as_str(), self.epoch);
        let salt = self.cluster_key.salt(role.as_str(), self.epoch);
        let iterations = credential::SCRAM_ITERATIONS;
        Verifier::from_password(secret.expose().as_bytes(), &salt, iterations)
    }

    fn wish(
        &self,
        authorized: &Authorized,
        flight: &Flight,
        credential: &RoleCredential,
        session: SessionId,
    ) -> Wish {
        let principal = authorized.authenticated().principal();
        Wish {
            session: session.to_string(),
            role: authorized.role().clone(),
            directory_id: principal.id.clone(),
            login: principal.name.clone(),
            dn: principal.dn.clone(),
            groups: flight.groups.clone(),
            replication: flight.replication,
            verifier: credential.verifier.clone(),
            missing: self.missing,
            force_secret: flight.force,
        }
    }

    /// The only place that runs PBKDF2.
    fn credential(&self, authorized: &Authorized) -> RoleCredential {
        let secret = self.secret(authorized);
        let salt = self
            .cluster_key
            .salt(authorized.role().as_str(), self.epoch);
        let iterations = credential::SCRAM_ITERATIONS;
        let keys = Keys::derive(secret.expose(), &salt, iterations);
        RoleCredential {
            verifier: Verifier::from_keys(&keys, &salt, iterations),
            keys,
        }
    }

    fn password_of(&self, authorized: &Authorized) -> Option<PasswordDigest> {
        match self.mode {
            CredentialMode::Derived => None,
            CredentialMode::Mirror => authorized.authenticated().digest().copied(),
        }
    }
}
