//! One session in a worker: two legs, and the way from open to closed.
//!
//! ```text
//!          one leg fails                        both sockets
//!  Open ────────────────▸ Draining ──┐          have nothing
//!   │ │                              ├▸ Joining ───────────▸ closed
//!   │ └── end() ────────▸ Ending ────┤          in flight
//!   └──── both streams have ended ───┘
//! ```
//!
//! - Open: bytes go both ways. The end of one stream is passed on as the end of the other, after
//!   what is queued, while the other direction goes on.
//! - Draining: one leg is gone. What it sent before still goes to the other leg, for a limited
//!   time; then that one is reset.
//! - Ending: ordered by us. The backend is shut down, the client gets what is queued and the
//!   goodbye, for a limited time.
//! - Joining: whatever is in flight is cancelled and waited for. The sockets are closed after it.

mod passing;

use crate::CloseReason;
use crate::driver::{Closing, Driver, Errno, Payload, Received, Shots};
use crate::leg::{Context, End, Leg, ReceiveOp, SendOp, Source};
use crate::limits::{DRAIN_MS, END_FLUSH_MS, END_LINGER_MS, HALF_CLOSED_MS, JOIN_MS};
use crate::token::{Op, Side, Token};

/// Where a session is on its way from open to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Draining { failed: Side },
    Ending,
    Joining { client: Closing, backend: Closing },
}

/// The record of a session.
pub(crate) struct Record<S> {
    pub(crate) id: u64,
    /// The token of any operation of this session, but for the operation itself.
    pub(crate) name: Token,
    client: Leg<S>,
    backend: Leg<S>,
    phase: Phase,
    /// Why the session ends; the first cause counts.
    cause: Option<CloseReason>,
    pub(crate) bytes_to_client: u64,
    pub(crate) bytes_to_backend: u64,
    /// When the present phase has lasted long enough, in the driver's milliseconds.
    pub(crate) deadline_ms: Option<u64>,
}

impl<S> Record<S> {
    /// A session that has sent and received nothing yet.
    pub(crate) fn new(id: u64, name: Token, client: Leg<S>, backend: Leg<S>) -> Self {
        Self {
            id,
            name,
            client,
            backend,
            phase: Phase::Open,
            cause: None,
            bytes_to_client: 0,
            bytes_to_backend: 0,
            deadline_ms: None,
        }
    }

