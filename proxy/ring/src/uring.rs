//! The kernel's ring as a [`Driver`].
//!
//! The memory of an operation in flight belongs to this file: a payload moves in with the send
//! and out with its completion, and the ring is not given up while the kernel may still use any.
#![allow(unsafe_code, reason = "submissions name memory by address")]

use std::fs::File;
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::buffers::{Pools, Size};
use crate::driver::{Buffer, Bytes, Closing, Completion, Driver, Errno, Payload, Received, Shots};
use crate::sends::{Sending, Sends};
use crate::socket;
use crate::token::{Op, Side, Token};

/// Times that the last completions are waited for when a ring is given up.
const QUIET_ROUNDS_MAX: usize = 100;

/// A ring of one worker thread. It is made and used on that thread (`SINGLE_ISSUER`).
pub(crate) struct Uring {
    ring: IoUring,
    pool: ManuallyDrop<Pools>,
    sends: ManuallyDrop<Sends>,
    /// The next wait returns at once: somebody needs to know what became of a quiet send.
    hurried: bool,
    /// Operations that have been pushed and whose last completion has not been reaped.
    in_flight: usize,
    wake: Arc<File>,
    wake_armed: bool,
    started: Instant,
}

impl Uring {
    /// A driver over a ring that has been made on this thread; registers the pool with it.
    ///
    /// # Errors
    ///
    /// What the registration says.
    pub(crate) fn new(ring: IoUring, pool: Pools, wake: Arc<File>) -> io::Result<Self> {
        pool.register(&ring.submitter())?;
        Ok(Self {
            ring,
            pool: ManuallyDrop::new(pool),
            sends: ManuallyDrop::new(Sends::default()),
            hurried: false,
            in_flight: 0,
            wake,
            wake_armed: false,
            started: Instant::now(),
        })
    }

    /// Puts an operation into the submission queue, submitting what is there when it is full.
    fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.encode());
        self.in_flight += 1;
        loop {
            // SAFETY: the memory that an entry names stays valid until its completion: pool
            // buffers and payloads are owned by `self`, which gives them out again only at the
            // completion and waits for all of them in `drop`. The files are kept open by the
            // caller until nothing of them is in flight (the trait's rule).
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.pool.publish();
            tolerate(self.ring.submit());
        }
    }

    fn arm_wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            let poll = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32);
            self.push(poll.build(), Token::DRIVER);
        }
    }

    /// Takes the completions out of the ring; what the quiet sends have done comes first.
    fn reap(&mut self, completions: &mut Vec<Completion>) {
        let all_submitted = self.ring.submission().is_empty();
        let Self {
            ring,
            pool,
            sends,
            in_flight,
            wake,
            wake_armed,
            ..
        } = self;
        for entry in ring.completion() {
            let last = !cqueue::more(entry.flags());
            *in_flight -= usize::from(last);
            let Some(token) = Token::decode(entry.user_data()) else {
                unreachable!("a completion that nobody has asked for");
            };
            let result = outcome(entry.result());
            let completion = match token.op {
                Op::Receive(_) => {
                    let buffer = cqueue::buffer_select(entry.flags());
                    let what = received(pool, buffer, result);
                    Completion::Received { token, what, last }
                }
                Op::Send(_) => {
                    let result = result.map(|sent| sent as usize);
                    match sends.complete(token, result) {
                        Some(completion) => completion,
                        None => continue,
                    }
                }
                Op::CancelReceive(_) | Op::CancelSend(_) => {
                    // EALREADY: it is being carried out, and will complete.
                    let found = result != Err(Errno(libc::ENOENT));
                    Completion::Cancelled { token, found }
                }
                Op::Driver => {
                    *wake_armed = false;
                    // The count says only that somebody woke us; an empty one says it as well.
                    let _ = (&**wake).read(&mut [0; 8]);
                    Completion::Woken
                }
            };
            completions.push(completion);
        }
        if all_submitted {
            // Before all others: what the sessions hear next may be more for the same sockets.
            let settled = sends.settle(completions);
            *in_flight -= settled;
            completions.rotate_right(settled);
        } else {
            self.hurried = true;
        }
        while let Some((token, sending)) = self.sends.next_cut_short() {
            let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
            let entry = send_entry(&self.pool, sending).flags(flags).build();
            self.push(entry, token);
        }
    }
}

/// A send of what is left of a payload, without its flags.
fn send_entry(pool: &Pools, sending: &Sending) -> opcode::Send {
    let bytes = match &sending.payload.bytes {
        Bytes::Pool(buffer) => pool.bytes(buffer),
        Bytes::Chunk(chunk) => chunk,
    };
    let start = sending.payload.sent + sending.done;
    let rest = bytes.get(start..).unwrap_or_default();
    // A queue is bounded far below 4 GiB; if it were not, the rest would be sent after it.
    let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
    opcode::Send::new(Fd(sending.fd), rest.as_ptr(), len)
}

