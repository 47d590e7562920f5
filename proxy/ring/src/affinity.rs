//! Pinning a thread to a CPU.
#![allow(unsafe_code, reason = "the affinity calls are foreign functions")]

use std::io;

/// Pins the calling thread to the `index`th CPU that the process may use, counted round.
///
/// # Errors
///
/// What `sched_getaffinity` or `sched_setaffinity` says.
pub(crate) fn pin(index: usize) -> io::Result<()> {
    let allowed = allowed()?;
    let Some(&cpu) = allowed.get(index % allowed.len().max(1)) else {
        return Err(io::Error::other("the process may use no CPU"));
    };
    // SAFETY: a CPU set is plain bits, for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` came from a set of the same size, so it is inside this one.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the pointer and the size are those of `set`; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The CPUs that the calling thread may use.
fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: as in `pin`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size are those of `set`; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let bits = 8 * size_of_val(&set);
    // SAFETY: every index is less than the number of bits of the set.
    Ok((0..bits)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}
