//! What a worker needs from the world: sockets, buffers and time.
//!
//! [`crate::uring::Uring`] is the kernel's ring; the simulator is the other one.
//! Nothing above this trait knows which of them it runs on.

use crate::token::Token;

/// A provided buffer that a receive has filled, on loan from the driver's pool.
///
/// It is not `Clone`: whoever has it is the only one who has it, until it goes back by
/// [`Driver::release`] or as the payload of a send.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) id: u16,
    pub(crate) len: u32,
}

/// The bytes of one send; the driver owns them while the send is in flight.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    /// How many of them earlier sends have already taken.
    pub(crate) sent: usize,
}

/// Where the bytes of a send are.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// As they were received: nothing is copied.
    Pool(Buffer),
    /// In memory of their own.
    Chunk(Vec<u8>),
}

impl Payload {
    pub(crate) fn pool(buffer: Buffer) -> Self {
        Self {
            bytes: Bytes::Pool(buffer),
            sent: 0,
        }
    }

    pub(crate) fn chunk(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Bytes::Chunk(bytes),
            sent: 0,
        }
    }

    /// Bytes that are still to be sent.
    pub(crate) fn remaining(&self) -> usize {
        let len = match &self.bytes {
            Bytes::Pool(buffer) => buffer.len as usize,
            Bytes::Chunk(bytes) => bytes.len(),
        };
        len.saturating_sub(self.sent)
    }
}

/// How many times a receive may complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shots {
    /// Once, into a large buffer: at most one arrives that nobody asked for again.
    Single,
    /// Until it ends or is cancelled: the cheapest for short messages, without backpressure.
    Multi,
}

/// An error number of the kernel, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// What a receive brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes, at least one.
    Data(Buffer),
    /// The peer has sent its last byte.
    End,
    /// The pool was empty; the socket is well.
    NoBuffer,
    /// Cancelled by us, or interrupted; the socket is well.
    Cancelled,
    /// The connection is gone.
    Failed(Errno),
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Completion {
    /// `last` says that the receive is no longer in flight.
    Received {
        token: Token,
        what: Received,
        last: bool,
    },
    /// A send is no longer in flight; `result` is the number of bytes it took.
    Sent {
        token: Token,
        payload: Payload,
        result: Result<usize, Errno>,
    },
    /// A cancellation was carried out; `found` is false when there was nothing to cancel (yet).
    Cancelled { token: Token, found: bool },
    /// Somebody has put a command into the mailbox.
    Woken,
}

/// How a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// With a FIN, after the bytes that the kernel still has.
    Graceful,
    /// With a RST (`SO_LINGER` of zero): the peer learns that the stream was cut.
    Reset,
}

/// Sockets, buffers and time.
///
/// A token names at most one operation in flight, and a socket has at most one send in flight:
/// the caller keeps both rules. A socket is closed only when nothing of it is in flight.
pub(crate) trait Driver {
    /// A connected stream socket, owned.
    type Socket;

    /// Starts to receive into buffers of the pool.
    fn receive(&mut self, token: Token, socket: &Self::Socket, shots: Shots);

    /// Sends the rest of a payload; it comes back with the completion.
    fn send(&mut self, token: Token, socket: &Self::Socket, payload: Payload);

    /// Has the next wait return at once if it may otherwise sleep on the completion of this send.
    ///
    /// The completion of a send may be held back until something else completes: mostly nobody
    /// waits for it. Whoever does has to say so, each time before a wait.
    fn hurry(&mut self, send: Token);

    /// Cancels the operation that is called `target`, if it is in flight.
    fn cancel(&mut self, token: Token, target: Token);

    /// Sends a FIN after what the kernel still has.
    fn shutdown_write(&mut self, socket: &Self::Socket);

    /// Ends both directions; what is in flight completes.
    fn shutdown(&mut self, socket: &Self::Socket);

    /// Closes a socket that has nothing in flight.
    fn close(&mut self, socket: Self::Socket, closing: Closing);

    /// The bytes of a received buffer.
    fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8];

    /// Gives a buffer back to the pool.
    fn release(&mut self, buffer: Buffer);

    /// Whether a send may keep a buffer: enough others of its size are left.
    fn can_lend(&self, buffer: &Buffer) -> bool;

    /// Whether a receive has filled its buffer, so that the socket may have more.
    fn is_full(&self, buffer: &Buffer) -> bool;

    /// Milliseconds since some moment, never going back.
    fn now_ms(&self) -> u64;

    /// Submits what was asked for, waits until something completes or `timeout_ms` have passed,
    /// and appends what has completed.
    fn wait(&mut self, timeout_ms: Option<u64>, completions: &mut Vec<Completion>);
}
