//! Cancel requests: passed to the session's backend, with the key that the backend knows.
//!
//! Source: PostgreSQL, "Canceling Requests in Progress",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>.

use std::net::IpAddr;
use std::sync::Arc;

use postern_core::wire::startup::{CancelRequest, FirstPacket};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Full;
use crate::gate::Gate;
use crate::limits::{
    CANCEL_TIMEOUT, CANCEL_WAIT, CANCEL_WITHOUT_PLACE_WAIT, ENDED_CANCELS_TIMEOUT,
};
use crate::negotiate::first_packet;
use crate::session::{CancelKey, Cancellation, LiveSession};
use crate::stream::Stream;

/// Passes a cancel request on that comes from an address. The client gets no answer, as with
/// PostgreSQL, so that nobody can find keys out by trying.
pub(crate) async fn cancel(gate: &Gate, request: CancelRequest, client: IpAddr) {
    let asked = CancelKey {
        pid: request.pid,
        key: request.key,
    };
    if gate.rates.begin_cancel(client).is_err() {
        let pid = asked.pid;
        tracing::warn!(%client, pid, "a cancel request was dropped: too many within a minute");
        return;
    }
    if cancel_here(gate, &asked).await == Found::Yes {
        return;
    }
    let Some(peers) = &gate.peers else {
        tracing::debug!(pid = asked.pid, "a cancel request for no live session");
        return;
    };
    peers.cancel(&asked).await;
}

/// Serves a client for whom there is no place, if all that it wants is a query cancelled: whoever
/// holds every place must not keep others from that.
///
/// Only what comes in the clear is looked at, as libpq's `PQcancel` sends it: a handshake is what
/// a client without a place must not cost.
///
/// # Errors
///
/// `full`, if it wants anything else.
pub(crate) async fn cancel_without_place(
    gate: &Gate,
    client: &mut Stream,
    address: IpAddr,
    full: Full,
) -> Result<(), Full> {
    let permits = &gate.permits;
    let place = permits.cancels_without_place.try_acquire();
    let of_address = permits.cancels_by_address.enter(address);
    if place.is_err() || of_address.is_err() {
        return Err(full);
    }
    let packet = timeout(CANCEL_WITHOUT_PLACE_WAIT, first_packet(client)).await;
    // What comes now has places of its own.
    drop((place, of_address));
    match packet {
        Ok(Ok(FirstPacket::Cancel(request))) => {
            Box::pin(cancel(gate, request, address)).await;
            Ok(())
        }
        Ok(Ok(_) | Err(_)) | Err(_) => Err(full),
    }
}

/// Whether the key of a cancel request is that of a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is, and what can be done has been done.
    Yes,
    /// Not of this process.
    No,
}

/// Passes a cancel request on to the backend of a session of this process, or to the process
/// before it, which may have kept the session.
pub(crate) async fn cancel_here(gate: &Gate, asked: &CancelKey) -> Found {
    let Some(cancellation) = gate.sessions.to_cancel(asked) else {
        if let Some(before) = gate.before.get() {
            before.pass_on(asked);
        }
        return Found::No;
    };
    if let Ok(_places) = timeout(CANCEL_WAIT, places(gate, &cancellation)).await {
        reach(&cancellation).await;
    } else {
        let pid = asked.pid;
        tracing::warn!(pid, "a cancel request was dropped: too many are under way");
    }
    Found::Yes
}

/// A place among the cancel requests for one server, and one among all of them: a server that does
/// not answer leaves places to the others. The semaphores are never closed.
async fn places<'a>(gate: &'a Gate, to: &'a Cancellation) -> [Option<SemaphorePermit<'a>>; 2] {
    // In this order: whoever waits for such a server has no place that others need.
    let at_server = to.target.cancels.acquire().await.ok();
    [at_server, gate.permits.cancels.acquire().await.ok()]
}

