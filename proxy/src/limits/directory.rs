//! How much a directory may say.

/// The longest message of a directory, in bytes, and the most elements in it.
/// A group of 100,000 members is about 10 MB.
pub(crate) const LDAP_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// See [`LDAP_MESSAGE_BYTES_MAX`].
pub(crate) const LDAP_ELEMENTS_MAX: usize = 500_000;

/// The most levels of elements in a message of a directory: an entry has five, and a control less.
pub(crate) const LDAP_DEPTH_MAX: usize = 16;

/// All that a directory may answer to one question, the pages of a search together, in bytes.
/// A first refresh of the feed with 100,000 people is about 15 MB.
pub(crate) const LDAP_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most elements in all that a directory may answer to one question.
/// A first refresh of the feed with 100,000 people has up to 1,400,000. One that is kept takes some
/// 50 bytes of memory beside its content: about 100 MiB for all.
pub(crate) const LDAP_ANSWER_ELEMENTS_MAX: usize = 2_000_000;
