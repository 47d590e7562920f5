//! The configurations against each other, in memory.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot make its certificates should stop"
)]

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm, date_time_ymd,
};
use rustls::{ClientConnection, ServerConnection};

use super::*;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self {
            issuer,
            folder: tempfile::tempdir().unwrap(),
        };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server whose certificate carries `name` and ends in `year`.
    fn server(&self, name: &str, year: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let cert_file = self.write("cert.pem", &certificate.pem());
        let key_file = self.write("key.pem", &key.serialize_pem());
        server_config(&cert_file, &key_file).unwrap()
    }
}

fn endpoint(sslmode: SslMode, ca_file: Option<PathBuf>) -> Endpoint {
    Endpoint {
        host: "db1".to_owned(),
        port: 5432,
        sslmode,
        tls_ca_file: ca_file,
        connect_timeout: Duration::from_secs(5),
    }
}

fn client(sslmode: SslMode, ca_file: Option<PathBuf>) -> Arc<ClientConfig> {
    postgres_client_config(&endpoint(sslmode, ca_file))
        .unwrap()
        .unwrap()
}

/// Lets the two shake hands, in memory, and returns both ends.
fn shake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    host: &str,
) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let name = server_name(host).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        while !wire.is_empty() {
            let taken = server.read_tls(&mut wire.as_slice()).unwrap();
            wire.drain(..taken);
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        while !wire.is_empty() {
            let taken = client.read_tls(&mut wire.as_slice()).unwrap();
            wire.drain(..taken);
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((server, client))
}

fn accepted(server: &Arc<ServerConfig>, mode: SslMode, ca_file: Option<PathBuf>) -> bool {
    shake(server, &client(mode, ca_file), "db1").is_ok()
}

#[test]
fn each_sslmode_checks_what_libpq_checks() {
    let authority = Authority::new();
    let other = Authority::new().issuer.pem();
    let ca = || Some(authority.ca());
    let foreign = authority.write("foreign.pem", &other);
    let foreign = || Some(foreign.clone());
    let right = authority.server("db1", 4000);
    let misnamed = authority.server("db2", 4000);
    let expired = authority.server("db1", 2021);

    assert!(
        postgres_client_config(&endpoint(SslMode::Disable, ca()))
            .unwrap()
            .is_none()
    );
    for mode in [SslMode::Allow, SslMode::Prefer] {
        for ca_file in [None, ca(), foreign()] {
            assert!(accepted(&right, mode, ca_file.clone()), "{mode:?}");
            assert!(accepted(&misnamed, mode, ca_file.clone()), "{mode:?}");
            assert!(accepted(&expired, mode, ca_file), "{mode:?}");
        }
    }
    assert!(accepted(&expired, SslMode::Require, None));
    for mode in [SslMode::Require, SslMode::VerifyCa] {
        assert!(accepted(&right, mode, ca()), "{mode:?}");
        assert!(accepted(&misnamed, mode, ca()), "{mode:?}");
        assert!(!accepted(&expired, mode, ca()), "{mode:?}");
        assert!(!accepted(&right, mode, foreign()), "{mode:?}");
        assert!(!accepted(&misnamed, mode, foreign()), "{mode:?}");
    }
    assert!(accepted(&right, SslMode::VerifyFull, ca()));
    assert!(!accepted(&misnamed, SslMode::VerifyFull, ca()));
    assert!(!accepted(&expired, SslMode::VerifyFull, ca()));
    assert!(!accepted(&right, SslMode::VerifyFull, foreign()));
}

#[test]
fn a_misnamed_and_expired_certificate_is_refused_even_where_the_name_is_ignored() {
    let authority = Authority::new();
    let both = authority.server("db2", 2021);
    assert!(!accepted(&both, SslMode::VerifyCa, Some(authority.ca())));
}

#[test]
fn a_directory_is_verified_unless_the_configuration_says_otherwise() {
    let authority = Authority::new();
    let server = authority.server("ldap1", 4000);
    // An LDAP client offers no ALPN, which the server of these tests accepts.
    let verify = ldap_client_config(Some(&authority.ca()), true, None).unwrap();
    assert!(shake(&server, &verify, "ldap1").is_ok());
    assert!(shake(&server, &verify, "ldap2").is_err());
    let ignore = ldap_client_config(None, false, None).unwrap();
    assert!(shake(&server, &ignore, "ldap2").is_ok());
}

#[test]
fn a_self_signed_certificate_is_believed_when_it_is_the_ca_file() {
    let authority = Authority::new();
    for is_ca in [
        IsCa::Ca(BasicConstraints::Unconstrained),
        IsCa::NoCa,
        IsCa::ExplicitNoCa,
    ] {
        for (year, valid) in [(4000, true), (2021, false)] {
            let mut params = CertificateParams::new(vec!["db1".to_owned()]).unwrap();
            params.is_ca = is_ca;
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let cert_file = authority.write("self.pem", &certificate.pem());
            let key_file = authority.write("self.key", &key.serialize_pem());
            let server = server_config(&cert_file, &key_file).unwrap();
            let full = client(SslMode::VerifyFull, Some(cert_file.clone()));
            assert_eq!(
                shake(&server, &full, "db1").is_ok(),
                valid,
                "{is_ca:?} {year}"
            );
            assert!(shake(&server, &full, "db2").is_err(), "{is_ca:?} {year}");
            let ca = client(SslMode::VerifyCa, Some(cert_file));
            assert_eq!(
                shake(&server, &ca, "db2").is_ok(),
                valid,
                "{is_ca:?} {year}"
            );
            assert!(!accepted(&server, SslMode::VerifyCa, Some(authority.ca())));
        }
    }
}

#[test]
fn the_listener_speaks_tls_1_2_and_1_3_and_resumes() {
    let authority = Authority::new();
    let server = authority.server("db1", 4000);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&authority.ca()).unwrap());
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        let kind = |ends: &(ServerConnection, ClientConnection)| ends.1.handshake_kind();
        let first = shake(&server, &client, "db1").unwrap();
        assert_eq!(first.0.alpn_protocol(), None);
        assert_ne!(kind(&first), Some(rustls::HandshakeKind::Resumed));
        let second = shake(&server, &client, "db1").unwrap();
        assert_eq!(
            kind(&second),
            Some(rustls::HandshakeKind::Resumed),
            "{version:?}"
        );
    }
}

