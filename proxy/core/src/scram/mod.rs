//! SCRAM-SHA-256 as a client of PostgreSQL and as a server in its place, and the verifiers that
//! PostgreSQL stores.
//!
//! The exchange is four messages, and each is a step that takes the one before by value. The
//! client's side:
//!
//! ```text
//! ClientExchange::start        ── client-first ──▸
//! ClientExchange::server_first ◂── server-first ──   nonce, salt, iterations
//! Challenge::answer            ── client-final ──▸   proof, made from the Keys
//! ClientFinal::server_final    ◂── server-final ──   the server's own proof
//! ServerVerified
//! ```
//!
//! [`Keys::derive`] is the only slow step, and it is not part of the exchange: the keys depend on
//! password, salt and iterations alone, so they can be kept for the next login.
//!
//! The server's side has the same steps: [`ClientFirst`], [`Challenged`], [`ClientVerified`].
//!
//! Source: RFC 5802, RFC 7677, and PostgreSQL, SASL Authentication,
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>.

mod decoy;
mod exchange;
mod keys;
mod saslprep;
mod server;
mod verifier;

pub use decoy::{Decoys, Shape};

pub use exchange::{
    Challenge, ChannelBinding, ClientExchange, ClientFinal, ScramError, ServerError,
    ServerVerified, nonce,
};
pub use keys::Keys;
pub use server::{
    Challenged, ClientFirst, ClientScramError, ClientVerified, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
    offered,
};
pub use verifier::{Verifier, VerifierError};

/// The size of every key, proof and signature of SCRAM-SHA-256, in bytes.
const KEY_BYTES: usize = ring::digest::SHA256_OUTPUT_LEN;

/// Base64 with padding, the only form in SCRAM messages (RFC 5802, 5.1) and in verifiers.
use base64::engine::general_purpose::STANDARD as BASE64;
