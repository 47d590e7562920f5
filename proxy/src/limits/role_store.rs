//! The connections to the role store: how many, and how long.

use std::time::Duration;

/// The most connections of one login thread to the role store.
/// A sync takes a few milliseconds and a warm login makes none, so that few are enough; the
/// database's own `max_connections` is for people.
pub(crate) const ROLE_STORE_CONNECTIONS_MAX: usize = 4;

/// The most tries of one call to the role store.
/// With the waits below, the last one comes about a second after the first, well within the
/// time that a login may take.
pub(crate) const ROLE_STORE_TRIES_MAX: u32 = 8;

/// The span in which the first retry waits, in milliseconds; it doubles each time.
pub(crate) const ROLE_STORE_RETRY_BASE_MS: u64 = 4;

/// How much longer than the server's own `statement_timeout` a call is waited for, in
/// milliseconds, so that normally the server is the one to give up and says so.
pub(crate) const ROLE_STORE_GRACE_MS: u64 = 500;

/// How long `revoke_login` waits for backends to go before it answers, in milliseconds.
/// An idle backend goes within a millisecond; the caller asks again while any is left.
pub(crate) const REVOKE_WAIT_MS: i32 = 250;

/// The most managed roles that one call returns; the caller asks for the next ones.
/// A page takes the database some ten milliseconds, well below `statement_timeout_ms`.
pub(crate) const MANAGED_LOGINS_PAGE: i32 = 500;

/// The most notifications of the role store that wait to be read, each of 8,000 bytes at most.
/// Everybody in the database can send them. What does not fit counts as missed, which is safe.
pub(crate) const STORE_NOTICES_WAITING_MAX: usize = 256;

/// How long the connection that listens may be silent before a query proves that it is alive.
pub(crate) const STORE_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// The first and the longest pause before a lost connection that listens is made again.
/// It doubles from one to the other, and is spread, so that proxies do not come back all at once.
pub(crate) const STORE_RETRY_BASE: Duration = Duration::from_millis(250);
/// See [`STORE_RETRY_BASE`].
pub(crate) const STORE_RETRY_MAX: Duration = Duration::from_secs(5);
