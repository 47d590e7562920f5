//! A server that is not the one that was meant, and wants the provisioner's password.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::world::{LIMIT, Outcome, PASSWORD, PROVISIONER, on_each_version};
use crate::config::{Endpoint, SslMode};
use crate::role_store::connect::{ConnectError, Connection, Connector};
use crate::tls;

const CLEARTEXT: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
const TRUST: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
const SCRAM_PLUS: &[u8] = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

type Connected = Result<Connection, ConnectError>;

/// What the server hears after it has asked `asks`, and how the connection ends for the proxy.
/// Without a certificate it offers no TLS.
async fn meet(
    (mode, ca_file): (SslMode, Option<PathBuf>),
    tls: Option<Arc<ServerConfig>>,
    asks: &[u8],
) -> Result<(Vec<u8>, Connected), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let connector = Connector::new(&Endpoint {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr()?.port(),
        sslmode: mode,
        tls_ca_file: ca_file,
        connect_timeout: LIMIT,
    })?;
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(listener.local_addr()?.port())
        .user(PROVISIONER)
        .password(PASSWORD);
    let serving = async {
        let (mut socket, _) = listener.accept().await?;
        let mut request = [0; 8];
        match (tls, mode) {
            (None, SslMode::Disable | SslMode::Allow) => ask(socket, asks).await,
            (None, _) => {
                socket.read_exact(&mut request).await?;
                socket.write_all(b"N").await?;
                ask(socket, asks).await
            }
            (Some(tls), _) => {
                socket.read_exact(&mut request).await?;
                socket.write_all(b"S").await?;
                ask(TlsAcceptor::from(tls).accept(socket).await?, asks).await
            }
        }
    };
    let meeting = async { tokio::join!(serving, connector.connect(&config)) };
    let (heard, connected) = tokio::time::timeout(LIMIT, meeting).await?;
    Ok((heard?, connected))
}

/// Reads the startup packet, asks, and reads the answer: nothing if the proxy leaves.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, asks: &[u8]) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut startup = vec![0; length.saturating_sub(4) as usize];
    stream.read_exact(&mut startup).await?;
    stream.write_all(asks).await?;
    stream.flush().await?;
    let mut heard = vec![0; 1_024];
    // TLS that ends without a word, or a reset, is an end as well.
    let read = stream.read(&mut heard).await.unwrap_or_default();
    heard.truncate(read);
    Ok(heard)
}

/// A server whose certificate it has made itself, and that certificate as a file.
struct OwnCertificate {
    config: Arc<ServerConfig>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl OwnCertificate {
    fn new(
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let key = rcgen::KeyPair::generate_for(algorithm)?;
        let params = rcgen::CertificateParams::new(["localhost".to_owned()])?;
        let folder = tempfile::tempdir()?;
        let (file, key_file) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&file, params.self_signed(&key)?.pem())?;
        std::fs::write(&key_file, key.serialize_pem())?;
        Ok(Self {
            config: tls::server_config(&file, &key_file)?,
            file,
            _folder: folder,
        })
    }
}

fn is_unproven(connected: &Connected) -> bool {
    let Err(error @ ConnectError::Unproven { .. }) = connected else {
        return false;
    };
    error.to_string().contains("verify-full")
}

#[tokio::test]
async fn whoever_has_any_certificate_gets_no_password() -> Outcome {
    let server = OwnCertificate::new(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    for asks in [CLEARTEXT, MD5, TRUST, SCRAM] {
        let tls = Some(server.config.clone());
        let (heard, connected) = meet((SslMode::Require, None), tls, asks).await?;
        assert!(is_unproven(&connected), "{:?}", connected.err());
        assert_eq!(heard, b"", "{asks:?}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_answers_without_proof_gets_no_password() -> Outcome {
    let server = OwnCertificate::new(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let with_tls = Some(server.config.clone());
    for (mode, tls) in [
        (SslMode::Disable, None),
        (SslMode::Allow, None),
        (SslMode::Prefer, None),
        (SslMode::Prefer, with_tls),
    ] {
        for asks in [CLEARTEXT, MD5, TRUST] {
            let (heard, connected) = meet((mode, None), tls.clone(), asks).await?;
            assert!(is_unproven(&connected), "{mode:?}: {:?}", connected.err());
            assert_eq!(heard, b"", "{mode:?}: {asks:?}");
        }
        let (heard, _) = meet((mode, None), tls, SCRAM).await?;
        assert_eq!(heard.get(5..19), Some(&b"SCRAM-SHA-256\0"[..]), "{mode:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_tls_proves_is_answered_as_it_asks() -> Outcome {
    let server = OwnCertificate::new(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    for mode in [SslMode::Require, SslMode::VerifyCa] {
        let ca_file = Some(server.file.clone());
        let tls = Some(server.config.clone());
        let (heard, _) = meet((mode, ca_file), tls, CLEARTEXT).await?;
        assert_eq!(
            heard.get(5..5 + PASSWORD.len()),
            Some(PASSWORD.as_bytes()),
            "{mode:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_login_is_bound_to_the_certificate_or_is_none() -> Outcome {
    let require = || (SslMode::Require, None);
    let server = OwnCertificate::new(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let (heard, _) = meet(require(), Some(server.config), SCRAM_PLUS).await?;
    assert_eq!(heard.get(5..24), Some(&b"SCRAM-SHA-256-PLUS\0"[..]));
    // A certificate that is signed without a hash has none to bind to (RFC 5929, 4.1).
    let server = OwnCertificate::new(&rcgen::PKCS_ED25519)?;
    let (heard, connected) = meet(require(), Some(server.config), SCRAM_PLUS).await?;
    assert!(is_unproven(&connected), "{:?}", connected.err());
    assert_eq!(heard, b"");
    Ok(())
}

#[test]
fn postgresql_binds_the_login_to_a_certificate_that_nobody_vouches_for() -> Outcome {
    on_each_version(
        "postgresql_binds_the_login_to_a_certificate_that_nobody_vouches_for",
        async |world| {
            let connector = Connector::new(&Endpoint {
                host: "127.0.0.1".to_owned(),
                port: world.postgres.port(),
                sslmode: SslMode::Require,
                tls_ca_file: None,
                connect_timeout: LIMIT,
            })?;
            connector.connect(&world.admin).await?;
            Ok(())
        },
    )
}
