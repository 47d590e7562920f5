//! TLS to the directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

/// Where distributions keep the certificates of the authorities that the system trusts.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Why TLS cannot be set up as configured.
#[derive(Debug, Clone, Error)]
pub(crate) enum TlsError {
    /// A file of certificates cannot be used.
    #[error("tls_ca_file {path}: {why}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause in words.
        why: String,
    },
    /// No CA file is configured, and the system has none where it is looked for.
    #[error(
        "no tls_ca_file is set and the system has no certificates in {}; \
         install ca-certificates or set tls_ca_file",
        SYSTEM_ROOTS.join(", ")
    )]
    NoSystemRoots,
    /// The library refuses the settings.
    #[error("TLS settings: {0}")]
    Settings(String),
}

/// The settings of TLS to the directory: the ring provider, TLS 1.2 and 1.3, no client certificate.
///
/// `verify` false accepts any certificate, as the configuration's `tls_verify = false` asks; the
/// signature of the handshake is checked all the same.
///
/// # Errors
///
/// [`TlsError`] when the CA file, or the system's, cannot be read or holds no certificate.
pub(crate) fn ldap_client_config(
    ca_file: Option<&Path>,
    verify: bool,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Settings(e.to_string()))?;
    let config = if verify {
        builder
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth()
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let path = match ca_file {
        Some(path) => path,
        None => SYSTEM_ROOTS
            .iter()
            .map(Path::new)
            .find(|p| p.exists())
            .ok_or(TlsError::NoSystemRoots)?,
    };
    let failed = |why: String| TlsError::CaFile {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))? {
        let added = roots.add(certificate.map_err(|e| failed(e.to_string()))?);
        match added {
            Ok(()) => {}
            // One odd authority among the system's hundred must not stop the rest; in a file
            // that the operator chose it is an error.
            Err(_) if ca_file.is_none() => {}
            Err(e) => return Err(failed(e.to_string())),
        }
    }
    if roots.is_empty() {
        return Err(failed("holds no certificate in PEM form".to_owned()));
    }
    Ok(roots)
}

/// Accepts every certificate: `tls_verify = false`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ldap_client_config(Some(file.path()), true)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("holds no certificate"), "{error}");
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        assert!(ldap_client_config(Some(Path::new("/nonexistent")), true).is_err());
    }

    #[test]
    fn without_verification_no_ca_file_is_read() {
        assert!(ldap_client_config(Some(Path::new("/nonexistent")), false).is_ok());
    }
}
