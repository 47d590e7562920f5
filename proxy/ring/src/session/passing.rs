//! How bytes pass from one leg of a session to the other.

use super::{Phase, Record};
use crate::CloseReason;
use crate::driver::{Buffer, Driver};
use crate::leg::{Context, ReceiveOp, Source};
use crate::limits::QUEUE_BYTES_HIGH;
use crate::tls::Fault;
use crate::token::{Op, Side};

impl<S> Record<S> {
    /// Passes received bytes on to the other leg.
    pub(super) fn data<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        side: Side,
        buffer: Buffer,
    ) {
        let is_full = context.driver.is_full(&buffer);
        self.leg(side).receiver.filled(is_full);
        if !self.forwards(side) {
            context.driver.release(buffer);
            return;
        }
        let name = self.name;
        if self.leg(side).tls.is_some() {
            self.decrypt(context, side, Some(buffer));
            return;
        }
        let to = side.other();
        self.count(context, to, buffer.len as usize);
        let leg = self.leg(to);
        if leg.tls.is_none() {
            leg.sender
                .forward(context, name.with(Op::Send(to)), &leg.socket, buffer);
            return;
        }
        let sealed = leg.put(context.chunks, context.driver.bytes(&buffer));
        context.driver.release(buffer);
        if let Err(error) = sealed {
            self.fail(context, to, CloseReason::TlsError(to, error));
        }
    }

    /// Whether a receive goes on and what it brought is being sent, so that nothing is to be done.
    pub(super) fn is_under_way(&mut self, side: Side) -> bool {
        let is_open = self.phase == Phase::Open;
        // A leg with TLS may have records of its own to send.
        let is_plain = self.leg(side).tls.is_none();
        let receiver = &self.leg(side).receiver;
        let receives = receiver.op == ReceiveOp::Armed(receiver.shots);
        let sender = &self.leg(side.other()).sender;
        is_open
            && receives
            && is_plain
            && sender.is_on_its_way()
            && sender.queued < QUEUE_BYTES_HIGH
    }

    /// Decrypts received bytes, or what rustls already has, and passes the plaintext on.
    pub(super) fn decrypt<D: Driver<Socket = S>>(
        &mut self,
        context: &mut Context<'_, D>,
        side: Side,
        buffer: Option<Buffer>,
    ) {
        let (from, to) = match side {
            Side::Client => (&mut self.client, &mut self.backend),
            Side::Backend => (&mut self.backend, &mut self.client),
        };
        let Some(tls) = &mut from.tls else { return };
        let mut len = 0;
        let chunks = &mut *context.chunks;
        let mut sink = |plaintext: &[u8]| {
            len += plaintext.len();
            to.put(chunks, plaintext)
        };
        let outcome = match &buffer {
            Some(buffer) => tls.feed(context.driver.bytes(buffer), sink),
            None => tls.pump(&mut sink),
        };
        let ended = tls.peer_has_closed();
        if let Some(buffer) = buffer {
            context.driver.release(buffer);
        }
        from.put_records(context.chunks);
        self.count(context, side.other(), len);
        match outcome {
            Ok(()) if ended => self.stream_ended(context, side),
            Ok(()) => {}
            Err(Fault::Source(error)) => {
                self.leg(side).receiver.source = Source::Finished;
                self.fail(context, side, CloseReason::TlsError(side, error));
            }
            Err(Fault::Sink(error)) => {
                let to = side.other();
                self.fail(context, to, CloseReason::TlsError(to, error));
            }
        }
    }

    /// Whether bytes from this leg are still passed on.
    fn forwards(&mut self, side: Side) -> bool {
        let wanted = match self.phase {
            Phase::Open => true,
            Phase::Draining { failed } => failed == side,
            Phase::Ending | Phase::Joining { .. } => false,
        };
        wanted && self.leg(side).receiver.source != Source::Finished
    }

    /// Counts application bytes that go to this leg.
    pub(super) fn count<D: Driver<Socket = S>>(
        &mut self,
        context: &Context<'_, D>,
        to: Side,
        bytes: usize,
    ) {
        let counters = context.counters;
        let (mine, all) = match to {
            Side::Client => (&mut self.bytes_to_client, &counters.bytes_to_client),
            Side::Backend => (&mut self.bytes_to_backend, &counters.bytes_to_backend),
        };
        *mine += bytes as u64;
        all.add(bytes as u64);
    }
}
