//! What is done to the running process as a whole: another configuration, another program.

mod candidate;
mod following;
mod handover;
mod reload;

use std::path::PathBuf;
use std::sync::Arc;

use postern_core::audit::OrderOutcome;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::following::ProcessBefore;
use self::handover::Handover;
pub(crate) use self::handover::{Drained, Predecessor, Successor, is_drained};
use crate::door::Door;
use crate::gate::{CurrentPlane, Gate};
use crate::limits::UPKEEP_WAITING_MAX;
use crate::listener::Bound;
use crate::operators::Operator;
use crate::supervisor::Supervisor;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Upkeep {
    /// Read the configuration again.
    Reload,
    /// Hand over to the program that is installed now.
    Upgrade,
    /// Read the configuration again, as the process has that took over from this one. Nobody else
    /// can order it.
    #[serde(skip)]
    Follow,
}

/// What somebody is told whose order comes to a process that has handed over.
pub(crate) const ANOTHER_SERVES: &str = "another process serves; give the order again";

/// What was done, a line each; or why nothing was.
pub(crate) type Answer = Result<Vec<String>, String>;

/// An order, the operator, and where the answer goes.
pub(crate) type UpkeepOrder = (Upkeep, Operator, oneshot::Sender<Answer>);

/// The way to the control thread, which does it.
#[derive(Debug, Clone)]
pub(crate) struct UpkeepOrders(mpsc::Sender<UpkeepOrder>);

impl UpkeepOrders {
    /// A way, and its other end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<UpkeepOrder>) {
        let (sender, receiver) = mpsc::channel(UPKEEP_WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Has it done.
    pub(crate) async fn order(&self, what: Upkeep, by: Operator) -> Answer {
        let (sender, answer) = oneshot::channel();
        let ending = || "the process is ending".to_owned();
        let sent = self.0.send((what, by, sender)).await;
        sent.map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }
}

/// What the process is made of, as far as it can be replaced while it runs.
pub(crate) struct Parts {
    /// The configuration file.
    pub(crate) config_file: PathBuf,
    /// Where the program is, as it was called at the start: what is there now may be another one.
    pub(crate) program: PathBuf,
    /// The plane of the control thread.
    pub(crate) control: Arc<CurrentPlane>,
    /// Those of the login threads.
    pub(crate) login: Vec<Arc<CurrentPlane>>,
    /// The sockets that clients connect to, to be passed on.
    pub(crate) listeners: Vec<Bound>,
    /// The socket for metrics.
    pub(crate) metrics: Option<std::net::TcpListener>,
    /// The socket for other proxies.
    pub(crate) cluster: Option<std::net::TcpListener>,
    /// The control socket.
    pub(crate) socket: Option<std::os::unix::net::UnixListener>,
    /// Who is told.
    pub(crate) supervisor: Arc<Supervisor>,
}

/// What comes after an order.
pub(crate) enum Next {
    /// The process goes on.
    Serve,
    /// Another process serves; this one ends with its last session.
    Drain(Drained),
}

impl Parts {
    /// Whether the process before this one has still to be told of a reload.
    pub(crate) fn owe_reload(&self) -> bool {
        let gate = self.control.gate();
        gate.before.get().is_some_and(ProcessBefore::owes_reload)
    }

    /// Tells it, if it takes anything.
    pub(crate) fn tell_what_is_owed(&self) {
        if let Some(before) = self.control.gate().before.get() {
            before.tell_what_is_owed();
        }
    }

    /// Does what is ordered, and says what came of it: to whoever ordered, to the log, and to the
    /// audit file before.
    pub(crate) async fn obey(&self, what: Upkeep, by: &Operator) -> (Answer, Next) {
        let (order, answer, next) = match what {
            Upkeep::Reload | Upkeep::Follow => {
                ("reload", reload::reload(self, by).await, Next::Serve)
            }
            Upkeep::Upgrade => match self.upgrade(by).await {
                Ok((lines, drained)) => ("upgrade", Ok(lines), Next::Drain(drained)),
                Err(why) => {
                    tracing::error!(why, "the process was not replaced");
                    ("upgrade", Err(why), Next::Serve)
                }
            },
        };
        put_end_on_record(&self.control.gate(), (order, by), &answer).await;
        (answer, next)
    }

    async fn upgrade(&self, by: &Operator) -> Result<(Vec<String>, Drained), String> {
        let gate = self.control.gate();
        if !gate.door.keep_open() {
            let why = not_open(&gate.door);
            // It is refused whether or not that can be put on record.
            drop(put_on_record(&gate, ("upgrade", by), &format!("refused: {why}")).await);
            return Err(why);
        }
        let begun = Handover::begin(self, by).await;
        if begun.is_err() {
            gate.door.give_back();
        }
        begun
    }
}

/// Why another process may not take over now: it would let everybody in, and nobody could resume
/// those who wait here.
fn not_open(door: &Door) -> String {
    let logins = match door.is_draining() {
        true => "new logins are refused",
        false => "new logins wait",
    };
    format!("{logins} here, and the other process would let them on: postern resume first")
}

/// Changes what the log has, and says what it has then.
///
/// # Errors
///
/// A directive is none, or it cannot be put on record; nothing has changed then.
pub(crate) async fn change_levels(gate: &Gate, directives: &[String], by: &Operator) -> Answer {
    // A log may say more of people than their administrator would like.
    put_on_record(gate, ("log_level", by), &directives.join(",")).await?;
    let said = gate.levels.say(directives);
    if let Ok(levels) = &said {
        tracing::info!(levels, by = by.name, "the levels of the log were changed");
    }
    let answer = said.map(|levels| vec![levels]);
    put_end_on_record(gate, ("log_level", by), &answer).await;
    answer
}

/// Puts an order on record before it is done.
///
/// # Errors
///
/// It cannot be, so that it must not be done.
async fn put_on_record(
    gate: &Gate,
    (order, by): (&str, &Operator),
    detail: &str,
) -> Result<(), String> {
    let written = by.orders(gate, order, ("", detail)).await;
    written.map_err(|error| error.to_string())
}

/// Puts on record what came of an order, whether or not somebody waits for the answer.
async fn put_end_on_record(gate: &Gate, (order, by): (&str, &Operator), answer: &Answer) {
    let (outcome, detail) = match answer {
        Ok(lines) => (OrderOutcome::Done, lines.join("; ")),
        Err(why) => (OrderOutcome::Failed, why.clone()),
    };
    by.ended(gate, order, outcome, detail).await;
}
