//! `postern run`: assembly, and the life of the process.

pub(crate) mod assemble;
mod error;
mod logins;
mod sockets;
mod stop;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use postern_core::audit::Record;
use postern_ring::{Ring, RingConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use self::error::RunError;
use self::logins::LoginThread;
use self::sockets::{Serving, Sockets};
use crate::audit::OF_THE_PROCESS;
use crate::config::Config;
use crate::gate::{CurrentPlane, Gate};
use crate::health;
use crate::limits::DRAIN_POLL;
use crate::listener::inherited::Inherited;
use crate::logging::Levels;
use crate::operators::Operator;
use crate::pulse::Pulse;
use crate::revocation::{self, Order, Orders};
use crate::supervisor::{Supervisor, Tell};
use crate::upkeep::{
    self, ANOTHER_SERVES, Drained, Next, Parts, Predecessor, Successor, Upkeep, UpkeepOrder,
    UpkeepOrders, is_drained,
};

/// What a gate begins with besides its configuration.
pub(crate) struct Start<'a> {
    orders: Orders,
    upkeep: UpkeepOrders,
    levels: Levels,
    predecessor: Option<&'a mut Predecessor>,
}

/// The other ends of the ways to the control thread.
struct Inbox {
    orders: mpsc::Receiver<Order>,
    upkeep: mpsc::Receiver<UpkeepOrder>,
}

/// Runs until SIGTERM or SIGINT, or until another process has taken over and the last session has
/// ended.
///
/// # Errors
///
/// Something that is needed at the start is not there; nothing has been served then.
pub(crate) fn run(config: Config, config_file: PathBuf, levels: Levels) -> Result<(), RunError> {
    let mut inherited = Inherited::take()?;
    let program = program()?;
    let predecessor = inherited.handover.take().map(Predecessor::new).transpose();
    let mut predecessor = predecessor.map_err(RunError::Handover)?;
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    say_warnings(&config);
    raise_descriptor_limit();
    let ring = start_ring(&config, threads)?;
    let (orders, orders_taken) = Orders::new();
    let (upkeep, upkeep_taken) = UpkeepOrders::new();
    let start = Start {
        orders,
        upkeep,
        levels,
        predecessor: predecessor.as_mut(),
    };
    let gate = Arc::new(assemble::gate(config, &ring, start)?);
    let sockets = Sockets::open(&gate.config, inherited, threads)?;
    gate.audit.write_blocking(
        OF_THE_PROCESS,
        &Record::Started {
            version: crate::VERSION.to_owned(),
            config_digest: None,
        },
    )?;

    let mut pulse = Pulse::new();
    let (mut login_threads, mut login) = (Vec::new(), Vec::new());
    for (number, group) in sockets.groups.into_iter().enumerate() {
        let current = CurrentPlane::new(assemble::plane(&gate)?);
        login.push(current.clone());
        login_threads.push(LoginThread::start(current, number, (group, pulse.beat()))?);
    }
    let parts = Parts {
        config_file,
        program,
        control: CurrentPlane::new(assemble::plane(&gate)?),
        login,
        listeners: sockets.listeners,
        metrics: sockets.metrics,
        cluster: sockets.cluster,
        socket: sockets.control,
        supervisor: Arc::new(Supervisor::from_env()),
    };
    let inbox = Inbox {
        orders: orders_taken,
        upkeep: upkeep_taken,
    };
    let mut life = Life {
        parts,
        addresses: sockets.addresses,
        socket_file: sockets.file,
        login_threads,
    };
    let ended = life.control(inbox, pulse, predecessor);
    let Life {
        parts,
        login_threads,
        ..
    } = life;
    let gate = parts.control.gate();
    parts.supervisor.tell(&[Tell::Stopping]);
    // Or the kernel would go on to take connections that nobody serves.
    drop(parts);
    stop::stop(&gate, ring, login_threads);
    ended
}

