//! Connections that have not reached the splice, counted by the client's address, so that no
//! address takes all the places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Full;
use crate::session::Most;

/// The connections that are on their way.
pub(crate) struct Arrivals {
    per_address_max: usize,
    /// Only addresses that have one, so that it is never larger than there are connections.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them; its place is free again when this is dropped.
#[must_use = "it is counted for as long as this is held"]
pub(crate) struct Arrival {
    arrivals: Arc<Arrivals>,
    address: IpAddr,
}

impl Arrivals {
    /// Nobody is on their way yet; so many may be from one address.
    pub(crate) fn new(per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            per_address_max,
            by_address: Mutex::default(),
        })
    }

    /// Counts a connection of a client.
    ///
    /// # Errors
    ///
    /// [`Full::Address`]: there are too many from its address.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Arrival, Full> {
        let address = counted_as(client);
        let mut by_address = self.by_address();
        let count = by_address.entry(address).or_default();
        if *count >= self.per_address_max {
            return Err(Full::Address);
        }
        *count += 1;
        Ok(Arrival {
            arrivals: self.clone(),
            address,
        })
    }

    /// The address that most are from.
    pub(crate) fn most(&self) -> Option<Most> {
        let by_address = self.by_address();
        Most::of(by_address.iter().map(|(address, count)| (address, *count)))
    }

    /// The map stays consistent between two statements, so a panic elsewhere does not spoil it.
    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut by_address = self.arrivals.by_address();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// What a limit by address counts: an address of IPv6 stands for its subnet, because a host may
/// have as many of it as it likes (RFC 8981).
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let arrivals = Arrivals::new(2);
        let (one, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let enter = |address: Ipv4Addr| arrivals.enter(address.into());
        let (first, second) = (enter(one), enter(one));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(enter(one).err(), Some(Full::Address));
        assert!(enter(other).is_ok(), "nobody else is concerned");
        let most = arrivals.most().map(|it| (it.who, it.count));
        assert_eq!(most, Some((one.to_string(), 2)));
        drop(first);
        let third = enter(one);
        assert!(third.is_ok());
        drop((second, third));
        assert!(arrivals.by_address().is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_subnet_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let arrivals = Arrivals::new(1);
        let enter = |text: &str| {
            let address = text.parse::<IpAddr>().ok();
            address.map(|it| arrivals.enter(it))
        };
        let held = [
            enter("2001:db8::1"),
            enter("2001:db8:0:1::1"),
            enter("192.0.2.1"),
        ];
        assert!(held.iter().all(|it| matches!(it, Some(Ok(_)))));
        for same in ["2001:db8::ffff:1:2", "::ffff:192.0.2.1"] {
            let refused = enter(same).map(|it| it.err());
            assert_eq!(refused, Some(Some(Full::Address)), "{same}");
        }
    }
}
