//! What is bounded, and what happens at the bound.

use std::io::Write;
use std::net::Shutdown;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use postern_ring::{Leg, Ring, RingConfig, Session};

use crate::support::{bytes, pair, ping, plain, read, ring, splice, wait_until};

const MIB: usize = 1024 * 1024;

/// What the kernel may hold between a worker and a client that does not read, in bytes: the
/// largest send buffer and the largest receive buffer (`tcp_wmem`, `tcp_rmem`), with room.
const KERNEL_BYTES_MAX: u64 = 48 * MIB as u64;

#[test]
fn a_client_that_does_not_read_stops_its_backend_and_nobody_else() {
    let ring = ring();
    let handle = ring.handle();
    let stalled = splice(&handle);
    let busy = splice(&handle);
    let row = bytes(11, 96 * MIB);
    thread::scope(|scope| {
        scope.spawn(|| (&stalled.backend).write_all(&row).unwrap());
        wait_until("backpressure", || handle.stats().pauses > 0);
        for _ in 0..1000 {
            ping(&mut &busy.client, &mut &busy.backend);
        }
        let taken = handle.stats().bytes_to_client;
        assert!(
            taken < KERNEL_BYTES_MAX,
            "{taken} bytes were taken from the backend"
        );
        assert!(
            read(&mut &stalled.client, row.len()) == row,
            "the bytes differ"
        );
    });
    ping(&mut &stalled.client, &mut &stalled.backend);
}

#[test]
fn an_empty_buffer_pool_costs_time_and_no_bytes() {
    let config = RingConfig {
        pin: false,
        buffers: 8,
        buffer_bytes: 512,
        ..RingConfig::new(1)
    };
    let ring = Ring::start(config).unwrap();
    let sessions: Vec<_> = (0..64).map(|_| splice(&ring.handle())).collect();
    wait_until("an empty pool", || {
        // Each session has more to receive than the pool has in all.
        for peers in &sessions {
            (&peers.client).write_all(&bytes(peers.id, 20_000)).unwrap();
            (&peers.backend)
                .write_all(&bytes(peers.id + 7, 20_000))
                .unwrap();
        }
        for peers in &sessions {
            assert!(read(&mut &peers.backend, 20_000) == bytes(peers.id, 20_000));
            assert!(read(&mut &peers.client, 20_000) == bytes(peers.id + 7, 20_000));
        }
        ring.handle().stats().buffers_missed > 0
    });
}

#[test]
fn a_full_ring_gives_the_session_back_untouched() {
    let config = RingConfig {
        pin: false,
        sessions_max: 1,
        ..RingConfig::new(1)
    };
    let ring = Ring::start(config).unwrap();
    let handle = ring.handle();
    let first = splice(&handle);
    let (mut peer, socket) = pair();
    let (_other, other_socket) = pair();
    let session = |id, client: Leg, backend: Leg, report: std::sync::mpsc::Sender<u64>| Session {
        id,
        client,
        backend,
        to_client: b"hello".to_vec(),
        to_backend: Vec::new(),
        on_close: Box::new(move |closed| report.send(closed.id).unwrap()),
    };
    let (report, closed) = channel();
    let wanted = session(u64::MAX, plain(socket), plain(other_socket), report);
    let refused = handle.splice(wanted).unwrap_err();
    assert_eq!(
        (refused.id, &refused.to_client[..]),
        (u64::MAX, &b"hello"[..])
    );
    first.client.shutdown(Shutdown::Both).unwrap();
    first.backend.shutdown(Shutdown::Both).unwrap();
    first.closed();
    handle.splice(refused).unwrap();
    assert_eq!(read(&mut peer, 5), b"hello");
    ring.stop();
    assert_eq!(closed.recv().unwrap(), u64::MAX);
}

#[test]
fn an_id_that_is_in_use_is_refused() {
    let ring = ring();
    let handle = ring.handle();
    let first = splice(&handle);
    let ((_a, client), (_b, backend)) = (pair(), pair());
    let twin = Session {
        id: first.id,
        client: plain(client),
        backend: plain(backend),
        to_client: Vec::new(),
        to_backend: Vec::new(),
        on_close: Box::new(|_| ()),
    };
    assert!(handle.splice(twin).is_err());
    ping(&mut &first.client, &mut &first.backend);
}

/// Set in the process that is to end by a panic.
const PANIC: &str = "POSTERN_TEST_PANIC";

#[test]
fn a_panic_in_a_worker_ends_the_process_loudly() {
    if std::env::var_os(PANIC).is_some() {
        let ring = ring();
        let ((client_peer, client), (_b, backend)) = (pair(), pair());
        let session = Session {
            id: 1,
            client: plain(client),
            backend: plain(backend),
            to_client: Vec::new(),
            to_backend: Vec::new(),
            on_close: Box::new(|_| panic!("as the test wants it")),
        };
        ring.handle().splice(session).unwrap();
        ring.handle().end(1, Vec::new());
        drop(client_peer);
        ring.stop();
        return;
    }
    let name = "limits::a_panic_in_a_worker_ends_the_process_loudly";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PANIC, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("splice worker 0 has panicked"), "{text}");
}
