//! The end of a login that does not come through.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use postern_core::audit::{Record, RefusedReason};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Visit;
use crate::cancel::cancel_without_place;
use crate::error::{Full, LoginError};
use crate::gate::Plane;
use crate::limits::{CANCEL_WITHOUT_PLACE_WAIT, LINGER, REFUSAL_DELAY};
use crate::negotiate::{introduce, speaks_for_others};
use crate::report::{Report, report};
use crate::stream::Stream;

/// Tells a client in the clear, before a handshake, that there are too many, as PostgreSQL itself
/// does when it cannot start a backend; unless it only wants a query cancelled.
pub(crate) async fn turn_away(plane: Arc<Plane>, mut client: Stream, mut visit: Visit, full: Full) {
    let gate = &plane.gate;
    if speaks_for_others(visit.client.ip(), &gate.config.listen.proxy_protocol_from) {
        let introduced = introduce(&mut client, visit.client);
        // Whoever is not introduced in time is told so as the proxy itself.
        if let Ok(Ok(address)) = timeout(CANCEL_WITHOUT_PLACE_WAIT, introduced).await {
            visit.client = address;
        }
    }
    match cancel_without_place(gate, &mut client, visit.client.ip(), full).await {
        Ok(()) => client.close().await,
        Err(full) => refuse(&plane, client, &visit, &LoginError::Full(full)).await,
    }
}

/// Says why, to the audit file first and then to the client, and closes.
pub(super) async fn refuse(plane: &Plane, mut client: Stream, visit: &Visit, error: &LoginError) {
    let Report {
        message,
        delayed,
        reason,
        detail,
    } = report(error, visit.login.as_deref());
    plane.gate.counts.refused.count(reason);
    if visit.login.is_none() && reason == RefusedReason::ClientGone {
        // It said nothing at all: a health check or a port scan, and no attempt.
        tracing::debug!(session = %visit.id, client = %visit.client, detail, "a client left");
        return;
    }
    if visit.place.is_none() {
        let client = visit.client;
        tracing::warn!(%client, detail, "a connection was closed at once: too many are being told");
        return;
    }
    let record = Record::Refused {
        client: visit.client.to_string(),
        reason,
        detail: detail.clone(),
    };
    // There is nothing left to refuse when the record cannot be written.
    drop(plane.gate.record(visit.id, &record).await);
    tracing::info!(session = %visit.id, client = %visit.client, fault = ?error.fault(),
        reason = reason.label(), detail, "a login ended");
    if let (true, Some(asked)) = (delayed, visit.asked) {
        sleep(REFUSAL_DELAY.saturating_sub(asked.elapsed())).await;
    }
    let Some(message) = message else { return };
    // A client that does not read is not waited for.
    if let Ok(Ok(())) = timeout(LINGER, client.send(&message)).await {
        client.close().await;
    }
}

/// Returns when the process is told to stop and nothing is being written to the client, because
/// whoever has a part of a message cannot be told anything more.
///
/// It is polled with the login that writes, and each time after it, so that no write ends unseen.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>, writing: Rc<Cell<bool>>) {
    // It ends otherwise only with the gate, which the login has.
    drop(stopping.wait_for(|stopping| *stopping).await);
    let written = poll_fn(|_| match writing.get() {
        true => Poll::Pending,
        false => Poll::Ready(()),
    });
    // What a login says is little, and fits in the socket's buffer unless the client is no honest
    // one.
    drop(timeout(LINGER, written).await);
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_stop_waits_for_what_is_being_written() {
        let (stopping, told) = watch::channel(false);
        let writing = Rc::new(Cell::new(true));
        let mut stopped = pin!(stopped(told, writing.clone()));
        let mut is_over = async || {
            poll_fn(|context| Poll::Ready(stopped.as_mut().poll(context).is_ready())).await
        };
        assert!(!is_over().await, "nobody has said so");
        stopping.send_replace(true);
        assert!(!is_over().await, "a message is cut");
        writing.set(false);
        assert!(is_over().await);
    }
}
