//! What all logins share, and what those of one login thread share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postern_core::audit::{Record, RefusedReason};
use postern_core::scram::Decoys;
use postern_ring::RingHandle;
use tokio::sync::{Semaphore, watch};

use crate::admin::Console;
use crate::arrivals::Arrivals;
use crate::audit::{AuditError, AuditLog};
use crate::authenticate::Authenticator;
use crate::backend::Target;
use crate::cluster::Peers;
use crate::config::Config;
use crate::directory::Directories;
use crate::door::Door;
use crate::durations::Durations;
use crate::error::LoginError;
use crate::health::Health;
use crate::limits::{
    AUDIT_WAIT, CANCELS_MAX, CANCELS_WITHOUT_PLACE_MAX, CANCELS_WITHOUT_PLACE_PER_ADDRESS_MAX,
    CONNECTIONS_PER_LOGIN_MAX, ENDED_CANCELS_MAX, SERVICE_EXCHANGES_MAX, TURNED_AWAY_MAX,
};
use crate::logging::Levels;
use crate::phases::PhaseDurations;
use crate::rates::Rates;
use crate::revocation::Orders;
use crate::role_store::RoleStore;
use crate::session::{SessionId, Sessions};
use crate::sizes::SessionSizes;
use crate::sync::Synchronizer;
use crate::tls::ServerIdentity;
use crate::upkeep::{ProcessBefore, UpkeepOrders};

/// What all login threads share under one configuration.
///
/// A reload makes another one, which takes over what outlives a configuration; so all of it that
/// changes is shared.
#[derive(Clone)]
pub(crate) struct Gate {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// What clients see by TLS; `None` when the listener has no certificate.
    pub(crate) identity: Option<Arc<ServerIdentity>>,
    /// What names are challenged with that the local file does not have.
    pub(crate) decoys: Arc<Decoys>,
    /// Passwords and groups, from memory or from the directory.
    pub(crate) authenticator: Arc<Authenticator>,
    /// Roles and memberships.
    pub(crate) synchronizer: Arc<Synchronizer>,
    /// The backends, in the order of the configuration.
    pub(crate) targets: Vec<Arc<Target>>,
    /// The audit file.
    pub(crate) audit: Arc<AuditLog>,
    /// The live sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// The splice workers.
    pub(crate) ring: RingHandle,
    /// How many things may be under way at once.
    pub(crate) permits: Arc<Permits>,
    /// The other proxies before the same databases.
    pub(crate) peers: Option<Arc<Peers>>,
    /// Connections that have not reached the splice, by address.
    pub(crate) arrivals: Arc<Arrivals>,
    /// When it was assembled.
    pub(crate) started: Instant,
    /// Whether new logins go on.
    pub(crate) door: Arc<Door>,
    /// How fast logins come from one address.
    pub(crate) rates: Arc<Rates>,
    /// The admin console, if there is one.
    pub(crate) console: Option<Arc<Console>>,
    /// Set once, when the process is told to stop.
    pub(crate) stopping: watch::Sender<bool>,
    /// Set once, when another process accepts the connections.
    pub(crate) handed_over: watch::Sender<bool>,
    /// Whether what this configuration says of roles is made true in the role store: not while
    /// another process accepts that may have other rules.
    pub(crate) has_say: Arc<AtomicBool>,
    /// Which configuration this is, counted from the start, and which is the newest.
    pub(crate) generation: u64,
    /// See `generation`.
    pub(crate) newest: Arc<AtomicU64>,
    /// What has happened since the start.
    pub(crate) counts: Arc<Counts>,
    /// Whether it and what it rests on are well.
    pub(crate) health: Arc<Health>,
    /// The way to the watch over everybody's access.
    pub(crate) orders: Arc<Orders>,
    /// The process that this one has taken over from, if it has.
    pub(crate) before: Arc<OnceLock<ProcessBefore>>,
    /// The way to reloads and upgrades.
    pub(crate) upkeep: UpkeepOrders,
    /// What the log has, by target.
    pub(crate) levels: Arc<Levels>,
    /// How long the phases of logins took.
    pub(crate) phases: Arc<PhaseDurations>,
    /// How long it took until lost access had gone.
    pub(crate) lag: Arc<Durations>,
    /// How many bytes sessions had.
    pub(crate) session_sizes: Arc<SessionSizes>,
    /// How long logins took that memory answered.
    pub(crate) warm_logins: Arc<Durations>,
    /// How long the others took.
    pub(crate) cold_logins: Arc<Durations>,
}

