//! What a certificate says: for channel binding, and for the person who runs `check`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ring::digest;
use x509_cert::Certificate;
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, Reader, SliceReader, TagNumber};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// What a person wants to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    /// The subject, as RFC 4514 writes it.
    pub(crate) subject: String,
    /// The end of its validity, in seconds since 1970.
    pub(crate) not_after_s: u64,
    /// The DNS names and addresses that it carries.
    pub(crate) names: Vec<String>,
}

/// Reads a DER certificate; `None` when it is none.
pub(crate) fn certificate_facts(der: &[u8]) -> Option<CertificateFacts> {
    let certificate = Certificate::from_der(der).ok()?;
    let body = &certificate.tbs_certificate;
    // A certificate with a broken extension has no names that could be used.
    let names = body.get::<SubjectAltName>().ok().flatten();
    Some(CertificateFacts {
        subject: body.subject.to_string(),
        not_after_s: body.validity.not_after.to_unix_duration().as_secs(),
        names: names
            .iter()
            .flat_map(|(_, names)| &names.0)
            .filter_map(name)
            .collect(),
    })
}

/// The channel binding data `tls-server-end-point` of a server's DER certificate, RFC 5929,
/// section 4.1.
///
/// It is the hash of the certificate by the hash function of its own signature, with SHA-256 in
/// the place of MD5 and SHA-1.
/// `None` where this is not defined (Ed25519, Ed448) or not known (SHA-224): the caller must not
/// take that as "the server has no channel binding" without saying so.
pub(crate) fn tls_server_end_point(cert_der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(cert_der).ok()?;
    let algorithm = hash_of_signature(&certificate.signature_algorithm)?;
    Some(digest::digest(algorithm, cert_der).as_ref().to_vec())
}

/// The validity of a DER certificate, both ends in seconds since 1970 and both still valid.
pub(super) fn validity(der: &[u8]) -> Option<Range<u64>> {
    let validity = Certificate::from_der(der).ok()?.tbs_certificate.validity;
    let start = validity.not_before.to_unix_duration().as_secs();
    Some(start..validity.not_after.to_unix_duration().as_secs())
}

/// The common name of a DER certificate that carries neither a DNS name nor an address.
///
/// `None` if it carries one, has no common name or several, or one that is not ASCII.
pub(super) fn only_common_name(der: &[u8]) -> Option<String> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let body = Certificate::from_der(der).ok()?.tbs_certificate;
    let alternatives = body.get::<SubjectAltName>().ok()?;
    if alternatives.is_some_and(|(_, names)| names.0.iter().any(|one| name(one).is_some())) {
        return None;
    }
    let parts = body.subject.0.iter().flat_map(|part| part.0.iter());
    let mut found = parts.filter(|part| part.oid == COMMON_NAME);
    let (first, second) = (found.next()?, found.next());
    let text = std::str::from_utf8(first.value.value()).ok()?;
    let usable = second.is_none() && text.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then(|| text.to_owned())
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(|b| IpAddr::from(Ipv4Addr::from(b)));
            let v6 = <[u8; 16]>::try_from(bytes.as_bytes());
            v4.or(v6.map(|b| IpAddr::from(Ipv6Addr::from(b))))
                .ok()
                .map(|ip| ip.to_string())
        }
        GeneralName::OtherName(_)
        | GeneralName::Rfc822Name(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::UniformResourceIdentifier(_)
        | GeneralName::RegisteredId(_) => None,
    }
}

/// RSASSA-PSS, RFC 4055, section 3.1: the hash function is in the parameters.
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

fn hash_of_signature(algorithm: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    if algorithm.oid == RSASSA_PSS {
        return hash_of_pss(algorithm);
    }
    match algorithm.oid.to_string().as_str() {
        // RSA (RFC 8017, A.2.4) with MD5, SHA-1 and SHA-256; ECDSA (RFC 5758, 3.2) and DSA with
        // SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2"
        | "1.2.840.10040.4.3"
        | "2.16.840.1.101.3.4.3.2" => Some(&digest::SHA256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.3.3" => {
            Some(&digest::SHA384)
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.3.4" => {
            Some(&digest::SHA512)
        }
        _ => None,
    }
}

/// The hash function of `RSASSA-PSS-params`: element 0, SHA-1 where it is left out.
fn hash_of_pss(algorithm: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    let Some(parameters) = &algorithm.parameters else {
        return Some(&digest::SHA256);
    };
    let content = parameters.to_der().ok()?;
    let mut reader = SliceReader::new(&content).ok()?;
    let hash = reader.sequence(|reader| {
        let hash =
            ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(reader, TagNumber::N0)?;
        // The other elements do not matter here.
        reader.read_slice(reader.remaining_len())?;
        Ok(hash)
    });
    let Some(hash) = hash.ok()? else {
        return Some(&digest::SHA256);
    };
    match hash.value.oid.to_string().as_str() {
        // MD5, SHA-1, SHA-256.
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        _ => None,
    }
}
