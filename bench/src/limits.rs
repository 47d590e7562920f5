//! Every limit of the bench, with its unit and its reason.

use std::time::Duration;

/// What a client of our own reads at once, in bytes: as much as a large socket buffer holds.
pub const CLIENT_BUFFER_BYTES: usize = 64 * 1024;

/// The longest message whose content a client of our own looks at, in bytes; others are counted
/// and skipped, however long. Errors and the messages of a login are far shorter.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// How long one login may take. Every server gives up on its own before.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one answer may take where a scenario has no end of its own: a row of 40 MB on a busy
/// machine takes a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest latency that is told from longer ones, in microseconds.
pub const LATENCY_US_MAX: u64 = 60_000_000;

/// How long after the last arrival an open loop waits for what is still under way. What is not
/// served by then counts as served then.
pub const OPEN_LOOP_GRACE: Duration = Duration::from_secs(5);

/// The share of all arrivals of an open loop that may be served after the last one has arrived.
/// With more, a queue has grown and the rate was not held.
pub const OPEN_LOOP_LATE_SHARE_MAX: f64 = 0.01;

/// The longest message that the stub accepts, in bytes.
pub const STUB_MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Connections that wait in the kernel until the stub accepts them.
pub const STUB_BACKLOG: u32 = 4_096;

/// Between two looks at a condition. What is looked at costs a millisecond at most.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Memory that changes by less than this, in bytes, has come to rest: a few pages.
pub const SETTLED_BYTES: u64 = 16 * 1024;
/// How long it must not change. A proxy that gives memory back later is not waited for.
pub const SETTLED_FOR: Duration = Duration::from_millis(500);

/// Sessions that a route has before an idle one is measured: what the first ones cost once.
pub const IDLE_SESSIONS_BEFORE: u32 = 64;
/// Queries of each of them before, so that every buffer of a pool has been used.
pub const IDLE_QUERIES_BEFORE: u32 = 200;
/// Logins that are under way at once while sessions are collected.
pub const IDLE_LOGINS_AT_ONCE: u32 = 16;
/// File descriptors of a proxy that are not sockets of sessions.
pub const DESCRIPTORS_BESIDE_SESSIONS: u64 = 600;

/// How long one change of a person's groups may take to be done everywhere: twice what is promised
/// of a directory that is polled.
pub const REVOCATION_LIMIT: Duration = Duration::from_secs(70);
/// How long the directory may take to answer one change. Samba writes it to its disk.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the backends for as long as none has gone: the cores are for what is
/// measured.
pub const REVOCATION_PAUSE: Duration = Duration::from_millis(1);
/// Between two logins beside a change, for the same reason.
pub const REVOCATION_VISIT_PAUSE: Duration = Duration::from_millis(10);
/// Logins that are tried after everything has gone, at least. Postern takes a third of a second
/// to refuse one.
pub const REVOCATION_VISITS_AFTER: usize = 2;
/// Logins that are under way at once while the sessions are opened again.
pub const REVOCATION_LOGINS_AT_ONCE: usize = 8;

/// How long a stranger waits for an answer while the directory hangs: longer than Postern waits
/// for the directory.
pub const STRANGER_PATIENCE: Duration = Duration::from_secs(20);

/// The longest soak, in hours: two weeks of samples are a file of some megabytes.
pub const SOAK_HOURS_MAX: f64 = 336.0;
/// How long one fault of a soak lasts before what was taken away comes back: longer than Postern
/// waits for a directory or a database, so that every time limit is met.
pub const SOAK_FAULT: Duration = Duration::from_secs(12);
/// How long logins may take to work again after that, by which a fault is over.
pub const SOAK_RECOVERY: Duration = Duration::from_secs(30);
/// The shortest and the longest time from one fault of a soak to the next.
pub const SOAK_FAULT_EVERY_MIN: Duration = Duration::from_secs(30);
/// As above.
pub const SOAK_FAULT_EVERY_MAX: Duration = Duration::from_secs(300);
/// Between two samples of the process: a thousand a quarter hour, and no work for the machine.
pub const SOAK_SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How long access may outlast a lost group before that counts as a failure: with OpenLDAP it is
/// a second at most, on a machine that stalls several.
pub const SOAK_REVOCATION: Duration = Duration::from_secs(30);
/// How many failures are told with their words; the others are counted.
pub const SOAK_EXAMPLES_MAX: usize = 40;
