//! How fast logins come, and how long they wait, by an operator's word.

use std::time::Duration;

/// The time within which `limits.logins_per_address_and_minute_max` logins of an address may begin.
pub(crate) const LOGIN_RATE_WINDOW: Duration = Duration::from_secs(60);

/// Logins that wait at once while logins are paused; the next one is refused.
/// As many as may be under way by default, so that a pause refuses nobody whom the same moment
/// without it would have let in.
pub(crate) const PAUSED_LOGINS_MAX: usize = 1_000;

/// Those of them that may be of one address, of IPv6 of one subnet: a quarter, so that no address
/// keeps all others from waiting, and the pool of a large application finds room.
pub(crate) const PAUSED_LOGINS_PER_ADDRESS_MAX: usize = PAUSED_LOGINS_MAX / 4;

/// How long a login waits while logins are paused; then it is refused, before the time limits that
/// clients have themselves.
pub(crate) const PAUSE_WAIT: Duration = Duration::from_secs(30);

/// People, and addresses, whose wrong passwords or logins are counted at once; whoever is not among
/// them when there are more is refused.
pub(crate) const BUDGETS_MAX: usize = 100_000;

/// How often those whose time is over are looked for among as many. A stranger is refused for so
/// much longer, and nobody waits for the look more often.
pub(crate) const BUDGETS_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
