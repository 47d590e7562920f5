//! Ends of all kinds: half close, reset, an order, the stop of the ring.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use postern_ring::{CloseReason, Ring, RingConfig, Side};

use crate::support::{bytes, ping, read, read_all, ring, splice, wait_until};

/// Closes so that the peer gets a RST: unread bytes do that.
fn reset(mut mine: TcpStream, make_unread: impl FnOnce()) {
    make_unread();
    mine.set_nonblocking(false).unwrap();
    let mut first = [0; 1];
    mine.read_exact(&mut first).unwrap();
    drop(mine);
}

#[test]
fn the_backend_may_answer_after_the_client_has_ended_its_stream() {
    let ring = ring();
    let peers = splice(&ring.handle());
    let (mut client, mut backend) = (&peers.client, &peers.backend);
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut backend), b"last words");
    backend.write_all(b"understood").unwrap();
    assert_eq!(read(&mut client, 10), b"understood");
    backend.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client).is_empty());
    assert_eq!(peers.closed().reason, CloseReason::ClientClosed);
}

#[test]
fn the_client_may_go_on_after_the_backend_has_ended_its_stream() {
    let ring = ring();
    let peers = splice(&ring.handle());
    let (mut client, mut backend) = (&peers.client, &peers.backend);
    backend.write_all(b"goodbye").unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"goodbye");
    client.write_all(b"but why").unwrap();
    assert_eq!(read(&mut backend, 7), b"but why");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut backend).is_empty());
    assert_eq!(peers.closed().reason, CloseReason::BackendClosed);
}

#[test]
fn a_client_that_is_gone_takes_its_backend_along() {
    let ring = ring();
    let mut peers = splice(&ring.handle());
    ping(&mut &peers.client, &mut &peers.backend);
    let (replacement, _other) = crate::support::pair();
    drop(std::mem::replace(&mut peers.client, replacement));
    assert!(read_all(&mut &peers.backend).is_empty());
    peers.backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peers.closed().reason, CloseReason::ClientClosed);
}

#[test]
fn a_reset_of_the_client_resets_the_backend() {
    let ring = ring();
    let mut peers = splice(&ring.handle());
    let (replacement, _other) = crate::support::pair();
    let client = std::mem::replace(&mut peers.client, replacement);
    let backend = &peers.backend;
    reset(client, || (&mut &*backend).write_all(&[9; 4096]).unwrap());
    let error = (&peers.backend).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(peers.closed().reason, CloseReason::ClientReset);
}

#[test]
fn what_the_backend_sent_before_its_reset_reaches_the_client() {
    let ring = ring();
    let mut peers = splice(&ring.handle());
    let (replacement, _other) = crate::support::pair();
    let backend = std::mem::replace(&mut peers.backend, replacement);
    (&backend).write_all(b"FATAL").unwrap();
    assert_eq!(read(&mut &peers.client, 5), b"FATAL");
    let client = &peers.client;
    reset(backend, || (&mut &*client).write_all(&[9; 4096]).unwrap());
    let error = (&peers.client).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(peers.closed().reason, CloseReason::BackendReset);
}

#[test]
fn an_ordered_end_says_goodbye_and_ends_both_legs() {
    let ring = ring();
    let handle = ring.handle();
    let peers = splice(&handle);
    ping(&mut &peers.client, &mut &peers.backend);
    assert!(handle.end(peers.id, b"you are revoked".to_vec()));
    assert!(!handle.end(peers.id, b"twice".to_vec()));
    assert_eq!(read_all(&mut &peers.client), b"you are revoked");
    assert!(read_all(&mut &peers.backend).is_empty());
    assert!(!handle.end(0, Vec::new()));
    assert_eq!(peers.closed().reason, CloseReason::Ended);
}

#[test]
fn the_end_of_all_sessions_says_goodbye_to_each() {
    let ring = ring();
    let handle = ring.handle();
    let sessions: Vec<_> = (0..5).map(|_| splice(&handle)).collect();
    assert_eq!(handle.end_all(b"shutting down"), 5);
    for peers in sessions {
        assert_eq!(read_all(&mut &peers.client), b"shutting down");
        assert_eq!(peers.closed().reason, CloseReason::Ended);
    }
    wait_until("an empty ring", || handle.live() == 0);
}

#[test]
fn an_ordered_end_does_not_wait_for_a_client_that_does_not_read() {
    let ring = ring();
    let handle = ring.handle();
    let peers = splice(&handle);
    peers.backend.set_nonblocking(true).unwrap();
    let chunk = bytes(3, 64 * 1024);
    wait_until("backpressure", || {
        let outcome = (&mut &peers.backend).write(&chunk);
        outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            && handle.stats().pauses > 0
    });
    handle.end(peers.id, b"never read".to_vec());
    assert_eq!(peers.closed().reason, CloseReason::Ended);
}

#[test]
fn stopping_the_ring_ends_every_session_and_closes_its_sockets() {
    let ring = ring();
    let sessions: Vec<_> = (0..20).map(|_| splice(&ring.handle())).collect();
    for peers in &sessions {
        ping(&mut &peers.client, &mut &peers.backend);
        assert!(peers.client.as_raw_fd() > 0);
    }
    let handle = ring.handle();
    ring.stop();
    assert_eq!((handle.live(), handle.stats().closed), (0, 20));
    for peers in sessions {
        assert!(read_all(&mut &peers.backend).is_empty());
        assert!(read_all(&mut &peers.client).is_empty());
        assert_eq!(peers.closed().reason, CloseReason::Ended);
    }
}

#[test]
fn whoever_takes_nothing_any_more_is_dead_after_the_user_timeout() {
    for silent in [Side::Client, Side::Backend] {
        let ring = Ring::start(RingConfig {
            pin: false,
            user_timeout_ms: 1_000,
            ..RingConfig::new(1)
        })
        .unwrap();
        let peers = splice(&ring.handle());
        let mut busy = match silent {
            Side::Client => &peers.backend,
            Side::Backend => &peers.client,
        };
        // More than all buffers on the way to a peer that does not read.
        let chunk = bytes(5, 64 * 1024);
        while busy.write_all(&chunk).is_ok() {}
        // The system tells one of two operations that time is up, and the other that it is over.
        let over = match silent {
            Side::Client => CloseReason::ClientReset,
            Side::Backend => CloseReason::BackendReset,
        };
        let reason = peers.closed().reason;
        assert!(
            [CloseReason::TimedOut(silent), over].contains(&reason),
            "{reason:?}"
        );
    }
}
