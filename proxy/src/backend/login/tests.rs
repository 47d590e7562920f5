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

use super::*;
use crate::config::{Backend, Endpoint, SslMode};

const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

/// What comes of a login to a server that says this after the startup packet, and hangs up.
fn log_in_to(said: &'static [u8]) -> BackendError {
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
    };
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; STARTUP.len()]).unwrap();
        socket.write_all(said).unwrap();
    });
    let keys = Keys::derive(b"secret", b"salt", SCRAM_ITERATIONS);
    let credential = RoleCredential {
        verifier: Verifier::from_keys(&keys, b"salt", SCRAM_ITERATIONS),
        keys,
    };
    let outcome = tokio_uring::start(async move {
        let target = Target::new(0, backend).unwrap();
        let secret = || Secret::new(b"secret".to_vec());
        log_in(&target, STARTUP, "a", &credential, secret).await
    });
    server.join().unwrap();
    outcome.map(drop).unwrap_err()
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
