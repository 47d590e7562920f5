//! How many of the sessions are for one role, one address and one database.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use postern_core::mapping::RoleName;

use crate::arrivals::counted_as;
use crate::config::SharesMax;

/// What one session has a share of.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    role: RoleName,
    /// An address of IPv6 stands for its subnet.
    address: IpAddr,
    database: String,
}

/// What there are too many sessions for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShareFull {
    /// `limits.sessions_per_role_max`.
    Role(RoleName),
    /// `limits.sessions_per_address_max`.
    Address,
    /// `limits.sessions_per_database_max`.
    Database(String),
}

/// The shares of all sessions.
#[derive(Debug, Default)]
pub(super) struct Shares {
    roles: Counts<RoleName>,
    addresses: Counts<IpAddr>,
    databases: Counts<String>,
}

/// Whoever has most of something, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Most {
    /// Who.
    pub(crate) who: String,
    /// How many.
    pub(crate) count: usize,
}

impl Most {
    /// Of all these; of several that have as many, the first in their order.
    pub(crate) fn of<'a, K: Ord + ToString + 'a>(
        counts: impl Iterator<Item = (&'a K, usize)>,
    ) -> Option<Self> {
        let most = counts.max_by(|one, other| {
            let by_count = one.1.cmp(&other.1);
            by_count.then_with(|| other.0.cmp(one.0))
        });
        most.filter(|(_, count)| *count > 0)
            .map(|(who, count)| Self {
                who: who.to_string(),
                count,
            })
    }
}

impl Share {
    /// The share of a session.
    pub(crate) fn new(role: &RoleName, client: IpAddr, database: &str) -> Self {
        Self {
            role: role.clone(),
            address: counted_as(client),
            database: database.to_owned(),
        }
    }
}

impl Shares {
    /// Counts a session, unless there are too many like it.
    pub(super) fn take(&mut self, share: &Share, max: &SharesMax) -> Result<(), ShareFull> {
        if self.roles.is_full(&share.role, max.role) {
            return Err(ShareFull::Role(share.role.clone()));
        }
        if self.addresses.is_full(&share.address, max.address) {
            return Err(ShareFull::Address);
        }
        if self.databases.is_full(&share.database, max.database) {
            return Err(ShareFull::Database(share.database.clone()));
        }
        self.roles.add(&share.role);
        self.addresses.add(&share.address);
        self.databases.add(&share.database);
        Ok(())
    }

    /// A session has ended that was counted.
    pub(super) fn give_back(&mut self, share: &Share) {
        self.roles.remove(&share.role);
        self.addresses.remove(&share.address);
        self.databases.remove(&share.database);
    }

    /// Whoever has most sessions: of roles, addresses and databases.
    pub(super) fn most(&self) -> [Option<Most>; 3] {
        [
            self.roles.most(),
            self.addresses.most(),
            self.databases.most(),
        ]
    }
}

/// Only what has a session is in it, so that it is never larger than there are sessions.
#[derive(Debug)]
struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone + Ord + ToString> Counts<K> {
    fn is_full(&self, key: &K, max: Option<usize>) -> bool {
        let count = self.0.get(key).copied().unwrap_or_default();
        max.is_some_and(|max| count >= max)
    }

    fn add(&mut self, key: &K) {
        *self.0.entry(key.clone()).or_default() += 1;
    }

    fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    fn most(&self) -> Option<Most> {
        Most::of(self.0.iter().map(|(who, count)| (who, *count)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use super::*;

    fn share(role: &str, client: &str, database: &str) -> Share {
        let role = RoleName::new(role).unwrap();
        Share::new(&role, client.parse().unwrap(), database)
    }

    const MAX: SharesMax = SharesMax {
        role: Some(1),
        address: Some(2),
        database: Some(3),
    };

    #[test]
    fn each_limit_counts_by_itself_and_is_told_by_its_name() {
        let mut shares = Shares::default();
        let alice = share("alice", "192.0.2.1", "hr");
        assert_eq!(shares.take(&alice, &MAX), Ok(()));
        let role = RoleName::new("alice").unwrap();
        let again = share("alice", "192.0.2.9", "books");
        assert_eq!(shares.take(&again, &MAX), Err(ShareFull::Role(role)));
        let second = share("bob", "192.0.2.1", "hr");
        assert_eq!(shares.take(&second, &MAX), Ok(()));
        let third = share("carol", "192.0.2.1", "hr");
        assert_eq!(shares.take(&third, &MAX), Err(ShareFull::Address));
        let elsewhere = share("carol", "192.0.2.2", "hr");
        assert_eq!(shares.take(&elsewhere, &MAX), Ok(()));
        let fourth = share("dave", "192.0.2.3", "hr");
        let full = ShareFull::Database("hr".to_owned());
        assert_eq!(shares.take(&fourth, &MAX), Err(full));
        shares.give_back(&alice);
        assert_eq!(shares.take(&again, &MAX), Ok(()));
        assert_eq!(shares.take(&fourth, &MAX), Ok(()));
    }

    #[test]
    fn what_is_refused_is_not_counted_and_nothing_is_left_behind() {
        let mut shares = Shares::default();
        let alice = share("alice", "192.0.2.1", "hr");
        shares.take(&alice, &MAX).unwrap();
        for _ in 0..9 {
            assert!(shares.take(&alice, &MAX).is_err());
        }
        shares.give_back(&alice);
        assert_eq!(shares.most(), [None, None, None]);
    }

    #[test]
    fn a_subnet_of_ipv6_is_one_address() {
        let mut shares = Shares::default();
        let max = SharesMax {
            address: Some(1),
            ..SharesMax::default()
        };
        shares.take(&share("a", "2001:db8::1", "x"), &max).unwrap();
        let same = shares.take(&share("b", "2001:db8::2:1", "x"), &max);
        assert_eq!(same, Err(ShareFull::Address));
        shares
            .take(&share("b", "2001:db8:0:1::1", "x"), &max)
            .unwrap();
    }

    #[test]
    fn without_a_limit_everything_is_counted_and_nothing_refused() {
        let mut shares = Shares::default();
        for name in ["b", "a", "b", "a", "c"] {
            let share = share(name, "192.0.2.1", "hr");
            shares.take(&share, &SharesMax::default()).unwrap();
        }
        let [role, address, _] = shares.most();
        let most = |who: &str, count| {
            let who = who.to_owned();
            Some(Most { who, count })
        };
        assert_eq!((role, address), (most("a", 2), most("192.0.2.1", 5)));
    }
}
