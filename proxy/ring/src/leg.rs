//! One leg of a session: a socket, what is received from it and what is sent to it.

use rustls::Error;

use crate::chunks::Chunks;
use crate::counters::Counters;
use crate::driver::{Buffer, Bytes, Driver, Payload, Shots};
use crate::limits::{QUEUE_BYTES_HIGH, QUEUE_BYTES_LOW};
use crate::tls::{Tls, ready};
use crate::token::{Op, Side, Token};

/// What a session may use of its worker while it handles one event.
pub(crate) struct Context<'a, D> {
    pub(crate) driver: &'a mut D,
    pub(crate) chunks: &'a mut Chunks,
    pub(crate) counters: &'a Counters,
}

/// A socket of a session with its two directions.
pub(crate) struct Leg<S> {
    pub(crate) socket: S,
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
    pub(crate) tls: Option<Tls>,
}

impl<S> Leg<S> {
    pub(crate) fn new(socket: S, tls: Option<Tls>) -> Self {
        Self {
            socket,
            receiver: Receiver::default(),
            sender: Sender::default(),
            tls,
        }
    }

    /// Queues application bytes for the peer.
    ///
    /// # Errors
    ///
    /// As for [`Tls::seal`].
    pub(crate) fn put(&mut self, chunks: &mut Chunks, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() || self.sender.end != End::Open {
            return Ok(());
        }
        let before = self.sender.pending.len();
        let queue = ready(&mut self.sender.pending, chunks);
        match &mut self.tls {
            None => queue.extend_from_slice(bytes),
            Some(tls) => tls.seal(bytes, queue)?,
        }
        self.sender.queued += queue.len() - before;
        Ok(())
    }

    /// Queues the records that TLS itself wants to send.
    pub(crate) fn put_records(&mut self, chunks: &mut Chunks) {
        let Some(tls) = &mut self.tls else { return };
        if !tls.has_records() {
            return;
        }
        let mut unwanted = Vec::new();
        let before = self.sender.pending.len();
        // Nothing may follow a close_notify: records of later are made and thrown away.
        let open = self.sender.end == End::Open;
        let queue = if open {
            ready(&mut self.sender.pending, chunks)
        } else {
            &mut unwanted
        };
        tls.take_records(queue);
        if open {
            self.sender.queued += self.sender.pending.len() - before;
        }
    }

    /// Orders the end of the outgoing stream, after what is queued.
    pub(crate) fn finish(&mut self, chunks: &mut Chunks) {
        if self.sender.end != End::Open {
            return;
        }
        if let Some(tls) = &mut self.tls {
            let before = self.sender.pending.len();
            tls.close(ready(&mut self.sender.pending, chunks));
            self.sender.queued += self.sender.pending.len() - before;
        }
        self.sender.end = End::AfterQueue;
    }

    /// Whether the kernel still has an operation on the socket.
    pub(crate) fn in_flight(&self) -> bool {
        self.receiver.op != ReceiveOp::None || self.sender.op != SendOp::None
    }

    /// Cancels whatever is in flight.
    pub(crate) fn cancel<D: Driver>(
        &mut self,
        context: &mut Context<'_, D>,
        name: Token,
        side: Side,
    ) {
        if matches!(self.receiver.op, ReceiveOp::Armed(_)) {
            self.receiver.op = ReceiveOp::Cancelling;
            let (token, target) = (
                name.with(Op::CancelReceive(side)),
                name.with(Op::Receive(side)),
            );
            context.driver.cancel(token, target);
        }
        if self.sender.op == SendOp::InFlight {
            self.sender.op = SendOp::Cancelling;
            let (token, target) = (name.with(Op::CancelSend(side)), name.with(Op::Send(side)));
            context.driver.cancel(token, target);
        }
    }
}

/// The receive operation of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveOp {
    /// Nothing is in flight.
    None,
    /// A receive is in flight.
    Armed(Shots),
    /// A receive is in flight and a cancellation of it too: bytes may still arrive.
    Cancelling,
}

/// What is known of the peer's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// More may come and is wanted.
    Open,
    /// More may come and is not wanted now: the other leg is behind.
    Paused,
    /// Nothing more comes, or nothing more is of interest.
    Finished,
}

/// The incoming half of a leg.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) op: ReceiveOp,
    pub(crate) source: Source,
    /// How the next receive is armed.
    ///
    /// A multishot receive takes all that the socket has, so a socket that may have much (after a
    /// pause, or at the handover) is read buffer by buffer until a short read shows it empty.
    pub(crate) shots: Shots,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            op: ReceiveOp::None,
            source: Source::Open,
            shots: Shots::Single,
        }
    }
}

impl Receiver {
    /// Learns from the size of a receive whether the socket had more.
    pub(crate) fn filled(&mut self, is_full: bool) {
        if is_full {
            self.shots = Shots::Single;
        } else if self.source == Source::Open {
            self.shots = Shots::Multi;
        }
    }

    /// Stops or resumes receiving, by what is queued on the other leg.
    pub(crate) fn regulate(&mut self, queued: usize, counters: &Counters) {
        match self.source {
            Source::Open if queued >= QUEUE_BYTES_HIGH => {
                self.source = Source::Paused;
                self.shots = Shots::Single;
                counters.pauses.add(1);
            }
            Source::Paused if queued <= QUEUE_BYTES_LOW => self.source = Source::Open,
            Source::Open | Source::Paused | Source::Finished => {}
        }
    }

