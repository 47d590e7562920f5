//! Every limit of this crate, with its unit and its reason.

/// The size of one provided receive buffer, in bytes.
/// PostgreSQL writes 8 KiB at a time (`PQ_SEND_BUFFER_SIZE`); two of those make a receive and a
/// send less for a stream, and more would only make the pool larger.
pub const BUFFER_BYTES: u32 = 16 * 1024;

/// Provided receive buffers a worker, by default: 8 MiB of address space, resident as far as used.
/// A buffer is held for one batch of completions, so this bounds how many sockets one batch serves.
pub const BUFFERS_DEFAULT: u16 = 512;

/// The most provided buffers a worker: the kernel's bound on a buffer ring (2^15 entries).
pub const BUFFERS_MAX: u16 = 1 << 15;

/// A receive buffer of a socket that may have much is so many times as large.
/// Fewer and larger receives and sends save a tenth of what a stream costs (bench/README.md).
pub const LARGE_BUFFER_TIMES: u32 = 4;

/// There is one such buffer for so many of the others, but at least [`LARGE_BUFFERS_MIN`]: 64
/// buffers, 4 MiB, by default.
pub const LARGE_BUFFERS_ONE_IN: u16 = 8;

/// The fewest large buffers: below it one slow session could hold them all.
pub const LARGE_BUFFERS_MIN: u16 = 8;

/// Sends may hold provided buffers until this part of the pool is left (one in so many).
/// Below it bytes are copied out, so that sends to stalled peers can never keep the last buffers.
pub const BUFFERS_RESERVED_ONE_IN: u16 = 4;

// What one batch may bring beyond the high mark: a single receive one buffer, a multishot receive
// at most 32 buffers since Linux 6.8 and all that are free before (`MULTISHOT_MAX_RETRY`). Only a
// socket that was nearly empty a moment before is read by multishot: a full buffer ends that.

/// Bytes queued for one socket at which receiving from the other side stops.
pub const QUEUE_BYTES_HIGH: usize = 128 * 1024;

/// Bytes queued for one socket at which receiving from the other side starts again.
pub const QUEUE_BYTES_LOW: usize = 16 * 1024;

/// The first capacity of a queue that has to hold bytes, in bytes: one receive buffer.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// The largest emptied queue that a worker keeps for reuse, in bytes: a full queue.
pub const CHUNK_KEEP_BYTES_MAX: usize = 2 * QUEUE_BYTES_HIGH;

/// Emptied queues that a worker keeps for reuse: with the size above, 8 MiB at most.
pub const CHUNKS_KEPT_MAX: usize = 32;

/// Sessions a worker, by default: two sockets each, under the usual limit of 65,536 files.
pub const SESSIONS_DEFAULT: usize = 16 * 1024;

/// The most sessions a worker can name: the slot part of a token has 28 bits.
pub const SESSIONS_MAX: usize = 1 << 28;

/// Sessions handed to a worker and not yet taken over by it.
/// A worker takes them all once a batch; this many waiting means that it is not running.
pub const HANDOVERS_MAX: usize = 1024;

/// Submission queue entries a ring: more than one batch needs; a full queue is submitted early.
pub const SUBMISSIONS: u32 = 1024;

/// Completion queue entries a ring. An overflow is kept by the kernel (`IORING_FEAT_NODROP`).
pub const COMPLETIONS: u32 = 4096;

/// How long an ordered end may take to send what is queued and the goodbye, in milliseconds.
/// A revoked client that does not read must not keep its session.
pub const END_FLUSH_MS: u64 = 1_000;

/// How long the client may take to close after an ordered end told it so, in milliseconds.
/// Closing at once would answer unread bytes with a reset, which may destroy the goodbye.
pub const END_LINGER_MS: u64 = 250;

/// How long what one side sent before it failed may take to reach the other, in milliseconds.
pub const DRAIN_MS: u64 = 2_000;

/// How long a client may stay after the backend closed its direction, in milliseconds.
/// A PostgreSQL backend that has closed is gone: there is nobody left to talk to.
pub const HALF_CLOSED_MS: u64 = 60_000;

/// How long cancelled operations may take before their sockets are shut down, in milliseconds.
pub const JOIN_MS: u64 = 1_000;

/// Silence on a connection before the first keepalive probe, in seconds.
pub const KEEPALIVE_IDLE_S: u32 = 60;

/// Time between keepalive probes, in seconds.
pub const KEEPALIVE_INTERVAL_S: u32 = 10;

/// Keepalive probes without an answer before the connection counts as dead.
pub const KEEPALIVE_PROBES: u32 = 6;

/// How long sent bytes may stay unacknowledged, in milliseconds (`TCP_USER_TIMEOUT`).
/// It also ends a connection whose reader has kept its window shut for so long, so it is no
/// shorter than a person with a pager needs.
pub const USER_TIMEOUT_MS: u32 = 900_000;

const _: () = {
    assert!(QUEUE_BYTES_LOW < QUEUE_BYTES_HIGH);
    assert!(CHUNK_BYTES <= CHUNK_KEEP_BYTES_MAX);
    assert!(BUFFERS_DEFAULT.is_power_of_two() && BUFFERS_DEFAULT <= BUFFERS_MAX);
    assert!(BUFFERS_RESERVED_ONE_IN >= 2);
    assert!(LARGE_BUFFER_TIMES as usize * BUFFER_BYTES as usize <= QUEUE_BYTES_HIGH);
    assert!(END_LINGER_MS <= END_FLUSH_MS);
    assert!(SUBMISSIONS <= COMPLETIONS);
};
