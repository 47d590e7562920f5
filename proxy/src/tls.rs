//! TLS of every leg: to clients, to the directory, to the role store and to the backends.
//!
//! Every configuration gets its cryptography (ring) explicitly; the default of the process is
//! never asked for, because another crate could have set it.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring as crypto};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ServerConfig, ServerSessionMemoryCache};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::config::{Endpoint, SslMode};
use crate::limits::{PEM_BYTES_MAX, TLS_SESSIONS_MAX};

mod certificate;
mod peer;
mod verify;

pub(crate) use certificate::{CertificateFacts, certificate_facts, tls_server_end_point};
pub(crate) use peer::{PEER_NAME, peer_configs};

use verify::{AnyCertificate, Names, TrustedCertificate};

/// The protocol name of PostgreSQL in ALPN,
/// <https://www.iana.org/assignments/tls-extensiontype-values/>.
pub(crate) const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// Where distributions keep the certificate authorities that the system believes.
const SYSTEM_CA_FILES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// What clients see of Postern.
pub(crate) struct ServerIdentity {
    /// The configuration of the leg to clients.
    pub(crate) config: Arc<ServerConfig>,
    /// The channel binding data of the certificate, where it has any ([`tls_server_end_point`]).
    pub(crate) end_point: Option<Vec<u8>>,
    /// What the certificate says, where it can be read.
    pub(crate) facts: Option<CertificateFacts>,
}

/// The configuration of the leg to clients, as [`server_config`] makes it, and what a login can be
/// bound to on it.
///
/// # Errors
///
/// As [`server_config`].
pub(crate) fn server_identity(
    cert_file: &Path,
    key_file: &Path,
) -> Result<ServerIdentity, TlsError> {
    let chain = certificates(cert_file)?;
    let leaf = chain.first();
    let end_point = leaf.and_then(|leaf| tls_server_end_point(leaf));
    let facts = leaf.and_then(|leaf| certificate_facts(leaf));
    let config = server_config_of(chain, (cert_file, key_file))?;
    Ok(ServerIdentity {
        config,
        end_point,
        facts,
    })
}

/// The configuration of the leg to clients: TLS 1.2 and 1.3, resumption by tickets.
///
/// A client that offers ALPN must offer `postgresql`; one that offers none is accepted, as libpq
/// before version 17 is.
/// To load a renewed certificate, call it again and use the new value for new connections.
///
/// # Errors
///
/// A file cannot be read, holds no certificate or no key, or the two do not belong together.
pub(crate) fn server_config(
    cert_file: &Path,
    key_file: &Path,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_of(certificates(cert_file)?, (cert_file, key_file))
}

fn server_config_of(
    chain: Vec<CertificateDer<'static>>,
    (cert_file, key_file): (&Path, &Path),
) -> Result<Arc<ServerConfig>, TlsError> {
    let key = private_key(key_file)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            if matches!(error, rustls::Error::InconsistentKeys(_)) {
                let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
                return TlsError::KeyMismatch {
                    cert_file,
                    key_file,
                };
            }
            TlsError::file(cert_file, TlsFileWhy::Unusable(error))
        })?;
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    // Tickets cost the server no memory; the cache is for clients of TLS 1.2 that know only
    // session identifiers. The keys of the tickets are made by the process and replaced every six
    // hours; early data, which anybody could send again, stays off.
    config.ticketer = crypto::Ticketer::new().map_err(TlsError::Provider)?;
    config.session_storage = ServerSessionMemoryCache::new(TLS_SESSIONS_MAX);
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The configuration of a leg to a PostgreSQL server, by its `sslmode` and CA file.
///
/// `disable` has none. `allow` and `prefer` never look at the certificate, because they go on
/// without TLS as well. `require` looks at it only when there is a CA file, and then as
/// `verify-ca` does, which libpq does for compatibility:
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBQ-SSL-CERTIFICATES>.
///
/// # Errors
///
/// The CA file, or without one the system's, cannot be read or holds no certificate.
pub(crate) fn postgres_client_config(
    endpoint: &Endpoint,
) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let ca_file = endpoint.tls_ca_file.as_deref();
    let mut config = match (endpoint.sslmode, ca_file) {
        (SslMode::Disable, _) => return Ok(None),
        (SslMode::Allow | SslMode::Prefer, _) | (SslMode::Require, None) => any_certificate()?,
        (SslMode::Require, Some(_)) | (SslMode::VerifyCa, _) => trusted(ca_file, Names::Ignore)?,
        (SslMode::VerifyFull, _) => trusted(ca_file, Names::Check)?,
    };
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The configuration of the leg to an LDAP server.
///
/// Without `verify`, any certificate is accepted: the caller has said so aloud.
/// A server that is known by an `address` must have that in its certificate, whatever name the
/// handshake is made with.
///
/// # Errors
///
/// The CA file, or without one the system's, cannot be read or holds no certificate.
pub(crate) fn ldap_client_config(
    ca_file: Option<&Path>,
    verify: bool,
    address: Option<IpAddr>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = match (verify, address) {
        (true, None) => trusted(ca_file, Names::Check)?,
        (true, Some(address)) => trusted(ca_file, Names::CheckFor(address))?,
        (false, _) => any_certificate()?,
    };
    config.enable_sni = address.is_none();
    Ok(Arc::new(config))
}

