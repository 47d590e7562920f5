//! Everything that logins share, made from the configuration.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use postern_core::credential::ClusterKey;
use postern_core::scram::Decoys;
use postern_ring::Ring;
use tokio::sync::watch;

use super::{RunError, Start};
use crate::admin::Console;
use crate::arrivals::Arrivals;
use crate::audit::AuditLog;
use crate::authenticate::Authenticator;
use crate::backend::Target;
use crate::cluster::Peers;
use crate::config::{self, Config};
use crate::directory::Directories;
use crate::door::Door;
use crate::durations::Durations;
use crate::gate::{Counts, Gate, Permits, Plane};
use crate::health::Health;
use crate::phases::PhaseDurations;
use crate::rates::Rates;
use crate::role_store::RoleStore;
use crate::session::Sessions;
use crate::sync::Synchronizer;
use crate::tls::{self, ServerIdentity};

/// The first gate of the process; opens the audit file, when the process before has let it go.
///
/// # Errors
///
/// A file that the configuration names cannot be used.
pub(super) fn gate(config: Config, ring: &Ring, start: Start<'_>) -> Result<Gate, RunError> {
    let cluster_key = cluster_key(&config)?;
    let identity = identity(&config)?;
    let targets = targets(&config)?;
    let peers = peers(&config, &cluster_key)?;
    let console = console(&config, &cluster_key, None)?;
    if let Some(predecessor) = start.predecessor {
        // What else the configuration names is tried before anything is taken away.
        drop((Directories::new(&config)?, RoleStore::new(&config)?));
        predecessor
            .ask_for_audit_file()
            .map_err(RunError::Handover)?;
    }
    let ends_max = config
        .limits
        .sessions_max
        .saturating_add(config.limits.logins_max);
    let audit = AuditLog::open(&config.audit.file, &cluster_key.audit_key(), ends_max)?;
    Ok(Gate {
        identity,
        targets,
        peers,
        decoys: Arc::new(Decoys::new(cluster_key.decoy_key())),
        authenticator: Arc::new(Authenticator::new(&config)),
        synchronizer: Arc::new(Synchronizer::new(cluster_key, &config)),
        audit: Arc::new(audit),
        sessions: Sessions::new(config.limits.sessions_max, config.limits.shares),
        ring: ring.handle(),
        permits: Arc::new(Permits::new(
            config.limits.logins_max,
            config.limits.cold_logins_max,
        )),
        arrivals: Arrivals::new(config.limits.connections_per_address_max),
        started: Instant::now(),
        door: Arc::new(Door::new()),
        rates: Arc::new(Rates::new(config.limits.logins_per_minute_max)),
        console,
        stopping: watch::channel(false).0,
        counts: Arc::new(Counts::default()),
        health: Arc::new(Health::default()),
        handed_over: watch::channel(false).0,
        has_say: Arc::new(AtomicBool::new(true)),
        generation: 0,
        newest: Arc::default(),
        orders: Arc::new(start.orders),
        before: Arc::default(),
        upkeep: start.upkeep,
        levels: Arc::new(start.levels),
        phases: Arc::new(PhaseDurations::new()),
        lag: Arc::new(Durations::new()),
        session_sizes: Arc::default(),
        warm_logins: Arc::new(Durations::new()),
        cold_logins: Arc::new(Durations::new()),
        config: Arc::new(config),
    })
}

/// What one thread needs to talk to the directory and the role store. No connection is made yet.
///
/// # Errors
///
/// A file that the configuration names cannot be used.
pub(crate) fn plane(gate: &Arc<Gate>) -> Result<Plane, RunError> {
    Ok(Plane {
        gate: gate.clone(),
        directories: Arc::new(Directories::new(&gate.config)?),
        role_store: Arc::new(RoleStore::new(&gate.config)?),
    })
}

/// The key that all proxies of a cluster have.
///
/// # Errors
///
/// Its file cannot be read, or holds no key.
pub(crate) fn cluster_key(config: &Config) -> Result<ClusterKey, RunError> {
    let path = &config.credential.cluster_key_file;
    let text = config::secret_file(path)?;
    ClusterKey::parse(text.expose().as_bytes()).map_err(|error| RunError::ClusterKey {
        path: path.clone(),
        error,
    })
}

/// What clients see of Postern, if there is a certificate.
///
/// # Errors
///
/// The certificate or its key cannot be used.
pub(crate) fn identity(config: &Config) -> Result<Option<Arc<ServerIdentity>>, RunError> {
    let listen = &config.listen;
    let (Some(cert), Some(key)) = (&listen.tls_cert_file, &listen.tls_key_file) else {
        return Ok(None);
    };
    let identity = tls::server_identity(cert, key)?;
    if identity.end_point.is_none() {
        tracing::warn!(
            "listen.tls_cert_file: no channel binding is defined for the signature of this \
             certificate (as for Ed25519): clients with channel_binding=require cannot log in; \
             one that is signed with ECDSA or RSA has it"
        );
    }
    Ok(Some(Arc::new(identity)))
}

/// The admin console, if there is one; its sessions share their places with those of the one
/// before.
///
/// # Errors
///
/// Its file of accounts cannot be used.
pub(crate) fn console(
    config: &Config,
    key: &ClusterKey,
    before: Option<&Console>,
) -> Result<Option<Arc<Console>>, RunError> {
    let console = config.admin.as_ref();
    let console = console.map(|it| Console::new(it, key, before).map(Arc::new));
    console.transpose().map_err(RunError::Console)
}

/// The other proxies, if the configuration names any.
///
/// # Errors
///
/// The cryptography refuses what it is made for.
pub(crate) fn peers(config: &Config, key: &ClusterKey) -> Result<Option<Arc<Peers>>, RunError> {
    let peers = config.cluster.as_ref();
    let peers = peers.map(|cluster| Peers::new(cluster, key).map(Arc::new));
    Ok(peers.transpose()?)
}

/// The backends, in the order of the configuration.
///
/// # Errors
///
/// The TLS of one cannot be set up.
pub(crate) fn targets(config: &Config) -> Result<Vec<Arc<Target>>, RunError> {
    let targets = config.backends.iter().cloned();
    let targets = targets.map(|backend| Target::new(backend).map(Arc::new));
    Ok(targets.collect::<Result<_, _>>()?)
}
