//! All workers together, and the handle by which sessions are given to them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::counters::{Counters, Stats};
use crate::leg::Leg as WorkerLeg;
use crate::mailbox::{Handover, Mailbox};
use crate::start::{StartError, check, open};
use crate::tls::Tls;
use crate::worker::Worker;
use crate::{Leg, RingConfig, Session, Traffic, affinity, event, socket};

/// The workers of the splice plane, each on its own thread and ring.
///
/// Dropping it ends all sessions and waits for the threads, as [`Ring::stop`] does.
#[derive(Debug)]
pub struct Ring {
    handle: RingHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Ring {
    /// Starts one thread and ring a worker, and tries each ring out.
    ///
    /// # Errors
    ///
    /// Why io_uring cannot be used here, or which number of the configuration is out of range.
    pub fn start(config: RingConfig) -> Result<Self, StartError> {
        check(&config)?;
        let (report, reports) = channel();
        let mut remotes = Vec::new();
        let mut threads = Vec::new();
        for index in 0..config.workers {
            let remote = Remote::new()?;
            threads.push(spawn(
                index,
                config.clone(),
                remote.clone(),
                report.clone(),
            )?);
            remotes.push(remote);
        }
        drop(report);
        let registry = Mutex::new(Registry::new(config.workers));
        let shared = Shared {
            remotes,
            registry,
            config,
        };
        let ring = Self {
            handle: RingHandle(Arc::new(shared)),
            threads,
        };
        // A worker that has failed ends by itself; dropping `ring` ends the others.
        for outcome in reports {
            outcome?;
        }
        Ok(ring)
    }

    /// Something to hand sessions over with, from any thread.
    #[must_use]
    pub fn handle(&self) -> RingHandle {
        self.handle.clone()
    }

    /// Ends all sessions without a goodbye, and waits until every thread has ended.
    ///
    /// To say goodbye, call [`RingHandle::end_all`] first.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.handle.registry().accepting = false;
        for remote in &self.handle.0.remotes {
            remote.mailbox.stop();
            remote.wake();
        }
        for thread in self.threads.drain(..) {
            // A worker that panics ends the process, so there is no other outcome to lose.
            let _ = thread.join();
        }
    }
}

/// A handle to the workers.
#[derive(Clone, Debug)]
pub struct RingHandle(Arc<Shared>);

impl RingHandle {
    /// Hands a session over; from now on the workers own its sockets.
    ///
    /// # Errors
    ///
    /// The session itself, with nothing sent or received: every worker has `sessions_max`
    /// sessions or too many that wait to be taken over, the id is in use, or the ring is being
    /// stopped.
    pub fn splice(&self, session: Session) -> Result<(), Session> {
        // Before the lock: the workers take it too, when they close sessions.
        self.prepare(&session);
        let mut registry = self.registry();
        let Some(index) = registry.place(session.id, &self.0) else {
            return Err(session);
        };
        let Some(remote) = self.0.remotes.get(index) else {
            return Err(session);
        };
        registry.enter(session.id, index);
        let handle = self.clone();
        let (id, on_close) = (session.id, session.on_close);
        remote.mailbox.hand_over(Handover {
            id,
            client: leg(session.client),
            backend: leg(session.backend),
            to_client: session.to_client,
            to_backend: session.to_backend,
            on_close: Box::new(move |closed| {
                handle.registry().leave(id);
                on_close(closed);
            }),
        });
        drop(registry);
        remote.wake();
        Ok(())
    }

    /// Ends a session: what is queued for the client is still sent, and `goodbye` after it.
    ///
    /// The backend is shut down at once and nothing more of the client reaches it.
    /// `goodbye` should be a whole backend message (an ErrorResponse). Where the backend's stream
    /// stands is not known here: if it is inside a message, the client takes the goodbye for a
    /// part of that, and sees only the end of the connection.
    /// All this takes at most [`limits::END_FLUSH_MS`](crate::limits::END_FLUSH_MS).
    ///
    /// Returns false if there is no such session, or its end has been ordered before.
    pub fn end(&self, id: u64, goodbye: Vec<u8>) -> bool {
        let Some(index) = self.registry().order_end(id) else {
            return false;
        };
        let Some(remote) = self.0.remotes.get(index) else {
            return false;
        };
        remote.mailbox.end(id, goodbye);
        remote.wake();
        true
    }

    /// Ends every session, as [`Self::end`] does; returns how many ends were ordered.
    pub fn end_all(&self, goodbye: &[u8]) -> usize {
        let ids: Vec<u64> = self.registry().sessions.keys().copied().collect();
        ids.into_iter()
            .filter(|&id| self.end(id, goodbye.to_vec()))
            .count()
    }

    /// Asks every worker what has flowed through its sessions; each calls `tell` once, on its own
    /// thread, where nothing may block.
    ///
    /// Returns how many were asked. One that is being stopped may drop `tell` uncalled.
    pub fn ask_traffic(&self, tell: impl FnOnce(Vec<Traffic>) + Clone + Send + 'static) -> usize {
        for remote in &self.0.remotes {
            remote.mailbox.ask_traffic(Box::new(tell.clone()));
            remote.wake();
        }
        self.0.remotes.len()
    }

