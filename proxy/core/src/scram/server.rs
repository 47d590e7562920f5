//! The four messages, from the server's side.
//!
//! ```text
//! ClientFirst::read            ◂── client-first ──   how it is bound, the client's nonce
//! ClientFirst::challenge       ── server-first ──▸   nonce, salt, iterations
//! Challenged::client_final     ◂── client-final ──   the proof
//! ClientVerified               ── server-final ──▸   the server's own proof
//! ```
//!
//! Every rule that a client can break is checked before its proof is, so that what is told of a
//! broken rule depends on no secret.

use base64::Engine as _;
use ring::hmac;
use zeroize::Zeroizing;

use super::exchange::split_attribute;
use super::keys::{sha256, tag_bytes};
use super::verifier::same;
use super::{BASE64, KEY_BYTES, Verifier};
use crate::limits::SASL_MESSAGE_BYTES_MAX;

/// The mechanism without channel binding (RFC 7677).
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The one type of channel binding that PostgreSQL and its clients have (RFC 5929, section 4).
const END_POINT_HEADER: &str = "p=tls-server-end-point,,";

/// The mechanisms that a server offers, in the order of its preference.
///
/// `end_point` is the hash of the server's certificate where the connection has TLS and the
/// certificate has such a hash: only then can a client bind its login to the connection.
pub fn offered(end_point: Option<&[u8]>) -> &'static [&'static str] {
    match end_point {
        Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        None => &[SCRAM_SHA_256],
    }
}

/// A client has said how it is bound to the connection, and waits for the challenge.
#[derive(Debug)]
pub struct ClientFirst {
    /// What the `c=` of its last message must decode to.
    binding: Vec<u8>,
    nonce: String,
    /// The message without its header.
    bare: String,
}

impl ClientFirst {
    /// Reads a client's first message.
    ///
    /// `mechanism` is the one that the client chose of those that were [`offered`] for the same
    /// `end_point`.
    /// The user name in the message does not count: PostgreSQL takes it from the startup packet.
    ///
    /// # Errors
    ///
    /// One variant of [`ClientScramError`] for each rule that the message breaks.
    pub fn read(
        end_point: Option<&[u8]>,
        mechanism: &[u8],
        message: &[u8],
    ) -> Result<Self, ClientScramError> {
        let is_plus = mechanism == SCRAM_SHA_256_PLUS.as_bytes();
        if !is_plus && mechanism != SCRAM_SHA_256.as_bytes() {
            return Err(ClientScramError::Mechanism);
        }
        let text = check_text(message)?;
        let mut parts = text.splitn(3, ',');
        let (flag, identity, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(identity), Some(bare)) => (flag, identity, bare),
            _ => return Err(ClientScramError::Header),
        };
        let binding = binding_of(flag, is_plus, end_point)?;
        match identity {
            "" => {}
            other if other.starts_with("a=") => return Err(ClientScramError::Identity),
            _ => return Err(ClientScramError::Header),
        }
        let mut attributes = bare.split(',');
        attribute(attributes.next(), 'n')?;
        let nonce = attribute(attributes.next(), 'r').and_then(printable)?;
        skip_extensions(attributes)?;
        Ok(Self {
            binding,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// Answers with the salt and the iterations of a verifier, and returns the message to send.
    ///
    /// `nonce` is printable ASCII without commas, fresh and random for every exchange
    /// ([`super::nonce`] makes one).
    pub fn challenge(self, nonce: &str, verifier: &Verifier) -> (Challenged, Vec<u8>) {
        let nonce = format!("{}{nonce}", self.nonce);
        let salt = BASE64.encode(verifier.salt());
        let message = format!("r={nonce},s={salt},i={}", verifier.iterations());
        let challenged = Challenged {
            binding: self.binding,
            so_far: format!("{},{message},", self.bare),
            nonce,
            verifier: verifier.clone(),
        };
        (challenged, message.into_bytes())
    }
}

/// A client has been told how its password is salted, and owes the proof.
#[derive(Debug)]
pub struct Challenged {
    binding: Vec<u8>,
    nonce: String,
    /// The messages so far, as the proof has them.
    so_far: String,
    verifier: Verifier,
}

impl Challenged {
    /// Checks the client's last message, and returns the server's.
    ///
    /// The bound data and the proof are compared in constant time.
    ///
    /// # Errors
    ///
    /// [`ClientScramError::WrongProof`] when the client does not know the password of the
    /// verifier, else the variant of [`ClientScramError`] for the rule that the message breaks.
    pub fn client_final(
        self,
        message: &[u8],
    ) -> Result<(ClientVerified, Vec<u8>), ClientScramError> {
        let text = check_text(message)?;
        // The proof is the last attribute, and covers everything before it.
        let (bare, proof) = text.rsplit_once(",p=").ok_or(ClientScramError::Proof)?;
        let mut attributes = bare.split(',');
        let binding = attribute(attributes.next(), 'c')?;
        let binding = BASE64.decode(binding);
        let binding = binding.map_err(|_| ClientScramError::Binding)?;
        let nonce = attribute(attributes.next(), 'r')?;
        skip_extensions(attributes)?;
        let proof = BASE64.decode(proof).map_err(|_| ClientScramError::Proof)?;
        let proof: [u8; KEY_BYTES] = proof.try_into().map_err(|_| ClientScramError::Proof)?;
        if !same(&binding, &self.binding) {
            return Err(ClientScramError::BindingMismatch);
        }
        if nonce != self.nonce {
            return Err(ClientScramError::NonceNotOurs);
        }
        let auth_message = format!("{}{bare}", self.so_far);
        if !self.is_proof(&proof, auth_message.as_bytes()) {
            return Err(ClientScramError::WrongProof);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.verifier.server_key());
        let signature = hmac::sign(&key, auth_message.as_bytes());
        let message = format!("v={}", BASE64.encode(signature.as_ref()));
        Ok((ClientVerified(()), message.into_bytes()))
    }

    /// Whether the proof is that of whoever has the key that StoredKey is the hash of (RFC 5802,
    /// section 3).
    fn is_proof(&self, proof: &[u8; KEY_BYTES], auth_message: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.verifier.stored_key());
        // What is left of the proof is the client's key, which logs in wherever the verifier is.
        let mut client_key = Zeroizing::new(tag_bytes(&hmac::sign(&key, auth_message)));
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        same(&sha256(client_key.as_slice()), self.verifier.stored_key())
    }
}

/// Evidence that a client knows the password of the verifier that it was challenged with.
#[derive(Debug)]
#[must_use = "whose password it is has to be looked at"]
pub struct ClientVerified(());

/// Which rule a client breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientScramError {
    /// It chose a mechanism that does not exist.
    #[error("the client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// It chose channel binding where none was offered.
    #[error("the client chose channel binding, which was not offered")]
    BindingNotOffered,
    /// A message is longer than [`SASL_MESSAGE_BYTES_MAX`].
    #[error("a SCRAM message is longer than {SASL_MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// A message is not UTF-8, or has a NUL in it.
    #[error("a SCRAM message is not text")]
    NotText,
    /// The first message does not begin with a flag, an identity and two commas.
    #[error("the first SCRAM message has a malformed header")]
    Header,
    /// It wants to be somebody else than it proves to be.
    #[error("the client asks for an authorization identity, which is not supported")]
    Identity,
    /// It says that it could be bound and that the server could not, and the server had said that
    /// it could: somebody took the offer out.
    #[error("the client was not told that channel binding is offered")]
    Downgraded,
    /// It binds itself though it chose the mechanism without, or the other way round.
    #[error("the client's channel binding does not fit the mechanism that it chose")]
    BindingMisfit,
    /// Another type of channel binding than `tls-server-end-point`.
    #[error("the client's type of channel binding is not supported")]
    BindingType,
    /// A part of a message is missing, is not a letter, an equals sign and a value, or is not the
    /// one that is due.
    #[error("a SCRAM message has a malformed attribute")]
    Attribute,
    /// It demands an extension.
    #[error("the client demands a SCRAM extension")]
    MandatoryExtension,
    /// The nonce is empty or not printable ASCII.
    #[error("the client's nonce is empty or not printable")]
    Nonce,
    /// The channel binding in the last message is not base64.
    #[error("the client's channel binding is not base64")]
    Binding,
    /// It is bound to another connection, or says something else than in its first message.
    #[error("the client's channel binding is not that of this connection")]
    BindingMismatch,
    /// The nonce of the last message is not that of the exchange.
    #[error("the nonce is not the one of this exchange")]
    NonceNotOurs,
    /// The proof is missing, is not the last attribute, or is not 32 bytes in base64.
    #[error("the client's proof is missing or malformed")]
    Proof,
    /// The proof is wrong: the client does not know the password.
    #[error("the client's proof is wrong")]
    WrongProof,
}

