//! Logins to a scripted server on a loopback socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot make its sockets should stop"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use postern_core::credential::SCRAM_ITERATIONS;
use postern_core::scram::{Keys, Verifier};
use postern_core::wire::startup::{self, FirstPacket};

use super::*;
use crate::config::{Backend, Endpoint, SslMode};

/// A request of protocol 3 with this minor version.
fn startup(minor: u8) -> Startup {
    let packet = [&b"\0\0\0\x10\0\x03\0"[..], &[minor], b"user\0a\0\0"].concat();
    let Ok(FirstPacket::Startup(startup)) = startup::parse(&packet) else {
        panic!("not a startup packet");
    };
    startup
}

/// What comes of a login to a server that says this after the startup packet, and hangs up: what
/// the client is told, and the cancel keys.
fn log_in_with(
    startup: Startup,
    said: Vec<u8>,
) -> Result<(Vec<u8>, Option<CancelKeys>), BackendError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let backend = Backend {
        endpoint: Endpoint {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            sslmode: SslMode::Disable,
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(20),
        },
        databases: Vec::new(),
        auth_methods: vec![AuthMethod::ScramSha256, AuthMethod::Trust],
        client_address: false,
    };
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; 16]).unwrap();
        socket.write_all(&said).unwrap();
    });
    let keys = Keys::derive(b"secret", b"salt", SCRAM_ITERATIONS);
    let credential = RoleCredential {
        verifier: Verifier::from_keys(&keys, b"salt", SCRAM_ITERATIONS),
        keys,
    };
    let outcome = tokio_uring::start(async move {
        let target = Arc::new(Target::new(backend).unwrap());
        let secret = || Secret::new(b"secret".to_vec());
        let ready = log_in(&target, &startup, &credential, secret).await?;
        Ok((ready.greeting().to_vec(), ready.cancel().cloned()))
    });
    server.join().unwrap();
    outcome
}

/// Why a login of protocol 3.0 to a server that says this comes to nothing.
fn log_in_to(said: &[u8]) -> BackendError {
    log_in_with(startup(0), said.to_vec()).unwrap_err()
}

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const KEY: &[u8] = b"K\0\0\0\x0c\0\0\0\x07keys";
const READY: &[u8] = b"Z\0\0\0\x05I";
/// The server speaks protocol 3.0 only.
const ONLY_3_0: &[u8] = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";

#[test]
fn the_client_gets_everything_that_the_backend_says_and_a_cancel_key_of_its_own() {
    let notice = b"N\0\0\0\x09Mhi\0\0";
    let settings = [&b"S\0\0\0\x08a\x001\0"[..], notice, b"S\0\0\0\x08a\x002\0"].concat();
    for (minor, key_bytes) in [(0, 4), (2, 32)] {
        let said = [OK, &settings, KEY, READY].concat();
        let (told, keys) = log_in_with(startup(minor), said).unwrap();
        let keys = keys.unwrap();
        assert_eq!(keys.backend.key, b"keys");
        assert_eq!((keys.client.pid, keys.client.key.len()), (7, key_bytes));
        let own = backend::backend_key_data(7, &keys.client.key);
        assert_eq!(told, [OK, &settings, &own, READY].concat());
    }
}

#[test]
fn a_backend_without_a_cancel_key_leaves_the_client_without_one() {
    let said = [OK, READY].concat();
    let (told, keys) = log_in_with(startup(2), said.clone()).unwrap();
    assert_eq!((told, keys), (said, None));
}

#[test]
fn a_backend_of_an_older_version_is_as_good() {
    let said = [ONLY_3_0, OK, KEY, READY].concat();
    let (told, keys) = log_in_with(startup(2), said).unwrap();
    assert_eq!(keys.unwrap().client.key.len(), 32);
    assert!(told.starts_with(OK), "the client was told before");
}

#[test]
fn a_backend_that_negotiates_what_was_not_asked_for_is_refused() {
    let newer = b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0";
    let option = b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0";
    for (minor, negotiated) in [
        (0, ONLY_3_0.to_vec()),
        (0, newer.to_vec()),
        (2, newer.to_vec()),
        (2, option.to_vec()),
        (2, [ONLY_3_0, ONLY_3_0].concat()),
    ] {
        let said = [&negotiated, OK, KEY, READY].concat();
        let refused = log_in_with(startup(minor), said).unwrap_err();
        assert!(
            matches!(refused, BackendError::Unexpected { .. }),
            "{refused:?}"
        );
    }
}

#[test]
fn a_second_cancel_key_is_out_of_place() {
    let refused = log_in_to(&[OK, KEY, KEY, READY].concat());
    assert!(
        matches!(refused, BackendError::Unexpected { .. }),
        "{refused:?}"
    );
}

#[test]
fn a_backend_that_hangs_up_before_the_login_is_away_and_after_it_is_lost() {
    let before = log_in_to(b"");
    assert!(
        matches!(&before, BackendError::Unreachable { host, .. } if host.starts_with("127.0.0.1:")),
        "{before:?}"
    );
    let after = log_in_to(b"R\0\0\0\x08\0\0\0\0");
    assert!(
        matches!(&after, BackendError::Lost { host, .. } if host.starts_with("127.0.0.1:")),
        "{after:?}"
    );
}

#[test]
fn a_message_out_of_place_is_not_told_as_a_method_that_is_not_allowed() {
    let ready = log_in_to(b"Z\0\0\0\x05I");
    let wanted = "a request for authentication";
    assert!(
        matches!(ready, BackendError::Unexpected { wanted: due, .. } if due == wanted),
        "{ready:?}"
    );
    // Authentication by SSPI.
    let sspi = log_in_to(b"R\0\0\0\x08\0\0\0\x09");
    assert!(matches!(sspi, BackendError::AuthMethod { .. }), "{sspi:?}");
}
