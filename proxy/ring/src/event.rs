//! The eventfd by which a worker is woken.
#![allow(unsafe_code, reason = "eventfd is a foreign function")]

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A new eventfd, non-blocking and closed on exec.
///
/// # Errors
///
/// `EMFILE` or `ENFILE`.
pub(crate) fn new() -> io::Result<File> {
    // SAFETY: eventfd takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just made this descriptor, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
