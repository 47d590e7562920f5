//! Whether new logins go on: open, paused, or draining.
//!
//! Live sessions are not touched by any of it, and neither is the admin console, which opens the
//! door again.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::error::{Full, LoginError};
use crate::limits::{PAUSE_WAIT, PAUSED_LOGINS_MAX};

/// Whether new logins go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// They do.
    Open,
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
#[derive(Debug)]
pub(crate) struct Door {
    state: watch::Sender<State>,
    waiting: Semaphore,
}

impl Door {
    /// An open one.
    pub(crate) fn new() -> Self {
        Self {
            state: watch::channel(State::Open).0,
            waiting: Semaphore::new(PAUSED_LOGINS_MAX),
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
    /// [`Full::Paused`]: [`PAUSED_LOGINS_MAX`] wait already; [`LoginError::Paused`]: it has waited
    /// for [`PAUSE_WAIT`]; [`LoginError::Draining`].
    pub(crate) async fn pass(&self) -> Result<Duration, LoginError> {
        self.pass_within(PAUSE_WAIT).await
    }

    async fn pass_within(&self, limit: Duration) -> Result<Duration, LoginError> {
        match self.state() {
            State::Open => return Ok(Duration::ZERO),
            State::Draining { .. } => return Err(LoginError::Draining),
            State::Paused => {}
        }
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
                State::Open | State::Paused => Ok(begun.elapsed()),
            },
        }
    }

    /// Lets new logins wait; false if they are refused already.
    #[must_use]
    pub(crate) fn pause(&self) -> bool {
        self.change(|state| (!matches!(state, State::Draining { .. })).then_some(State::Paused))
    }

    /// Refuses new logins from now on, and returns the state, by which a later drain is told from
    /// this one.
    pub(crate) fn drain(&self, within: Option<Duration>) -> State {
        let since = Instant::now();
        let draining = State::Draining {
            since,
            ends_at: within.and_then(|it| since.checked_add(it)),
        };
        self.state.send_replace(draining);
        draining
    }

    /// Opens it; false if it is open.
    #[must_use]
    pub(crate) fn resume(&self) -> bool {
        self.change(|state| (state != State::Open).then_some(State::Open))
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
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_login_waits_while_the_door_is_paused_and_goes_on_when_it_is_open() {
        let door = Arc::new(Door::new());
        assert!(matches!(door.pass().await, Ok(Duration::ZERO)));
        assert!(door.pause());
        let of_login = door.clone();
        let login = tokio::spawn(async move { of_login.pass().await.is_ok() });
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
        let refused = door.pass_within(Duration::from_millis(20)).await;
        assert!(matches!(refused, Err(LoginError::Paused)));
    }

    #[tokio::test]
    async fn no_more_logins_wait_than_the_limit() {
        let door = Door::new();
        assert!(door.pause());
        let all = u32::try_from(PAUSED_LOGINS_MAX).unwrap_or(u32::MAX);
        let _all = door.waiting.try_acquire_many(all);
        let refused = door.pass().await;
        assert!(matches!(refused, Err(LoginError::Full(Full::Paused))));
    }

    #[tokio::test]
    async fn a_drain_refuses_those_who_wait_and_is_no_pause() {
        let door = Arc::new(Door::new());
        assert!(door.pause());
        let of_login = door.clone();
        let login = tokio::spawn(async move { of_login.pass().await });
        while door.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let first = door.drain(None);
        assert!(matches!(login.await, Ok(Err(LoginError::Draining))));
        assert!(!door.pause() && door.is_draining());
        let second = door.drain(Some(Duration::from_secs(1)));
        assert_ne!(first, second);
        assert!(door.resume());
        assert!(door.pass().await.is_ok());
    }
}
