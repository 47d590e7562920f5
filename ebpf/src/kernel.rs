//! What the loader asks of the kernel and aya does not offer.
#![expect(unsafe_code, reason = "three system calls that no safe library wraps")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::vec;
use std::vec::Vec;

use crate::abi::Interface;

/// Where programs may be attached.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// An interface, by the kernel's number.
    Interface(u32),
    /// A cgroup, by its open folder.
    Cgroup(BorrowedFd<'a>),
}

/// What of it: the numbers are those of the kernel's `bpf_attach_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum AttachType {
    /// Packets that leave a cgroup.
    CgroupEgress = 1,
    /// Sockets of a cgroup that are connected over IPv4.
    Connect4 = 10,
    /// Sockets of a cgroup that are connected over IPv6.
    Connect6 = 11,
    /// Datagrams of a cgroup over IPv4.
    Send4 = 14,
    /// Datagrams of a cgroup over IPv6.
    Send6 = 15,
    /// Where packets come in at an interface (tcx, Linux 6.6).
    TcxIngress = 46,
    /// Where packets go out at an interface (tcx, Linux 6.6).
    TcxEgress = 47,
}

/// The most programs at one place: `BPF_MPROG_MAX` and `BPF_CGROUP_MAX_PROGS` of the kernel.
const PROGRAMS_MAX: usize = 64;
/// `BPF_PROG_QUERY`.
const PROG_QUERY: libc::c_long = 16;
/// `BPF_MAP_LOOKUP_BATCH`.
const MAP_LOOKUP_BATCH: libc::c_long = 24;
/// `MEMBARRIER_CMD_GLOBAL`.
const BARRIER_GLOBAL: libc::c_int = 1;

/// The part of `union bpf_attr` for `BPF_PROG_QUERY`, as of Linux 6.6.
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    programs_len: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// The part of `union bpf_attr` for `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
struct Batch {
    after: u64,
    last: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Elements of a map that is an array, from a place on, as many as there are up to `count`: in
/// one call (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6) and not in one for each.
///
/// # Errors
///
/// What the kernel says.
pub fn elements(map: BorrowedFd<'_>, from: u32, count: u32) -> io::Result<Vec<Interface>> {
    let room = usize::try_from(count).unwrap_or(0);
    let mut keys = vec![0_u32; room];
    let mut values = vec![Interface::default(); room];
    let (before, mut last) = (from.wrapping_sub(1), 0_u32);
    let mut batch = Batch {
        // The place before the first one, or nothing.
        after: match from {
            0 => 0,
            _ => &raw const before as u64,
        },
        last: &raw mut last as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        // An open descriptor is never negative.
        map: map.as_raw_fd().unsigned_abs(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: `batch` is laid out as the kernel's attribute, its size is given, and the room that
    // it names is for `count` keys of 4 bytes and as many values, which are plain integers
    // (`abi`); all of it lives until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_LOOKUP_BATCH,
            &raw mut batch,
            size_of::<Batch>(),
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        // There were no more.
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
    }
    values.truncate(usize::try_from(batch.count).unwrap_or(0));
    Ok(values)
}

/// The numbers of the programs that are attached to a place itself, in the order in which the
/// kernel runs them (Linux 4.15; at interfaces 6.6).
///
/// aya's own query opens each program, for which CAP_BPF is not enough.
///
/// # Errors
///
/// What the kernel says; `EINVAL` where it does not know the place, `EPERM` without
/// CAP_NET_ADMIN.
pub fn programs_at(target: Target<'_>, attach_type: AttachType) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; PROGRAMS_MAX];
    let mut query = Query {
        target: match target {
            Target::Interface(index) => index,
            // An open descriptor is never negative.
            Target::Cgroup(folder) => folder.as_raw_fd().unsigned_abs(),
        },
        attach_type: attach_type as u32,
        query_flags: 0,
        attach_flags: 0,
        programs: programs.as_mut_ptr() as u64,
        programs_len: 64,
        padding: 0,
        program_flags: 0,
        links: 0,
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: `query` is laid out as the kernel's attribute, its size is given, and `programs`
    // has room for as many numbers as `programs_len` says; both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_QUERY,
            &raw mut query,
            size_of::<Query>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(query.programs_len).unwrap_or(PROGRAMS_MAX);
    Ok(programs.iter().copied().take(count).collect())
}

/// Waits until every program that was running when it was called has ended (`membarrier(2)`,
/// Linux 4.3): the kernel's grace period.
///
/// # Errors
///
/// What the kernel says; `EINVAL` where some processors run without a tick (`nohz_full`).
pub fn wait_for_running_programs() -> io::Result<()> {
    let flags: libc::c_uint = 0;
    let processor: libc::c_int = 0;
    // SAFETY: the call takes three numbers and touches no memory of the process.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, BARRIER_GLOBAL, flags, processor) };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<Query>(), 64);
        assert_eq!(core::mem::offset_of!(Query, programs), 16);
        assert_eq!(core::mem::offset_of!(Query, revision), 56);
        assert_eq!(size_of::<Batch>(), 56);
        assert_eq!(core::mem::offset_of!(Batch, map), 36);
    }
}
