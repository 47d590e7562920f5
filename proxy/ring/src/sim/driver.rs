//! A ring that is not there: sockets, buffers and time, in an order that a seed decides.

use std::collections::{HashSet, VecDeque};

use super::random::Random;
use super::script::Script;
use super::wire::{KERNEL_BYTES, Wire, take};
use crate::driver::{Buffer, Bytes, Closing, Completion, Driver, Errno, Payload, Received, Shots};
use crate::limits::QUEUE_BYTES_HIGH;
use crate::token::{Op, Token};

/// Receive buffers of the simulated pool: few, so that they run out.
const BUFFERS_MIN: usize = 4;
const BUFFERS_MAX: usize = 16;
const BUFFER_BYTES: usize = 4096;
/// Bytes that TLS may add to what is counted, for each direction.
const TLS_SLACK_BYTES: usize = 64 * 1024;
/// Steps without any effect after which time jumps to the next deadline.
const QUIET_STEPS: usize = 800;
/// Steps after which a run counts as hanging.
const STEPS_MAX: usize = 3_000_000;

/// A simulated socket, by its number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Socket(pub(crate) usize);

/// The simulated world.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) wires: Vec<Wire>,
    pub(crate) script: Script,
    buffers: Vec<Vec<u8>>,
    free: VecDeque<u16>,
    /// Completions that have happened and are not delivered, each with the name of its operation.
    ready: Vec<(Token, Completion)>,
    /// Completions of sends that were done at the submission: nobody is woken for them.
    held: Vec<(Token, Completion)>,
    /// Sockets with a send that has not been submitted yet.
    fresh: Vec<usize>,
    hurried: bool,
    cancels: Vec<(Token, Token)>,
    in_flight: HashSet<Token>,
    now_ms: u64,
    steps: usize,
    /// Completions gather until one in so many steps delivers some.
    delivery: usize,
}

impl World {
    pub(crate) fn new(mut random: Random, script: Script) -> Self {
        let few = random.one_in(2);
        let buffers = random.between(BUFFERS_MIN, if few { BUFFERS_MIN } else { BUFFERS_MAX });
        let delivery = random.between(2, 80);
        Self {
            random,
            wires: Vec::new(),
            script,
            buffers: vec![vec![0xee; BUFFER_BYTES]; buffers],
            free: (0..).take(buffers).collect(),
            ready: Vec::new(),
            held: Vec::new(),
            fresh: Vec::new(),
            hurried: false,
            cancels: Vec::new(),
            in_flight: HashSet::new(),
            now_ms: 1,
            steps: 0,
            delivery,
        }
    }

    /// Whether every buffer is back and nothing is in flight.
    pub(crate) fn check_nothing_is_left(&self) {
        assert_eq!(self.free.len(), self.buffers.len(), "a buffer is lost");
        assert!(self.in_flight.is_empty(), "in flight: {:?}", self.in_flight);
        assert!(
            self.wires.iter().all(|wire| wire.closed.is_some()),
            "a socket is still open"
        );
    }