/// How many things may be under way at once.
pub(crate) struct Permits {
    /// Connections that have not reached the splice.
    pub(crate) connections: Arc<Semaphore>,
    /// Logins between the password request and the splice.
    pub(crate) logins: Arc<Semaphore>,
    /// Those of them that memory cannot answer.
    pub(crate) cold_logins: Arc<Semaphore>,
    /// Connections over the limit that are being told so.
    pub(crate) turned_away: Arc<Semaphore>,
    /// Cancel requests.
    pub(crate) cancels: Arc<Semaphore>,
    /// Connections over the limit that may turn out to be cancel requests.
    pub(crate) cancels_without_place: Arc<Semaphore>,
    /// The same by address.
    pub(crate) cancels_by_address: Arc<Arrivals>,
    /// Cancel requests for sessions that Postern ends.
    pub(crate) ended_cancels: Arc<Semaphore>,
    /// Exchanges of service accounts.
    pub(crate) service_exchanges: Arc<Semaphore>,
    /// With fewer free places for connections there is a crowd.
    connections_uncrowded: usize,
    logins_max: usize,
    cold_logins_max: usize,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections accepted.
    pub(crate) connections: AtomicU64,
    /// Sessions opened.
    pub(crate) opened: AtomicU64,
    /// Logins refused.
    pub(crate) refused: Refusals,
    audit_failed: AtomicBool,
}

/// Refused logins, counted by reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<&'static str, u64>>);

impl Refusals {
    /// One more.
    pub(crate) fn count(&self, reason: RefusedReason) {
        *self.counts().entry(reason.label()).or_default() += 1;
    }

    /// Of all reasons together.
    pub(crate) fn total(&self) -> u64 {
        self.counts().values().sum()
    }

    /// Reasons and how often each was given; those that never were are left out.
    pub(crate) fn by_reason(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts();
        counts
            .iter()
            .map(|(reason, count)| (*reason, *count))
            .collect()
    }

    /// It is consistent between two statements, so a panic elsewhere does not spoil it.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the logins of one thread share under one configuration.
pub(crate) struct Plane {
    /// What all threads share.
    pub(crate) gate: Arc<Gate>,
    /// This thread's connections to the directory.
    pub(crate) directories: Arc<Directories>,
    /// This thread's connections to the role store.
    pub(crate) role_store: Arc<RoleStore>,
}

/// The newest plane of one thread. A login takes it once, at its beginning, so that it sees one
/// configuration to its end; what runs for as long as the process takes it anew each time.
pub(crate) struct CurrentPlane(ArcSwap<Plane>);

impl CurrentPlane {
    /// The first one.
    pub(crate) fn new(plane: Plane) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(plane)))
    }

    /// The newest one.
    pub(crate) fn get(&self) -> Arc<Plane> {
        self.0.load_full()
    }

    /// Puts another one in its place, for the logins to come.
    pub(crate) fn replace(&self, plane: Arc<Plane>) {
        self.0.store(plane);
    }

    /// Its gate.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        self.0.load().gate.clone()
    }
}

impl Permits {
    /// The limits of a configuration.
    pub(crate) fn new(logins_max: usize, cold_logins_max: usize) -> Self {
        let connections_max = logins_max.saturating_mul(CONNECTIONS_PER_LOGIN_MAX);
        let connections_max = connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            connections_uncrowded: connections_max.saturating_sub(cold_logins_max),
            connections: Arc::new(Semaphore::new(connections_max)),
            logins: Arc::new(Semaphore::new(logins_max)),
            logins_max,
            cold_logins_max,
            cold_logins: Arc::new(Semaphore::new(cold_logins_max)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            cancels: Arc::new(Semaphore::new(CANCELS_MAX)),
            cancels_without_place: Arc::new(Semaphore::new(CANCELS_WITHOUT_PLACE_MAX)),
            cancels_by_address: Arrivals::new(CANCELS_WITHOUT_PLACE_PER_ADDRESS_MAX),
            ended_cancels: Arc::new(Semaphore::new(ENDED_CANCELS_MAX)),
            service_exchanges: Arc::new(Semaphore::new(SERVICE_EXCHANGES_MAX)),
        }
    }

    /// The limits of another configuration: what has the same limit under both goes on being
    /// counted. Of what has another one, those that are under way are not among the new count.
    pub(crate) fn renewed(&self, logins_max: usize, cold_logins_max: usize) -> Self {
        let mut next = Self {
            turned_away: self.turned_away.clone(),
            cancels: self.cancels.clone(),
            cancels_without_place: self.cancels_without_place.clone(),
            cancels_by_address: self.cancels_by_address.clone(),
            ended_cancels: self.ended_cancels.clone(),
            service_exchanges: self.service_exchanges.clone(),
            ..Self::new(logins_max, cold_logins_max)
        };
        if logins_max == self.logins_max {
            next.connections = self.connections.clone();
            next.logins = self.logins.clone();
        }
        if cold_logins_max == self.cold_logins_max {
            next.cold_logins = self.cold_logins.clone();
        }
        next
    }

