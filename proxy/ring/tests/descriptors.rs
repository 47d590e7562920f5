//! No file descriptor outlives its session. A program of its own, as others open files too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;

use postern_ring::{Leg, Ring, RingConfig, Session};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn every_socket_is_closed_however_its_session_ends() {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let before = descriptors();
    let ring = Ring::start(RingConfig {
        pin: false,
        ..RingConfig::new(2)
    })
    .unwrap();
    let handle = ring.handle();
    let (report, closed) = channel();
    for id in 0..400 {
        let (mut client, client_socket) = pair(&listener);
        let (mut backend, backend_socket) = pair(&listener);
        let report = report.clone();
        let session = Session {
            id,
            client: Leg::Plain(OwnedFd::from(client_socket)),
            backend: Leg::Plain(OwnedFd::from(backend_socket)),
            to_client: b"hello".to_vec(),
            to_backend: Vec::new(),
            on_close: Box::new(move |end| report.send(end.id).unwrap()),
        };
        handle.splice(session).unwrap();
        match id % 5 {
            // Without a word, with the hello unread: a reset.
            0 => drop(client),
            1 => backend.shutdown(Shutdown::Write).unwrap(),
            2 => {
                client.read_exact(&mut [0; 5]).unwrap();
                client.write_all(b"query").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                backend.read_exact(&mut [0; 5]).unwrap();
            }
            3 => assert!(handle.end(id, b"goodbye".to_vec())),
            _ => backend.write_all(&[7; 100_000]).unwrap(),
        }
    }
    ring.stop();
    drop(handle);
    assert_eq!(closed.try_iter().count(), 400);
    assert_eq!(descriptors(), before);
}
