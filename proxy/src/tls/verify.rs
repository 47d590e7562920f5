//! Which certificates of a server are believed.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::{only_common_name, validity};

/// Believes any certificate; only proves that the server holds its key.
#[derive(Debug)]
pub(super) struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    /// With the signature algorithms of the cryptography in use.
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self(algorithms)
    }
}

/// Whether a certificate must carry the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// `verify-full`.
    Check,
    /// `verify-full` for a server that is known by its address, whatever name the handshake is
    /// made with.
    CheckFor(IpAddr),
    /// `verify-ca`.
    Ignore,
}

/// Believes a certificate that an authority signed, or that is itself in the CA file.
///
/// The second is how libpq treats a self-signed server certificate that is given as CA file, the
/// quick setup of PostgreSQL's manual, which webpki alone refuses as `CaUsedAsEndEntity`.
#[derive(Debug)]
pub(super) struct TrustedCertificate {
    webpki: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
    names: Names,
}

impl TrustedCertificate {
    /// `listed` are the certificates of the CA file, empty for the system's authorities.
    pub(super) fn new(
        roots: RootCertStore,
        listed: Vec<CertificateDer<'static>>,
        names: Names,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            webpki,
            listed,
            names,
        })
    }

    /// The checks that webpki would make of a certificate that is itself in the CA file.
    fn verify_listed(
        &self,
        certificate: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bad = Error::InvalidCertificate(CertificateError::BadEncoding);
        let validity = validity(certificate).ok_or(bad)?;
        if now.as_secs() < validity.start {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now.as_secs() > validity.end {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        if self.names != Names::Ignore {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let named = verify_server_name(&parsed, server_name);
            if named.is_err() && !self.common_name_fits(certificate, server_name) {
                named?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    /// Whether a certificate without any alternative name has the host as its common name.
    ///
    /// As libpq does, <https://www.postgresql.org/docs/current/libpq-ssl.html>: the certificates
    /// that PostgreSQL's manual makes, and those that Samba makes, have no other name.
    /// Only with a CA file of one's own, because public authorities name hosts properly.
    fn common_name_fits(&self, certificate: &[u8], server_name: &ServerName<'_>) -> bool {
        let ServerName::DnsName(host) = server_name else {
            return false;
        };
        !self.listed.is_empty()
            && only_common_name(certificate).is_some_and(|name| fits(&name, host.as_ref()))
    }
}

/// Whether a name of a certificate, perhaps `*.` and a domain, is that of a host.
fn fits(name: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match name.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(_, rest)| domain.contains('.') && rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

impl ServerCertVerifier for TrustedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let address;
        let server_name = match self.names {
            Names::CheckFor(known) => {
                address = ServerName::from(known);
                &address
            }
            Names::Check | Names::Ignore => server_name,
        };
        if self.listed.iter().any(|listed| listed == end_entity) {
            return self.verify_listed(end_entity, server_name, now);
        }
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) = verified
        else {
            return verified;
        };
        // webpki looks at the name last: this error says that everything else was right. The
        // tests hold it to that.
        let fits = match self.names {
            Names::Ignore => true,
            Names::Check | Names::CheckFor(_) => self.common_name_fits(end_entity, server_name),
        };
        if fits {
            Ok(ServerCertVerified::assertion())
        } else {
            verified
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(fits("db1.example.com", "DB1.example.com"));
        assert!(fits("*.example.com", "db1.Example.com"));
        assert!(!fits("*.example.com", "a.db1.example.com"));
        assert!(!fits("*.example.com", "example.com"));
        assert!(!fits("*.com", "example.com"));
        assert!(!fits("*", "example"));
        assert!(!fits("db1", "db1.example.com"));
        assert!(!fits("", "db1"));
    }
}
