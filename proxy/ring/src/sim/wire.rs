//! A simulated socket, the kernel's view of it, and its peer.

use std::collections::VecDeque;
use std::io::Read;

use super::peer::{Act, Ending, Peer};
use super::random::Random;
use crate::driver::{Closing, Errno, Payload, Shots};
use crate::token::Token;

/// What a simulated kernel queues for a socket in each direction, in bytes.
pub(crate) const KERNEL_BYTES: usize = 48 * 1024;

/// A socket, the kernel's view of it, and its peer.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) peer: Peer,
    pub(crate) inbox: VecDeque<u8>,
    pub(crate) inbox_ended: bool,
    pub(crate) outbox: VecDeque<u8>,
    pub(crate) outbox_ended: bool,
    pub(crate) broken: Option<Errno>,
    pub(crate) shut: bool,
    pub(crate) receive: Option<(Token, Shots)>,
    pub(crate) send: Option<(Token, Payload, usize)>,
    pub(crate) closed: Option<Closing>,
    /// Bytes that the worker has received from it and sent to it.
    pub(crate) received: usize,
    pub(crate) sent: usize,
    pub(crate) missed_cancels: usize,
}

impl Wire {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            inbox: VecDeque::new(),
            inbox_ended: false,
            outbox: VecDeque::new(),
            outbox_ended: false,
            broken: None,
            shut: false,
            receive: None,
            send: None,
            closed: None,
            received: 0,
            sent: 0,
            missed_cancels: 0,
        }
    }
}

/// Removes bytes from the front of a queue.
pub(crate) fn take(queue: &mut VecDeque<u8>, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    queue
        .read_exact(&mut bytes)
        .expect("the queue is that long");
    bytes
}

impl Wire {
    /// The peer writes, ends or breaks off; says whether anything happened.
    pub(crate) fn peer_acts(&mut self, random: &mut Random) -> bool {
        match self.peer.act() {
            Act::Nothing => return false,
            Act::Send => {
                let room = KERNEL_BYTES.saturating_sub(self.inbox.len());
                if room == 0 || self.broken.is_some() {
                    return false;
                }
                let bytes = self.peer.write(random, room);
                self.inbox.extend(&bytes);
                return true;
            }
            Act::Fin | Act::Close => {
                let bytes = self.peer.write_end(!random.one_in(3));
                self.inbox.extend(&bytes);
                self.inbox_ended = true;
            }
            Act::Reset => self.break_off(libc::ECONNRESET),
            Act::Die => self.break_off(libc::ETIMEDOUT),
        }
        self.peer.ended = true;
        true
    }

    /// The peer reads, or is lazy; says whether anything happened.
    pub(crate) fn peer_reads(&mut self, random: &mut Random) -> bool {
        if self.peer.plan.is_deaf() {
            return false;
        }
        if 0 < self.peer.plan.lazy {
            self.peer.plan.lazy -= 1;
            return true;
        }
        if self.peer.ended && self.peer.plan.ending == Ending::Gone && !self.outbox.is_empty() {
            self.break_off(libc::ECONNRESET);
            return true;
        }
        let len = self
            .outbox
            .len()
            .min(random.between(1, self.peer.plan.pace));
        if len == 0 {
            let told = self.outbox_ended && !self.peer.told;
            self.peer.told |= told;
            return told;
        }
        let bytes = take(&mut self.outbox, len);
        self.peer.read(&bytes);
        true
    }

    fn break_off(&mut self, errno: i32) {
        self.broken.get_or_insert(Errno(errno));
        self.outbox.clear();
        self.peer.ended = true;
    }
}
