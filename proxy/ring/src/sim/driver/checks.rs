//! What holds at every moment of a run, and after it.

use super::{BUFFER_BYTES, World};
use crate::driver::Bytes;
use crate::limits::QUEUE_BYTES_HIGH;

/// Bytes that TLS may add to what is counted, for each direction.
const TLS_SLACK_BYTES: usize = 64 * 1024;
/// How long bytes may wait below the mark, in microseconds: two looks, each of which may be a whole
/// step of the clock late.
const WAITING_US: u64 = 5_000;

impl World {
    /// Whether every buffer is back and nothing is in flight.
    pub(crate) fn check_nothing_is_left(&self) {
        assert_eq!(self.free.len(), self.buffers.len(), "a buffer is lost");
        assert!(self.in_flight.is_empty(), "in flight: {:?}", self.in_flight);
        assert!(
            self.wires.iter().all(|wire| wire.closed.is_some()),
            "a socket is still open"
        );
    }

    /// No byte waits for long below the mark of a stream, although the worker wants it.
    pub(super) fn check_streams(&mut self) {
        for wire in &mut self.wires {
            let waits = wire.receive.is_some() && !wire.inbox.is_empty() && !wire.is_readable();
            if !waits {
                wire.waiting_since_us = None;
                continue;
            }
            let since_us = *wire.waiting_since_us.get_or_insert(self.now_us);
            assert!(
                self.now_us - since_us <= WAITING_US,
                "the last bytes of a stream are stuck"
            );
        }
    }

    /// Sends to peers that do not read leave buffers for everybody else.
    pub(super) fn check_pool(&self) {
        let lent = self.wires.iter().filter(|wire| {
            let payload = wire.send.as_ref().map(|(_, payload, _)| &payload.bytes);
            matches!(payload, Some(Bytes::Pool(_)))
        });
        assert!(
            lent.count() <= self.buffers.len() - self.buffers.len() / 4,
            "no buffer is left"
        );
    }

    /// The bytes that the worker holds for one direction are bounded.
    pub(super) fn check_queues(&self) {
        for session in &self.script.sessions {
            for (from, to, ahead) in session.directions() {
                let (Some(from), Some(to)) = (self.wires.get(from), self.wires.get(to)) else {
                    continue;
                };
                if from.closed.is_some() {
                    continue;
                }
                let tls = from.peer.is_tls() || to.peer.is_tls();
                let burst = self.buffers.len() * BUFFER_BYTES * (1 + from.missed_cancels);
                let bound =
                    QUEUE_BYTES_HIGH + burst + ahead + if tls { TLS_SLACK_BYTES } else { 0 };
                let held = (from.received + ahead).saturating_sub(to.sent);
                // After the end of the other leg bytes are thrown away, and not held.
                let alive = !to.shut && to.broken.is_none() && !session.end_ordered;
                assert!(
                    !alive || held <= bound,
                    "{held} bytes are held in one direction"
                );
            }
        }
    }
}
