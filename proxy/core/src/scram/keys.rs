//! What a password becomes before it is used in an exchange.

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::{KEY_BYTES, saslprep};

/// ClientKey and ServerKey of one password, salt and iteration count.
///
/// Whoever has them can log in wherever the verifier is stored, so they are wiped on drop and
/// cannot be printed.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "a secret must not be printable by accident"
)]
pub struct Keys {
    client: Zeroizing<[u8; KEY_BYTES]>,
    server: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Derives the keys by PBKDF2, which takes milliseconds of CPU for thousands of iterations.
    ///
    /// The password is prepared by PostgreSQL's rules: by SASLprep (RFC 4013) where that is
    /// possible, else its bytes as they are.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let prepared = saslprep::prepare(password);
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            &prepared,
            salted.as_mut_slice(),
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
        Self {
            client: Zeroizing::new(tag_bytes(&hmac::sign(&key, b"Client Key"))),
            server: Zeroizing::new(tag_bytes(&hmac::sign(&key, b"Server Key"))),
        }
    }

    /// StoredKey: what a server checks a client's proof with.
    pub(super) fn stored_key(&self) -> [u8; KEY_BYTES] {
        sha256(self.client.as_slice())
    }

    /// ServerKey: what a server proves itself with.
    pub(super) fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server
    }

    /// ClientProof of this exchange (RFC 5802, section 3).
    pub(super) fn proof(&self, auth_message: &[u8]) -> [u8; KEY_BYTES] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.stored_key());
        let mut proof = tag_bytes(&hmac::sign(&key, auth_message));
        for (byte, key) in proof.iter_mut().zip(self.client.iter()) {
            *byte ^= key;
        }
        proof
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    copy(&mut out, digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

pub(super) fn tag_bytes(tag: &hmac::Tag) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    copy(&mut out, tag.as_ref());
    out
}

/// Both are as long as a SHA-256, by construction.
fn copy(to: &mut [u8; KEY_BYTES], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