    /// Whether a login is asking the directory or the role store.
    pub(crate) fn has_cold_logins(&self) -> bool {
        self.cold_logins.available_permits() < self.cold_logins_max
    }

    /// Whether more connections are on their way than may ask the directory or the role store.
    pub(crate) fn is_crowded(&self) -> bool {
        self.connections.available_permits() < self.connections_uncrowded
    }
}

impl Gate {
    /// Whether a reload has put another one in its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.newest.load(Ordering::Acquire) != self.generation
    }

    /// What clients can bind their login to by TLS (RFC 5929, tls-server-end-point), where the
    /// certificate has such a hash.
    pub(crate) fn end_point(&self) -> Option<&[u8]> {
        self.identity.as_ref()?.end_point.as_deref()
    }

    /// Whether another process accepts the connections, so that this one is about its own sessions.
    pub(crate) fn has_handed_over(&self) -> bool {
        *self.handed_over.borrow()
    }

    /// The backend that serves a database: the one that names it, else the one that names none.
    pub(crate) fn target_of(&self, database: &str) -> Option<&Arc<Target>> {
        let names =
            |target: &&Arc<Target>| target.config.databases.iter().any(|name| name == database);
        let serves_all = |target: &&Arc<Target>| target.config.databases.is_empty();
        self.targets
            .iter()
            .find(names)
            .or_else(|| self.targets.iter().find(serves_all))
    }

    /// Writes an audit record. What is not on record does not happen: the caller goes on only
    /// when this returns.
    ///
    /// A record that is not acknowledged in time may be written nonetheless, once the disk answers
    /// again: the file then has an attempt too many, and never one too few.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or not within [`AUDIT_WAIT`]. The log says so when it begins;
    /// each refusal says it again.
    pub(crate) async fn record(&self, id: SessionId, record: &Record) -> Result<(), LoginError> {
        self.record_for(&id.to_string(), record).await
    }

    /// As [`Gate::record`], for a session's text or that of the process.
    ///
    /// # Errors
    ///
    /// It is not known to be in the file.
    pub(crate) async fn record_for(&self, of: &str, record: &Record) -> Result<(), LoginError> {
        let written = acknowledged(AUDIT_WAIT, self.audit.write(of, record)).await;
        let failed_before = self
            .counts
            .audit_failed
            .swap(written.is_err(), Ordering::Relaxed);
        written.map_err(|why| {
            if !failed_before {
                tracing::error!(why, "the audit file cannot be written: logins are refused");
            }
            LoginError::AuditUnavailable
        })
    }
}

/// Waits for the writer, but not for longer than `limit`; says why a record is not known to be in
/// the file.
async fn acknowledged(
    limit: Duration,
    written: impl Future<Output = Result<(), AuditError>>,
) -> Result<(), String> {
    match tokio::time::timeout(limit, written).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {} ms", limit.as_millis())),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn what_keeps_its_limit_goes_on_being_counted() {
        let before = Permits::new(10, 5);
        let held = (
            before.cancels.try_acquire(),
            before.logins.try_acquire(),
            before.cold_logins.try_acquire(),
        );
        let free = |it: &Permits| {
            let [logins, cold] = [&it.logins, &it.cold_logins];
            (logins.available_permits(), cold.available_permits())
        };
        let more_logins = before.renewed(20, 5);
        assert_eq!(free(&more_logins), (20, 4));
        assert!(more_logins.has_cold_logins());
        assert_eq!(free(&before.renewed(10, 6)), (9, 6));
        assert_eq!(more_logins.cancels.available_permits(), CANCELS_MAX - 1);
        drop(held);
        assert_eq!(more_logins.cancels.available_permits(), CANCELS_MAX);
    }

    #[tokio::test]
    async fn a_writer_that_does_not_answer_is_not_waited_for() {
        let limit = Duration::from_millis(20);
        let hanging = acknowledged(limit, pending()).await;
        assert_eq!(hanging, Err("no answer in 20 ms".to_owned()));
        assert_eq!(acknowledged(limit, ready(Ok(()))).await, Ok(()));
        let closed = acknowledged(limit, ready(Err(AuditError::Closed))).await;
        assert_eq!(closed, Err("the audit log is closed".to_owned()));
    }
}
