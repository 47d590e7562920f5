//! The sends in flight of one worker.
//!
//! A send starts quiet: the kernel tries it once, at the submission, and says nothing when the
//! socket has taken every byte (`IOSQE_CQE_SKIP_SUCCESS`, kernel 5.17, with `MSG_DONTWAIT` and
//! `MSG_WAITALL`). So a batch of small messages makes no completions, which would end the next
//! wait at once for a turn of the worker that has nothing to do.
//! What a socket does not take at once follows loudly, by an operation that waits for room.

use std::os::fd::RawFd;

use crate::driver::{Completion, Errno, Payload};
use crate::token::{Op, Side, Token};

/// A send in flight.
pub(crate) struct Sending {
    pub(crate) payload: Payload,
    /// The socket, which is open as long as something of it is in flight.
    pub(crate) fd: RawFd,
    /// Bytes that the quiet attempt has sent of it.
    pub(crate) done: usize,
    is_quiet: bool,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Sends {
    /// By slot and side.
    table: Vec<[Option<Sending>; 2]>,
    /// The quiet ones, in the order of their submission.
    quiet: Vec<Token>,
    /// Those that a full socket has cut short.
    cut_short: Vec<Token>,
}

impl Sends {
    /// Takes note of a send that is about to be submitted, quietly.
    pub(crate) fn begin(&mut self, token: Token, fd: RawFd, payload: Payload) -> &Sending {
        let slot = token.slot as usize;
        if self.table.len() <= slot {
            self.table.resize_with(slot + 1, || [None, None]);
        }
        self.quiet.push(token);
        // The slot was made above, and a side's index is 0 or 1.
        let place = &mut self.table[slot][side(token).index()];
        assert!(place.is_none(), "one send in flight a socket");
        place.insert(Sending {
            payload,
            fd,
            done: 0,
            is_quiet: true,
        })
    }

    /// Whether a send may complete without a word.
    pub(crate) fn is_quiet(&self, token: Token) -> bool {
        self.get(token).is_some_and(|sending| sending.is_quiet)
    }

    /// Handles a completion of the ring. `None` says that a full socket has cut the send short:
    /// [`Self::next_cut_short`] gives it out, to be submitted again.
    pub(crate) fn complete(
        &mut self,
        token: Token,
        result: Result<usize, Errno>,
    ) -> Option<Completion> {
        let Some(place) = place(&mut self.table, token) else {
            unreachable!("a send that nobody has asked for");
        };
        if let Some(sending) = place
            && sending.is_quiet
        {
            self.quiet.retain(|it| *it != token);
            if sending.was_cut_short(result) {
                self.cut_short.push(token);
                return None;
            }
        }
        let Some(sending) = place.take() else {
            unreachable!("a send that nobody has asked for");
        };
        Some(sending.completion(token, result))
    }

    /// Appends the completions of the quiet sends, and says how many they are.
    ///
    /// To be called when all of them have been submitted, and those that did not succeed have
    /// been reaped.
    pub(crate) fn settle(&mut self, completions: &mut Vec<Completion>) -> usize {
        let before = completions.len();
        for token in self.quiet.drain(..) {
            if let Some(sending) = place(&mut self.table, token).and_then(Option::take) {
                let rest = sending.payload.remaining();
                completions.push(sending.completion(token, Ok(rest)));
            }
        }
        completions.len() - before
    }

    /// A send that has to be submitted again, loudly.
    pub(crate) fn next_cut_short(&mut self) -> Option<(Token, &Sending)> {
        let token = self.cut_short.pop()?;
        Some((token, self.get(token)?))
    }

    fn get(&self, token: Token) -> Option<&Sending> {
        let sides = self.table.get(token.slot as usize)?;
        sides.get(side(token).index())?.as_ref()
    }
}

impl Sending {
    /// Whether a full socket has taken less than everything; takes note of how much.
    fn was_cut_short(&mut self, result: Result<usize, Errno>) -> bool {
        let sent = match result {
            Ok(sent) => sent,
            Err(Errno(libc::EAGAIN)) => 0,
            Err(_) => return false,
        };
        let is_short = sent < self.payload.remaining();
        if is_short {
            self.is_quiet = false;
            self.done = sent;
        }
        is_short
    }

    fn completion(self, token: Token, result: Result<usize, Errno>) -> Completion {
        let Self { payload, done, .. } = self;
        let result = match result {
            Ok(sent) => Ok(done + sent),
            // What sends the rest will meet the error again.
            Err(_) if 0 < done => Ok(done),
            Err(errno) => Err(errno),
        };
        Completion::Sent {
            token,
            payload,
            result,
        }
    }
}

/// Where the send of one leg is kept.
fn place(table: &mut [[Option<Sending>; 2]], token: Token) -> Option<&mut Option<Sending>> {
    let sides = table.get_mut(token.slot as usize)?;
    sides.get_mut(side(token).index())
}

fn side(token: Token) -> Side {
    match token.op {
        Op::Send(side) => side,
        Op::Receive(_) | Op::CancelReceive(_) | Op::CancelSend(_) | Op::Driver => {
            unreachable!("a send is called by the token of a send")
        }
    }
}
