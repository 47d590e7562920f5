//! What is set on every socket that is spliced.
#![allow(unsafe_code, reason = "setsockopt and fcntl are foreign functions")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

use crate::limits::{KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES};

/// Prepares a connected stream socket for the ring.
///
/// - Blocking: on a non-blocking file io_uring answers `EAGAIN` instead of waiting.
/// - `TCP_NODELAY`: a small message must not wait for the acknowledgement of the last.
/// - Keepalive and `TCP_USER_TIMEOUT`: a dead peer is found, idle or not. `user_timeout_ms` of
///   zero leaves the second one off.
///
/// # Errors
///
/// The first call that failed. A Unix socket has none of the TCP options, which is no error.
pub(crate) fn prepare(socket: BorrowedFd<'_>, user_timeout_ms: u32) -> io::Result<()> {
    set_blocking(socket)?;
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, user_timeout_ms),
    ];
    for (level, name, value) in options {
        match set(socket, level, name, &value) {
            Err(error) if level == libc::IPPROTO_TCP && is_no_tcp(&error) => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Makes the next close of the socket send a RST instead of a FIN.
///
/// # Errors
///
/// What `setsockopt` says.
pub(crate) fn set_reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Ends one direction or both (`SHUT_WR`, `SHUT_RDWR`).
///
/// # Errors
///
/// `ENOTCONN` when the peer has already reset the connection.
pub(crate) fn shutdown(socket: BorrowedFd<'_>, how: c_int) -> io::Result<()> {
    // SAFETY: shutdown takes no pointer, and the borrow keeps the file open.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), how) }).map(drop)
}

fn set_blocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no pointer, and the borrow keeps the file open.
    let flags = check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an integer, and the borrow keeps the file open.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) })
        .map(drop)
}

fn set<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of `value`, which outlives the call; the
    // kernel only reads it. The borrow keeps the file open.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    check(outcome).map(drop)
}

fn check(outcome: c_int) -> io::Result<c_int> {
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(outcome)
    }
}

fn is_no_tcp(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn get(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<u32> {
        let mut value = 0_u32;
        let mut len = 4;
        // SAFETY: both pointers are to locals that outlive the call, and `len` is the size of
        // `value`. The borrow keeps the file open.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        check(outcome).map(|_| value)
    }

    #[test]
    fn a_prepared_socket_has_every_option() -> io::Result<()> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        stream.set_nonblocking(true)?;
        prepare(stream.as_fd(), 7_000)?;
        // SAFETY: F_GETFL takes no pointer, and the borrow keeps the file open.
        let flags = check(unsafe { libc::fcntl(stream.as_fd().as_raw_fd(), libc::F_GETFL) })?;
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        for (level, name, value) in [
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES),
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 7_000),
        ] {
            assert_eq!(get(stream.as_fd(), level, name)?, value, "option {name}");
        }
        Ok(())
    }

    #[test]
    fn a_unix_socket_needs_no_tcp_options() -> io::Result<()> {
        let (one, _other) = UnixStream::pair()?;
        prepare(one.as_fd(), 7_000)
    }
}
