//! TLS between the proxies of a cluster: both sides show the key that only they can have.
//!
//! The key pair is derived from the cluster key, so there is no certificate to issue, to renew or
//! to forget. What crosses the wire is the bare public key (RFC 7250) of an Ed25519 pair
//! (RFC 8410), under TLS 1.3; each side believes its own and no other.

use std::sync::Arc;

use postern_core::credential::ClusterKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use zeroize::Zeroizing;

use super::{TlsError, provider};

/// What a client names in the handshake; never shown, and nothing rests on it.
pub(crate) const PEER_NAME: &str = "postern";

/// What comes before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Both ends of a connection between two proxies of a cluster.
pub(crate) struct PeerConfigs {
    /// For the one that is asked.
    pub(crate) server: Arc<ServerConfig>,
    /// For the one that asks.
    pub(crate) client: Arc<ClientConfig>,
}

/// Both ends of a connection between two proxies that have this key.
///
/// # Errors
///
/// The cryptography refuses what it is made for: a defect.
pub(crate) fn peer_configs(cluster_key: &ClusterKey) -> Result<PeerConfigs, TlsError> {
    let provider = provider();
    let seed = cluster_key.peer_key();
    let key = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed.expose()].concat());
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.as_slice()));
    let key = key.map_err(TlsError::Provider)?;
    let public = key.public_key().map(|it| it.to_vec());
    let public = public.ok_or(TlsError::Provider(Error::UnsupportedNameType))?;
    let shown = CertificateDer::from(public.clone());
    let shown = Arc::new(CertifiedKey::new(vec![shown], key));
    let verifier = Arc::new(SameKey {
        public,
        algorithms: provider.signature_verification_algorithms,
    });
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            shown.clone(),
        )));
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(shown)));
    client.enable_sni = false;
    // A resumed session would rest on a key that was shown earlier.
    client.resumption = Resumption::disabled();
    Ok(PeerConfigs {
        server: Arc::new(server),
        client: Arc::new(client),
    })
}

/// Believes whoever proves to have the same key.
#[derive(Debug)]
struct SameKey {
    /// A SubjectPublicKeyInfo (RFC 5280, section 4.1).
    public: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SameKey {
    /// That the other side has the private key is seen by its signature, which rustls asks for.
    fn is_shown(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        match key.as_ref() == self.public {
            true => Ok(()),
            false => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    fn is_signed(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// TLS 1.2 is not spoken, so nothing of it is believed.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::InvalidCertificate(CertificateError::BadSignature))
}

impl ServerCertVerifier for SameKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.is_shown(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.is_signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for SameKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.is_shown(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.is_signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
