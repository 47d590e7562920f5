//! One worker: reap what has completed, handle it, wait for the next batch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use slab::Slab;

use crate::chunks::Chunks;
use crate::counters::Counters;
use crate::driver::{Completion, Driver};
use crate::leg::Context;
use crate::mailbox::{Handover, Mailbox, OnClose, Orders};
use crate::session::Record;
use crate::token::{Op, Token};
use crate::{Closed, Traffic};

/// A session's record and whom to tell when it is closed.
struct Entry<S> {
    record: Record<S>,
    on_close: OnClose,
}

/// When a session wants to be looked at: milliseconds, slot, generation.
type Deadline = Reverse<(u64, u32, u32)>;

/// One worker over the kernel's ring, or over a simulated one.
pub(crate) struct Worker<D: Driver> {
    driver: D,
    mailbox: Arc<Mailbox<D::Socket>>,
    counters: Arc<Counters>,
    sessions: Slab<Entry<D::Socket>>,
    slots: HashMap<u64, u32>,
    chunks: Chunks,
    /// At most one for each time that a session has set its deadline, a few in its life.
    deadlines: BinaryHeap<Deadline>,
    /// Given to each session in turn, so that a slot that is used again has another one.
    generation: u32,
    stopping: bool,
}

impl<D: Driver> Worker<D> {
    /// A worker without sessions.
    pub(crate) fn new(
        driver: D,
        mailbox: Arc<Mailbox<D::Socket>>,
        counters: Arc<Counters>,
        sessions_max: usize,
    ) -> Self {
        Self {
            driver,
            mailbox,
            counters,
            // All at once: growing would move every record while sessions wait.
            sessions: Slab::with_capacity(sessions_max),
            slots: HashMap::new(),
            chunks: Chunks::default(),
            deadlines: BinaryHeap::new(),
            generation: 0,
            stopping: false,
        }
    }

