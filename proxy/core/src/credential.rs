//! The secret that a managed role has in PostgreSQL, derived from the cluster's key.
//!
//! Every proxy of a cluster has the same [`ClusterKey`] and derives the same secret for the same
//! role and epoch, so nothing has to be stored or agreed on, and a role whose epoch is raised has
//! a new secret.
//!
//! Source of the derivation: HKDF, RFC 5869, with SHA-256.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::limits::CLUSTER_KEY_TEXT_BYTES_MAX;
use crate::scram::Verifier;
use crate::secret::Secret;

/// How often PBKDF2 iterates in the verifiers that Postern makes: PostgreSQL's default.
///
/// A derived secret has 256 random bits, so more iterations would protect nothing.
pub const SCRAM_ITERATIONS: NonZeroU32 = match NonZeroU32::new(4_096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// The key that all proxies of a cluster share and nobody else has, 32 bytes.
///
/// It is wiped on drop and cannot be printed.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "a secret must not be printable by accident"
)]
pub struct ClusterKey {
    /// The pseudorandom key of HKDF, extracted from the key that was given.
    extracted: Secret<[u8; KEY_BYTES]>,
}

/// The size of the cluster key and of everything that is derived from it, in bytes.
const KEY_BYTES: usize = 32;

/// The label of this derivation, and its version: the salt of HKDF's first step.
///
/// Whatever changes a derived value changes this, so that two versions never share one.
const DERIVATION: &[u8] = b"postern cluster key v1";

/// What a value is derived for, the first part of HKDF's `info`.
const ROLE_SECRET: &[u8] = b"role secret";
const ROLE_SALT: &[u8] = b"role salt";
const AUDIT_KEY: &[u8] = b"audit key";
const DECOY_KEY: &[u8] = b"decoy key";
const PEER_KEY: &[u8] = b"peer key";
const CONSOLE_DECOY_KEY: &[u8] = b"console decoy key";

impl ClusterKey {
    /// Reads the content of a key file: 32 bytes as 64 hexadecimal digits or in base64, standard
    /// or URL-safe, padded or not; white space after it is ignored.
    ///
    /// # Errors
    ///
    /// [`ClusterKeyError`] for text that is neither, has another length, or is one byte repeated,
    /// which is a placeholder and no key.
    pub fn parse(text: &[u8]) -> Result<Self, ClusterKeyError> {
        let text = text.trim_ascii_end();
        if text.is_empty() {
            return Err(ClusterKeyError::Empty);
        }
        if text.len() > CLUSTER_KEY_TEXT_BYTES_MAX {
            return Err(ClusterKeyError::TooLong);
        }
        let bytes = decode_hex(text)
            .or_else(|| decode_base64(text))
            .map(Zeroizing::new)
            .ok_or(ClusterKeyError::Encoding)?;
        if bytes.len() != KEY_BYTES {
            return Err(ClusterKeyError::Length { bytes: bytes.len() });
        }
        if bytes.windows(2).all(|pair| pair.first() == pair.last()) {
            return Err(ClusterKeyError::Placeholder);
        }
        let salt = hmac::Key::new(hmac::HMAC_SHA256, DERIVATION);
        let extracted = Secret::new(key_bytes(&hmac::sign(&salt, &bytes)));
        Ok(Self { extracted })
    }

    /// The password of a managed role in PostgreSQL: 43 letters, digits, `-` and `_`.
    ///
    /// A role name is the exact one, case included; the epoch counts how often the secret of the
    /// role was replaced.
    pub fn role_secret(&self, role: &str, epoch: u32) -> Secret<String> {
        let bytes = Zeroizing::new(self.expand(&role_info(ROLE_SECRET, role, epoch)));
        Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
    }

    /// The salt of the role's verifier, so that every proxy writes the same verifier.
    ///
    /// It is not secret: PostgreSQL tells it to whoever asks to log in.
    pub fn salt(&self, role: &str, epoch: u32) -> [u8; 16] {
        let bytes = self.expand(&role_info(ROLE_SALT, role, epoch));
        let mut salt = [0; 16];
        for (to, from) in salt.iter_mut().zip(bytes) {
            *to = from;
        }
        salt
    }

    /// The key of the audit file's hash chain.
    pub fn audit_key(&self) -> Secret<[u8; KEY_BYTES]> {
        Secret::new(self.expand(&info(AUDIT_KEY)))
    }

    /// The key of the decoys that names without an account are challenged with.
    pub fn decoy_key(&self) -> Secret<[u8; KEY_BYTES]> {
        Secret::new(self.expand(&info(DECOY_KEY)))
    }

