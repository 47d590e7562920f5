//! `postern run`: assembly, and the life of the process.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use postern_core::audit::Record;
use postern_core::credential::ClusterKey;
use postern_core::scram::Decoys;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};
use postern_ring::{Ring, RingConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::arrivals::Arrivals;
use crate::audit::{AuditLog, OF_THE_PROCESS};
use crate::authenticate::Authenticator;
use crate::backend::Target;
use crate::cluster::{self, Peers};
use crate::config::Config;
use crate::control;
use crate::directory::Directories;
use crate::durations::Durations;
use crate::gate::{Counts, Gate, Permits, Plane};
use crate::health::{self, Health};
use crate::limits::{AUDIT_CLOSE_TIMEOUT, LOGIN_THREADS_STOP_TIMEOUT, STOP_POLL, STOP_TIMEOUT};
use crate::listener::{self, Bound};
use crate::metrics;
use crate::revocation::{self, Order, Orders};
use crate::role_store::RoleStore;
use crate::session::Sessions;
use crate::sync::Synchronizer;
use crate::{config, tls};

/// Why the program cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// An address cannot be listened on.
    #[error("{key}: {address} cannot be used: {error}")]
    Listen {
        /// Where it is configured.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What bind(2) or listen(2) said.
        error: io::Error,
    },
    /// The control socket cannot be opened.
    #[error("control.socket: {path} cannot be used: {error}")]
    Control {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The splice workers do not start.
    #[error(transparent)]
    Ring(#[from] postern_ring::StartError),
    /// The audit file cannot be used.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A file with a secret cannot be used.
    #[error(transparent)]
    Secret(#[from] config::SecretFileError),
    /// The directory cannot be used as configured.
    #[error(transparent)]
    Directory(#[from] crate::directory::DirectoryError),
    /// The role store cannot be used as configured.
    #[error(transparent)]
    RoleStore(#[from] crate::role_store::RoleStoreError),
    /// The cluster key is not one.
    #[error("credential.cluster_key_file: {path}: {error}", path = path.display())]
    ClusterKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        error: postern_core::credential::ClusterKeyError,
    },
    /// A thread or runtime could not be started.
    #[error("the system gives no {what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A login thread ended, which none does.
    #[error("a login thread ended")]
    ThreadEnded,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// Something that is needed at the start is not there; nothing has been served then.
pub(crate) fn run(config: Config) -> Result<(), RunError> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    raise_descriptor_limit();
    let sessions_max = config.limits.sessions_max;
    let workers = config.limits.splice_threads;
    // A handshake of TLS keeps a core busy for longer than a query does.
    let workers = workers.unwrap_or_else(|| threads.saturating_sub(1).max(1));
    let ring = Ring::start(RingConfig {
        sessions_max,
        ..RingConfig::new(workers)
    })?;
    let (orders, orders_taken) = Orders::new();
    let gate = Arc::new(assemble(config, &ring, orders)?);
    let groups =
        listener::bind(&gate.config.listen.addresses, threads).map_err(|(address, error)| {
            RunError::Listen {
                key: "listen.addresses",
                address,
                error,
            }
        })?;
    let addresses: Vec<_> = groups
        .iter()
        .flatten()
        .take(gate.config.listen.addresses.len())
        .map(Bound::address)
        .collect();
    gate.audit.write_blocking(
        OF_THE_PROCESS,
        &Record::Started {
            version: crate::VERSION.to_owned(),
            config_digest: None,
        },
    )?;

    let mut login_threads = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        login_threads.push(login_thread(gate.clone(), number, group)?);
    }
    let ended = control_thread(&gate, &addresses, &mut login_threads, orders_taken);
    stop(&gate, ring, login_threads);
    ended
}

/// A session needs two descriptors; the soft limit of most systems is 1,024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn assemble(config: Config, ring: &Ring, orders: Orders) -> Result<Gate, RunError> {
    let path = &config.credential.cluster_key_file;
    let text = config::secret_file(path)?;
    let cluster_key =
        ClusterKey::parse(text.expose().as_bytes()).map_err(|error| RunError::ClusterKey {
            path: path.clone(),
            error,
        })?;
    let listen = &config.listen;
    let tls = match (&listen.tls_cert_file, &listen.tls_key_file) {
        (Some(cert), Some(key)) => Some(tls::server_identity(cert, key)?),
        _ => None,
    };
    let (tls, end_point) = tls.map_or((None, None), |it| (Some(it.config), it.end_point));
    if tls.is_some() && end_point.is_none() {
        tracing::warn!(
            "listen.tls_cert_file: no channel binding is defined for the signature of this \
             certificate (as for Ed25519): clients with channel_binding=require cannot log in; \
             one that is signed with ECDSA or RSA has it"
        );
    }
    let ends_max = config
        .limits
        .sessions_max
        .saturating_add(config.limits.logins_max);
    let audit = AuditLog::open(&config.audit.file, &cluster_key.audit_key(), ends_max)?;
    let peers = config.cluster.as_ref();
    let peers = peers.map(|cluster| Peers::new(cluster, &cluster_key));
    let peers = peers.transpose()?;
    let targets = config.backends.iter().cloned().enumerate();
    let targets = targets.map(|(index, backend)| Target::new(index, backend));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let sessions = Sessions::new(config.limits.sessions_max);
    Ok(Gate {
        tls,
        end_point,
        decoys: Decoys::new(cluster_key.decoy_key()),
        authenticator: Authenticator::new(&config),
        synchronizer: Synchronizer::new(cluster_key, &config),
        targets,
        peers,
        audit,
        sessions,
        ring: ring.handle(),
        permits: Permits::new(&config),
        arrivals: Arrivals::new(config.limits.connections_per_address_max),
        stopping: watch::channel(false).0,
        counts: Counts::default(),
        health: Health::default(),
        orders,
        lag: Durations::new(),
        warm_logins: Durations::new(),
        cold_logins: Durations::new(),
        config,
    })
}

/// A thread that accepts and logs in, on a ring of its own.
struct LoginThread {
    handle: JoinHandle<()>,
    ready: oneshot::Receiver<Result<(), RunError>>,
}

fn login_thread(
    gate: Arc<Gate>,
    number: usize,
    group: Vec<Bound>,
) -> Result<LoginThread, RunError> {
    let (said, ready) = oneshot::channel();
    let main = move || {
        tokio_uring::start(async move {
            match start_accepting(&gate, group) {
                Ok(accepting) => {
                    // The main thread has gone only when the process is ending.
                    drop(said.send(Ok(())));
                    for accepts in accepting {
                        // It ends when the process is told to stop; a panic has been said aloud.
                        drop(accepts.await);
                    }
                }
                // As above.
                Err(error) => drop(said.send(Err(error))),
            }
        });
    };
    let handle = thread::Builder::new()
        .name(format!("login-{number}"))
        .spawn(main);
    let handle = handle.map_err(|error| RunError::System {
        what: "thread",
        error,
    })?;
    Ok(LoginThread { handle, ready })
}

fn start_accepting(
    gate: &Arc<Gate>,
    group: Vec<Bound>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, RunError> {
    let plane = Rc::new(plane(gate)?);
    let mut accepting = Vec::new();
    for bound in group {
        let address = bound.address();
        let listener = bound.listen().map_err(|error| RunError::Listen {
            key: "listen.addresses",
            address,
            error,
        })?;
        accepting.push(tokio_uring::spawn(listener::accept(
            plane.clone(),
            listener,
        )));
    }
    Ok(accepting)
}

/// What one thread needs to talk to the directory and the role store.
fn plane(gate: &Arc<Gate>) -> Result<Plane, RunError> {
    Ok(Plane {
        gate: gate.clone(),
        directories: Rc::new(Directories::new(&gate.config)?),
        role_store: Rc::new(RoleStore::new(&gate.config)?),
    })
}

/// The control plane, on the main thread: signals, the control socket, and the watch over
/// everybody's access.
fn control_thread(
    gate: &Arc<Gate>,
    addresses: &[SocketAddr],
    login_threads: &mut [LoginThread],
    orders: mpsc::Receiver<Order>,
) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| RunError::System {
        what: "event loop",
        error,
    })?;
    LocalSet::new().block_on(&runtime, async {
        let listen = |kind| {
            signal(kind).map_err(|error| RunError::System {
                what: "signal handler",
                error,
            })
        };
        let (mut terminate, mut interrupt) = (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        );
        for thread in login_threads.iter_mut() {
            (&mut thread.ready)
                .await
                .map_err(|_| RunError::ThreadEnded)??;
        }
        // The file is removed when this block ends, and with it the answers.
        let socket = gate.config.control.socket.as_deref();
        let _file = socket.map(|path| serve_control(gate, path)).transpose()?;
        drop(tokio::spawn(health::watch(
            gate.clone(),
            RoleStore::new(&gate.config)?,
        )));
        if let Some(address) = gate.config.metrics.listen {
            let listener = bind("metrics.listen", address).await?;
            tracing::info!(
                "metrics at http://{}/metrics",
                listener.local_addr().unwrap_or(address)
            );
            drop(tokio::spawn(metrics::serve(gate.clone(), listener)));
        }
        if let Some(cluster) = &gate.config.cluster {
            let listener = bind("cluster.listen", cluster.listen).await?;
            tracing::info!("listening on {} for the other proxies", cluster.listen);
            drop(tokio::spawn(cluster::serve(gate.clone(), listener)));
        }
        let resumed = gate.audit.resumed();
        tracing::info!(
            seq = resumed.seq,
            prev = resumed.prev,
            "the audit file goes on from here"
        );
        for address in addresses {
            tracing::info!(version = crate::VERSION, "listening on {address}");
        }
        let plane = Rc::new(plane(gate)?);
        tokio::select! {
            ended = revocation::watch(plane, orders) => ended?,
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        Ok(())
    })
}

/// A listener of the control plane; `key` is where its address is configured.
async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| RunError::Listen {
        key,
        address,
        error,
    })
}

