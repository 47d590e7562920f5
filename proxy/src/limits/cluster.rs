//! Limits of what proxies of a cluster ask each other.

use std::time::Duration;

/// How long another proxy of the cluster may take to act on a cancel request: the time of a cancel
/// request, and as much again for a machine that is busy.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long reaching another proxy may take, the handshake included; and how long a connection of
/// one may say nothing. They are near each other.
pub(crate) const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// For how long another proxy is not asked after it could not be reached. Its sessions are most
/// likely gone with it.
pub(crate) const PEER_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Cancel requests that are on their way to other proxies at once. Whoever has no key can make
/// them, and each costs every peer a handshake.
pub(crate) const PEER_ASKS_MAX: usize = 16;

/// How long a cancel request waits for one of those places; then it is dropped.
pub(crate) const PEER_ASK_WAIT: Duration = Duration::from_secs(1);

/// Connections of other proxies of the cluster that are served at the same time.
pub(crate) const PEER_CALLS_MAX: usize = 64;

/// Those of them from one address: what one proxy asks at once.
pub(crate) const PEER_CALLS_PER_ADDRESS_MAX: usize = PEER_ASKS_MAX;

/// How many other proxies a proxy may name: each is asked for every key that is not known here.
pub(crate) const PEERS_MAX: usize = 32;