    /// Takes over from the login: sends what it read ahead, then starts to receive.
    pub(crate) fn start<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        to_client: &[u8],
        to_backend: &[u8],
    ) {
        for (side, bytes) in [(Side::Client, to_client), (Side::Backend, to_backend)] {
            self.count(context, side, bytes.len());
            if let Err(error) = self.leg(side).put(context.chunks, bytes) {
                self.fail(context, side, CloseReason::TlsError(side, error));
            }
        }
        for side in [Side::Client, Side::Backend] {
            // What rustls has read ahead of the last message of the login.
            self.decrypt(context, side, None);
        }
        self.advance(context);
    }

    /// Handles the completion of a receive.
    pub(crate) fn received<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        side: Side,
        (what, last): (Received, bool),
    ) {
        if last {
            self.leg(side).receiver.op = ReceiveOp::None;
        }
        match what {
            Received::Data(buffer) => {
                self.data(context, side, buffer);
                if self.is_under_way(side) {
                    return;
                }
            }
            Received::End => self.stream_ended(context, side),
            Received::NoBuffer => context.counters.buffers_missed.add(1),
            Received::Cancelled => {}
            Received::Failed(errno) => {
                self.leg(side).receiver.source = Source::Finished;
                self.fail(context, side, CloseReason::of(side, errno));
            }
        }
        self.advance(context);
    }

    /// Handles the completion of a send.
    pub(crate) fn sent<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        side: Side,
        (payload, result): (Payload, Result<usize, Errno>),
    ) {
        let name = self.name;
        let is_waited_for = self.waits_for_send(side);
        let leg = self.leg(side);
        match result {
            Ok(taken) if 0 < taken => {
                leg.sender.sent(
                    context,
                    name.with(Op::Send(side)),
                    &leg.socket,
                    (payload, taken),
                );
                if !is_waited_for {
                    return;
                }
            }
            result => {
                let cancelled = leg.sender.op == SendOp::Cancelling;
                leg.sender.failed(context, payload);
                if !cancelled {
                    // A send that takes nothing cannot be told from a broken one.
                    let errno = result.err().unwrap_or(Errno(libc::EPIPE));
                    self.fail(context, side, CloseReason::of(side, errno));
                }
            }
        }
        self.advance(context);
    }

    /// Handles a cancellation that was carried out.
    pub(crate) fn cancelled<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        op: Op,
        found: bool,
    ) {
        if found {
            return;
        }
        // The operation was between two of its completions: it is still in flight, so try again.
        match op {
            Op::CancelReceive(side) => {
                let leg = self.leg(side);
                if leg.receiver.op == ReceiveOp::Cancelling {
                    leg.receiver.op = ReceiveOp::Armed(Shots::Multi);
                }
            }
            Op::CancelSend(side) => {
                let leg = self.leg(side);
                if leg.sender.op == SendOp::Cancelling {
                    leg.sender.op = SendOp::InFlight;
                }
            }
            Op::Receive(_) | Op::Send(_) | Op::Driver => {}
        }
        self.advance(context);
    }

    /// Ends the session by our own order.
    pub(crate) fn end<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        goodbye: &[u8],
    ) {
        if self.phase != Phase::Open {
            // It is about to end anyway, within the limit of its phase.
            return;
        }
        self.cause.get_or_insert(CloseReason::Ended);
        self.phase = Phase::Ending;
        self.deadline_ms = Some(context.driver.now_ms() + END_FLUSH_MS);
        self.backend.sender.kill(context.chunks);
        self.backend.receiver.source = Source::Finished;
        context.driver.shutdown(&self.backend.socket);
        if self.client.receiver.source == Source::Paused {
            // What it still sends is thrown away, up to its end.
            self.client.receiver.source = Source::Open;
        }
        if self.client.put(context.chunks, goodbye).is_err() {
            self.client.sender.kill(context.chunks);
        }
        self.client.finish(context.chunks);
        self.advance(context);
    }

    /// Goes on after the deadline of the present phase.
    pub(crate) fn expired<D: Driver<Socket = S>>(&mut self, context: &mut Context<'_, D>) {
        self.deadline_ms = None;
        match self.phase {
            Phase::Open | Phase::Draining { .. } | Phase::Ending => self.join(context),
            Phase::Joining { .. } => {
                // The cancellations did not do it; a socket that is shut down completes all.
                context.driver.shutdown(&self.client.socket);
                context.driver.shutdown(&self.backend.socket);
                self.client.cancel(context, self.name, Side::Client);
                self.backend.cancel(context, self.name, Side::Backend);
                self.deadline_ms = Some(context.driver.now_ms() + JOIN_MS);
            }
        }
        self.advance(context);
    }

    /// Whether nothing is in flight any more and the sockets may be closed.
    pub(crate) fn is_joined(&self) -> bool {
        matches!(self.phase, Phase::Joining { .. })
            && !self.client.in_flight()
            && !self.backend.in_flight()
    }

    /// Closes both sockets and says why.
    pub(crate) fn close<D: Driver<Socket = S>>(
        mut self,
        context: &mut Context<'_, D>,
    ) -> CloseReason {
        let (client, backend) = match self.phase {
            Phase::Joining { client, backend } => (client, backend),
            Phase::Open | Phase::Draining { .. } | Phase::Ending => {
                (Closing::Reset, Closing::Reset)
            }
        };
        self.client.sender.kill(context.chunks);
        self.backend.sender.kill(context.chunks);
        context.driver.close(self.client.socket, client);
        context.driver.close(self.backend.socket, backend);
        self.cause.unwrap_or(CloseReason::Ended)
    }

    /// The peer has sent its last byte: passes that on.
    fn stream_ended<D: Driver<Socket = S>>(&mut self, context: &mut Context<'_, D>, side: Side) {
        let leg = self.leg(side);
        if leg.receiver.source == Source::Finished {
            return;
        }
        leg.receiver.source = Source::Finished;
        if leg.tls.as_mut().is_some_and(|tls| !tls.peer_has_closed()) {
            // PostgreSQL's own peers leave the close_notify out too: it is noted, no more.
            context.counters.tls_cut.add(1);
        }
        if self.phase == Phase::Open {
            self.cause.get_or_insert(match side {
                Side::Client => CloseReason::ClientClosed,
                Side::Backend => CloseReason::BackendClosed,
            });
            self.leg(side.other()).finish(context.chunks);
        }
    }

    /// One leg is gone: what it sent before goes to the other leg, and then that one ends too.
    fn fail<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        side: Side,
        reason: CloseReason,
    ) {
        match self.phase {
            Phase::Open => {
                if !matches!(reason, CloseReason::TlsError(..)) {
                    self.leg(side).sender.kill(context.chunks);
                } else if self.leg(side).sender.end == End::Open {
                    // The alert that names the error is the last thing that goes out.
                    self.leg(side).sender.end = End::AfterQueue;
                }
                self.cause.get_or_insert(reason);
                self.leg(side.other()).receiver.source = Source::Finished;
                self.phase = Phase::Draining { failed: side };
                self.deadline_ms = Some(context.driver.now_ms() + DRAIN_MS);
            }
            Phase::Draining { failed } if failed != side => self.join(context),
            Phase::Ending if side == Side::Client => self.join(context),
            Phase::Draining { .. } | Phase::Ending | Phase::Joining { .. } => {}
        }
    }

    /// Starts whatever can start now, and goes to the next phase when this one is over.
    fn advance<D: Driver<Socket = S>>(&mut self, context: &mut Context<'_, D>) {
        if matches!(self.phase, Phase::Joining { .. }) {
            self.client.cancel(context, self.name, Side::Client);
            self.backend.cancel(context, self.name, Side::Backend);
            return;
        }
        for side in [Side::Client, Side::Backend] {
            let token = self.name.with(Op::Send(side));
            let leg = self.leg(side);
            leg.sender.advance(context, token, &leg.socket);
        }
        self.regulate(context);
        for side in [Side::Client, Side::Backend] {
            let name = self.name;
            let leg = self.leg(side);
            leg.receiver.advance(context, name, side, &leg.socket);
        }
        self.next_phase(context);
        for side in [Side::Client, Side::Backend] {
            if self.waits_for_send(side) {
                context.driver.hurry(self.name.with(Op::Send(side)));
            }
        }
        debug_assert!(self.client.sender.has_no_idle_memory());
        debug_assert!(self.backend.sender.has_no_idle_memory());
    }

    /// Whether anything is to happen as soon as the send in flight is done.
    fn waits_for_send(&mut self, side: Side) -> bool {
        let is_paused = self.leg(side.other()).receiver.source == Source::Paused;
        let (phase, sender) = (self.phase, &self.leg(side).sender);
        let is_alone = sender.is_on_its_way() && !is_paused && phase == Phase::Open;
        sender.op != SendOp::None && !is_alone
    }

    /// Lets each receiver run or rest, by the queue that it fills.
    fn regulate<D: Driver<Socket = S>>(&mut self, context: &mut Context<'_, D>) {
        if self.phase != Phase::Ending {
            self.client
                .receiver
                .regulate(self.backend.sender.queued, context.counters);
        }
        self.backend
            .receiver
            .regulate(self.client.sender.queued, context.counters);
    }

    fn next_phase<D: Driver<Socket = S>>(&mut self, context: &mut Context<'_, D>) {
        let done = |leg: &Leg<S>| leg.sender.end == End::Done;
        let finished = |leg: &Leg<S>| leg.receiver.source == Source::Finished;
        match self.phase {
            Phase::Open => {
                if !done(&self.client) || !finished(&self.backend) {
                    return;
                }
                if done(&self.backend) && finished(&self.client) {
                    self.join(context);
                } else if self.deadline_ms.is_none() {
                    self.deadline_ms = Some(context.driver.now_ms() + HALF_CLOSED_MS);
                }
            }
            Phase::Draining { failed } => {
                let (gone, other) = match failed {
                    Side::Client => (&self.client, &self.backend),
                    Side::Backend => (&self.backend, &self.client),
                };
                let flushed = matches!(gone.sender.end, End::Done | End::Dead);
                if finished(gone) && flushed && other.sender.is_idle() {
                    self.join(context);
                }
            }
            Phase::Ending => {
                if !done(&self.client) {
                    return;
                }
                if finished(&self.client) {
                    self.join(context);
                } else {
                    let linger_ms = context.driver.now_ms() + END_LINGER_MS;
                    let deadline_ms = self.deadline_ms.map_or(linger_ms, |at| at.min(linger_ms));
                    self.deadline_ms = Some(deadline_ms);
                }
            }
            Phase::Joining { .. } => {}
        }
    }

    /// Starts to end both legs for good.
    fn join<D: Driver<Socket = S>>(&mut self, context: &mut Context<'_, D>) {
        let closing = |leg: &Leg<S>, otherwise| match leg.sender.end {
            End::Done => Closing::Graceful,
            End::Open | End::AfterQueue | End::Dead => otherwise,
        };
        let backend_otherwise = match self.phase {
            // The backend has closed its stream itself, or we have shut it down: no reset needed.
            Phase::Open | Phase::Ending => Closing::Graceful,
            Phase::Draining { .. } | Phase::Joining { .. } => Closing::Reset,
        };
        self.phase = Phase::Joining {
            client: closing(&self.client, Closing::Reset),
            backend: closing(&self.backend, backend_otherwise),
        };
        self.deadline_ms = Some(context.driver.now_ms() + JOIN_MS);
        for leg in [&mut self.client, &mut self.backend] {
            leg.sender.kill(context.chunks);
            leg.receiver.source = Source::Finished;
        }
        self.client.cancel(context, self.name, Side::Client);
        self.backend.cancel(context, self.name, Side::Backend);
    }

    fn leg(&mut self, side: Side) -> &mut Leg<S> {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }
}