/// Where the program is. Asked at the start, because what is there may be replaced.
///
/// As it was called, where that leads to what runs: a link on the way may lead to another version
/// later.
fn program() -> Result<PathBuf, RunError> {
    let running = std::env::current_exe().map_err(|error| RunError::System {
        what: "path of the program",
        error,
    })?;
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.unwrap_or_default();
    let candidates = match called.components().count() {
        1 => {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&folders);
            folders.map(|folder| folder.join(&called)).collect()
        }
        // A path that begins with a slash stays as it is.
        _ => vec![std::env::current_dir().unwrap_or_default().join(&called)],
    };
    let is_running = |it: &PathBuf| it.canonicalize().is_ok_and(|it| it == running);
    Ok(candidates.into_iter().find(is_running).unwrap_or(running))
}

/// What an operator should know of a configuration, whenever it comes to hold.
pub(crate) fn say_warnings(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(
            warning,
            "the configuration says something that an operator should know"
        );
    }
}

fn start_ring(config: &Config, threads: usize) -> Result<Ring, RunError> {
    let workers = config.limits.splice_threads;
    // A handshake of TLS keeps a core busy for longer than a query does.
    let workers = workers.unwrap_or_else(|| threads.saturating_sub(1).max(1));
    Ok(Ring::start(RingConfig {
        sessions_max: config.limits.sessions_max,
        ..RingConfig::new(workers)
    })?)
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

/// Everything of the process but the splice, from its first connection to its last.
struct Life {
    parts: Parts,
    addresses: Vec<SocketAddr>,
    socket_file: Option<crate::control::SocketFile>,
    login_threads: Vec<LoginThread>,
}

/// What a process listens to besides its clients.
struct Signals {
    stopping: Stopping,
    hangup: Signal,
}

/// What tells it to stop.
struct Stopping {
    terminate: Signal,
    interrupt: Signal,
}

impl Life {
    /// The control plane, on the main thread: signals, the control socket, and the watch over
    /// everybody's access.
    fn control(
        &mut self,
        inbox: Inbox,
        pulse: Pulse,
        predecessor: Option<Predecessor>,
    ) -> Result<(), RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| RunError::System {
            what: "event loop",
            error,
        })?;
        LocalSet::new().block_on(&runtime, async {
            let signals = Signals::listen()?;
            for thread in &mut self.login_threads {
                thread.is_ready().await?;
            }
            let parts = &self.parts;
            let serving = Serving::begin(parts)?;
            drop(tokio::spawn(health::watch(parts.control.clone())));
            drop(tokio::spawn(health::watch_strangers(parts.control.clone())));
            drop(tokio::spawn(
                pulse.watch(parts.control.clone(), parts.supervisor.clone()),
            ));
            say_where_it_is(&parts.control.gate(), &self.addresses);
            if let Some(predecessor) = predecessor {
                let before = predecessor.take_its_place().map_err(RunError::Handover)?;
                before.have_reloaded();
                // It is set nowhere else.
                drop(parts.control.gate().before.set(before));
            }
            let status = format!(
                "Serving {} sessions at most",
                parts.control.gate().config.limits.sessions_max
            );
            parts.supervisor.take_over();
            parts.supervisor.tell(&[Tell::Ready, Tell::Status(&status)]);
            let ended = self.serve(inbox, signals, serving).await;
            if self.parts.control.gate().has_handed_over() {
                // It may have been told to stop before it came to that.
                self.leave_sockets(None);
            }
            ended
        })
    }

    async fn serve(
        &mut self,
        mut inbox: Inbox,
        signals: Signals,
        serving: Serving,
    ) -> Result<(), RunError> {
        let Signals {
            stopping: mut signals,
            mut hangup,
        } = signals;
        let mut watching = pin!(revocation::watch(self.parts.control.get(), inbox.orders));
        let (mut serving, mut drained) = (Some(serving), None::<Drained>);
        let mut ticks = interval(DRAIN_POLL);
        // They are taken only after another process has taken over, or this one from another.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (what, by, answer) = tokio::select! {
                ended = &mut watching => return ended,
                () = told_to_stop(&mut signals) => return Ok(()),
                _ = hangup.recv() => {
                    let by = Operator::of_process("SIGHUP", "signal");
                    (Upkeep::Reload, by, None)
                }
                Some((what, by, answer)) = inbox.upkeep.recv() => (what, by, Some(answer)),
                _ = ticks.tick(), if drained.is_some() || self.parts.owe_reload() => {
                    self.parts.tell_what_is_owed();
                    let Some(drained) = &mut drained else { continue };
                    let is_over = tokio::select! {
                        is_over = self.look_after(drained) => is_over,
                        ended = &mut watching => return ended,
                        () = told_to_stop(&mut signals) => return Ok(()),
                    };
                    if is_over {
                        tracing::info!("nothing is left that this process would be needed for");
                        return Ok(());
                    }
                    continue;
                }
            };
            if drained.is_some() && what != Upkeep::Follow {
                refuse(&by, answer);
                continue;
            }
            let (said, next) = tokio::select! {
                obeyed = self.parts.obey(what, &by) => obeyed,
                ended = &mut watching => return ended,
                // What is under way is given up, and a process that was started ends with it.
                () = told_to_stop(&mut signals) => return Ok(()),
            };
            if let Some(answer) = answer {
                // Whoever asked may have gone; what was done is on record.
                drop(answer.send(said));
            }
            if let Next::Drain(by_another) = next {
                drained = Some(by_another);
                self.leave_sockets(serving.take());
                // Whoever asked is answered before the end of a process that has no session.
                ticks.reset();
            }
        }
    }

    /// The sockets are another process's from now on, and the file of the control socket too. They
    /// are kept, and passed on again if that process dies.
    fn leave_sockets(&mut self, serving: Option<Serving>) {
        drop(serving);
        if let Some(file) = self.socket_file.take() {
            file.leave();
        }
    }

    /// Whoever connects is to be refused when no process will accept.
    fn close_sockets(&mut self) {
        self.parts.listeners.clear();
        self.parts.metrics = None;
        self.parts.cluster = None;
        self.parts.socket = None;
    }

    /// Starts another process if the one that took over has died, and returns whether this one is
    /// needed for nothing any more.
    async fn look_after(&mut self, drained: &mut Drained) -> bool {
        let is_followed = match drained.look_after_successor() {
            Successor::Runs => true,
            Successor::Ended => false,
            Successor::Died => drained.start_another(&self.parts).await,
        };
        if !is_followed {
            self.close_sockets();
        }
        let mut threads = self.login_threads.iter();
        let threads_ended = threads.all(LoginThread::has_ended);
        is_drained(&self.parts.control.gate(), threads_ended, drained.until)
    }
}