impl Driver for Uring {
    type Socket = OwnedFd;

    fn receive(&mut self, token: Token, socket: &OwnedFd, shots: Shots) {
        let fd = Fd(socket.as_raw_fd());
        let entry = match shots {
            Shots::Multi => {
                let (group, _) = self.pool.group(Size::Small);
                opcode::RecvMulti::new(fd, group).build()
            }
            Shots::Single => {
                let (group, len) = self.pool.group(Size::Large);
                opcode::Recv::new(fd, std::ptr::null_mut(), len)
                    .buf_group(group)
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
        };
        self.push(entry, token);
    }

    fn send(&mut self, token: Token, socket: &OwnedFd, payload: Payload) {
        let sending = self.sends.begin(token, socket.as_raw_fd(), payload);
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = send_entry(&self.pool, sending).flags(flags).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), token);
    }

    fn hurry(&mut self, send: Token) {
        self.hurried |= self.sends.is_quiet(send);
    }

    fn cancel(&mut self, token: Token, target: Token) {
        self.push(opcode::AsyncCancel::new(target.encode()).build(), token);
    }

    fn shutdown_write(&mut self, socket: &OwnedFd) {
        // A peer that has reset the connection needs no FIN; the receive reports the reset.
        let _ = socket::shutdown(socket.as_fd(), libc::SHUT_WR);
    }

    fn shutdown(&mut self, socket: &OwnedFd) {
        // As above: what is no longer connected is as good as shut down.
        let _ = socket::shutdown(socket.as_fd(), libc::SHUT_RDWR);
    }

    fn close(&mut self, socket: OwnedFd, closing: Closing) {
        if closing == Closing::Reset {
            // If it cannot be set, the peer gets a FIN: the stream still ends.
            let _ = socket::set_reset_on_close(socket.as_fd());
        }
        drop(socket);
    }

    fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8] {
        self.pool.bytes(buffer)
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.release(buffer);
    }

    fn can_lend(&self, buffer: &Buffer) -> bool {
        self.pool.can_lend(buffer)
    }

    fn is_full(&self, buffer: &Buffer) -> bool {
        self.pool.is_full(buffer)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wait(&mut self, timeout_ms: Option<u64>, completions: &mut Vec<Completion>) {
        self.pool.publish();
        self.arm_wake();
        match timeout_ms {
            _ if std::mem::take(&mut self.hurried) => tolerate(self.ring.submit()),
            None => tolerate(self.ring.submit_and_wait(1)),
            Some(ms) => {
                let nanoseconds = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
                let timeout = Timespec::new().sec(ms / 1000).nsec(nanoseconds);
                let arguments = SubmitArgs::new().timespec(&timeout);
                tolerate(self.ring.submitter().submit_with_args(1, &arguments));
            }
        }
        self.reap(completions);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let mut ignored = Vec::new();
        for _ in 0..QUIET_ROUNDS_MAX {
            if self.in_flight == 0 {
                break;
            }
            let all = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
            self.push(all, Token::DRIVER.with(Op::CancelSend(Side::Client)));
            tolerate(self.ring.submit_and_wait(1));
            self.reap(&mut ignored);
        }
        if self.in_flight == 0 {
            self.pool.unregister(&self.ring.submitter());
            // SAFETY: neither is used again: this is the drop of their owner.
            unsafe {
                ManuallyDrop::drop(&mut self.sends);
                ManuallyDrop::drop(&mut self.pool);
            }
        }
        // Otherwise the kernel may still use the memory: it is leaked, which is safe.
    }
}

/// What a receive brought, and the buffer that came with it.
fn received(pool: &mut Pools, id: Option<u16>, result: Result<u32, Errno>) -> Received {
    let len = result.unwrap_or(0);
    let buffer = id.map(|id| {
        let Some(buffer) = pool.lend(id, len) else {
            unreachable!("buffer {id} of {len} bytes is not of this pool");
        };
        buffer
    });
    match (result, buffer) {
        (Ok(1..), Some(buffer)) => Received::Data(buffer),
        (result, buffer) => {
            // Some kernels hand a buffer out with the end of the stream or an error.
            if let Some(buffer) = buffer {
                pool.release(buffer);
            }
            match result {
                Ok(_) => Received::End,
                Err(Errno(libc::ENOBUFS)) => Received::NoBuffer,
                Err(Errno(libc::ECANCELED | libc::EINTR)) => Received::Cancelled,
                Err(errno) => Received::Failed(errno),
            }
        }
    }
}

fn outcome(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno(result.saturating_neg()))
}

/// A worker cannot go on without its ring: anything but a reason to reap and try again panics.
fn tolerate(entered: io::Result<usize>) {
    if let Err(error) = entered {
        // ETIME: the timeout passed. EINTR: a signal. EBUSY and EAGAIN: reap first.
        let again = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
        let again = error
            .raw_os_error()
            .is_some_and(|errno| again.contains(&errno));
        assert!(again, "io_uring_enter: {error}");
    }
}