    /// Arms the receive, or cancels it, so that it is as the source wants it.
    pub(crate) fn advance<D: Driver>(
        &mut self,
        context: &mut Context<'_, D>,
        name: Token,
        side: Side,
        socket: &D::Socket,
    ) {
        let token = name.with(Op::Receive(side));
        match (self.op, self.source) {
            (ReceiveOp::None, Source::Open) => {
                context.driver.receive(token, socket, self.shots);
                self.op = ReceiveOp::Armed(self.shots);
            }
            // A single receive brings one buffer at most: cheaper to let it than to cancel it.
            (ReceiveOp::Armed(Shots::Multi), Source::Paused | Source::Open)
                if self.shots == Shots::Single =>
            {
                context
                    .driver
                    .cancel(name.with(Op::CancelReceive(side)), token);
                self.op = ReceiveOp::Cancelling;
            }
            (ReceiveOp::Armed(_), Source::Finished) => {
                context
                    .driver
                    .cancel(name.with(Op::CancelReceive(side)), token);
                self.op = ReceiveOp::Cancelling;
            }
            (ReceiveOp::None, Source::Paused | Source::Finished)
            | (ReceiveOp::Armed(_), Source::Open)
            | (ReceiveOp::Armed(_), Source::Paused)
            | (ReceiveOp::Cancelling, _) => {}
        }
    }
}

/// The send operation of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendOp {
    /// Nothing is in flight.
    None,
    /// One send is in flight.
    InFlight,
    /// One send is in flight and a cancellation of it too.
    Cancelling,
}

/// What becomes of the outgoing stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More may be queued.
    Open,
    /// A FIN follows when the queue is empty; nothing more is queued.
    AfterQueue,
    /// The FIN is sent.
    Done,
    /// Nothing can be sent any more, or nothing may.
    Dead,
}

/// The outgoing half of a leg.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) op: SendOp,
    pub(crate) end: End,
    /// Bytes that wait until the send in flight is done. It has no memory when nothing waits.
    pub(crate) pending: Vec<u8>,
    /// All bytes that are not sent yet: those in flight and those pending.
    pub(crate) queued: usize,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            op: SendOp::None,
            end: End::Open,
            pending: Vec::new(),
            queued: 0,
        }
    }
}

impl Sender {
    /// Whether there is nothing to send and nothing in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.op == SendOp::None && self.pending.is_empty()
    }

    /// Whether all there is to send is in flight, and more may come.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.op == SendOp::InFlight && self.pending.is_empty() && self.end == End::Open
    }

    /// Whether the queue owns memory only while bytes wait in it.
    pub(crate) fn has_no_idle_memory(&self) -> bool {
        self.pending.capacity() == 0 || !self.pending.is_empty()
    }

    /// Sends a received buffer as it is, or queues its bytes behind those that wait.
    pub(crate) fn forward<D: Driver>(
        &mut self,
        context: &mut Context<'_, D>,
        token: Token,
        socket: &D::Socket,
        buffer: Buffer,
    ) {
        if self.end != End::Open {
            context.driver.release(buffer);
            return;
        }
        self.queued += buffer.len as usize;
        if self.is_idle() && context.driver.can_lend(&buffer) {
            self.op = SendOp::InFlight;
            context.driver.send(token, socket, Payload::pool(buffer));
        } else {
            let queue = ready(&mut self.pending, context.chunks);
            queue.extend_from_slice(context.driver.bytes(&buffer));
            context.driver.release(buffer);
        }
    }

    /// Sends what waits, and the FIN when its time has come.
    pub(crate) fn advance<D: Driver>(
        &mut self,
        context: &mut Context<'_, D>,
        token: Token,
        socket: &D::Socket,
    ) {
        if self.op != SendOp::None || self.end == End::Dead {
            return;
        }
        if !self.pending.is_empty() {
            let chunk = std::mem::take(&mut self.pending);
            self.op = SendOp::InFlight;
            context.driver.send(token, socket, Payload::chunk(chunk));
        } else if self.end == End::AfterQueue {
            context.driver.shutdown_write(socket);
            self.end = End::Done;
        }
    }

    /// Accounts for a send that has completed, and sends the rest of a short one.
    pub(crate) fn sent<D: Driver>(
        &mut self,
        context: &mut Context<'_, D>,
        token: Token,
        socket: &D::Socket,
        (mut payload, taken): (Payload, usize),
    ) {
        payload.sent += taken;
        self.queued = self.queued.saturating_sub(taken);
        let cancelled = self.op == SendOp::Cancelling;
        if payload.remaining() == 0 || cancelled || self.end == End::Dead {
            self.op = SendOp::None;
            self.queued = self.pending.len();
            recycle(context, payload);
        } else {
            self.op = SendOp::InFlight;
            context.driver.send(token, socket, payload);
        }
    }

    /// Accounts for a send that has failed.
    pub(crate) fn failed<D: Driver>(&mut self, context: &mut Context<'_, D>, payload: Payload) {
        self.op = SendOp::None;
        self.queued = self.pending.len();
        recycle(context, payload);
    }

    /// Gives up what waits: nothing more is sent.
    pub(crate) fn kill(&mut self, chunks: &mut Chunks) {
        let pending = std::mem::take(&mut self.pending);
        self.queued = self.queued.saturating_sub(pending.len());
        chunks.give(pending);
        if self.end != End::Done {
            self.end = End::Dead;
        }
    }
}

/// Gives the memory of a payload back to where it came from.
fn recycle<D: Driver>(context: &mut Context<'_, D>, payload: Payload) {
    match payload.bytes {
        Bytes::Pool(buffer) => context.driver.release(buffer),
        Bytes::Chunk(chunk) => context.chunks.give(chunk),
    }
}
