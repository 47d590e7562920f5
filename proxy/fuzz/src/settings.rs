//! Values of a configuration that have a form of their own: prefixes of addresses and verifiers.

use postern_core::limits::{SCRAM_ITERATIONS_MAX, SCRAM_VERIFIER_BYTES_MAX};
use postern_core::mapping::RoleName;
use postern_core::perimeter::Prefix;
use postern_core::scram::Verifier;

/// The text of a value.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(prefix) = Prefix::parse(&text) {
        assert_eq!(Prefix::parse(&prefix.to_string()), Ok(prefix));
        assert!(prefix.contains(prefix));
        assert!(prefix.contains(Prefix::covering(prefix.address(), 128)));
        let whole =
            prefix.bits() == 0 || prefix == Prefix::covering(prefix.address(), prefix.bits());
        assert!(whole);
    }
    if let Ok(verifier) = text.parse::<Verifier>() {
        assert!(text.len() <= SCRAM_VERIFIER_BYTES_MAX);
        assert!(!verifier.salt().is_empty());
        assert!(verifier.iterations().get() <= SCRAM_ITERATIONS_MAX);
        // There is one text of each.
        assert_eq!(verifier.to_string(), text);
        assert!(!format!("{verifier:?}").contains('$'));
    }
    if let Ok(role) = RoleName::new(&text) {
        assert_eq!(role.as_str(), text);
    }
}
