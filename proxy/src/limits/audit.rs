//! The audit file: how long is waited for it, and how much room it needs.

use std::time::Duration;

/// How long the last records may take to be written and made to last when the process stops.
/// A disk under load answers within seconds; one that hangs must not keep the process from ending.
pub(crate) const AUDIT_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a login waits for its record to be written.
/// A write takes well under a millisecond; a disk that hangs refuses logins, and holds none.
pub(crate) const AUDIT_WAIT: Duration = Duration::from_secs(3);

/// What is free on the audit file's file system is a tenth of it when health begins to warn, but
/// never less than this, in bytes: room for some 45,000 more logins.
pub(crate) const AUDIT_FREE_BYTES_MIN: u64 = 67_108_864;

/// And never more than this, in bytes: a tenth of a large disk is no reason to call anybody.
pub(crate) const AUDIT_FREE_BYTES_AMPLE: u64 = 1_073_741_824;
