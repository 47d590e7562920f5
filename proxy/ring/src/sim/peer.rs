//! What is at the other end of a simulated socket.

use std::io::{Read, Write};

use rustls::Connection;

use super::random::Random;

/// How a peer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Ends its stream when it has sent everything, and goes on reading.
    Half,
    /// Ends its stream when it has sent everything and the other stream has ended.
    WhenTold,
    /// Closes when it has sent everything: whatever arrives later is answered with a reset.
    Gone,
    /// Resets the connection after so many bytes.
    Reset(usize),
    /// Dies after so many bytes: the kernel finds out some day.
    Dead(usize),
}

/// What a peer does in its life.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) outgoing: Vec<u8>,
    pub(crate) ending: Ending,
    /// Bytes that it reads or writes at once, at most.
    pub(crate) pace: usize,
    /// Times that it is asked to read and does not; `usize::MAX` for ever.
    pub(crate) lazy: usize,
}

impl Plan {
    pub(crate) fn random(random: &mut Random) -> Self {
        let len = match random.below(6) {
            0 => 0,
            1 | 2 => random.below(400),
            3 | 4 => random.below(40_000),
            _ => random.below(700_000),
        };
        let ending = match random.below(12) {
            0..=4 => Ending::Half,
            5..=7 => Ending::WhenTold,
            8 | 9 => Ending::Gone,
            // Where a peer that does not read has filled every queue on the way, but no further.
            10 => Ending::Reset(random.below(len.min(250_000) + 1)),
            _ => Ending::Dead(random.below(len.min(250_000) + 1)),
        };
        let pace = if random.one_in(3) {
            random.between(1, 900)
        } else {
            20_000
        };
        // Few small steps would never end a long stream.
        let pace = pace.max(len / 300);
        let lazy = match random.below(10) {
            0 => usize::MAX,
            1..=3 => random.below(2_000),
            _ => 0,
        };
        Self {
            outgoing: random.bytes(len),
            ending,
            pace,
            lazy,
        }
    }

    /// Whether it never reads.
    pub(crate) fn is_deaf(&self) -> bool {
        self.lazy == usize::MAX
    }

    /// Whether everything in both directions arrives, unless the other peer or we prevent it.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.ending, Ending::Half | Ending::WhenTold) && !self.is_deaf()
    }
}

/// What a peer wants to do with its connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Nothing,
    Send,
    Fin,
    Close,
    Reset,
    Die,
}

/// A peer: what it is to do, what it has sent and what it has got.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) plan: Plan,
    /// How many bytes of the plan it has sent.
    pub(crate) sent: usize,
    /// The application bytes that it has got.
    pub(crate) got: Vec<u8>,
    /// Whether it has seen the end of the other stream.
    pub(crate) told: bool,
    /// Whether it has sent its FIN, its reset, or nothing more for another reason.
    pub(crate) ended: bool,
    tls: Option<Box<Connection>>,
    /// Bytes on their way into the socket.
    staged: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(plan: Plan, tls: Option<Box<Connection>>) -> Self {
        Self {
            plan,
            sent: 0,
            got: Vec::new(),
            told: false,
            ended: false,
            tls,
            staged: Vec::new(),
        }
    }

    /// What it does next.
    pub(crate) fn act(&self) -> Act {
        if self.ended {
            return Act::Nothing;
        }
        let all = self.sent == self.plan.outgoing.len();
        match self.plan.ending {
            Ending::Reset(after) if after <= self.sent => Act::Reset,
            Ending::Dead(after) if after <= self.sent => Act::Die,
            Ending::Half if all && self.staged.is_empty() => Act::Fin,
            Ending::Gone if all && self.staged.is_empty() => Act::Close,
            Ending::WhenTold if all && self.staged.is_empty() && self.told => Act::Fin,
            Ending::WhenTold if all && self.staged.is_empty() => Act::Nothing,
            Ending::Half | Ending::WhenTold | Ending::Gone | Ending::Reset(_) | Ending::Dead(_) => {
                Act::Send
            }
        }
    }

    /// Up to `room` bytes for the socket.
    pub(crate) fn write(&mut self, random: &mut Random, room: usize) -> Vec<u8> {
        if self.staged.is_empty() {
            let rest = self.plan.outgoing.get(self.sent..).unwrap_or_default();
            let len = rest.len().min(random.between(1, self.plan.pace));
            let part = rest.get(..len).unwrap_or_default();
            match &mut self.tls {
                None => self.staged.extend_from_slice(part),
                Some(tls) => {
                    tls.set_buffer_limit(None);
                    tls.writer().write_all(part).expect("a vector takes all");
                }
            }
            self.sent += len;
            if random.one_in(50)
                && let Some(tls) = &mut self.tls
            {
                // TLS 1.2 has no key update.
                let _ = tls.refresh_traffic_keys();
            }
        }
        self.stage();
        let len = room.min(self.staged.len());
        self.staged.drain(..len).collect()
    }

    /// The last bytes before a FIN.
    pub(crate) fn write_end(&mut self, with_close_notify: bool) -> Vec<u8> {
        if let Some(tls) = &mut self.tls
            && with_close_notify
        {
            tls.send_close_notify();
        }
        self.stage();
        std::mem::take(&mut self.staged)
    }

    /// Reads bytes that have arrived.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        let Some(tls) = &mut self.tls else {
            self.got.extend_from_slice(bytes);
            return;
        };
        while !bytes.is_empty() {
            if tls.read_tls(&mut bytes).expect("a slice can be read") == 0 {
                return;
            }
            tls.process_new_packets()
                .expect("the worker keeps to the protocol");
            // The end of what is there is an error here.
            let _ = tls.reader().read_to_end(&mut self.got);
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    fn stage(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.staged).expect("a vector takes all");
            }
        }
    }
}