/// The name or address that a server's certificate must carry.
///
/// # Errors
///
/// The host is neither a DNS name nor an address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Host(host.to_owned()))
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
///
/// The file cannot be read, is no PEM, or holds no certificate.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::file(file, TlsFileWhy::Pem))?;
    if certificates.is_empty() {
        return Err(TlsError::file(file, TlsFileWhy::NoCertificate));
    }
    Ok(certificates)
}

/// What a failed handshake means for the person who set it up.
///
/// For errors of rustls, also where an I/O error carries one; other errors in their own words.
pub(crate) fn explain(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.map_or_else(|| error.to_string(), explain_tls)
}

fn explain_tls(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return error.to_string();
    };
    // The library keeps some reasons only in its own words.
    let words = format!("{certificate:?}");
    if let CertificateError::NotValidForNameContext {
        expected,
        presented,
    } = certificate
    {
        let expected = expected.to_str();
        return format!("the certificate is not for {expected}, but for {presented:?}");
    }
    let text = if matches!(
        certificate,
        // The second, when an authority of the same name has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature
    ) {
        "the certificate is signed by nobody in the CA file"
    } else if words.contains("CaUsedAsEndEntity") {
        "the server shows the certificate of an authority, and not the one in the CA file"
    } else if words.contains("UnsupportedCertVersion") {
        "the certificate has X.509 version 1 and cannot be checked; make one with subjectAltName"
    } else if words.contains("NotValidYet") {
        "the certificate is not valid yet; is the clock right?"
    } else if words.contains("Expired") {
        "the certificate is over"
    } else {
        return error.to_string();
    };
    text.to_owned()
}

/// Why TLS cannot be used; names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// Something is wrong with one file.
    #[error("{}: {why}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: TlsFileWhy,
    },
    /// The key is not that of the first certificate.
    #[error(
        "{}: the key does not belong to the first certificate of {}",
        key_file.display(), cert_file.display()
    )]
    KeyMismatch {
        /// The certificates.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
    },
    /// No file of the system with certificate authorities is there.
    #[error("no certificate authorities of the system at {}; name a CA file", SYSTEM_CA_FILES[0])]
    NoSystemRoots,
    /// Not a name that a certificate can carry.
    #[error("\"{0}\" is neither a DNS name nor an address")]
    Host(String),
    /// The cryptography refused what it is made for: a defect.
    #[error("the TLS library refused its own cryptography: {0}")]
    Provider(rustls::Error),
}

/// What is wrong with a file of certificates or keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFileWhy {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It is longer than any such file.
    #[error("is longer than {PEM_BYTES_MAX} bytes")]
    TooLong,
    /// It is damaged. The library's own words could repeat a part of a key.
    #[error("is damaged: a PEM section is not complete or not base64")]
    Pem,
    /// There is no certificate in it.
    #[error("holds no PEM certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// There is no key in it.
    #[error("holds no PEM private key (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// The key is encrypted.
    #[error("holds an encrypted key; Postern has no passphrase for it")]
    EncryptedKey,
    /// The library cannot use what is in it.
    #[error("cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl TlsError {
    fn file(file: &Path, why: TlsFileWhy) -> Self {
        Self::File {
            file: file.to_owned(),
            why,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::default_provider())
}

fn any_certificate() -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = AnyCertificate::new(provider.signature_verification_algorithms);
    client_config(provider, Arc::new(verifier))
}

fn trusted(ca_file: Option<&Path>, names: Names) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let (file, authorities) = match ca_file {
        Some(file) => (file.to_owned(), certificates(file)?),
        None => system_authorities()?,
    };
    let mut roots = RootCertStore::empty();
    // Bundles of systems contain old certificates that the library cannot parse; the ones that
    // it can are enough. A CA file without a single usable one is an error of its own.
    let (usable, _) = roots.add_parsable_certificates(authorities.iter().cloned());
    if usable == 0 {
        return Err(TlsError::file(&file, TlsFileWhy::NoCertificate));
    }
    let listed = if ca_file.is_some() {
        authorities
    } else {
        Vec::new()
    };
    let verifier = TrustedCertificate::new(roots, listed, names, Arc::clone(&provider))
        .map_err(|error| TlsError::file(&file, TlsFileWhy::Unusable(error)))?;
    client_config(provider, Arc::new(verifier))
}

fn client_config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn system_authorities() -> Result<(PathBuf, Vec<CertificateDer<'static>>), TlsError> {
    let file = SYSTEM_CA_FILES
        .iter()
        .map(Path::new)
        .find(|file| file.exists());
    let file = file.ok_or(TlsError::NoSystemRoots)?;
    Ok((file.to_owned(), certificates(file)?))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = zeroize::Zeroizing::new(read(file)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let marker = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
        let encrypted = text.windows(marker.len()).any(|part| part == marker);
        let why = if !matches!(error, pem::Error::NoItemsFound) {
            TlsFileWhy::Pem
        } else if encrypted {
            TlsFileWhy::EncryptedKey
        } else {
            TlsFileWhy::NoKey
        };
        TlsError::file(file, why)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |error| TlsError::file(path, TlsFileWhy::Read(error));
    let file = File::open(path).map_err(fail)?;
    let mut text = Vec::new();
    file.take(PEM_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(fail)?;
    if text.len() > PEM_BYTES_MAX {
        return Err(TlsError::file(path, TlsFileWhy::TooLong));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