    /// Asks every worker to call `tell` when it has done what was ordered before: from then on no
    /// byte of a backend passes in a session whose end was ordered. It is called on the worker's
    /// thread, where nothing may block.
    ///
    /// Returns how many were asked. One that is being stopped may drop `tell` uncalled.
    pub fn ask_obeyed(&self, tell: impl FnOnce() + Clone + Send + 'static) -> usize {
        for remote in &self.0.remotes {
            remote.mailbox.ask_obeyed(Box::new(tell.clone()));
            remote.wake();
        }
        self.0.remotes.len()
    }

    /// Sessions that have been handed over and are not closed yet.
    #[must_use]
    pub fn live(&self) -> usize {
        self.registry().sessions.len()
    }

    /// What all workers have done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for remote in &self.0.remotes {
            stats.add(&remote.counters);
        }
        stats
    }

    /// Sets the options of both sockets.
    fn prepare(&self, session: &Session) {
        for leg in [&session.client, &session.backend] {
            let (Leg::Plain(socket) | Leg::Tls(socket, _)) = leg;
            if let Err(error) = socket::prepare(socket.as_fd(), self.0.config.user_timeout_ms) {
                // A dead socket refuses options; the worker finds that out and says so.
                tracing::debug!(session = session.id, %error, "could not prepare a socket");
            }
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Each change under the lock is complete before anything could panic.
        self.0
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn leg(leg: Leg) -> WorkerLeg<OwnedFd> {
    match leg {
        Leg::Plain(socket) => WorkerLeg::new(socket, None),
        Leg::Tls(socket, connection) => WorkerLeg::new(socket, Some(Tls::new(connection))),
    }
}

/// What handles share.
#[derive(Debug)]
struct Shared {
    remotes: Vec<Remote>,
    registry: Mutex<Registry>,
    config: RingConfig,
}

/// The way to one worker.
#[derive(Clone)]
struct Remote {
    mailbox: Arc<Mailbox<OwnedFd>>,
    counters: Arc<Counters>,
    wake: Arc<File>,
}

impl Remote {
    fn new() -> Result<Self, StartError> {
        let wake = event::new().map_err(|source| StartError::Setup {
            doing: "making an eventfd",
            source,
        })?;
        Ok(Self {
            mailbox: Arc::default(),
            counters: Arc::default(),
            wake: Arc::new(wake),
        })
    }

    fn wake(&self) {
        // The count cannot overflow, and a full one would wake the worker as well.
        let _ = (&*self.wake).write(&1_u64.to_ne_bytes());
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Remote")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Which session is where.
#[derive(Debug)]
struct Registry {
    sessions: HashMap<u64, Place>,
    /// Sessions by worker.
    live: Vec<usize>,
    accepting: bool,
}

#[derive(Debug)]
struct Place {
    worker: usize,
    end_ordered: bool,
}

impl Registry {
    fn new(workers: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            live: vec![0; workers],
            accepting: true,
        }
    }

    /// The worker with the fewest sessions, if it may have one more.
    fn place(&self, id: u64, shared: &Shared) -> Option<usize> {
        if !self.accepting || self.sessions.contains_key(&id) {
            return None;
        }
        let workers = self.live.iter().zip(&shared.remotes).enumerate();
        workers
            .filter(|(_, (live, remote))| {
                **live < shared.config.sessions_max && remote.mailbox.has_room()
            })
            .min_by_key(|(_, (live, _))| **live)
            .map(|(index, _)| index)
    }

    fn enter(&mut self, id: u64, worker: usize) {
        self.sessions.insert(
            id,
            Place {
                worker,
                end_ordered: false,
            },
        );
        if let Some(live) = self.live.get_mut(worker) {
            *live += 1;
        }
    }

    fn leave(&mut self, id: u64) {
        let place = self.sessions.remove(&id);
        if let Some(live) = place.and_then(|place| self.live.get_mut(place.worker)) {
            *live -= 1;
        }
    }

    fn order_end(&mut self, id: u64) -> Option<usize> {
        let place = self.sessions.get_mut(&id)?;
        let first = !std::mem::replace(&mut place.end_ordered, true);
        first.then_some(place.worker)
    }
}

/// Starts the thread of one worker; it reports once whether it could make its ring.
fn spawn(
    index: usize,
    config: RingConfig,
    remote: Remote,
    report: Sender<Result<(), StartError>>,
) -> Result<JoinHandle<()>, StartError> {
    let work = move || {
        if config.pin
            && let Err(error) = affinity::pin(index)
        {
            tracing::warn!(worker = index, %error, "the worker is not pinned to a CPU");
        }
        let uring = match open(&config, remote.wake) {
            Ok(uring) => uring,
            Err(error) => {
                // The starter waits for every report, unless another one has failed before.
                let _ = report.send(Err(error));
                return;
            }
        };
        // As above.
        let _ = report.send(Ok(()));
        drop(report);
        Worker::new(uring, remote.mailbox, remote.counters, config.sessions_max).run();
    };
    let loud = move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            // Sessions of a dead worker would hang for ever, each with a backend.
            eprintln!("postern: splice worker {index} has panicked; the process ends");
            std::process::abort();
        }
    };
    std::thread::Builder::new()
        .name(format!("splice-{index}"))
        .spawn(loud)
        .map_err(|source| StartError::Setup {
            doing: "starting a thread",
            source,
        })
}