/// Runs within the event loop.
fn serve_control(gate: &Arc<Gate>, path: &Path) -> Result<control::SocketFile, RunError> {
    let (listener, file) = control::listen(path).map_err(|error| RunError::Control {
        path: path.to_owned(),
        error,
    })?;
    drop(tokio::spawn(control::serve(gate.clone(), listener)));
    Ok(file)
}

/// No new logins; live sessions are told and ended; then the threads are joined.
fn stop(gate: &Arc<Gate>, ring: Ring, login_threads: Vec<LoginThread>) {
    gate.stopping.send_replace(true);
    let goodbye = error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::ADMIN_SHUTDOWN,
        message: "terminating connection because the proxy is shutting down",
        detail: None,
        hint: None,
    });
    gate.ring.end_all(&goodbye);
    // A login thread ends with its accept loops and the logins under way.
    let handles = login_threads.into_iter().map(|thread| thread.handle);
    join_until(Instant::now() + LOGIN_THREADS_STOP_TIMEOUT, handles);
    // A login that was through just then has opened a session that was not told yet.
    gate.ring.end_all(&goodbye);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while gate.sessions.count() > 0 && Instant::now() < deadline {
        thread::park_timeout(STOP_POLL);
    }
    ring.stop();
    end_audit(gate);
}

