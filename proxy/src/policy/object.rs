//! The programs, as they were built together with this one.

/// The object file.
pub(super) fn object() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/postern-programs"))
}

/// Its digest (SHA-256), in hexadecimal: tells an upgrade from a replacement.
pub(super) fn digest() -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, object());
    super::hexadecimal(digest.as_ref())
}
