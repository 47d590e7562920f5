//! SCRAM, from both sides.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_core::limits::{SASL_MESSAGE_BYTES_MAX, SCRAM_ITERATIONS_MAX, SCRAM_MESSAGE_BYTES_MAX};
use postern_core::scram::{
    ChannelBinding, ClientExchange, ClientFirst, ClientScramError, Keys, SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS, Verifier,
};

use crate::pieces::Pieces;

const SALT: &[u8] = b"NaCl";
const CERTIFICATE: &[u8] = &[0x5a; 32];
const SERVER_NONCE: &str = "server+nonce/of/24/bytes";
const CLIENT_NONCE: &str = "client+nonce/of/24/bytes";
/// The most iterations that a target runs: more are only counted.
const ITERATIONS_RUN_MAX: u32 = 8;

/// What a client says to the server's side: first as it came, and then as one that knows a
/// password would say it, with one byte of the conversation changed on the way.
///
/// The input is a byte of choices, the place of the change and what it changes, the lines of a
/// password and of a nonce, a first message, and a last one.
pub fn scram_server(data: &[u8]) {
    let mut input = Pieces(data);
    let choices = input.byte();
    let change = Change {
        message: input.byte() % 4,
        at: usize::from(input.byte()),
        bits: input.byte(),
    };
    let (password, nonce) = (input.line(), input.line());
    let binding = binding_of(choices);
    let (first, last) = (input.line(), input.0);
    hear(binding, choices & 4 != 0, (first, last));
    let is_nonce = |it: &u8| it.is_ascii_graphic() && *it != b',';
    if nonce.is_empty() || nonce.len() > 64 || !nonce.iter().all(is_nonce) {
        return;
    }
    let nonce = String::from_utf8_lossy(nonce);
    let said = converse(password, &nonce, binding, change);
    // One bit is enough for somebody to notice, and nobody does where nothing was changed.
    assert_eq!(
        said,
        change.bits == 0,
        "{change:?} of a login with {binding:?}"
    );
    assert!(!converse_with_wrong_password(password, &nonce, binding));
}

/// What a server says to the client's side.
///
/// The input is a byte of choices, a first message, and a last one.
pub fn scram_client(data: &[u8]) {
    let mut input = Pieces(data);
    let binding = binding_of(input.byte());
    let (first, last) = (input.line(), input.0);
    let (exchange, said) = ClientExchange::start(CLIENT_NONCE, binding);
    assert!(said.len() <= SASL_MESSAGE_BYTES_MAX);
    let Ok(challenge) = exchange.server_first(first) else {
        return;
    };
    assert!(first.len() <= SCRAM_MESSAGE_BYTES_MAX);
    assert!(!challenge.salt().is_empty() && challenge.salt().len() < first.len());
    let iterations = challenge.iterations();
    assert!(iterations.get() <= SCRAM_ITERATIONS_MAX);
    let run = iterations.min(NonZeroU32::new(ITERATIONS_RUN_MAX).unwrap_or(NonZeroU32::MIN));
    let keys = Keys::derive(b"pencil", challenge.salt(), run);
    let (waiting, answer) = challenge.answer(&keys);
    // The answer extends the server's nonce, and the proof is its last attribute.
    let answer = String::from_utf8_lossy(&answer);
    let proof = answer
        .rsplit_once(",p=")
        .and_then(|(_, proof)| BASE64.decode(proof).ok());
    assert_eq!(proof.map(|it| it.len()), Some(32));
    assert!(answer.contains(&format!(",r={CLIENT_NONCE}")));
    if waiting.server_final(last).is_ok() {
        // Whoever has the verifier can say so, but not twice: here is another nonce.
        let (other, _) = ClientExchange::start("another+nonce/of/24bytes", binding);
        assert!(other.server_first(first).is_err());
    }
}

/// Which byte of which of the four messages is changed, and how.
#[derive(Debug, Clone, Copy)]
struct Change {
    message: u8,
    at: usize,
    bits: u8,
}

impl Change {
    /// The message as it arrives.
    fn apply(self, message: u8, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = self.at % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at).filter(|_| self.message == message) {
            *byte ^= self.bits;
        }
        bytes
    }
}