#[test]
fn no_leg_sends_or_takes_early_data_and_each_resumes_where_the_server_lets_it() {
    let authority = Authority::new();
    let server = authority.server("db1", 4000);
    assert_eq!(server.max_early_data_size, 0);
    let ca = authority.ca();
    let legs = [
        client(SslMode::Require, None),
        client(SslMode::VerifyFull, Some(ca.clone())),
        ldap_client_config(Some(&ca), true, None).unwrap(),
    ];
    for leg in legs {
        assert!(!leg.enable_early_data);
        let kind = || shake(&server, &leg, "db1").unwrap().1.handshake_kind();
        assert_ne!(kind(), Some(rustls::HandshakeKind::Resumed));
        assert_eq!(kind(), Some(rustls::HandshakeKind::Resumed));
    }
}

#[test]
fn the_listener_takes_alpn_postgresql_and_refuses_others() {
    let authority = Authority::new();
    let server = authority.server("db1", 4000);
    let mut client = ClientConfig::clone(&client(SslMode::Require, None));
    let shaken = shake(&server, &Arc::new(client.clone()), "db1").unwrap();
    assert_eq!(shaken.0.alpn_protocol(), Some(ALPN_POSTGRESQL));
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(shake(&server, &Arc::new(client), "db1").is_err());
}

fn why(result: Result<Arc<ServerConfig>, TlsError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let authority = Authority::new();
    authority.server("db1", 4000);
    let file = |name: &str| authority.folder.path().join(name);
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let other = authority.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let empty = authority.write("empty.pem", "");
    let marker = "ENCRYPTED PRIVATE KEY";
    let text = format!("-----BEGIN {marker}-----\nMIIB\n-----END {marker}-----\n");
    let encrypted = authority.write("encrypted.pem", &text);
    let text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let damaged = authority.write("damaged.pem", text);

    let missing = why(server_config(&file("none.pem"), &key));
    assert!(missing.contains("none.pem: cannot be read"), "{missing}");
    assert!(why(server_config(&cert, &other)).contains("other.pem: the key does not belong"));
    assert!(why(server_config(&empty, &key)).contains("empty.pem: holds no PEM certificate"));
    assert!(why(server_config(&cert, &cert)).contains("cert.pem: holds no PEM private key"));
    assert!(why(server_config(&cert, &encrypted)).contains("holds an encrypted key"));
    assert!(why(server_config(&damaged, &key)).contains("damaged.pem: "));
    let damaged = postgres_client_config(&endpoint(SslMode::VerifyCa, Some(damaged)));
    assert!(
        damaged
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .contains("damaged.pem: ")
    );
    assert!(server_name("not a host").is_err());
}

