//! The provided buffers that the kernel receives into, and their ring.
#![allow(unsafe_code, reason = "memory that is shared with the kernel")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::driver::Buffer;
use crate::limits::{
    BUFFERS_MAX, BUFFERS_RESERVED_ONE_IN, LARGE_BUFFER_TIMES, LARGE_BUFFERS_MIN,
    LARGE_BUFFERS_ONE_IN,
};

/// The group of the buffers of ordinary size, and the name of the first of them.
const SMALL: (u16, u16) = (0, 0);

/// The same of the large ones: a completion names the buffer and not the group.
const LARGE: (u16, u16) = (1, BUFFERS_MAX);

/// Which buffers a receive is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// For messages.
    Small,
    /// For sockets that may have much.
    Large,
}

/// All buffers of a worker.
pub(crate) struct Pools {
    small: Pool,
    large: Pool,
}

impl Pools {
    /// `count` buffers, a power of two, of `buffer_bytes` each, and the large ones beside them;
    /// not yet known to any ring.
    ///
    /// # Errors
    ///
    /// What `mmap` says.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let large_count = (count / LARGE_BUFFERS_ONE_IN).max(LARGE_BUFFERS_MIN);
        Ok(Self {
            small: Pool::new(SMALL, count, buffer_bytes)?,
            large: Pool::new(LARGE, large_count, buffer_bytes * LARGE_BUFFER_TIMES)?,
        })
    }

    /// Makes the buffers known to a ring (`IORING_REGISTER_PBUF_RING`, kernel 5.19).
    ///
    /// # Errors
    ///
    /// `EINVAL` on an older kernel.
    pub(crate) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        self.small.register(submitter)?;
        self.large.register(submitter)
    }

    /// Makes a ring forget the buffers; nothing of it may be in flight.
    pub(crate) fn unregister(&self, submitter: &Submitter<'_>) {
        for pool in [&self.small, &self.large] {
            // A ring that does not know the group is about to be closed as well.
            let _ = submitter.unregister_buf_ring(pool.group);
        }
    }

    /// The group that a receive takes its buffer from, and the size of that.
    pub(crate) fn group(&self, size: Size) -> (u16, u32) {
        let pool = match size {
            Size::Small => &self.small,
            Size::Large => &self.large,
        };
        (pool.group, pool.buffer_bytes)
    }

    /// Takes note that the kernel has filled a buffer; `None` for an id that no pool has or a
    /// length that it cannot be.
    pub(crate) fn lend(&mut self, id: u16, len: u32) -> Option<Buffer> {
        self.of_mut(id).lend(id, len)
    }

    /// The bytes of a buffer on loan.
    pub(crate) fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8] {
        self.of(buffer.id).bytes(buffer)
    }

    /// Takes a buffer back; the kernel may use it after the next `publish`.
    pub(crate) fn release(&mut self, buffer: Buffer) {
        self.of_mut(buffer.id).release(buffer);
    }

    /// Whether more than the reserve of its size is in the ring.
    pub(crate) fn can_lend(&self, buffer: &Buffer) -> bool {
        self.of(buffer.id).can_lend()
    }

    /// Whether the kernel has filled a buffer to its end.
    pub(crate) fn is_full(&self, buffer: &Buffer) -> bool {
        self.of(buffer.id).buffer_bytes <= buffer.len
    }

    /// Shows the kernel the buffers that have been put back.
    pub(crate) fn publish(&mut self) {
        self.small.publish();
        self.large.publish();
    }

    fn of(&self, id: u16) -> &Pool {
        if id < LARGE.1 {
            &self.small
        } else {
            &self.large
        }
    }

    fn of_mut(&mut self, id: u16) -> &mut Pool {
        if id < LARGE.1 {
            &mut self.small
        } else {
            &mut self.large
        }
    }
}

