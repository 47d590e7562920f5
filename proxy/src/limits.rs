//! Every limit of this crate, with its unit and its reason.
//!
//! What an operator may change is in `config`, with its range beside the key.

/// The longest configuration file, in bytes.
/// A file with a thousand rules is a tenth of it; a device or a log given by mistake is not read
/// to its end.
pub const CONFIG_BYTES_MAX: usize = 1_048_576;

/// The longest value of the configuration that is repeated in an error, in bytes.
/// The reader only needs to recognise it.
pub const CONFIG_SHOWN_BYTES_MAX: usize = 80;

/// The longest secret in a file, in bytes, its line end included.
/// Passwords and keys are far shorter; PostgreSQL itself stops at 1,024.
pub const SECRET_FILE_BYTES_MAX: usize = 4_096;

/// The longest PEM file, in bytes.
/// The certificate authorities of a system are about 220 KB.
pub const PEM_BYTES_MAX: usize = 4_194_304;

/// The most TLS sessions of clients that are remembered for resumption.
/// An entry is about 1 KiB, and a client that is not remembered only makes a full handshake.
pub const TLS_SESSIONS_MAX: usize = 4_096;

/// How long before its end a certificate is warned about, in seconds: 30 days.
/// Certificates of an automatic authority are renewed at this age.
pub const CERTIFICATE_WARNING_S: u64 = 2_592_000;