    /// Something happens somewhere, or not; says whether.
    fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the run hangs");
        let index = self.random.below(self.wires.len());
        let Some(wire) = self.wires.get_mut(index) else {
            return false;
        };
        if wire.closed.is_some() {
            return false;
        }
        match self.random.below(4) {
            0 => wire.peer_acts(&mut self.random),
            1 => wire.peer_reads(&mut self.random),
            2 => self.receive_goes_on(index),
            _ => self.send_goes_on(index),
        }
    }

    fn receive_goes_on(&mut self, index: usize) -> bool {
        let Some(wire) = self.wires.get_mut(index) else {
            return false;
        };
        let Some((token, shots)) = wire.receive else {
            return false;
        };
        let bursts = if shots == Shots::Multi {
            self.random.between(1, 6)
        } else {
            1
        };
        for _ in 0..bursts {
            let what = if wire.shut {
                Received::End
            } else if !wire.inbox.is_empty() {
                let Some(id) = self.free.pop_front() else {
                    return self.finish_receive(index, token, Received::NoBuffer);
                };
                let short = self.random.one_in(10);
                let bound = if short {
                    self.random.between(1, BUFFER_BYTES)
                } else {
                    BUFFER_BYTES
                };
                let len = wire.inbox.len().min(bound);
                wire.received += len;
                let bytes = take(&mut wire.inbox, len);
                if let Some(buffer) = self.buffers.get_mut(usize::from(id)) {
                    buffer[..len].copy_from_slice(&bytes);
                }
                Received::Data(Buffer {
                    id,
                    len: u32::try_from(len).unwrap_or(0),
                })
            } else if let Some(errno) = wire.broken {
                Received::Failed(errno)
            } else if wire.inbox_ended {
                Received::End
            } else {
                return false;
            };
            let last = shots == Shots::Single
                || !matches!(what, Received::Data(_))
                || self.random.one_in(40);
            if last {
                return self.finish_receive(index, token, what);
            }
            self.ready
                .push((token, Completion::Received { token, what, last }));
        }
        true
    }

    fn finish_receive(&mut self, index: usize, token: Token, what: Received) -> bool {
        if let Some(wire) = self.wires.get_mut(index) {
            wire.receive = None;
        }
        self.ready.push((
            token,
            Completion::Received {
                token,
                what,
                last: true,
            },
        ));
        true
    }

    fn send_goes_on(&mut self, index: usize) -> bool {
        let Some(wire) = self.wires.get_mut(index) else {
            return false;
        };
        let Some((token, payload, done)) = wire.send.take() else {
            return false;
        };
        let gone = wire.broken.or(wire.shut.then_some(Errno(libc::EPIPE)));
        if let Some(errno) = gone {
            let result = if 0 < done { Ok(done) } else { Err(errno) };
            self.ready.push((
                token,
                Completion::Sent {
                    token,
                    payload,
                    result,
                },
            ));
            return true;
        }
        let bytes = match &payload.bytes {
            Bytes::Pool(buffer) => self
                .buffers
                .get(usize::from(buffer.id))
                .and_then(|bytes| bytes.get(..buffer.len as usize)),
            Bytes::Chunk(chunk) => Some(chunk.as_slice()),
        };
        let rest = bytes
            .and_then(|bytes| bytes.get(payload.sent + done..))
            .unwrap_or_default();
        let room = KERNEL_BYTES.saturating_sub(wire.outbox.len());
        let len = rest.len().min(room).min(self.random.between(1, 30_000));
        wire.outbox.extend(&rest[..len]);
        wire.sent += len;
        if len == rest.len() || (0 < done + len && self.random.one_in(20)) {
            let result = Ok(done + len);
            self.ready.push((
                token,
                Completion::Sent {
                    token,
                    payload,
                    result,
                },
            ));
            return true;
        }
        wire.send = Some((token, payload, done + len));
        0 < len
    }

    /// Tries the new sends, as the kernel does on submission; those that are done at once complete
    /// quietly.
    fn submit(&mut self) {
        for index in std::mem::take(&mut self.fresh) {
            let before = self.ready.len();
            if self.random.one_in(4) {
                // The socket is full just now.
                continue;
            }
            self.send_goes_on(index);
            let done = self.ready.split_off(before);
            let (held, loud) = done.into_iter().partition(|(_, completion)| {
                matches!(completion, Completion::Sent { result: Ok(_), .. })
            });
            let (mut held, loud): (Vec<_>, Vec<_>) = (held, loud);
            self.held.append(&mut held);
            self.ready.extend(loud);
        }
    }

    /// Carries out the cancellations that have been asked for, as the kernel does on submission.
    fn cancel_all(&mut self) {
        for (token, target) in std::mem::take(&mut self.cancels) {
            let mut found = false;
            // A request that is between two of its completions is not found, and goes on.
            let missed = self.random.one_in(6);
            for wire in &mut self.wires {
                let receiving = wire.receive.is_some_and(|(token, _)| token == target);
                let sending = wire
                    .send
                    .as_ref()
                    .is_some_and(|(token, ..)| *token == target);
                if missed && (receiving || sending) {
                    wire.missed_cancels += 1;
                } else if receiving {
                    found = true;
                    wire.receive = None;
                    let what = Received::Cancelled;
                    let completion = Completion::Received {
                        token: target,
                        what,
                        last: true,
                    };
                    self.ready.push((target, completion));
                } else if sending && let Some((token, payload, done)) = wire.send.take() {
                    found = true;
                    let result = if 0 < done {
                        Ok(done)
                    } else {
                        Err(Errno(libc::ECANCELED))
                    };
                    self.ready.push((
                        token,
                        Completion::Sent {
                            token,
                            payload,
                            result,
                        },
                    ));
                }
            }
            self.ready
                .push((token, Completion::Cancelled { token, found }));
        }
    }

    /// Delivers some of what has happened, in any order that keeps each operation's own.
    fn deliver(&mut self, completions: &mut Vec<Completion>) {
        self.deliver_held(completions);
        for _ in 0..self.random.between(1, 24) {
            if self.ready.is_empty() {
                return;
            }
            let pick = self.random.below(self.ready.len());
            let token = self.ready.get(pick).map(|(token, _)| *token);
            let first = self
                .ready
                .iter()
                .position(|(it, _)| Some(*it) == token)
                .unwrap_or(pick);
            let (token, completion) = self.ready.remove(first);
            if !matches!(
                completion,
                Completion::Received { last: false, .. } | Completion::Woken
            ) {
                self.in_flight.remove(&token);
            }
            completions.push(completion);
        }
    }

    fn deliver_held(&mut self, completions: &mut Vec<Completion>) {
        for (token, completion) in self.held.drain(..) {
            self.in_flight.remove(&token);
            completions.push(completion);
        }
    }

    /// Sends to peers that do not read leave buffers for everybody else.
    fn check_pool(&self) {
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
    fn check_queues(&self) {
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

    fn start(&mut self, token: Token, socket: &Socket) -> &mut Wire {
        assert!(
            self.in_flight.insert(token),
            "{token:?} is in flight already"
        );
        let Some(wire) = self.wires.get_mut(socket.0) else {
            unreachable!("no such socket")
        };
        assert_eq!(wire.closed, None, "an operation on a closed socket");
        wire
    }
}

impl Driver for World {
    type Socket = Socket;

    fn receive(&mut self, token: Token, socket: &Socket, shots: Shots) {
        assert!(matches!(token.op, Op::Receive(_)));
        let wire = self.start(token, socket);
        assert!(
            wire.receive.replace((token, shots)).is_none(),
            "two receives on a socket"
        );
    }

    fn send(&mut self, token: Token, socket: &Socket, payload: Payload) {
        assert!(matches!(token.op, Op::Send(_)));
        assert!(0 < payload.remaining(), "a send of nothing");
        let wire = self.start(token, socket);
        assert!(!wire.outbox_ended, "bytes after the FIN");
        assert!(
            wire.send.replace((token, payload, 0)).is_none(),
            "two sends on a socket"
        );
        self.fresh.push(socket.0);
    }

    fn hurry(&mut self, send: Token) {
        self.hurried |= self.in_flight.contains(&send);
    }

    fn cancel(&mut self, token: Token, target: Token) {
        self.cancels.push((token, target));
    }

    fn shutdown_write(&mut self, socket: &Socket) {
        if let Some(wire) = self.wires.get_mut(socket.0) {
            assert!(wire.send.is_none(), "a FIN before the last byte");
            wire.outbox_ended = true;
        }
    }

    fn shutdown(&mut self, socket: &Socket) {
        if let Some(wire) = self.wires.get_mut(socket.0) {
            wire.shut = true;
            wire.outbox_ended = true;
        }
    }

    fn close(&mut self, socket: Socket, closing: Closing) {
        let Some(wire) = self.wires.get_mut(socket.0) else {
            unreachable!("no such socket")
        };
        assert!(
            wire.receive.is_none() && wire.send.is_none(),
            "closed with something in flight"
        );
        assert!(wire.closed.replace(closing).is_none(), "closed twice");
        if closing == Closing::Graceful && wire.broken.is_none() {
            // What the kernel has is still delivered.
            let rest: Vec<u8> = std::mem::take(&mut wire.outbox).into();
            wire.peer.read(&rest);
        }
    }

    fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8] {
        let bytes = self.buffers.get(usize::from(buffer.id));
        bytes
            .and_then(|bytes| bytes.get(..buffer.len as usize))
            .unwrap_or_default()
    }

    fn release(&mut self, buffer: Buffer) {
        assert!(
            !self.free.contains(&buffer.id),
            "a buffer was given back twice"
        );
        if let Some(bytes) = self.buffers.get_mut(usize::from(buffer.id)) {
            // Whoever reads it later is found out by the bytes.
            bytes.fill(0xee);
        }
        self.free.push_back(buffer.id);
    }

    fn can_lend(&self, _buffer: &Buffer) -> bool {
        self.buffers.len() / 4 < self.free.len()
    }

    fn is_full(&self, buffer: &Buffer) -> bool {
        BUFFER_BYTES <= buffer.len as usize
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn wait(&mut self, timeout_ms: Option<u64>, completions: &mut Vec<Completion>) {
        self.check_queues();
        self.check_pool();
        self.submit();
        self.cancel_all();
        if std::mem::take(&mut self.hurried) {
            return self.deliver_held(completions);
        }
        let deadline_ms = timeout_ms.map(|ms| self.now_ms + ms);
        let mut quiet = 0;
        loop {
            let happened = self.step();
            quiet = if happened { 0 } else { quiet + 1 };
            if self.random.one_in(200) {
                self.now_ms += 1;
            }
            let out_of_ideas = QUIET_STEPS < quiet && self.ready.is_empty();
            let stuck = out_of_ideas && deadline_ms.is_none();
            if self
                .script
                .goes_on(&mut self.wires, &mut self.random, stuck)
            {
                self.ready.push((Token::DRIVER, Completion::Woken));
            }
            if !self.ready.is_empty() && self.random.one_in(self.delivery) {
                return self.deliver(completions);
            }
            if out_of_ideas && self.ready.is_empty() {
                assert!(deadline_ms.is_some(), "nothing will ever happen");
                self.now_ms = deadline_ms.unwrap_or(0).max(self.now_ms);
            }
            if deadline_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
                return;
            }
        }
    }
}