/// Anonymous memory of our own, page aligned, not inherited by children.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice replaces no
        // other memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(start) = NonNull::new(start.cast()) else {
            return Err(io::Error::other("mmap returned the null page"));
        };
        let mapping = Self { start, len };
        // A child between fork and exec would make the pages copy-on-write, and what the kernel
        // receives would go to pages that only the child sees.
        // SAFETY: the range is exactly the mapping made above.
        if unsafe { libc::madvise(mapping.start.as_ptr().cast(), len, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `new` mapped, and nobody else unmaps it. The owner of
        // the pool drops it only when no operation of the ring is in flight (`Uring::drop`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The buffers of one size: each is either in the ring, where the kernel may write to it, or on
/// loan as a [`Buffer`], where only the holder of that value reads it.
struct Pool {
    group: u16,
    /// The name of the first buffer; the others follow.
    first: u16,
    ring: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: u32,
    /// The ring's tail as far as buffers were put back; the kernel sees it after `publish`.
    tail: u16,
    on_loan: u16,
}

impl Pool {
    /// `count` buffers, a power of two, of `buffer_bytes` each; not yet known to any ring.
    ///
    /// # Errors
    ///
    /// What `mmap` says.
    fn new((group, first): (u16, u16), count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let ring = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        let mut pool = Self {
            group,
            first,
            ring,
            memory,
            count,
            buffer_bytes,
            tail: 0,
            on_loan: 0,
        };
        for index in 0..count {
            pool.put(first + index);
        }
        pool.publish();
        Ok(pool)
    }

    /// Makes the buffers known to a ring (`IORING_REGISTER_PBUF_RING`, kernel 5.19).
    ///
    /// # Errors
    ///
    /// `EINVAL` on an older kernel.
    fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.ring.start.as_ptr() as u64;
        // SAFETY: the entries are a page-aligned mapping of `count` of them, which `Uring` keeps
        // until it has unregistered the group and nothing is in flight.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, self.group, 0) }
    }

    /// Takes note that the kernel has filled a buffer; `None` for an id that the pool does not
    /// have or a length that it cannot be.
    fn lend(&mut self, id: u16, len: u32) -> Option<Buffer> {
        let is_ours = (self.first..self.first + self.count).contains(&id);
        if !is_ours || self.buffer_bytes < len {
            return None;
        }
        self.on_loan += 1;
        Some(Buffer { id, len })
    }

    /// The bytes of a buffer on loan.
    fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8] {
        let start = self.start(buffer.id);
        // SAFETY: `lend` has checked that the range is inside the mapping, the kernel has written
        // `len` bytes of it, and it does not write again before `put` makes the buffer its own,
        // which takes the `Buffer` by value.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), buffer.len as usize) }
    }

    /// Where the bytes of a buffer are, for a send that borrows them from the pool.
    fn start(&self, id: u16) -> NonNull<u8> {
        let offset = usize::from(id - self.first) * self.buffer_bytes as usize;
        // SAFETY: `id` is one of `count` from `first` on (checked by `lend`, and by the loop of
        // `new`), so the offset is inside the mapping.
        unsafe { self.memory.start.add(offset) }
    }

    /// Takes a buffer back; the kernel may use it after the next `publish`.
    fn release(&mut self, buffer: Buffer) {
        self.on_loan -= 1;
        self.put(buffer.id);
    }

    /// Whether more than the reserve is in the ring.
    fn can_lend(&self) -> bool {
        let reserve = self.count / BUFFERS_RESERVED_ONE_IN;
        self.on_loan < self.count - reserve
    }

    /// Shows the kernel the buffers that have been put back.
    fn publish(&mut self) {
        let base = self.ring.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `base` is the first entry of a page-aligned ring.
        let tail = unsafe { BufRingEntry::tail(base) }.cast_mut();
        // SAFETY: the tail is two aligned bytes inside the mapping, which the kernel reads
        // atomically too. Release: the entries must be visible before the tail that covers them.
        unsafe { AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }

    fn put(&mut self, id: u16) {
        let address = self.start(id).as_ptr() as u64;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is less than `count`. The kernel does not read an entry at or past the
        // published tail, and the ring has room: there are as many entries as buffers, and this
        // buffer is not in the ring.
        let entry = unsafe { &mut *self.ring.start.as_ptr().cast::<BufRingEntry>().add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }
}
