//! A leg against a peer on a loopback socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot make its sockets should stop"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::config::{Endpoint, SslMode};
use crate::tls;

/// A call that hangs fails its test after this.
const PATIENCE: Duration = Duration::from_secs(20);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, peer)
}

fn server_config() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["db1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cert = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    tls::server_config(&cert, &key).unwrap()
}

/// A client that trusts any certificate.
fn client_connection() -> ClientConnection {
    client_that_offers(&[b"postgresql"])
}

/// Runs `serve` on one end of a connection, in a thread with a ring of its own, and `peer` here on
/// the other. Returns what `serve` returned.
fn meet<T, F>(serve: impl FnOnce(Stream) -> F + Send + 'static, peer: impl FnOnce(TcpStream)) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (socket, other) = pair();
    let (said, outcome) = mpsc::channel();
    thread::spawn(move || {
        tokio_uring::start(async move {
            said.send(serve(Stream::new(socket).ok().unwrap()).await)
                .unwrap();
        });
    });
    peer(other);
    outcome.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn what_follows_close_notify_is_the_end_and_not_a_loop() {
    let config = server_config();
    let outcome = meet(
        async move |mut stream: Stream| {
            stream.accept_tls(config).await.unwrap();
            stream.receive_at_least(6).await.unwrap();
            let received = stream.received().to_vec();
            stream.consume(received.len());
            (received, stream.receive().await)
        },
        |mut socket| {
            let mut tls = client_connection();
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).unwrap();
            }
            tls.writer().write_all(b"before").unwrap();
            tls.send_close_notify();
            let mut wire = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut wire).unwrap();
            }
            wire.resize(wire.len() + 12_000, 0x17);
            socket.write_all(&wire).unwrap();
            // The socket stays open until the other end is done; how that ends is not the matter.
            io::copy(&mut socket, &mut io::sink()).unwrap_or_default();
        },
    );
    assert_eq!(outcome.0, b"before");
    assert!(
        matches!(outcome.1, Err(StreamError::Closed)),
        "{:?}",
        outcome.1
    );
}

/// A client that trusts any certificate and offers these protocols by ALPN.
fn client_that_offers(protocols: &[&[u8]]) -> ClientConnection {
    let endpoint = Endpoint {
        host: "db1".to_owned(),
        port: 5432,
        sslmode: SslMode::Require,
        tls_ca_file: None,
        connect_timeout: PATIENCE,
    };
    let config = tls::postgres_client_config(&endpoint).unwrap().unwrap();
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    ClientConnection::new(Arc::new(config), tls::server_name("db1").unwrap()).unwrap()
}

/// Serves a client that begins with TLS; what it says first in it.
async fn serve_direct(mut stream: Stream, config: Arc<ServerConfig>) -> Result<Vec<u8>, String> {
    let explain = |error: StreamError| error.to_string();
    stream.receive_at_least(1).await.map_err(explain)?;
    stream.accept_direct_tls(config).await.map_err(explain)?;
    stream.receive_at_least(2).await.map_err(explain)?;
    Ok(stream.received().to_vec())
}

#[test]
fn a_client_that_begins_with_tls_may_send_it_byte_by_byte() {
    let config = server_config();
    let said = meet(
        async move |stream: Stream| serve_direct(stream, config).await,
        |mut socket| {
            let mut tls = client_that_offers(&[b"postgresql"]);
            let mut hello = Vec::new();
            tls.write_tls(&mut hello).unwrap();
            for byte in hello {
                socket.write_all(&[byte]).unwrap();
            }
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).unwrap();
            }
            assert_eq!(tls.alpn_protocol(), Some(&b"postgresql"[..]));
            tls.writer().write_all(b"hi").unwrap();
            tls.complete_io(&mut socket).unwrap();
        },
    );
    assert_eq!(said, Ok(b"hi".to_vec()));
}