fn binding_of(choices: u8) -> ChannelBinding<'static> {
    match choices & 3 {
        0 | 3 => ChannelBinding::Unsupported,
        1 => ChannelBinding::ServerLacks,
        _ => ChannelBinding::TlsServerEndPoint(CERTIFICATE),
    }
}

/// What the server offers with, where the client is bound like this.
fn end_point(binding: ChannelBinding<'_>) -> Option<&'static [u8]> {
    matches!(binding, ChannelBinding::TlsServerEndPoint(_)).then_some(CERTIFICATE)
}

/// The server's side, with whatever comes.
fn hear(binding: ChannelBinding<'_>, is_plus: bool, (first, last): (&[u8], &[u8])) {
    let end_point = end_point(binding);
    let mechanism = if is_plus {
        SCRAM_SHA_256_PLUS
    } else {
        SCRAM_SHA_256
    };
    let read = || ClientFirst::read(end_point, mechanism.as_bytes(), first);
    let Ok(heard) = read() else {
        return;
    };
    assert!(first.len() <= SASL_MESSAGE_BYTES_MAX);
    assert!(!is_plus || end_point.is_some());
    // To be able to bind and to have been told that one cannot is a lie on the way.
    assert!(!first.starts_with(b"y") || end_point.is_none());
    assert_eq!(first.starts_with(b"p"), is_plus);
    let verifier = Verifier::from_password(b"pencil", SALT, NonZeroU32::MIN);
    let (challenged, message) = heard.challenge(SERVER_NONCE, &verifier);
    assert!(message.len() <= SCRAM_MESSAGE_BYTES_MAX);
    match challenged.client_final(last) {
        Err(error) => assert_ne!(error, ClientScramError::Downgraded),
        Ok((_evidence, message)) => {
            assert!(message.starts_with(b"v="));
            // The same message is worth nothing in another exchange.
            let again = read().map(|it| it.challenge("another/nonce", &verifier).0);
            assert!(again.is_ok_and(|it| it.client_final(last).is_err()));
        }
    }
}

/// A whole login of somebody who knows the password; whether both sides say yes.
fn converse(password: &[u8], nonce: &str, binding: ChannelBinding<'_>, change: Change) -> bool {
    let verifier = Verifier::from_password(password, SALT, NonZeroU32::MIN);
    assert!(verifier.check(password));
    let (exchange, first) = ClientExchange::start(nonce, binding);
    let mechanism = exchange.mechanism().as_bytes();
    let first = change.apply(0, first);
    let Ok(heard) = ClientFirst::read(end_point(binding), mechanism, &first) else {
        return false;
    };
    let (challenged, challenge) = heard.challenge(SERVER_NONCE, &verifier);
    let Ok(challenge) = exchange.server_first(&change.apply(1, challenge)) else {
        return false;
    };
    // One digit stays one digit, so that this costs nothing.
    let keys = Keys::derive(password, challenge.salt(), challenge.iterations());
    let (waiting, last) = challenge.answer(&keys);
    match challenged.client_final(&change.apply(2, last)) {
        Ok((_evidence, message)) => waiting.server_final(&change.apply(3, message)).is_ok(),
        Err(_) => false,
    }
}

/// A whole login of somebody who has another password.
fn converse_with_wrong_password(password: &[u8], nonce: &str, binding: ChannelBinding<'_>) -> bool {
    let verifier = Verifier::from_password(password, SALT, NonZeroU32::MIN);
    let (exchange, first) = ClientExchange::start(nonce, binding);
    let mechanism = exchange.mechanism().as_bytes();
    let Ok(heard) = ClientFirst::read(end_point(binding), mechanism, &first) else {
        return false;
    };
    let (challenged, challenge) = heard.challenge(SERVER_NONCE, &verifier);
    let Ok(challenge) = exchange.server_first(&challenge) else {
        return false;
    };
    let other = [password, b"x"].concat();
    let keys = Keys::derive(&other, challenge.salt(), challenge.iterations());
    let (_, last) = challenge.answer(&keys);
    challenged.client_final(&last).is_ok()
}
