//! The four messages, from the client's side.

use std::num::NonZeroU32;

use base64::Engine as _;
use ring::hmac;
use zeroize::Zeroizing;

use super::verifier::parse_iterations;
use super::{BASE64, KEY_BYTES, Keys};
use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_MESSAGE_BYTES_MAX};

/// A nonce as libpq makes them, from random bytes of the caller.
pub fn nonce(random: &[u8; 18]) -> String {
    BASE64.encode(random)
}

/// How the login is bound to the TLS connection that it runs in (RFC 5802, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding<'a> {
    /// No TLS, or no binding is possible: `n,,`.
    Unsupported,
    /// Binding would be possible, and the server did not offer it: `y,,`.
    /// A server that did offer it then knows that somebody took the offer out, and refuses.
    ServerLacks,
    /// The hash of the server's certificate (RFC 5929, section 4): `p=tls-server-end-point,,`.
    TlsServerEndPoint(&'a [u8]),
}

impl ChannelBinding<'_> {
    /// The header that says which of them it is.
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::ServerLacks => "y,,",
            Self::TlsServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// The value of `c=`: the header and, when there is one, the hash.
    fn encode(&self) -> String {
        match self {
            Self::Unsupported | Self::ServerLacks => BASE64.encode(self.header()),
            Self::TlsServerEndPoint(hash) => {
                BASE64.encode([self.header().as_bytes(), hash].concat())
            }
        }
    }
}

/// The client has said who it is, and waits for the server's nonce, salt and iterations.
#[derive(Debug)]
pub struct ClientExchange {
    mechanism: &'static str,
    /// The value of `c=` in the last message.
    binding: String,
    nonce: String,
    /// The first message without its header.
    first_bare: String,
}

impl ClientExchange {
    /// Begins an exchange, and returns the first message to send.
    ///
    /// `nonce` is printable ASCII without commas, fresh and random for every exchange ([`nonce`]
    /// makes one).
    /// The user name is left empty: PostgreSQL takes it from the startup packet.
    pub fn start(nonce: &str, binding: ChannelBinding<'_>) -> (Self, Vec<u8>) {
        Self::start_as("", nonce, binding)
    }

    /// The name of the mechanism, for the SASLInitialResponse.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// Reads the server's first message.
    ///
    /// # Errors
    ///
    /// One variant of [`ScramError`] for each rule that the message breaks.
    pub fn server_first(self, message: &[u8]) -> Result<Challenge, ScramError> {
        let text = check_text(message)?;
        let mut attributes = Attributes::new(text)?;
        let nonce = attributes.next('r').ok_or(ScramError::Nonce)?;
        if !is_printable(nonce) {
            return Err(ScramError::Nonce);
        }
        match nonce.strip_prefix(&self.nonce) {
            None | Some("") => return Err(ScramError::NonceNotOurs),
            Some(_) => {}
        }
        let salt = attributes
            .next('s')
            .and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt
            .filter(|salt| !salt.is_empty())
            .ok_or(ScramError::Salt)?;
        let iterations = attributes.next('i').and_then(parse_iterations);
        let iterations = iterations.ok_or(ScramError::Iterations)?;
        attributes.skip_extensions()?;

        let final_bare = format!("c={},r={nonce}", self.binding);
        let auth_message = format!("{},{text},{final_bare}", self.first_bare);
        Ok(Challenge {
            salt,
            iterations,
            final_bare,
            auth_message,
        })
    }

    fn start_as(user: &str, nonce: &str, binding: ChannelBinding<'_>) -> (Self, Vec<u8>) {
        let mechanism = match binding {
            ChannelBinding::Unsupported | ChannelBinding::ServerLacks => "SCRAM-SHA-256",
            ChannelBinding::TlsServerEndPoint(_) => "SCRAM-SHA-256-PLUS",
        };
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("{}{first_bare}", binding.header()).into_bytes();
        let nonce = nonce.to_owned();
        (
            Self {
                mechanism,
                binding: binding.encode(),
                nonce,
                first_bare,
            },
            message,
        )
    }
}

