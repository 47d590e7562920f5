//! Verifiers of names that nobody has, so that an exchange does not tell who has an account.

use std::num::NonZeroU32;

use ring::hmac;
use zeroize::Zeroizing;

use super::{KEY_BYTES, Verifier};
use crate::secret::Secret;

/// What of a verifier is told to whoever asks to log in, apart from the salt itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// How often PBKDF2 iterates.
    pub iterations: NonZeroU32,
    /// The length of the salt, in bytes.
    pub salt_bytes: usize,
}

/// Makes verifiers of names that nobody has.
///
/// A name always gets the same one, as an account does: on every proxy that has the same key, and
/// after a restart.
/// Nobody can prove that they know a password of it, because nobody knows of which key its
/// StoredKey would be the hash.
///
/// Source: RFC 5802, section 9; PostgreSQL does the same with a secret of the cluster
/// (`mock_authentication_nonce` of pg_control).
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "a secret must not be printable by accident"
)]
pub struct Decoys {
    key: Secret<[u8; KEY_BYTES]>,
}

impl Decoys {
    /// Decoys that only who has this key can tell from accounts.
    pub fn new(key: Secret<[u8; KEY_BYTES]>) -> Self {
        Self { key }
    }

    /// The decoy of a name, which has one of the shapes that accounts have.
    ///
    /// Which one depends on the name and on the shapes that there are, and not on how many
    /// accounts have them, so that it stays the same when an account comes or goes.
    /// Without shapes it has `fallback`.
    pub fn verifier(&self, name: &str, shapes: &[Shape], fallback: Shape) -> Verifier {
        let rank = |shape: &&Shape| {
            let iterations = shape.iterations.get().to_be_bytes();
            let salt_bytes = (shape.salt_bytes as u64).to_be_bytes();
            *self.derive(
                b"shape",
                name,
                &[iterations.as_slice(), &salt_bytes].concat(),
            )
        };
        let shape = shapes.iter().max_by_key(rank).copied().unwrap_or(fallback);
        let mut salt = Vec::with_capacity(shape.salt_bytes);
        for block in 0_u32.. {
            let left = shape.salt_bytes - salt.len();
            if left == 0 {
                break;
            }
            let bytes = self.derive(b"salt", name, &block.to_be_bytes());
            salt.extend(bytes.iter().take(left));
        }
        let stored_key = self.derive(b"stored key", name, &[]);
        let server_key = self.derive(b"server key", name, &[]);
        Verifier::from_parts(shape.iterations, salt, (*stored_key, *server_key))
    }

    fn derive(&self, what: &[u8], name: &str, more: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.expose());
        let mut code = hmac::Context::with_key(&key);
        // The length of each part before it: no two lists of parts read alike.
        for part in [what, name.as_bytes(), more] {
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        Zeroizing::new(super::keys::tag_bytes(&code.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 2] = [
        Shape {
            iterations: NonZeroU32::MIN,
            salt_bytes: 16,
        },
        Shape {
            iterations: NonZeroU32::MAX,
            salt_bytes: 77,
        },
    ];

    fn decoys(byte: u8) -> Decoys {
        Decoys::new(Secret::new([byte; KEY_BYTES]))
    }

    fn text(decoys: &Decoys, name: &str, shapes: &[Shape]) -> String {
        let [fallback, _] = SHAPES;
        decoys.verifier(name, shapes, fallback).to_string()
    }

    #[test]
    fn a_name_has_the_same_decoy_wherever_the_key_is_the_same() {
        let of = |byte, name| text(&decoys(byte), name, &SHAPES);
        assert_eq!(of(1, "alice"), of(1, "alice"));
        assert_ne!(of(1, "alice"), of(1, "alicf"));
        assert_ne!(of(1, "alice"), of(2, "alice"));
    }

    #[test]
    fn a_decoy_has_a_shape_that_accounts_have() {
        let mut seen = [0; 2];
        for number in 0..100 {
            let name = format!("name-{number}");
            let [fallback, _] = SHAPES;
            let decoy = decoys(1).verifier(&name, &SHAPES, fallback);
            let has = |shape: &Shape| {
                shape.iterations == decoy.iterations() && shape.salt_bytes == decoy.salt().len()
            };
            for (count, _) in seen.iter_mut().zip(&SHAPES).filter(|(_, shape)| has(shape)) {
                *count += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
        assert_eq!(seen.iter().sum::<u32>(), 100);
    }

    #[test]
    fn a_decoy_keeps_its_shape_when_one_comes_that_it_does_not_take() {
        let more = Shape {
            iterations: NonZeroU32::MIN,
            salt_bytes: 20,
        };
        let all = [SHAPES.as_slice(), &[more]].concat();
        let [fallback, _] = SHAPES;
        let kept = (0..300).filter(|number| {
            let name = format!("name-{number}");
            let before = decoys(1).verifier(&name, &SHAPES, fallback);
            let after = decoys(1).verifier(&name, &all, fallback);
            after.salt().len() != 20 && after.to_string() != before.to_string()
        });
        assert_eq!(kept.count(), 0);
    }

    #[test]
    fn without_accounts_a_decoy_has_the_usual_shape() {
        let [fallback, _] = SHAPES;
        let decoy = decoys(1).verifier("alice", &[], fallback);
        assert_eq!(decoy.salt().len(), 16);
        assert!(!decoy.check(b"alice"));
    }
}
