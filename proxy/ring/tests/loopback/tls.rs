//! Legs inside TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use postern_ring::{CloseReason, Leg, Side};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ConnectionCommon, RootCertStore};
use rustls::{ServerConfig, ServerConnection, SideData, StreamOwned};

use crate::support::{bytes, ended, pair, ping, plain, read, read_all, ring, splice_legs};

type ClientStream = StreamOwned<ClientConnection, TcpStream>;
type ServerStream = StreamOwned<ServerConnection, TcpStream>;

/// A certificate for `localhost` and the two configurations that go with it.
struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    fn server(&self) -> ServerConnection {
        ServerConnection::new(Arc::clone(&self.server)).unwrap()
    }

    fn client(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::clone(&self.client), name).unwrap()
    }

    /// A leg whose peer is a TLS client, and that client.
    fn client_leg(&self) -> (Leg, ClientStream) {
        let (peer, socket) = pair();
        let (ours, theirs) = shake_hands(self.server(), self.client(), (socket, peer));
        (
            Leg::Tls(
                OwnedFd::from(ours.sock),
                Box::new(Connection::Server(ours.conn)),
            ),
            theirs,
        )
    }

    /// A leg whose peer is a TLS server, and that server.
    fn backend_leg(&self) -> (Leg, ServerStream) {
        let (peer, socket) = pair();
        let (ours, theirs) = shake_hands(self.client(), self.server(), (socket, peer));
        (
            Leg::Tls(
                OwnedFd::from(ours.sock),
                Box::new(Connection::Client(ours.conn)),
            ),
            theirs,
        )
    }
}

/// Completes a handshake between two connections.
fn shake_hands<A, B, X, Y>(
    ours: A,
    theirs: B,
    (socket, peer): (TcpStream, TcpStream),
) -> (StreamOwned<A, TcpStream>, StreamOwned<B, TcpStream>)
where
    A: DerefMut + Deref<Target = ConnectionCommon<X>> + Send,
    B: DerefMut + Deref<Target = ConnectionCommon<Y>> + Send + 'static,
    X: SideData,
    Y: SideData,
{
    let mut theirs = StreamOwned::new(theirs, peer);
    let mut ours = StreamOwned::new(ours, socket);
    let peer = thread::spawn(move || {
        while theirs.conn.is_handshaking() {
            theirs.conn.complete_io(&mut theirs.sock).unwrap();
        }
        theirs
    });
    while ours.conn.is_handshaking() {
        ours.conn.complete_io(&mut ours.sock).unwrap();
    }
    (ours, peer.join().unwrap())
}

#[test]
fn rows_of_40_mib_arrive_unchanged_through_tls_on_both_legs() {
    let (ring, tls) = (ring(), Tls::new());
    let (client_leg, mut client) = tls.client_leg();
    let (backend_leg, mut backend) = tls.backend_leg();
    let (_, closed) = splice_legs(&ring.handle(), (client_leg, backend_leg), (b"", b""));
    let row = Arc::new(bytes(7, 40 * 1024 * 1024));
    let sent = Arc::clone(&row);
    let backend = thread::spawn(move || {
        backend.write_all(&sent).unwrap();
        backend.flush().unwrap();
        backend
    });
    assert!(read(&mut client, row.len()) == *row, "the bytes differ");
    let mut backend = backend.join().unwrap();
    ping(&mut client, &mut backend);
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert!(
        read_all(&mut backend).is_empty(),
        "a close_notify is passed on as one"
    );
    backend.conn.send_close_notify();
    backend.flush().unwrap();
    assert!(read_all(&mut client).is_empty());
    let closed = ended(&closed);
    assert_eq!(closed.reason, CloseReason::ClientClosed);
    assert_eq!(closed.bytes_to_client, row.len() as u64 + 6);
    assert_eq!(ring.handle().stats().tls_cut, 0);
}

#[test]
fn bytes_pass_between_a_tls_client_and_a_plain_backend() {
    let (ring, tls) = (ring(), Tls::new());
    let (client_leg, mut client) = tls.client_leg();
    let (mut backend, socket) = pair();
    let legs = (client_leg, plain(socket));
    let (_, closed) = splice_legs(&ring.handle(), legs, (b"ready", b"early"));
    assert_eq!(read(&mut client, 5), b"ready");
    assert_eq!(read(&mut backend, 5), b"early");
    ping(&mut client, &mut backend);
    client.conn.refresh_traffic_keys().unwrap();
    ping(&mut client, &mut backend);
    // A FIN without a close_notify: no error, but not unseen either.
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut backend).is_empty());
    drop(backend);
    assert!(read_all(&mut client).is_empty());
    assert_eq!(ended(&closed).reason, CloseReason::ClientClosed);
    assert_eq!(ring.handle().stats().tls_cut, 1);
}

#[test]
fn what_the_login_left_inside_rustls_is_not_lost() {
    let (ring, tls) = (ring(), Tls::new());
    let (client_leg, mut client) = tls.client_leg();
    let Leg::Tls(socket, mut connection) = client_leg else {
        unreachable!()
    };
    let mut socket = TcpStream::from(socket);
    client.write_all(b"one record").unwrap();
    client.write_all(b" and the next").unwrap();
    client.flush().unwrap();
    while connection
        .process_new_packets()
        .unwrap()
        .plaintext_bytes_to_read()
        < 23
    {
        connection.read_tls(&mut socket).unwrap();
    }
    let (mut backend, backend_socket) = pair();
    let legs = (
        Leg::Tls(OwnedFd::from(socket), connection),
        plain(backend_socket),
    );
    let (_, _closed) = splice_legs(&ring.handle(), legs, (b"", b"first "));
    assert_eq!(read(&mut backend, 29), b"first one record and the next");
    ping(&mut client, &mut backend);
}

#[test]
fn an_ordered_end_reaches_a_tls_client_with_its_close_notify() {
    let (ring, tls) = (ring(), Tls::new());
    let (client_leg, mut client) = tls.client_leg();
    let (mut backend, socket) = pair();
    let legs = (client_leg, plain(socket));
    let (id, closed) = splice_legs(&ring.handle(), legs, (b"", b""));
    ping(&mut client, &mut backend);
    ring.handle().end(id, b"you are revoked".to_vec());
    assert_eq!(read_all(&mut client), b"you are revoked");
    assert_eq!(ended(&closed).reason, CloseReason::Ended);
}

#[test]
fn a_forged_record_ends_the_session_and_says_so() {
    let (ring, tls) = (ring(), Tls::new());
    let (client_leg, mut client) = tls.client_leg();
    let (mut backend, socket) = pair();
    let (_, closed) = splice_legs(&ring.handle(), (client_leg, plain(socket)), (b"", b""));
    ping(&mut client, &mut backend);
    client.sock.write_all(&[23, 3, 3, 0, 32]).unwrap();
    client.sock.write_all(&[0xa5; 32]).unwrap();
    let alert = client.read(&mut [0; 8]).unwrap_err().to_string();
    assert!(
        alert.contains("AlertReceived(BadRecordMac)") || alert.contains("BadRecordMac"),
        "{alert}"
    );
    let error = rustls::Error::DecryptError;
    assert_eq!(
        ended(&closed).reason,
        CloseReason::TlsError(Side::Client, error)
    );
}