#[test]
fn a_client_that_begins_with_tls_must_offer_postgresql() {
    let none = "direct TLS without the ALPN protocol \"postgresql\"";
    let other = "TLS failed: peer doesn't support any known protocol";
    for (offered, why) in [
        (&[][..], none),
        (&[&b"http/1.1"[..]][..], other),
        (&[&b"h2"[..], b"postgres"][..], other),
    ] {
        let config = server_config();
        let mut alert = None;
        let said = meet(
            async move |stream: Stream| serve_direct(stream, config).await,
            |mut socket| {
                let mut tls = client_that_offers(offered);
                alert = tls.complete_io(&mut socket).err().map(|it| it.to_string());
            },
        );
        assert_eq!(said, Err(why.to_owned()), "{offered:?}");
        let told = alert.unwrap();
        assert!(told.contains("NoApplicationProtocol"), "{told}");
    }
}

#[test]
fn garbage_in_the_place_of_a_client_hello_is_refused() {
    for hello in [
        &b"\x16\x03\x01\0\x05\x02\0\0\x01\0"[..],
        b"\x16\x03\x01\x50\x01\x01",
        b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
        b"\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let config = server_config();
        let mut told = Vec::new();
        let said = meet(
            async move |stream: Stream| serve_direct(stream, config).await,
            |mut socket| {
                socket.write_all(hello).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.read_to_end(&mut told).unwrap();
            },
        );
        assert!(said.is_err(), "{hello:?}: {said:?}");
        assert!(
            matches!(told.first(), None | Some(21)),
            "{hello:?}: no alert but {told:?}"
        );
    }
}

#[test]
fn a_buffer_that_grows_keeps_what_it_holds() {
    let mut buffer = Vec::new();
    make_room(&mut buffer, 1);
    assert!(buffer.capacity() >= FIRST_READ_BYTES);
    buffer.resize(READ_BYTES, 7);
    let before = buffer.capacity();
    make_room(&mut buffer, before);
    assert_eq!(buffer, vec![7; READ_BYTES]);
    assert!(buffer.capacity() >= READ_BYTES + before);
}

#[test]
fn wiping_keeps_what_is_not_consumed() {
    let outcome = meet(
        async |mut stream: Stream| {
            stream.receive_at_least(12).await.unwrap();
            stream.consume(8);
            stream.wipe();
            stream.into_leg().unwrap().1
        },
        |mut socket| {
            socket.write_all(b"passwordrest").unwrap();
        },
    );
    assert_eq!(outcome, b"rest");
}

#[test]
fn dropping_a_leg_ends_a_write_that_nobody_reads() {
    let (finish, finished) = mpsc::channel::<()>();
    let ended = meet(
        async move |mut stream: Stream| {
            // Far more than the buffers of both sockets hold.
            let sending = stream.send_raw(vec![7; 64 << 20]);
            assert!(
                tokio::time::timeout(Duration::from_millis(50), sending)
                    .await
                    .is_err()
            );
            let watched = stream.socket.as_ref().unwrap().try_clone().unwrap();
            drop(stream);
            // Only a socket that is shut down for writing refuses at once.
            (&watched).write(b"x").map_err(|error| error.kind())
        },
        |socket| {
            // It stays open and unread until the other end is done.
            let input = socket;
            thread::spawn(move || {
                finished.recv().unwrap_or_default();
                drop(input);
            });
        },
    );
    drop(finish);
    assert_eq!(ended, Err(io::ErrorKind::BrokenPipe));
}

#[test]
fn a_message_sent_before_the_end_arrives() {
    let mut arrived = Vec::new();
    meet(
        async |mut stream: Stream| {
            stream.send(b"no").await.unwrap();
            stream.close().await;
        },
        |mut socket| {
            // Unread input would make a careless close a reset.
            socket.write_all(b"never read").unwrap();
            socket.read_to_end(&mut arrived).unwrap();
        },
    );
    assert_eq!(arrived, b"no");
}
