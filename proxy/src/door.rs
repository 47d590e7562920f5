//! Whether new logins go on: open, paused, or draining.
//!
//! Live sessions are not touched by any of it, and neither is the admin console, which opens the
//! door again.
//! The process that takes over has a door of its own, which is open. So a door that is not is no
//! time for handing over, and while that is under way it stays as it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::time::{timeout, timeout_at};

use crate::arrivals::Arrivals;
use crate::error::{Full, LoginError};
use crate::limits::{PAUSE_WAIT, PAUSED_LOGINS_MAX, PAUSED_LOGINS_PER_ADDRESS_MAX};

/// Whether new logins go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// They do.
    Open,
    /// They do, and nobody can change that: another process is taking over, or has.
    KeptOpen,
    /// They wait.
    Paused,
    /// They are refused.
    Draining {
        /// Since when.
        since: Instant,
        /// When the sessions that are left are ended, if ever.
        ends_at: Option<Instant>,
    },
}

/// The way in for new logins.
pub(crate) struct Door {
    state: watch::Sender<State>,
    waiting: Semaphore,
    /// Those that wait, by address: nobody has proved anything yet.
    waiting_of: Arc<Arrivals>,
}

impl Door {
    /// An open one.
    pub(crate) fn new() -> Self {
        Self {
            state: watch::channel(State::Open).0,
            waiting: Semaphore::new(PAUSED_LOGINS_MAX),
            waiting_of: Arrivals::new(PAUSED_LOGINS_PER_ADDRESS_MAX),
        }
    }