fn self_signed(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["db1".into(), "127.0.0.1".into()]).unwrap();
    params.not_after = date_time_ymd(2030, 1, 1);
    let key = KeyPair::generate_for(algorithm).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn channel_binding_hashes_by_the_certificates_own_signature() {
    let hash = |algorithm, der: &[u8]| ring::digest::digest(algorithm, der).as_ref().to_vec();
    let p256 = self_signed(&PKCS_ECDSA_P256_SHA256);
    assert_eq!(
        tls_server_end_point(&p256),
        Some(hash(&ring::digest::SHA256, &p256))
    );
    let p384 = self_signed(&PKCS_ECDSA_P384_SHA384);
    assert_eq!(
        tls_server_end_point(&p384),
        Some(hash(&ring::digest::SHA384, &p384))
    );
    assert_eq!(tls_server_end_point(&self_signed(&PKCS_ED25519)), None);
    assert_eq!(tls_server_end_point(b"not a certificate"), None);
}

/// RSA certificates, which the test library cannot make; by OpenSSL's
/// `req -x509 -sha1 [-sigopt rsa_padding_mode:pss]` and so on.
#[test]
fn channel_binding_knows_the_signatures_of_rsa() {
    use ring::digest::{SHA256, SHA384, SHA512};
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/fixtures");
    for (name, algorithm) in [
        ("rsa-sha1", Some(&SHA256)),
        ("rsa-sha224", None),
        ("rsa-sha384", Some(&SHA384)),
        ("rsa-sha512", Some(&SHA512)),
        ("pss-sha1", Some(&SHA256)),
        ("pss-sha256", Some(&SHA256)),
        ("pss-sha384", Some(&SHA384)),
    ] {
        let chain = certificates(&folder.join(format!("{name}.pem"))).unwrap();
        let der = chain.first().unwrap();
        let expect = algorithm.map(|one| ring::digest::digest(one, der).as_ref().to_vec());
        assert_eq!(tls_server_end_point(der), expect, "{name}");
    }
}

#[test]
fn a_certificate_with_only_a_common_name_is_believed_from_an_own_authority() {
    let authority = Authority::new();
    let server = |common_name: &str, alternatives: Vec<String>| {
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let cert_file = authority.write("cn.pem", &certificate.pem());
        server_config(&cert_file, &authority.write("cn.key", &key.serialize_pem())).unwrap()
    };
    let full = |server| accepted(&server, SslMode::VerifyFull, Some(authority.ca()));
    assert!(full(server("db1", vec![])));
    assert!(!full(server("db2", vec![])));
    // An alternative name says what the certificate is for; the common name says no more.
    assert!(!full(server("db1", vec!["db2".to_owned()])));
}

#[test]
fn a_failed_handshake_is_explained() {
    let authority = Authority::new();
    let foreign = authority.write("foreign.pem", &Authority::new().issuer.pem());
    let says = |server, ca_file| {
        let client = client(SslMode::VerifyFull, Some(ca_file));
        let error = shake(&server, &client, "db1").map(|_| ()).unwrap_err();
        explain(&io::Error::other(error))
    };
    let right = authority.server("db1", 4000);
    assert!(says(right, foreign).contains("signed by nobody in the CA file"));
    let over = says(authority.server("db1", 2021), authority.ca());
    assert_eq!(over, "the certificate is over");
    let name = says(authority.server("db2", 4000), authority.ca());
    assert!(
        name.contains("not for db1, but for [") && name.contains("db2"),
        "{name}"
    );
}

#[test]
fn the_facts_of_a_certificate_are_its_subject_end_and_names() {
    let facts = certificate_facts(&self_signed(&PKCS_ECDSA_P256_SHA256)).unwrap();
    assert_eq!(facts.not_after_s, 1_893_456_000);
    assert_eq!(facts.names, vec!["db1".to_owned(), "127.0.0.1".to_owned()]);
    assert_eq!(facts.subject, "CN=rcgen self signed cert");
    assert_eq!(certificate_facts(b"not a certificate"), None);
}