impl Signals {
    /// Begins to listen; before that each of them would end the process.
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| {
            signal(kind).map_err(|error| RunError::System {
                what: "signal handler",
                error,
            })
        };
        let stopping = Stopping {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        };
        Ok(Self {
            stopping,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// What is ordered is meant for the process that serves now.
fn refuse(by: &Operator, answer: Option<oneshot::Sender<upkeep::Answer>>) {
    tracing::warn!(by = by.name, "another process serves: nothing was done");
    if let Some(answer) = answer {
        // Whoever asked may have gone.
        drop(answer.send(Err(ANOTHER_SERVES.to_owned())));
    }
}

/// Returns when the process is told to stop.
async fn told_to_stop(signals: &mut Stopping) {
    let by = tokio::select! {
        _ = signals.terminate.recv() => "SIGTERM",
        _ = signals.interrupt.recv() => "SIGINT",
    };
    tracing::info!(by, "stopping");
}

fn say_where_it_is(gate: &Gate, addresses: &[SocketAddr]) {
    let resumed = gate.audit.resumed();
    tracing::info!(
        seq = resumed.seq,
        prev = resumed.prev,
        "the audit file goes on from here"
    );
    for address in addresses {
        tracing::info!(version = crate::VERSION, %address, "listening");
    }
}
