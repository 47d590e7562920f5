//! Sessions ended, and logins held back, by an operator's word.

use std::sync::Arc;
use std::time::Duration;

use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};

use super::operator::Answer;
use crate::cancel::cancel_ended;
use crate::door::State;
use crate::gate::Gate;
use crate::operators::OrderError;
use crate::session::{Ending, LiveSession, SessionId};

/// Ends one session.
pub(super) fn kill(gate: &Arc<Gate>, session: &str, why: (&str, &str)) -> Answer {
    let is_meant = |id: SessionId, _: &LiveSession| id.to_string() == session;
    match end(gate, &goodbye(why), is_meant) {
        0 => Err(OrderError::Unknown(format!(
            "there is no session {session} here; postern sessions lists them"
        ))),
        _ => Ok(vec![format!("{session} was ended")]),
    }
}

/// Ends all sessions of a role, on this proxy.
pub(super) fn kill_role(gate: &Arc<Gate>, role: &str, why: (&str, &str)) -> Answer {
    let is_meant = |_: SessionId, it: &LiveSession| it.role.as_str() == role;
    match end(gate, &goodbye(why), is_meant) {
        0 => Err(OrderError::Unknown(format!(
            "{role} has no session here; postern sessions lists them"
        ))),
        count => Ok(vec![format!("{} of {role} ended", sessions(count))]),
    }
}

/// Lets logins wait until they are resumed.
pub(super) fn pause(gate: &Gate) -> Answer {
    match gate.door.pause() {
        true => Ok(vec!["new logins wait; live sessions go on".to_owned()]),
        false if gate.door.is_draining() => Err(OrderError::NotNow(
            "the proxy is draining; resume it first".to_owned(),
        )),
        false => Err(taking_over()),
    }
}

/// Lets no more sessions begin; those that are left after a time are ended.
pub(super) fn drain(gate: &Arc<Gate>, within: Option<Duration>) -> Answer {
    let draining = gate.door.drain(within).ok_or_else(taking_over)?;
    let ends_at = match draining {
        State::Draining { ends_at, .. } => ends_at,
        State::Open | State::Paused | State::KeptOpen => None,
    };
    if let Some(at) = ends_at {
        let gate = gate.clone();
        // A later order ends the wait, and so does the process.
        drop(tokio::task::spawn_local(async move {
            if gate.door.stays(draining, at).await {
                let ended = end(&gate, &drained(), |_, _| true);
                tracing::info!(ended, "the drain is over");
            }
        }));
    }
    let left = sessions(gate.sessions.count());
    let then = match within.filter(|_| ends_at.is_some()) {
        Some(within) => format!("{left} left, which end within {} s", within.as_secs()),
        None => format!("{left} left, which end by themselves"),
    };
    Ok(vec![format!("no more sessions begin; {then}")])
}

/// It would be forgotten when the other process serves, whose door is open.
fn taking_over() -> OrderError {
    OrderError::NotNow("another process is taking over; give the order again".to_owned())
}

/// Lets logins go on.
pub(super) fn resume(gate: &Gate) -> Answer {
    match gate.door.resume() {
        true => Ok(vec!["new logins go on".to_owned()]),
        false => Err(OrderError::NotNow(
            "logins are neither paused nor refused".to_owned(),
        )),
    }
}

/// Ends the sessions that are meant, and returns how many there were.
fn end(
    gate: &Arc<Gate>,
    goodbye: &[u8],
    is_meant: impl Fn(SessionId, &LiveSession) -> bool,
) -> usize {
    let last = Arc::from(goodbye);
    let ended = gate.sessions.end(Ending::Ended, &last, is_meant);
    let live = gate.sessions.list().into_iter();
    let live = live.filter(|(id, _)| ended.contains(id));
    cancel_ended(gate, live.map(|(_, it)| it).collect());
    for id in &ended {
        gate.ring.end(id.number(), goodbye.to_vec());
    }
    ended.len()
}

fn goodbye((by, reason): (&str, &str)) -> Vec<u8> {
    let detail = match reason {
        "" => format!("Ended by {by}."),
        reason => format!("Ended by {by}: {reason}"),
    };
    error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::ADMIN_SHUTDOWN,
        message: "terminating connection because an operator ended it",
        detail: Some(&detail),
        hint: None,
    })
}

fn drained() -> Vec<u8> {
    error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::ADMIN_SHUTDOWN,
        message: "terminating connection because the proxy is draining",
        detail: None,
        hint: Some("Connect again."),
    })
}

fn sessions(count: usize) -> String {
    match count {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    }
}
