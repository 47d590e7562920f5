//! The limits of the admin console.

use std::time::Duration;

/// Sessions of the admin console at once: a few people and what collects figures.
pub(crate) const CONSOLE_SESSIONS_MAX: usize = 16;

/// How long a session of the admin console may be silent. Whoever left a terminal open has left
/// the rights of it open too.
pub(crate) const CONSOLE_IDLE_TIMEOUT: Duration = Duration::from_secs(900);

/// How long a client of the admin console may take to read an answer; sockets buffer far more than
/// most answers have.
pub(crate) const CONSOLE_SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements, and portals, that a session of the admin console may have at once.
/// Drivers that keep statements for later keep some dozens.
pub(crate) const CONSOLE_STATEMENTS_MAX: usize = 256;

/// The longest answer that is gathered before it is sent, in bytes.
pub(crate) const CONSOLE_SEND_BYTES: usize = 65_536;
