//! Random numbers of the program: the system's, and nothing else.

use postern_core::scram;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Random bytes.
///
/// # Panics
///
/// When the kernel has no random numbers to give. getrandom(2) does not fail once the system has
/// booted; going on with predictable numbers would be worse than ending the login.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    assert!(filled.is_ok(), "the kernel has no random numbers");
    bytes
}

/// A nonce for one SCRAM exchange.
pub(crate) fn nonce() -> String {
    scram::nonce(&bytes())
}

/// A random identifier in the text form of RFC 9562, version 4.
pub(crate) fn uuid() -> String {
    // The version is the highest half of byte 6, the variant the two highest bits of byte 8.
    let random = u128::from_be_bytes(bytes());
    let number = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let part = |shift: u32, digits: u32| number >> shift & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_the_form_of_version_4() {
        let text = uuid();
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(text.chars().nth(14), Some('4'));
        assert!(text.chars().nth(19).is_some_and(|c| "89ab".contains(c)));
        assert_ne!(text, uuid());
    }
}
