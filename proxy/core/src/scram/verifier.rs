//! What PostgreSQL stores in place of a password.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use ring::hmac;

use super::keys::sha256;
use super::{BASE64, KEY_BYTES, Keys, Shape};
use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_VERIFIER_BYTES_MAX};

const MECHANISM: &str = "SCRAM-SHA-256";

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.
///
/// This is the text in `pg_authid.rolpassword`, and what `ALTER ROLE ... PASSWORD` takes instead
/// of a password.
/// It does not log anybody in, but it lets a weak password be guessed, so its `Debug` shows no
/// more than the iterations.
///
/// Source: <https://www.postgresql.org/docs/current/catalog-pg-authid.html>.
#[derive(Clone)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl Verifier {
    /// Makes the verifier of a password, by one run of PBKDF2.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        Self::from_keys(&Keys::derive(password, salt, iterations), salt, iterations)
    }

    /// Makes the verifier of a password whose keys for this salt and these iterations are known.
    pub fn from_keys(keys: &Keys, salt: &[u8], iterations: NonZeroU32) -> Self {
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: keys.stored_key(),
            server_key: *keys.server_key(),
        }
    }

    /// A verifier of these parts: StoredKey and ServerKey, in this order.
    pub(super) fn from_parts(
        iterations: NonZeroU32,
        salt: Vec<u8>,
        (stored_key, server_key): ([u8; KEY_BYTES], [u8; KEY_BYTES]),
    ) -> Self {
        Self {
            iterations,
            salt,
            stored_key,
            server_key,
        }
    }

    /// What a client's proof is checked with.
    pub(super) fn stored_key(&self) -> &[u8; KEY_BYTES] {
        &self.stored_key
    }

    /// What the server proves itself with.
    pub(super) fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server_key
    }

    /// True when this is the password's verifier.
    ///
    /// It runs PBKDF2, and the time that it takes tells nothing about the stored keys.
    pub fn check(&self, password: &[u8]) -> bool {
        let keys = Keys::derive(password, &self.salt, self.iterations);
        // `&` and not `&&`: both are always compared.
        same(&keys.stored_key(), &self.stored_key) & same(keys.server_key(), &self.server_key)
    }

    /// What the password is salted with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// How often PBKDF2 iterates.
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// What of it is told to whoever asks to log in, apart from the salt itself.
    pub fn shape(&self) -> Shape {
        Shape {
            iterations: self.iterations,
            salt_bytes: self.salt.len(),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            iterations,
            salt,
            stored_key,
            server_key,
        } = self;
        let [salt, stored_key, server_key] =
            [salt.as_slice(), stored_key, server_key].map(|bytes| BASE64.encode(bytes));
        write!(
            f,
            "{MECHANISM}${iterations}:{salt}${stored_key}:{server_key}"
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// One variant of [`VerifierError`] for each rule that the text breaks.
    fn from_str(text: &str) -> Result<Self, VerifierError> {
        if text.len() > SCRAM_VERIFIER_BYTES_MAX {
            return Err(VerifierError::TooLong);
        }
        let rest = text
            .strip_prefix(MECHANISM)
            .and_then(|rest| rest.strip_prefix('$'));
        let rest = rest.ok_or(VerifierError::Mechanism)?;
        let (cost, keys) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = cost.split_once(':').ok_or(VerifierError::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let salt = BASE64.decode(salt).map_err(|_| VerifierError::Salt)?;
        if salt.is_empty() {
            return Err(VerifierError::Salt);
        }
        let key = |text: &str| {
            let bytes = BASE64.decode(text).map_err(|_| VerifierError::Key)?;
            bytes.try_into().map_err(|_| VerifierError::Key)
        };
        Ok(Self {
            iterations: parse_iterations(iterations).ok_or(VerifierError::Iterations)?,
            salt,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

/// Which rule the text of a verifier breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It is longer than any verifier.
    #[error("the verifier is too long")]
    TooLong,
    /// It does not start with `SCRAM-SHA-256$`.
    #[error("the verifier is not a SCRAM-SHA-256 verifier")]
    Mechanism,
    /// A separator is missing.
    #[error("the verifier has not the form SCRAM-SHA-256$iterations:salt$key:key")]
    Form,
    /// The iterations are not a number from 1 to [`SCRAM_ITERATIONS_MAX`].
    #[error("the verifier's iterations are not a number from 1 to {SCRAM_ITERATIONS_MAX}")]
    Iterations,
    /// The salt is empty or not base64.
    #[error("the verifier's salt is not base64")]
    Salt,
    /// A key is not 32 bytes in base64.
    #[error("a key of the verifier is not 32 bytes in base64")]
    Key,
}

/// A number from 1 to [`SCRAM_ITERATIONS_MAX`], in digits only and without leading zeros.
pub(super) fn parse_iterations(text: &str) -> Option<NonZeroU32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return None;
    }
    text.parse()
        .ok()
        .filter(|number: &NonZeroU32| number.get() <= SCRAM_ITERATIONS_MAX)
}

/// Compares in a time that depends on the lengths only: two authentication codes under a key are
/// equal when the texts are, and [`hmac::verify`] compares them in constant time.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &sha256(a));
    hmac::verify(&key, b, hmac::sign(&key, a).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use proptest::prelude::*;

    use super::*;

    /// Made from the password `pencil` by an independent program (Python's `hashlib`).
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
        $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\
        :wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_verifier_is_what_postgresql_would_store() {
        let read: Verifier = PENCIL.parse().unwrap();
        assert_eq!(read.to_string(), PENCIL);
        let made = Verifier::from_password(b"pencil", read.salt(), read.iterations());
        assert_eq!(made.to_string(), PENCIL);
    }

    /// Recorded from PostgreSQL 15: `ALTER ROLE ... PASSWORD`, then `pg_authid.rolpassword`.
    #[test]
    fn a_verifier_that_postgresql_made_checks() {
        for (password, stored) in [
            (
                "\u{fe77}",
                "SCRAM-SHA-256$4096:2tyTjp1dldypCzGj8eHPeg==\
                 $sfsgcLwl4B1lQVEqxxPNEBiRfg9h0BsTvBuTtDYwL5I=\
                 :Gjs5pOWnTfVDgtpfxvfi80bBtBTbuXY3N4D7OpjpFsM=",
            ),
            (
                "a\u{fe70}",
                "SCRAM-SHA-256$4096:7YKljcAwZ1Vp4CFoY+e7Yw==\
                 $NeMnMSYApvn+j/oOyLcgiJ/EEaajZK2HKXBFypxsL9M=\
                 :XyPPdCY6Ppmxwv8BRF/hZbQKADkzi4yNzcLYAAUqmt8=",
            ),
            (
                "a\u{340}",
                "SCRAM-SHA-256$4096:X1urRzpKx33geMmqLw19Ag==\
                 $uvFnEgv4/fsscJgy/7TIWW/HM55sFAzZrl2VZ/Ab+4c=\
                 :7lyLCW5eU3VLIS2l5uxHgZMwiNEA9A+EN5kwIShzYqs=",
            ),
            (
                "a\u{a0}",
                "SCRAM-SHA-256$4096:oehd3SCuajwH24c4QkWVCQ==\
                 $D0HTXM5S8rFt5wwfSd/4AF1GQjeElorJz7vvxMvFmhA=\
                 :a4blc6Cifo+8kE8Hf3QahBoJu0h1Ormv0V3XA4RkTjE=",
            ),
            (
                "a\u{aa}",
                "SCRAM-SHA-256$4096:FxAG6IrnUuYSdZZFPLC7LA==\
                 $EbG55eXhz+KspSawoxIUMeurVBcwyZtL5OYt1vHTDxE=\
                 :LMRxPWmyq4auzwjSBGTlo/u92pBy7FjOftLgVnGu/Lk=",
            ),
            (
                "\u{ad}",
                "SCRAM-SHA-256$4096:BQ1C10Hwv/av4u7vhFOq0g==\
                 $opbWlS4gKr3ePF5X7DDtPizIEQrNwhjxfTO1RWNQA7E=\
                 :hQBoz9TqVwupUv5cF1lk9dPkPWaJEKYDtWfhdbmY4qA=",
            ),
            (
                "a\u{bd}",
                "SCRAM-SHA-256$4096:hTIWp4Bh5LpeavyhIGdFqw==\
                 $5oUf7qDx7u/g/NfUSuOB3vRCfecWXYZgk15hAe7VwoA=\
                 :UlMGAKiWwJsPTLM5+82FLqCZuCo3lgCE5uM/RbJUGPo=",
            ),
        ] {
            let verifier: Verifier = stored.parse().unwrap();
            assert!(verifier.check(password.as_bytes()), "{password:?}");
        }
    }

    #[test]
    fn only_the_password_checks() {
        let verifier: Verifier = PENCIL.parse().unwrap();
        assert!(verifier.check(b"pencil"));
        for wrong in [&b""[..], b"pencil ", b"Pencil", b"penci", PENCIL.as_bytes()] {
            assert!(!verifier.check(wrong));
        }
    }

    #[test]
    fn both_keys_must_match() {
        let verifier: Verifier = PENCIL.parse().unwrap();
        for bit in 0..KEY_BYTES * 8 {
            if bit % 16 == 0 {
                let mut stored = verifier.clone();
                stored.stored_key[bit / 8] ^= 1;
                let mut server = verifier.clone();
                server.server_key[bit / 8] ^= 1;
                assert!(!stored.check(b"pencil") && !server.check(b"pencil"));
            }
        }
    }

    #[test]
    fn a_password_is_checked_in_its_prepared_form() {
        let iterations = NonZeroU32::MIN;
        let verifier = Verifier::from_password("e\u{301}".as_bytes(), b"salt", iterations);
        assert!(verifier.check("\u{e9}".as_bytes()));
    }

    #[test]
    fn a_broken_verifier_is_named_by_its_broken_rule() {
        let with = |from: &str, to: &str| PENCIL.replacen(from, to, 1).parse::<Verifier>();
        for (from, to, error) in [
            ("SCRAM-SHA-256$", "", VerifierError::Mechanism),
            ("SCRAM-SHA-256$", "md5", VerifierError::Mechanism),
            ("SCRAM-SHA-256$", "SCRAM-SHA-256", VerifierError::Mechanism),
            ("gQ==$", "gQ==", VerifierError::Form),
            ("4096:", "4096", VerifierError::Form),
            ("qY=:", "qY=", VerifierError::Form),
            ("4096", "0", VerifierError::Iterations),
            ("4096", "", VerifierError::Iterations),
            ("4096", "+4096", VerifierError::Iterations),
            ("4096", "-1", VerifierError::Iterations),
            ("4096", "04096", VerifierError::Iterations),
            ("4096", "1000001", VerifierError::Iterations),
            ("4096", "4294967297", VerifierError::Iterations),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "", VerifierError::Salt),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "W22Z!", VerifierError::Salt),
            ("WG5d", "", VerifierError::Key),
            ("wfPL", "wfPLwfPL", VerifierError::Key),
            ("wfPL", "wf L", VerifierError::Key),
            ("W22Z", &"A".repeat(512), VerifierError::TooLong),
        ] {
            assert_eq!(with(from, to).unwrap_err(), error, "{from} -> {to}");
        }
        assert!(with("4096", "1000000").is_ok());
    }

    #[test]
    fn the_longest_verifier_is_read() {
        let iterations = NonZeroU32::new(100).unwrap();
        let text = Verifier::from_password(b"pencil", &[7; 303], iterations).to_string();
        assert_eq!(text.len(), SCRAM_VERIFIER_BYTES_MAX);
        assert!(text.parse::<Verifier>().unwrap().check(b"pencil"));
    }

    #[test]
    fn a_verifier_is_not_printed_by_debug() {
        let verifier: Verifier = PENCIL.parse().unwrap();
        assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", tail in ".{0,40}") {
            let _ = text.parse::<Verifier>();
            let _ = format!("{PENCIL}{tail}").parse::<Verifier>();
            let _ = format!("SCRAM-SHA-256$1:{tail}${tail}:{tail}").parse::<Verifier>();
        }

        #[test]
        fn what_was_printed_reads_back_and_checks(
            password in proptest::collection::vec(any::<u8>(), 1..40),
            salt in proptest::collection::vec(any::<u8>(), 1..40),
            iterations in 1..5_u32,
        ) {
            let iterations = NonZeroU32::new(iterations).unwrap();
            let text = Verifier::from_password(&password, &salt, iterations).to_string();
            let read: Verifier = text.parse().unwrap();
            prop_assert_eq!(read.to_string(), text);
            prop_assert!(read.check(&password));
            prop_assert!(!read.check(&[&password[..], b"x"].concat()));
        }
    }
}
