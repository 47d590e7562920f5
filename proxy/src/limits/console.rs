//! The limits of the admin console, and of what operators ask and order.

use std::time::Duration;

/// Sessions of the admin console at once: a few people and what collects figures.
pub(crate) const CONSOLE_SESSIONS_MAX: usize = 16;

/// Those of them that one account may have, so that none keeps the others out.
pub(crate) const CONSOLE_SESSIONS_PER_ACCOUNT_MAX: usize = 4;

/// How long a session of the admin console may be silent. Whoever left a terminal open has left
/// the rights of it open too.
pub(crate) const CONSOLE_IDLE_TIMEOUT: Duration = Duration::from_secs(900);

/// How long a client of the admin console may take for each [`CONSOLE_SEND_BYTES`] of an answer;
/// sockets buffer far more than most answers have.
pub(crate) const CONSOLE_SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a session of the admin console goes on with what it was asked when the process stops:
/// less than the stop waits, so that its end is on record even where the client does not read.
pub(crate) const CONSOLE_STOP_WAIT: Duration = Duration::from_secs(3);

/// Prepared statements, and portals, that a session of the admin console may have at once.
/// Drivers that keep statements for later keep some dozens.
pub(crate) const CONSOLE_STATEMENTS_MAX: usize = 256;

/// Portals of a session of the admin console that may have rows left, each of which holds a whole
/// table. Drivers read one to its end before they begin another.
pub(crate) const CONSOLE_OPEN_ANSWERS_MAX: usize = 4;

/// The longest answer that is gathered before it is sent, in bytes; one of a table is whole.
pub(crate) const CONSOLE_SEND_BYTES: usize = 65_536;

/// How long whoever asks for the sessions waits for what has flowed through them.
pub(crate) const TRAFFIC_WAIT: Duration = Duration::from_millis(200);

/// How long an operator's command may take; a comparison of thousands of people is the longest.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(600);