/// The server has said how the password is salted, and waits for the proof.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    /// The last message without its proof.
    final_bare: String,
    auth_message: String,
}

impl Challenge {
    /// What the password is salted with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// How often PBKDF2 iterates.
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// Proves that the client has the keys, which must have been derived with this salt and these
    /// iterations, and returns the message to send.
    pub fn answer(self, keys: &Keys) -> (ClientFinal, Vec<u8>) {
        let proof = BASE64.encode(keys.proof(self.auth_message.as_bytes()));
        let message = format!("{},p={proof}", self.final_bare).into_bytes();
        let server_key = Zeroizing::new(*keys.server_key());
        (
            ClientFinal {
                server_key,
                auth_message: self.auth_message,
            },
            message,
        )
    }
}

/// The client has proved itself, and waits for the server to do the same.
#[expect(
    missing_debug_implementations,
    reason = "a secret must not be printable by accident"
)]
pub struct ClientFinal {
    server_key: Zeroizing<[u8; KEY_BYTES]>,
    auth_message: String,
}

impl ClientFinal {
    /// Checks the server's last message, in constant time.
    ///
    /// # Errors
    ///
    /// [`ScramError::Server`] when the server reports an error instead,
    /// [`ScramError::WrongSignature`] when the server does not know the verifier, else the
    /// variant of [`ScramError`] for the rule that the message breaks.
    pub fn server_final(self, message: &[u8]) -> Result<ServerVerified, ScramError> {
        let text = check_text(message)?;
        let mut attributes = Attributes::new(text)?;
        let signature = attributes
            .next('v')
            .and_then(|value| BASE64.decode(value).ok());
        let signature = signature.ok_or(ScramError::Signature)?;
        attributes.skip_extensions()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.server_key.as_slice());
        match hmac::verify(&key, self.auth_message.as_bytes(), &signature) {
            Ok(()) => Ok(ServerVerified(())),
            Err(ring::error::Unspecified) => Err(ScramError::WrongSignature),
        }
    }
}

/// Evidence that the server knows the verifier of this password.
#[derive(Debug)]
pub struct ServerVerified(());

/// Which rule a server breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is longer than [`SCRAM_MESSAGE_BYTES_MAX`].
    #[error("a SCRAM message is longer than {SCRAM_MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// A message is not UTF-8, or has a NUL in it.
    #[error("a SCRAM message is not text")]
    NotText,
    /// A part of a message is not a letter, an equals sign and a value.
    #[error("a SCRAM message has a malformed attribute")]
    Attribute,
    /// The server demands an extension.
    #[error("the server demands a SCRAM extension")]
    MandatoryExtension,
    /// The nonce is missing, or not printable ASCII.
    #[error("the server's nonce is missing or not printable")]
    Nonce,
    /// The nonce does not extend the client's own: somebody replays another exchange.
    #[error("the server's nonce does not extend the client's")]
    NonceNotOurs,
    /// The salt is missing, empty or not base64.
    #[error("the salt is missing or not base64")]
    Salt,
    /// The iterations are missing, or not a number from 1 to [`SCRAM_ITERATIONS_MAX`].
    #[error("the iterations are not a number from 1 to {SCRAM_ITERATIONS_MAX}")]
    Iterations,
    /// The server's signature is missing or not base64.
    #[error("the server's signature is missing or not base64")]
    Signature,
    /// The server's signature is wrong: it does not know the verifier.
    #[error("the server's signature is wrong")]
    WrongSignature,
    /// The server reports an error.
    #[error("the server reports a SCRAM error: {0}")]
    Server(ServerError),
}