/// What the `c=` of the last message must decode to (RFC 5802, sections 6 and 7).
fn binding_of(
    flag: &str,
    is_plus: bool,
    end_point: Option<&[u8]>,
) -> Result<Vec<u8>, ClientScramError> {
    if is_plus && end_point.is_none() {
        return Err(ClientScramError::BindingNotOffered);
    }
    match (flag, end_point) {
        ("n" | "y", _) if is_plus => Err(ClientScramError::BindingMisfit),
        ("y", Some(_)) => Err(ClientScramError::Downgraded),
        ("n", _) => Ok(b"n,,".to_vec()),
        ("y", None) => Ok(b"y,,".to_vec()),
        (flag, _) if !flag.starts_with("p=") => Err(ClientScramError::Header),
        (_, _) if !is_plus => Err(ClientScramError::BindingMisfit),
        ("p=tls-server-end-point", Some(end_point)) => {
            Ok([END_POINT_HEADER.as_bytes(), end_point].concat())
        }
        (_, _) => Err(ClientScramError::BindingType),
    }
}

/// The value of an attribute that has to be this one.
fn attribute(part: Option<&str>, wanted: char) -> Result<&str, ClientScramError> {
    match part.and_then(split_attribute) {
        Some(('m', _)) => Err(ClientScramError::MandatoryExtension),
        Some((name, value)) if name == wanted => Ok(value),
        _ => Err(ClientScramError::Attribute),
    }
}

/// Optional extensions, which a server that does not know them ignores. An attribute that has a
/// meaning elsewhere is no extension.
fn skip_extensions<'a>(parts: impl Iterator<Item = &'a str>) -> Result<(), ClientScramError> {
    for part in parts {
        let known = ['a', 'n', 'r', 'c', 's', 'i', 'p', 'v', 'e'];
        match split_attribute(part) {
            Some(('m', _)) => return Err(ClientScramError::MandatoryExtension),
            Some((name, _)) if !known.contains(&name) => {}
            _ => return Err(ClientScramError::Attribute),
        }
    }
    Ok(())
}

/// Printable ASCII; the comma has been split at already.
fn printable(nonce: &str) -> Result<&str, ClientScramError> {
    match !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(nonce),
        false => Err(ClientScramError::Nonce),
    }
}

fn check_text(message: &[u8]) -> Result<&str, ClientScramError> {
    if message.len() > SASL_MESSAGE_BYTES_MAX {
        return Err(ClientScramError::TooLong);
    }
    let text = std::str::from_utf8(message).map_err(|_| ClientScramError::NotText)?;
    match text.contains('\0') {
        true => Err(ClientScramError::NotText),
        false => Ok(text),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
