//! Memory that is wiped.

use zeroize::{Zeroize, Zeroizing};

/// A value that must not be printed, logged or left in memory.
///
/// It has no `Debug` and no `Display`; the only way to it is [`Secret::expose`], which a reviewer
/// can search for.
/// The memory is overwritten with zeros when the value is dropped.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "a secret must not be printable by accident"
)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a value that is to be wiped.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}
