//! Sessions between two sockets that the test holds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use postern_ring::{Closed, Leg, Ring, RingConfig, RingHandle, Session};

/// Longer than anything here takes, so that a hang is a failure and not a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A ring of one worker that is not pinned, as tests run beside each other.
pub(crate) fn ring() -> Ring {
    Ring::start(RingConfig {
        pin: false,
        ..RingConfig::new(1)
    })
    .unwrap()
}

/// Two ends of a TCP connection over loopback.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (near, far)
}

/// A session, seen from its two peers.
pub(crate) struct Peers {
    pub(crate) id: u64,
    pub(crate) client: TcpStream,
    pub(crate) backend: TcpStream,
    pub(crate) closed: Receiver<Closed>,
}

impl Peers {
    /// The end of the session.
    pub(crate) fn closed(self) -> Closed {
        let closed = ended(&self.closed);
        assert_eq!(closed.id, self.id);
        closed
    }
}

pub(crate) fn plain(socket: TcpStream) -> Leg {
    Leg::Plain(OwnedFd::from(socket))
}

/// Splices two plain connections.
pub(crate) fn splice(handle: &RingHandle) -> Peers {
    let (client, client_socket) = pair();
    let (backend, backend_socket) = pair();
    let legs = (plain(client_socket), plain(backend_socket));
    let (id, closed) = splice_legs(handle, legs, (b"", b""));
    Peers {
        id,
        client,
        backend,
        closed,
    }
}

/// Splices a client leg and a backend leg, with the bytes that were read ahead for each.
pub(crate) fn splice_legs(
    handle: &RingHandle,
    (client, backend): (Leg, Leg),
    (to_client, to_backend): (&[u8], &[u8]),
) -> (u64, Receiver<Closed>) {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let (report, closed) = channel();
    let session = Session {
        id,
        client,
        backend,
        to_client: to_client.to_vec(),
        to_backend: to_backend.to_vec(),
        on_close: Box::new(move |closed| {
            // A test that has seen enough no longer listens.
            let _ = report.send(closed);
        }),
    };
    handle.splice(session).expect("the ring is full");
    (id, closed)
}

/// The end of a session; it must come exactly once.
pub(crate) fn ended(closed: &Receiver<Closed>) -> Closed {
    let end = closed
        .recv_timeout(PATIENCE)
        .expect("the session was not closed");
    assert!(closed.recv_timeout(PATIENCE).is_err(), "closed twice");
    end
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Reads to the end of the stream.
pub(crate) fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads that many bytes.
pub(crate) fn read(stream: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// One message each way.
pub(crate) fn ping(client: &mut (impl Read + Write), backend: &mut (impl Read + Write)) {
    client.write_all(b"question").unwrap();
    assert_eq!(read(backend, 8), b"question");
    backend.write_all(b"answer").unwrap();
    assert_eq!(read(client, 6), b"answer");
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}