    /// The private key by which the proxies of a cluster know each other: the seed of an Ed25519
    /// key pair (RFC 8032, section 5.1.5).
    pub fn peer_key(&self) -> Secret<[u8; KEY_BYTES]> {
        Secret::new(self.expand(&info(PEER_KEY)))
    }

    /// The same as [`ClusterKey::decoy_key`] for the admin console, whose names would else show
    /// whether the other file has them: nobody's name would have the same decoy in both.
    pub fn console_decoy_key(&self) -> Secret<[u8; KEY_BYTES]> {
        Secret::new(self.expand(&info(CONSOLE_DECOY_KEY)))
    }

    /// The first block of HKDF-Expand, which is all that 32 bytes need (RFC 5869, section 2.3).
    fn expand(&self, info: &[u8]) -> [u8; KEY_BYTES] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.extracted.expose());
        let mut block = hmac::Context::with_key(&key);
        block.update(info);
        block.update(&[1]);
        key_bytes(&block.sign())
    }
}

/// A short digest of a verifier, by which it is seen whether a role has the current one: the
/// SHA-256 of its text, in 64 hexadecimal digits.
pub fn fingerprint(verifier: &Verifier) -> String {
    use std::fmt::Write as _;
    let text = Zeroizing::new(verifier.to_string());
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(2 * KEY_BYTES), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Why a text is no cluster key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClusterKeyError {
    /// There is nothing in it.
    #[error("the cluster key is empty")]
    Empty,
    /// It is much longer than a key.
    #[error("the cluster key is longer than {CLUSTER_KEY_TEXT_BYTES_MAX} bytes of text")]
    TooLong,
    /// It is neither hexadecimal nor base64.
    #[error("the cluster key is neither hexadecimal nor base64")]
    Encoding,
    /// It has another length than 32 bytes.
    #[error("the cluster key has {bytes} bytes and not {KEY_BYTES}")]
    Length {
        /// The length that it has, in bytes.
        bytes: usize,
    },
    /// It is one byte, repeated.
    #[error("the cluster key is one byte repeated, which is a placeholder and no key")]
    Placeholder,
}

/// A label, after its length: no label and role together read like another label and role.
fn info(label: &[u8]) -> Vec<u8> {
    let mut info = Vec::new();
    put_sized(&mut info, label);
    info
}

fn role_info(label: &[u8], role: &str, epoch: u32) -> Vec<u8> {
    let mut info = info(label);
    put_sized(&mut info, role.as_bytes());
    info.extend_from_slice(&epoch.to_be_bytes());
    info
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A SHA-256 authentication code is as long as a key, by construction.
fn key_bytes(tag: &hmac::Tag) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

/// Bytes from exactly 64 hexadecimal digits; anything else may be base64.
fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let digits = (0..KEY_BYTES).map(|at| text.get(2 * at..2 * at + 2));
    digits
        .map(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn key() -> ClusterKey {
        ClusterKey::parse(HEX.as_bytes()).unwrap()
    }

    fn refusal(text: &[u8]) -> ClusterKeyError {
        ClusterKey::parse(text).map(|_| ()).unwrap_err()
    }

    /// The expected values were made by an independent program (Python's `hmac`).
    #[test]
    fn derived_values_never_change() {
        let secret = key().role_secret("alice", 1);
        assert_eq!(
            secret.expose(),
            "JxqvZaaqBFTZU7X78UsnHJ1u1-oVOWZzs5Cxcjp4h4A"
        );
        assert_eq!(
            key().salt("alice", 1),
            0x01db_b246_7270_d3a5_f40b_8b8a_0379_2e54_u128.to_be_bytes()
        );
        let hex = |key: Secret<[u8; KEY_BYTES]>| -> String {
            key.expose()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        assert_eq!(
            hex(key().audit_key()),
            "a65fca24d57bf5bfaf44f75d343fac9f10a0a942bf2bfd7c28ba90f8e2be1d7a"
        );
        assert_eq!(
            hex(key().decoy_key()),
            "05fd733306913b483738000bdf22761cf5668b852dde39568ee7f06877d55dec"
        );
        assert_ne!(hex(key().console_decoy_key()), hex(key().decoy_key()));
    }

    #[test]
    fn the_derivation_is_hkdf() {
        use ring::hkdf;
        let given: Vec<u8> = (0..32).collect();
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, DERIVATION).extract(&given);
        let info = [info(AUDIT_KEY)];
        let parts: Vec<&[u8]> = info.iter().map(Vec::as_slice).collect();
        let mut expected = [0; KEY_BYTES];
        extracted
            .expand(&parts, hkdf::HKDF_SHA256)
            .unwrap()
            .fill(&mut expected)
            .unwrap();
        assert_eq!(key().audit_key().expose(), &expected);
    }

    #[test]
    fn a_key_is_read_in_each_of_its_forms() {
        let expected = key().role_secret("alice", 1);
        let bytes: Vec<u8> = (0..32).collect();
        for text in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            format!("{HEX}\r\n \t\n"),
            STANDARD.encode(&bytes),
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE.encode(&bytes) + "\n",
            URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            let read = ClusterKey::parse(text.as_bytes()).unwrap();
            assert_eq!(
                read.role_secret("alice", 1).expose(),
                expected.expose(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_text_that_is_no_key_is_named_by_its_fault() {
        for (text, fault) in [
            (String::new(), ClusterKeyError::Empty),
            (" \n".to_owned(), ClusterKeyError::Empty),
            (format!(" {HEX}"), ClusterKeyError::Encoding),
            (HEX.replace("0a", "0 a"), ClusterKeyError::Encoding),
            (
                "correct horse battery staple".to_owned(),
                ClusterKeyError::Encoding,
            ),
            (
                STANDARD.encode([1; 31]),
                ClusterKeyError::Length { bytes: 31 },
            ),
            (
                STANDARD.encode([1; 33]),
                ClusterKeyError::Length { bytes: 33 },
            ),
            // No part of a text is a key.
            (format!("{HEX}0000"), ClusterKeyError::Length { bytes: 51 }),
            ("+1".repeat(32), ClusterKeyError::Length { bytes: 48 }),
            ("00".repeat(32), ClusterKeyError::Placeholder),
            (STANDARD.encode([255; 32]), ClusterKeyError::Placeholder),
            ("A".repeat(256), ClusterKeyError::Length { bytes: 192 }),
            ("A".repeat(257), ClusterKeyError::TooLong),
        ] {
            assert_eq!(refusal(text.as_bytes()), fault, "{text:?}");
        }
        assert_eq!(refusal(b"\xff\xfe"), ClusterKeyError::Encoding);
    }

    #[test]
    fn no_two_roles_epochs_or_purposes_share_a_value() {
        let key = key();
        let roles = [
            "a",
            "aa",
            "A",
            "a\0",
            "\0a",
            "b",
            "role salt",
            "\u{e9}",
            "e\u{301}",
            "",
        ];
        let epochs = [0, 1, 2, 256, 1 << 24, u32::MAX];
        let mut secrets = HashSet::new();
        let mut salts = HashSet::new();
        for role in roles {
            for epoch in epochs {
                assert!(secrets.insert(key.role_secret(role, epoch).expose().clone()));
                assert!(salts.insert(key.salt(role, epoch)));
            }
        }
        for role in roles {
            let bytes = URL_SAFE_NO_PAD
                .decode(key.role_secret(role, 0).expose())
                .unwrap();
            assert!(!salts.contains(&bytes[..16]));
            assert_ne!(bytes, key.audit_key().expose());
        }
        let of_the_cluster = [key.audit_key(), key.decoy_key(), key.peer_key()];
        let different: HashSet<_> = of_the_cluster.iter().map(Secret::expose).collect();
        assert_eq!(different.len(), of_the_cluster.len());
    }

    #[test]
    fn another_key_derives_other_values() {
        let other = ClusterKey::parse(HEX.replacen("00", "01", 1).as_bytes()).unwrap();
        let secret = |key: &ClusterKey| key.role_secret("alice", 1).expose().clone();
        assert_ne!(secret(&key()), secret(&other));
        assert_ne!(key().salt("alice", 1), other.salt("alice", 1));
        assert_ne!(key().audit_key().expose(), other.audit_key().expose());
    }

    #[test]
    fn a_fingerprint_is_the_sha256_of_the_verifiers_text() {
        let verifier = Verifier::from_password(b"pencil", b"salt", NonZeroU32::MIN);
        let print = fingerprint(&verifier);
        assert_eq!(print.len(), 64);
        assert_eq!(print, fingerprint(&verifier.to_string().parse().unwrap()));
        let other = Verifier::from_password(b"pencil", b"tlas", NonZeroU32::MIN);
        assert_ne!(print, fingerprint(&other));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = ClusterKey::parse(&text);
        }

        #[test]
        fn different_inputs_never_share_a_secret(
            a in (".{0,20}", any::<u32>()), b in (".{0,20}", any::<u32>()),
        ) {
            prop_assume!(a != b);
            prop_assert_ne!(role_info(ROLE_SECRET, &a.0, a.1), role_info(ROLE_SECRET, &b.0, b.1));
            let key = key();
            let (a, b) = (key.role_secret(&a.0, a.1), key.role_secret(&b.0, b.1));
            prop_assert_ne!(a.expose(), b.expose());
        }
    }
}
