//! How PostgreSQL prepares a password.

use std::borrow::Cow;

use stringprep::tables;

/// The bytes that PostgreSQL would use for this password.
///
/// That is the SASLprep form (RFC 4013) where there is one.
/// A password that is not UTF-8, has a prohibited or unassigned character, breaks the rule for
/// bidirectional text, or has nothing left after preparation is used as it is
/// (`scram_SaltedPassword` and `pg_saslprep` in PostgreSQL's `src/common`).
/// PostgreSQL looks for such characters before normalization, where RFC 3454 looks after it, and
/// here both must pass.
pub(super) fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(password) else {
        return Cow::Borrowed(password);
    };
    if text.is_ascii() || has_forbidden(text) {
        return Cow::Borrowed(password);
    }
    match stringprep::saslprep(text) {
        Ok(Cow::Owned(prepared)) if !prepared.is_empty() => Cow::Owned(prepared.into_bytes()),
        // Unchanged, empty, or forbidden after normalization.
        _ => Cow::Borrowed(password),
    }
}

/// True when a character of the password forbids preparation as such, before normalization.
fn has_forbidden(text: &str) -> bool {
    text.chars()
        .filter(|&c| {
            !tables::commonly_mapped_to_nothing(c) && !tables::non_ascii_space_character(c)
        })
        .any(|c| {
            tables::change_display_properties_or_deprecated(c) || tables::unassigned_code_point(c)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_is_prepared_as_postgresql_does() {
        for (password, prepared) in [
            ("pencil", "pencil"),
            ("two words", "two words"),
            // RFC 4013, section 3.
            ("I\u{ad}X", "IX"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            // Every kind of space is a space.
            ("a\u{a0}b\u{3000}c", "a b c"),
            // Composed and decomposed are the same.
            ("e\u{301}", "\u{e9}"),
        ] {
            assert_eq!(
                prepare(password.as_bytes()),
                prepared.as_bytes(),
                "{password:?}"
            );
        }
    }

    #[test]
    fn a_password_that_cannot_be_prepared_is_used_as_it_is() {
        for password in [
            // ASCII is never touched, control characters included.
            &b""[..],
            b"a\x07b",
            // Not UTF-8.
            b"caf\xe9",
            // RFC 4013, section 3: prohibited, and bidirectional.
            "\u{e9}\u{7}".as_bytes(),
            "\u{627}1".as_bytes(),
            // Private use, unassigned in Unicode 3.2, deprecated but normalized to something else.
            "\u{e000}".as_bytes(),
            "pass\u{1f600}word\u{aa}".as_bytes(),
            "a\u{340}".as_bytes(),
            // Nothing would be left.
            "\u{ad}".as_bytes(),
        ] {
            assert_eq!(
                prepare(password),
                password,
                "{:?}",
                password.escape_ascii().to_string()
            );
        }
    }

    proptest! {
        #[test]
        fn no_password_makes_it_panic_or_vanish(password in ".{1,40}") {
            prop_assert!(!prepare(password.as_bytes()).is_empty());
        }
    }
}