/// Writes the last record, in a thread of its own, because a disk that hangs must not keep the
/// process from ending.
fn end_audit(gate: &Arc<Gate>) {
    let of_thread = gate.clone();
    let thread = thread::Builder::new()
        .name("audit-end".to_owned())
        .spawn(move || last_record(&of_thread));
    match thread {
        Ok(handle) => {
            let deadline = Instant::now() + AUDIT_CLOSE_TIMEOUT;
            join_until(deadline, std::iter::once(handle));
        }
        // No thread can be had, so it is done here.
        Err(_) => last_record(gate),
    }
}

fn last_record(gate: &Gate) {
    let last = gate.audit.write_blocking(OF_THE_PROCESS, &Record::Stopped);
    if let Err(error) = last.and_then(|()| gate.audit.close()) {
        tracing::error!(%error, "the last audit records could not be written");
    }
}

/// Joins the threads that end by themselves until then. One that does not is left behind: it ends
/// with the process, which must not wait for it.
fn join_until(deadline: Instant, handles: impl Iterator<Item = JoinHandle<()>>) {
    for handle in handles {
        while !handle.is_finished() && Instant::now() < deadline {
            thread::park_timeout(STOP_POLL);
        }
        if !handle.is_finished() {
            let name = handle.thread().name().unwrap_or_default();
            tracing::error!(name, "a thread did not end in time and is left behind");
        } else if handle.join().is_err() {
            tracing::error!("a thread ended by a defect of Postern");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_does_not_end_is_left_behind() {
        let (finish, finished) = mpsc::channel::<()>();
        let hanging = thread::spawn(move || finished.recv().unwrap_or_default());
        let (told, ended) = mpsc::channel();
        let quick = thread::spawn(move || told.send(()).unwrap_or_default());
        let handles = [hanging, quick].into_iter();
        let begun = Instant::now();
        join_until(begun + Duration::from_millis(20), handles);
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(ended.recv(), Ok(()));
        drop(finish);
    }
}
