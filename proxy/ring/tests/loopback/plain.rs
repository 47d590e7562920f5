//! Bytes of plain sessions: all of them, in order, each to its own peer.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use postern_ring::CloseReason;

use crate::support::{bytes, pair, ping, plain, read, read_all, ring, splice, splice_legs};

const MIB: usize = 1024 * 1024;

#[test]
fn many_megabytes_arrive_unchanged_both_ways_at_once() {
    let ring = ring();
    let peers = splice(&ring.handle());
    let (to_backend, to_client) = (bytes(1, 48 * MIB), bytes(2, 48 * MIB));
    thread::scope(|scope| {
        for (stream, outgoing, incoming) in [
            (&peers.client, &to_backend, &to_client),
            (&peers.backend, &to_client, &to_backend),
        ] {
            scope.spawn(move || {
                let mut stream = stream;
                stream.write_all(outgoing).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut stream = stream;
                assert!(read_all(&mut stream) == *incoming, "the bytes differ");
            });
        }
    });
    let closed = peers.closed();
    assert_eq!(closed.bytes_to_backend, to_backend.len() as u64);
    assert_eq!(closed.bytes_to_client, to_client.len() as u64);
    assert_eq!(ring.handle().live(), 0);
}

#[test]
fn what_the_login_read_ahead_comes_first() {
    let ring = ring();
    let (mut client, client_socket) = pair();
    let (mut backend, backend_socket) = pair();
    let legs = (plain(client_socket), plain(backend_socket));
    let _closed = splice_legs(&ring.handle(), legs, (b"ready", b"early query"));
    client.write_all(b" and more").unwrap();
    backend.write_all(b" for you").unwrap();
    assert_eq!(read(&mut client, 13), b"ready for you");
    assert_eq!(read(&mut backend, 20), b"early query and more");
    ping(&mut client, &mut backend);
}

#[test]
fn a_small_message_costs_the_worker_one_turn() {
    let ring = ring();
    let mut peers = splice(&ring.handle());
    let before = ring.handle().stats();
    for _ in 0..1_000 {
        ping(&mut peers.client, &mut peers.backend);
    }
    let stats = ring.handle().stats();
    let (messages, turns) = (
        stats.receives - before.receives,
        stats.batches - before.batches,
    );
    assert!(
        turns <= messages + messages / 20,
        "{turns} turns for {messages} messages"
    );
}

#[test]
fn two_hundred_sessions_at_once_keep_their_bytes_apart() {
    let ring = ring();
    let sessions: Vec<_> = (0..200).map(|_| splice(&ring.handle())).collect();
    assert_eq!(ring.handle().live(), 200);
    let peers: Vec<_> = sessions
        .iter()
        .map(|it| (it.id * 100, &it.client, &it.backend))
        .collect();
    thread::scope(|scope| {
        for part in peers.chunks(50) {
            scope.spawn(move || {
                for round in 0..5 {
                    for &(seed, mut client, mut backend) in part {
                        client.write_all(&bytes(seed + round, 3000)).unwrap();
                        backend.write_all(&bytes(seed + 50 + round, 9000)).unwrap();
                    }
                    for &(seed, mut client, mut backend) in part {
                        assert!(read(&mut backend, 3000) == bytes(seed + round, 3000));
                        assert!(read(&mut client, 9000) == bytes(seed + 50 + round, 9000));
                    }
                }
            });
        }
    });
    for peers in sessions {
        peers.client.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut &peers.backend).is_empty());
        peers.backend.shutdown(Shutdown::Write).unwrap();
        let closed = peers.closed();
        assert_eq!(closed.reason, CloseReason::ClientClosed);
        assert_eq!(
            (closed.bytes_to_backend, closed.bytes_to_client),
            (15_000, 45_000)
        );
    }
}