async fn reach(cancellation: &Cancellation) {
    let Cancellation {
        target,
        address,
        key,
    } = cancellation;
    let outcome = timeout(CANCEL_TIMEOUT, target.cancel(*address, key));
    let why = match outcome.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("{} took too long", target.host()),
    };
    tracing::warn!(
        pid = key.pid,
        why,
        "a cancel request could not be passed on"
    );
}

/// Has the queries cancelled of sessions that are being ended: a database that is computing does
/// not see that a connection is gone until it writes.
///
/// Whoever ends sessions does not wait for it; the sessions are ended whatever comes of it. Runs
/// within the event loop of the caller.
pub(crate) fn cancel_ended(gate: &Arc<Gate>, ended: Vec<LiveSession>) {
    let orders = ended.into_iter();
    let orders: Vec<_> = orders
        .filter_map(|it| {
            let key = it.cancel?.backend;
            let (target, address) = (it.target, it.backend);
            Some(Cancellation {
                target,
                address,
                key,
            })
        })
        .collect();
    if orders.is_empty() {
        return;
    }
    let places = gate.permits.ended_cancels.clone();
    drop(tokio::spawn(async move {
        let count = orders.len();
        let deadline = Instant::now() + ENDED_CANCELS_TIMEOUT;
        let failed = side_by_side(orders, &places, deadline, carry_out).await;
        if failed > 0 {
            tracing::warn!(failed, count, "queries of ended sessions may go on");
        }
    }));
}

/// Has one query cancelled; false where it may go on.
async fn carry_out(order: Cancellation) -> bool {
    let cancelled = order.target.cancel(order.address, &order.key);
    let outcome = timeout(CANCEL_TIMEOUT, cancelled).await;
    matches!(outcome, Ok(Ok(())))
}

/// Carries out as many orders at the same time as there are places, and begins none after the
/// deadline. Returns how many failed or were not begun.
async fn side_by_side<T, F>(
    orders: Vec<T>,
    places: &Arc<Semaphore>,
    deadline: Instant,
    carry_out: impl Fn(T) -> F,
) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let count = orders.len();
    let mut under_way = JoinSet::new();
    for order in orders {
        let place = timeout_at(deadline, places.clone().acquire_owned()).await;
        // The semaphore is never closed; both errors mean that no place came free.
        let Ok(Ok(place)) = place else { break };
        if Instant::now() >= deadline {
            break;
        }
        let carried_out = carry_out(order);
        under_way.spawn(async move {
            let done = carried_out.await;
            drop(place);
            done
        });
    }
    let mut done = 0;
    while let Some(outcome) = under_way.join_next().await {
        done += usize::from(matches!(outcome, Ok(true)));
    }
    count - done
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Barrier;

    use super::*;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn as_many_are_cancelled_at_once_as_there_are_places() {
        let places = Arc::new(Semaphore::new(4));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Nobody goes on before four are under way.
        let meeting = Arc::new(Barrier::new(4));
        let carry_out = |order: usize| {
            let (now, most, meeting) = (now.clone(), most.clone(), meeting.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                meeting.wait().await;
                now.fetch_sub(1, Ordering::SeqCst);
                order != 5
            }
        };
        let deadline = Instant::now() + PATIENCE;
        let cancelling = side_by_side((0..12).collect(), &places, deadline, carry_out);
        assert_eq!(timeout(PATIENCE, cancelling).await.ok(), Some(1));
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert_eq!(places.available_permits(), 4);
    }

    #[tokio::test]
    async fn after_the_deadline_none_is_begun() {
        let places = Arc::new(Semaphore::new(2));
        let orders = || vec![(); 100];
        let failed = side_by_side(orders(), &places, Instant::now(), |()| ready(true)).await;
        assert_eq!(failed, 100, "it was too late from the first");
        let held = places.clone().acquire_many_owned(2).await;
        let deadline = Instant::now() + Duration::from_millis(20);
        let failed = side_by_side(orders(), &places, deadline, |()| ready(true)).await;
        assert_eq!((failed, held.is_ok()), (100, true), "no place came free");
    }
}