    /// How it is.
    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Whether sessions are only let out.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state(), State::Draining { .. })
    }

    /// How many logins wait.
    pub(crate) fn waiting(&self) -> usize {
        PAUSED_LOGINS_MAX - self.waiting.available_permits()
    }

    /// Lets a login go on, if need be after a while; returns how long it waited.
    ///
    /// # Errors
    ///
    /// [`Full::Paused`]: [`PAUSED_LOGINS_MAX`] wait already; [`Full::PausedAddress`]: so many of
    /// its address as one may have; [`LoginError::Paused`]: it has waited for [`PAUSE_WAIT`];
    /// [`LoginError::Draining`].
    pub(crate) async fn pass(&self, client: IpAddr) -> Result<Duration, LoginError> {
        self.pass_within(PAUSE_WAIT, client).await
    }

    async fn pass_within(&self, limit: Duration, client: IpAddr) -> Result<Duration, LoginError> {
        match self.state() {
            State::Open | State::KeptOpen => return Ok(Duration::ZERO),
            State::Draining { .. } => return Err(LoginError::Draining),
            State::Paused => {}
        }
        let of_address = self.waiting_of.enter(client);
        let _of_address = of_address.map_err(|_| LoginError::Full(Full::PausedAddress))?;
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| LoginError::Full(Full::Paused))?;
        let begun = Instant::now();
        let mut states = self.state.subscribe();
        let changed = states.wait_for(|it| *it != State::Paused);
        match timeout(limit, changed).await {
            Err(_) => Err(LoginError::Paused),
            // The sender lives as long as this does.
            Ok(Err(_)) => Err(LoginError::ShuttingDown),
            Ok(Ok(state)) => match *state {
                State::Draining { .. } => Err(LoginError::Draining),
                State::Open | State::KeptOpen | State::Paused => Ok(begun.elapsed()),
            },
        }
    }

    /// Lets new logins wait; false if they are refused already, or the door is kept open.
    #[must_use]
    pub(crate) fn pause(&self) -> bool {
        self.change(|state| match state {
            State::Open | State::Paused => Some(State::Paused),
            State::KeptOpen | State::Draining { .. } => None,
        })
    }

    /// Refuses new logins from now on, and returns the state, by which a later drain is told from
    /// this one; nothing if the door is kept open.
    pub(crate) fn drain(&self, within: Option<Duration>) -> Option<State> {
        let since = Instant::now();
        let draining = State::Draining {
            since,
            ends_at: within.and_then(|it| since.checked_add(it)),
        };
        let is_drained = self.change(|state| (state != State::KeptOpen).then_some(draining));
        is_drained.then_some(draining)
    }

    /// Waits until then; false at once when it is not as it was any more.
    pub(crate) async fn stays(&self, was: State, until: Instant) -> bool {
        let mut states = self.state.subscribe();
        let changed = states.wait_for(|it| *it != was);
        timeout_at(until.into(), changed).await.is_err()
    }

    /// Opens it; false if it is open.
    #[must_use]
    pub(crate) fn resume(&self) -> bool {
        self.change(|state| match state {
            State::Paused | State::Draining { .. } => Some(State::Open),
            State::Open | State::KeptOpen => None,
        })
    }

    /// Keeps it open, while another process takes over and after that; false if it is not open.
    #[must_use]
    pub(crate) fn keep_open(&self) -> bool {
        self.change(|state| (state == State::Open).then_some(State::KeptOpen))
    }

    /// Has it changed again, because no other process has taken over.
    pub(crate) fn give_back(&self) {
        // It may have been closed before, and stays so.
        let _ = self.change(|state| (state == State::KeptOpen).then_some(State::Open));
    }

    fn change(&self, next: impl FnOnce(State) -> Option<State>) -> bool {
        self.state.send_if_modified(|state| match next(*state) {
            Some(next) => {
                *state = next;
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use anyhow::Context;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_login_waits_while_the_door_is_paused_and_goes_on_when_it_is_open() {
        let door = Arc::new(Door::new());
        assert!(matches!(door.pass(CLIENT).await, Ok(Duration::ZERO)));
        assert!(door.pause());
        let of_login = door.clone();
        let login = tokio::spawn(async move { of_login.pass(CLIENT).await.is_ok() });
        while door.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!login.is_finished());
        assert!(door.resume());
        assert!(matches!(login.await, Ok(true)));
        assert_eq!(door.waiting(), 0);
        assert!(!door.resume(), "it is open already");
    }

    #[tokio::test]
    async fn a_login_is_refused_that_has_waited_long_enough() {
        let door = Door::new();
        assert!(door.pause());
        let refused = door.pass_within(Duration::from_millis(20), CLIENT).await;
        assert!(matches!(refused, Err(LoginError::Paused)));
    }

    #[tokio::test]
    async fn no_more_logins_wait_than_the_limit() {
        let door = Door::new();
        assert!(door.pause());
        let all = u32::try_from(PAUSED_LOGINS_MAX).unwrap_or(u32::MAX);
        let _all = door.waiting.try_acquire_many(all);
        let refused = door.pass(CLIENT).await;
        assert!(matches!(refused, Err(LoginError::Full(Full::Paused))));
    }

    #[tokio::test]
    async fn an_address_leaves_waiting_places_to_others() {
        let door = Arc::new(Door::new());
        assert!(door.pause());
        let wait = |client| {
            let door = door.clone();
            tokio::spawn(async move { door.pass(client).await })
        };
        let one: Vec<_> = (0..=PAUSED_LOGINS_PER_ADDRESS_MAX)
            .map(|_| wait(CLIENT))
            .collect();
        let other = wait(IpAddr::from([192, 0, 2, 1]));
        while door.waiting() <= PAUSED_LOGINS_PER_ADDRESS_MAX {
            tokio::task::yield_now().await;
        }
        assert!(door.resume());
        let mut refused = 0;
        for login in one {
            match login.await {
                Ok(Ok(_)) => {}
                Ok(Err(LoginError::Full(Full::PausedAddress))) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 1);
        assert!(matches!(other.await, Ok(Ok(_))));
    }

    #[tokio::test]
    async fn a_later_order_ends_what_a_drain_waits_for() -> anyhow::Result<()> {
        let door = Arc::new(Door::new());
        let far = Instant::now() + Duration::from_secs(86_400);
        let wait = |draining, until| {
            let door = door.clone();
            tokio::spawn(async move { door.stays(draining, until).await })
        };
        let drain = |within| door.drain(within).context("nobody takes over");
        let first = wait(drain(Some(Duration::from_secs(86_400)))?, far);
        let second = drain(None)?;
        assert!(matches!(first.await, Ok(false)), "it is another drain");
        let waiting = wait(second, far);
        assert!(door.resume());
        assert!(matches!(waiting.await, Ok(false)), "it is over");
        let third = drain(None)?;
        assert!(matches!(wait(third, Instant::now()).await, Ok(true)));
        Ok(())
    }

    #[tokio::test]
    async fn a_drain_refuses_those_who_wait_and_is_no_pause() {
        let door = Arc::new(Door::new());
        assert!(door.pause());
        let of_login = door.clone();
        let login = tokio::spawn(async move { of_login.pass(CLIENT).await });
        while door.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let first = door.drain(None);
        assert!(matches!(login.await, Ok(Err(LoginError::Draining))));
        assert!(!door.pause() && door.is_draining());
        let second = door.drain(Some(Duration::from_secs(1)));
        assert_ne!(first, second);
        assert!(door.resume());
        assert!(door.pass(CLIENT).await.is_ok());
    }

    #[tokio::test]
    async fn a_door_is_kept_open_while_another_process_takes_over() {
        let door = Door::new();
        assert!(door.pause() && !door.keep_open(), "who waits would wait on");
        assert!(door.resume() && door.keep_open());
        assert!(!door.pause() && door.drain(None).is_none() && !door.resume());
        assert!(door.pass(CLIENT).await.is_ok());
        door.give_back();
        assert!(door.drain(None).is_some() && !door.keep_open());
        door.give_back();
        assert!(door.is_draining());
    }
}