/// The errors that a server may report (RFC 5802, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// `invalid-encoding`
    #[error("invalid encoding")]
    InvalidEncoding,
    /// `extensions-not-supported`
    #[error("extensions not supported")]
    ExtensionsNotSupported,
    /// `invalid-proof`: the password is wrong.
    #[error("invalid proof")]
    InvalidProof,
    /// `channel-bindings-dont-match`: somebody is between client and server.
    #[error("channel bindings do not match")]
    ChannelBindingsDontMatch,
    /// `server-does-support-channel-binding`: somebody took the offer out.
    #[error("server does support channel binding")]
    ServerDoesSupportChannelBinding,
    /// `channel-binding-not-supported`
    #[error("channel binding not supported")]
    ChannelBindingNotSupported,
    /// `unsupported-channel-binding-type`
    #[error("unsupported channel binding type")]
    UnsupportedChannelBindingType,
    /// `unknown-user`
    #[error("unknown user")]
    UnknownUser,
    /// `invalid-username-encoding`
    #[error("invalid username encoding")]
    InvalidUsernameEncoding,
    /// `no-resources`
    #[error("no resources")]
    NoResources,
    /// `other-error`, or a word that the RFC does not have.
    #[error("other error")]
    Other,
}

impl ServerError {
    fn parse(word: &str) -> Self {
        match word {
            "invalid-encoding" => Self::InvalidEncoding,
            "extensions-not-supported" => Self::ExtensionsNotSupported,
            "invalid-proof" => Self::InvalidProof,
            "channel-bindings-dont-match" => Self::ChannelBindingsDontMatch,
            "server-does-support-channel-binding" => Self::ServerDoesSupportChannelBinding,
            "channel-binding-not-supported" => Self::ChannelBindingNotSupported,
            "unsupported-channel-binding-type" => Self::UnsupportedChannelBindingType,
            "unknown-user" => Self::UnknownUser,
            "invalid-username-encoding" => Self::InvalidUsernameEncoding,
            "no-resources" => Self::NoResources,
            _ => Self::Other,
        }
    }
}

/// The attributes of a message (RFC 5802, section 5.1), consumed in order.
struct Attributes<'a>(std::iter::Peekable<std::str::Split<'a, char>>);

impl<'a> Attributes<'a> {
    /// Refuses a message that is an error or demands an extension, and every message with a part
    /// that is no attribute.
    fn new(text: &'a str) -> Result<Self, ScramError> {
        for (place, part) in text.split(',').enumerate() {
            match split_attribute(part).ok_or(ScramError::Attribute)? {
                ('m', _) => return Err(ScramError::MandatoryExtension),
                ('e', word) if place == 0 => {
                    return Err(ScramError::Server(ServerError::parse(word)));
                }
                _ => {}
            }
        }
        Ok(Self(text.split(',').peekable()))
    }

    /// The value of the next attribute, when it is this one.
    fn next(&mut self, wanted: char) -> Option<&'a str> {
        let part = self.0.peek().copied()?;
        let (_, value) = split_attribute(part).filter(|(name, _)| *name == wanted)?;
        self.0.next();
        Some(value)
    }

    /// Consumes what is left: optional extensions, which a client that does not know them ignores.
    ///
    /// An attribute that has a meaning elsewhere is no extension.
    fn skip_extensions(self) -> Result<(), ScramError> {
        for part in self.0 {
            let known = ['a', 'n', 'm', 'r', 'c', 's', 'i', 'p', 'v', 'e'];
            match split_attribute(part) {
                Some((name, _)) if !known.contains(&name) => {}
                _ => return Err(ScramError::Attribute),
            }
        }
        Ok(())
    }
}

pub(super) fn split_attribute(part: &str) -> Option<(char, &str)> {
    let (name, value) = part.split_once('=')?;
    let mut letters = name.chars();
    match (letters.next(), letters.next()) {
        (Some(name), None) if name.is_ascii_alphabetic() => Some((name, value)),
        _ => None,
    }
}

fn check_text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > SCRAM_MESSAGE_BYTES_MAX {
        return Err(ScramError::TooLong);
    }
    let text = std::str::from_utf8(message).map_err(|_| ScramError::NotText)?;
    if text.contains('\0') {
        Err(ScramError::NotText)
    } else {
        Ok(text)
    }
}

/// Printable ASCII without the comma, which has been split at already.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
