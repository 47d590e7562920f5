//! How PostgreSQL prepares a password.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// The bytes that PostgreSQL would use for this password; they are wiped on drop.
///
/// That is the SASLprep form (RFC 4013) where there is one.
/// A password that is not UTF-8, has a prohibited or unassigned character, breaks the rule for
/// bidirectional text, or has nothing left after preparation is used as it is
/// (`scram_SaltedPassword` and `pg_saslprep` in PostgreSQL's `src/common`).
///
/// PostgreSQL looks for such characters between mapping and normalization, where RFC 3454 looks
/// after normalization.
/// The two disagree, for example, about a password of Arabic presentation forms, and a verifier
/// must be the one that PostgreSQL and libpq would make.
pub(super) fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    match std::str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => prepare_text(text),
        _ => None,
    }
    .unwrap_or_else(|| Zeroizing::new(password.to_vec()))
}

/// The SASLprep form, where there is one.
fn prepare_text(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mapped = text
        .chars()
        .map(|c| {
            if tables::non_ascii_space_character(c) {
                ' '
            } else {
                c
            }
        })
        .filter(|c| !tables::commonly_mapped_to_nothing(*c));
    let mut checked = mapped.clone();
    let first = checked.next()?;
    let last = checked.next_back().unwrap_or(first);
    if mapped.clone().any(is_forbidden) {
        return None;
    }
    // RFC 3454, section 6.
    let is_bidi_wrong = mapped.clone().any(tables::bidi_l)
        || !tables::bidi_r_or_al(first)
        || !tables::bidi_r_or_al(last);
    if mapped.clone().any(tables::bidi_r_or_al) && is_bidi_wrong {
        return None;
    }
    // Normalization lengthens UTF-8 by a factor of 11 at most (Unicode Standard Annex 15), so the
    // vector never moves and no copy is left behind.
    let mut prepared = Zeroizing::new(Vec::with_capacity(NFKC_EXPANSION_MAX * text.len()));
    for c in mapped.nfkc() {
        prepared.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(prepared)
}

/// How many times longer NFKC makes text in UTF-8, at most.
const NFKC_EXPANSION_MAX: usize = 11;

/// RFC 4013, sections 2.3 and 2.5.
fn is_forbidden(c: char) -> bool {
    tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::surrogate_code(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
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
            // Right-to-left text without a letter of the other direction, and a form that is
            // right-to-left only before normalization.
            ("\u{5d0}1\u{5d1}", "\u{5d0}1\u{5d1}"),
            ("\u{fe77}", "\u{640}\u{64e}"),
        ] {
            assert_eq!(
                prepare(password.as_bytes()).as_slice(),
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
            "1\u{627}".as_bytes(),
            "\u{627}a\u{627}".as_bytes(),
            "a\u{fe70}".as_bytes(),
            // Private use, unassigned in Unicode 3.2, deprecated but normalized to something else.
            "\u{e000}".as_bytes(),
            "pass\u{1f600}word\u{aa}".as_bytes(),
            "a\u{340}".as_bytes(),
            // A letter that normalization changes, beside one character of each table that has
            // any, and beside each thing that makes bidirectional text wrong.
            "\u{aa}\u{7}".as_bytes(),
            "\u{aa}\u{85}".as_bytes(),
            "\u{aa}\u{e000}".as_bytes(),
            "\u{aa}\u{fdd0}".as_bytes(),
            "\u{aa}\u{fffd}".as_bytes(),
            "\u{aa}\u{2ff0}".as_bytes(),
            "\u{aa}\u{200e}".as_bytes(),
            "\u{aa}\u{e0001}".as_bytes(),
            "\u{fe8d}1".as_bytes(),
            "1\u{fe8d}".as_bytes(),
            "\u{fe8d}a\u{fe8d}".as_bytes(),
            // Nothing would be left.
            "\u{ad}".as_bytes(),
        ] {
            assert_eq!(
                prepare(password).as_slice(),
                password,
                "{:?}",
                password.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn the_longest_expansion_leaves_no_copy_behind() {
        // U+FDFA becomes eighteen characters, of 33 bytes.
        let prepared = prepare("\u{fdfa}".as_bytes());
        assert_eq!((prepared.len(), prepared.capacity()), (33, 33));
    }

    proptest! {
        #[test]
        fn no_password_makes_it_panic_or_vanish(password in ".{1,40}") {
            prop_assert!(!prepare(password.as_bytes()).is_empty());
        }
    }
}