    /// Works until a stop is ordered and the last session is closed.
    pub(crate) fn run(mut self) -> D {
        let mut completions = Vec::new();
        while !self.stopping || !self.sessions.is_empty() {
            let timeout_ms = self.timeout_ms();
            self.driver.wait(timeout_ms, &mut completions);
            self.counters.batches.add(1);
            for completion in completions.drain(..) {
                self.handle(completion);
            }
            self.expire();
        }
        self.driver
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, what, last } => {
                self.counters.receives.add(1);
                if let Op::Receive(side) = token.op {
                    self.with(token, |record, context| {
                        record.received(context, side, (what, last))
                    });
                }
            }
            Completion::Sent {
                token,
                payload,
                result,
            } => {
                self.counters.sends.add(1);
                if let Op::Send(side) = token.op {
                    self.with(token, |record, context| {
                        record.sent(context, side, (payload, result))
                    });
                }
            }
            Completion::Cancelled { token, found } => {
                if !found && self.is_live(token) {
                    self.with(token, |record, context| {
                        record.cancelled(context, token.op, found)
                    });
                }
            }
            Completion::Woken => {
                let orders = self.mailbox.take();
                self.obey(orders);
            }
        }
    }

    /// Handles an event of one session, and closes the session when nothing of it is in flight.
    fn with(
        &mut self,
        token: Token,
        event: impl FnOnce(&mut Record<D::Socket>, &mut Context<'_, D>),
    ) {
        let slot = token.slot as usize;
        let mut context = Context {
            driver: &mut self.driver,
            chunks: &mut self.chunks,
            counters: &self.counters,
        };
        let Some(entry) = self.sessions.get_mut(slot) else {
            unreachable!("a completion for no session: {token:?}");
        };
        assert_eq!(
            entry.record.name.generation, token.generation,
            "a completion came too late"
        );
        let deadline_ms = entry.record.deadline_ms;
        event(&mut entry.record, &mut context);
        if let Some(at_ms) = entry.record.deadline_ms
            && deadline_ms != Some(at_ms)
        {
            self.deadlines
                .push(Reverse((at_ms, token.slot, token.generation)));
        }
        if entry.record.is_joined() {
            let Entry { record, on_close } = self.sessions.remove(slot);
            let (id, bytes_to_client) = (record.id, record.bytes_to_client);
            let bytes_to_backend = record.bytes_to_backend;
            self.slots.remove(&id);
            let reason = record.close(&mut context);
            self.counters.closed.add(1);
            on_close(Closed {
                id,
                reason,
                bytes_to_client,
                bytes_to_backend,
            });
        }
    }

    fn is_live(&self, token: Token) -> bool {
        let entry = self.sessions.get(token.slot as usize);
        entry.is_some_and(|entry| entry.record.name.generation == token.generation)
    }

    fn obey(&mut self, orders: Orders<D::Socket>) {
        for handover in orders.handovers {
            self.take_over(handover);
        }
        for (id, goodbye) in orders.ends {
            // A session that has just closed by itself needs no end.
            if let Some(&slot) = self.slots.get(&id) {
                self.end(slot, &goodbye);
            }
        }
        for tell in orders.traffic {
            tell(self.traffic());
        }
        orders.obeyed.into_iter().for_each(|tell| tell());
        if orders.stop && !self.stopping {
            self.stopping = true;
            let slots: Vec<u32> = self.slots.values().copied().collect();
            for slot in slots {
                self.end(slot, &[]);
            }
        }
    }

    fn traffic(&self) -> Vec<Traffic> {
        let records = self.sessions.iter().map(|(_, entry)| &entry.record);
        let traffic = records.map(|record| Traffic {
            id: record.id,
            bytes_to_client: record.bytes_to_client,
            bytes_to_backend: record.bytes_to_backend,
        });
        traffic.collect()
    }

    fn take_over(&mut self, handover: Handover<D::Socket>) {
        let Handover {
            id,
            client,
            backend,
            to_client,
            to_backend,
            on_close,
        } = handover;
        self.generation = self.generation.wrapping_add(1);
        let vacant = self.sessions.vacant_entry();
        let Ok(slot) = u32::try_from(vacant.key()) else {
            unreachable!("the registry admits no more sessions than a token can name");
        };
        let name = Token {
            slot,
            generation: self.generation,
            op: Op::Driver,
        };
        vacant.insert(Entry {
            record: Record::new(id, name, client, backend),
            on_close,
        });
        self.slots.insert(id, slot);
        self.counters.opened.add(1);
        self.with(name, |record, context| {
            record.start(context, &to_client, &to_backend)
        });
    }

    fn end(&mut self, slot: u32, goodbye: &[u8]) {
        if let Some(entry) = self.sessions.get(slot as usize) {
            let name = entry.record.name;
            self.with(name, |record, context| record.end(context, goodbye));
        }
    }

    fn timeout_ms(&self) -> Option<u64> {
        let Reverse((at_ms, ..)) = self.deadlines.peek()?;
        Some(at_ms.saturating_sub(self.driver.now_ms()))
    }

    fn expire(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        let now_ms = self.driver.now_ms();
        while let Some(&Reverse((at_ms, slot, generation))) = self.deadlines.peek() {
            if now_ms < at_ms {
                return;
            }
            self.deadlines.pop();
            let name = Token {
                slot,
                generation,
                op: Op::Driver,
            };
            let entry = self.sessions.get(slot as usize).map(|entry| &entry.record);
            // Only the deadline that the session still has counts: the others were replaced.
            let due = entry.is_some_and(|record| {
                record.name.generation == generation && record.deadline_ms == Some(at_ms)
            });
            if due {
                self.with(name, |record, context| record.expired(context));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::sends::Sending;

    #[test]
    fn the_record_of_a_plain_session_is_far_below_2_kib() {
        // What an idle session owns: its entry, its places in the driver's table of sends and in
        // the worker's index. That its queues own nothing is asserted after every event
        // (`Sender::has_no_idle_memory`), in the simulator too.
        let entry = size_of::<Entry<OwnedFd>>();
        let sends = size_of::<[Option<Sending>; 2]>();
        let index = 2 * size_of::<(u64, u32)>();
        let all = entry + sends + index;
        println!("entry {entry}, sends {sends}, index {index}: {all} bytes");
        assert!(all <= 640, "{all} bytes");
    }
}
