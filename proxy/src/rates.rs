//! How fast logins come from one address, and cancel requests.

use std::net::IpAddr;
use std::time::Instant;

use postern_core::lockout::Limit;

use crate::arrivals::counted_as;
use crate::budgets::Budgets;
use crate::error::Full;
use crate::limits::LOGIN_RATE_WINDOW;
use crate::session::Most;

/// The logins and cancel requests of the last minute, by address, where there is a limit.
pub(crate) struct Rates {
    logins: Option<Budgets<IpAddr>>,
    /// Apart, because somebody with many logins may have a query to cancel.
    cancels: Option<Budgets<IpAddr>>,
    started: Instant,
}

impl Rates {
    /// So many of each within [`LOGIN_RATE_WINDOW`]; as many as come, if not given.
    pub(crate) fn new(logins_max: Option<u32>) -> Self {
        let budgets = || {
            logins_max.map(|tries_max| {
                Budgets::new(Limit {
                    tries_max,
                    window: LOGIN_RATE_WINDOW,
                })
            })
        };
        Self {
            logins: budgets(),
            cancels: budgets(),
            started: Instant::now(),
        }
    }

    /// The address from which most have begun, where there is a limit.
    pub(crate) fn most(&self) -> Option<Most> {
        self.logins.as_ref()?.most(self.started.elapsed())
    }

    /// Counts a login that begins.
    ///
    /// # Errors
    ///
    /// [`Full::Rate`]: too many have begun at its address.
    pub(crate) fn begin(&self, client: IpAddr) -> Result<(), Full> {
        self.take(self.logins.as_ref(), client)
    }

    /// Counts a cancel request.
    ///
    /// # Errors
    ///
    /// [`Full::Rate`]: too many have come from its address.
    pub(crate) fn begin_cancel(&self, client: IpAddr) -> Result<(), Full> {
        self.take(self.cancels.as_ref(), client)
    }

    fn take(&self, budgets: Option<&Budgets<IpAddr>>, client: IpAddr) -> Result<(), Full> {
        let now = self.started.elapsed();
        match budgets.is_none_or(|it| it.take(&counted_as(client), now)) {
            true => Ok(()),
            false => Err(Full::Rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_its_logins_a_minute_and_no_other_pays_for_it() {
        let rates = Rates::new(Some(2));
        let (one, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        for _ in 0..2 {
            assert_eq!(rates.begin(one.into()), Ok(()));
        }
        assert_eq!(rates.begin(one.into()), Err(Full::Rate));
        assert_eq!(rates.begin(other.into()), Ok(()));
        for _ in 0..2 {
            assert_eq!(rates.begin_cancel(one.into()), Ok(()), "apart from logins");
        }
        assert_eq!(rates.begin_cancel(one.into()), Err(Full::Rate));
        let most = rates.most().map(|it| (it.who, it.count));
        assert_eq!(most, Some((one.to_string(), 2)));
    }

    #[test]
    fn without_a_limit_nobody_is_too_fast() {
        let rates = Rates::new(None);
        let address = Ipv4Addr::LOCALHOST.into();
        assert!((0..1_000).all(|_| rates.begin(address).is_ok()));
    }
}
