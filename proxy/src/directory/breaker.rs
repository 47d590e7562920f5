//! Sparing people the wait for a directory that does not answer.

use std::sync::{self, Mutex, PoisonError};

use tokio::sync::MutexGuard;
use tokio::time::timeout;

use super::error::DirectoryError;
use crate::limits::{DIRECTORY_LOST_MAX, DIRECTORY_QUEUE_WAIT};

/// While the directory answers, everybody may ask it. When [`DIRECTORY_LOST_MAX`] calls in a row
/// have found no server that answers, one login at a time asks. Others wait for what it hears, but
/// not for long, and share it when it is no answer.
///
/// Shared by all login threads.
#[derive(Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
    probe: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Calls that found no server since the last one that did.
    lost: u32,
    /// What the last of them heard.
    last: Option<DirectoryError>,
}

impl Breaker {
    /// Whether the last call found no server that answers.
    pub(crate) fn is_lost(&self) -> bool {
        self.state().lost > 0
    }

    /// Makes a call of the directory, unless another one is in vain.
    ///
    /// # Errors
    ///
    /// The call's own; that of an earlier call, when this one is not made.
    pub(super) async fn pass<T>(
        &self,
        call: impl Future<Output = Result<T, DirectoryError>>,
    ) -> Result<T, DirectoryError> {
        let _probe = match self.refusal() {
            None => None,
            Some(_) => self.wait_for_probe().await?,
        };
        let result = call.await;
        let lost = result.as_ref().err().filter(|it| it.is_transport());
        let mut state = self.state();
        state.lost = lost.map_or(0, |_| state.lost.saturating_add(1));
        state.last = lost.cloned();
        drop(state);
        result
    }

    /// The right to be the one who asks; `None` once the directory answers.
    async fn wait_for_probe(&self) -> Result<Option<MutexGuard<'_, ()>>, DirectoryError> {
        if let Ok(probe) = self.probe.try_lock() {
            return Ok(Some(probe));
        }
        // However it ends: what counts is what has been heard by then.
        let _waited = timeout(DIRECTORY_QUEUE_WAIT, self.probe.lock()).await;
        self.refusal().map_or(Ok(None), Err)
    }

    /// What those are told who cannot ask; `None` while everybody may.
    fn refusal(&self) -> Option<DirectoryError> {
        let state = self.state();
        let is_open = state.lost >= DIRECTORY_LOST_MAX;
        state.last.clone().filter(|_| is_open)
    }

    fn state(&self) -> sync::MutexGuard<'_, State> {
        // Every change is one assignment after the other, and any of them alone is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::{pending, ready};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn away() -> DirectoryError {
        DirectoryError::Unreachable {
            server: "ldaps://dc1".to_owned(),
            why: "no route".to_owned(),
        }
    }

    fn call(breaker: &Breaker, answer: Result<(), DirectoryError>) -> Result<(), DirectoryError> {
        polled(pin!(breaker.pass(ready(answer)))).unwrap()
    }

    fn polled<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    fn lost() -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..DIRECTORY_LOST_MAX {
            call(&breaker, Err(away())).unwrap_err();
        }
        breaker
    }

    #[tokio::test]
    async fn one_call_waits_for_all_when_no_server_answers() {
        let breaker = lost();
        let mut first = Box::pin(breaker.pass(pending::<Result<(), _>>()));
        assert!(polled(first.as_mut()).is_none());
        // Nobody else asks: an answer that would be right is not heard.
        let told = breaker.pass(ready(Ok(()))).await;
        assert_eq!(told.unwrap_err().to_string(), away().to_string());
        drop(first);
        assert!(call(&breaker, Ok(())).is_ok());
        assert!(!breaker.is_lost());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_directory_answers_again() {
        let breaker = lost();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let mut first = Box::pin(breaker.pass(async { answered.await.unwrap() }));
        assert!(polled(first.as_mut()).is_none());
        let mut second = Box::pin(breaker.pass(ready(Ok(()))));
        assert!(polled(second.as_mut()).is_none());
        answer.send(Err(DirectoryError::WrongPassword)).unwrap();
        let first: Result<(), _> = first.await;
        first.unwrap_err();
        second.await.unwrap();
    }

    #[test]
    fn any_answer_of_a_server_ends_it() {
        let breaker = lost();
        assert!(breaker.is_lost());
        call(&breaker, Err(DirectoryError::WrongPassword)).unwrap_err();
        assert!(!breaker.is_lost());
        let _first = Box::pin(breaker.pass(pending::<Result<(), _>>()));
        assert!(call(&breaker, Ok(())).is_ok());
    }

    #[test]
    fn fewer_calls_in_vain_stop_nobody() {
        let breaker = Breaker::default();
        for _ in 1..DIRECTORY_LOST_MAX {
            call(&breaker, Err(away())).unwrap_err();
        }
        let mut first = Box::pin(breaker.pass(pending::<Result<(), _>>()));
        assert!(polled(first.as_mut()).is_none());
        assert!(call(&breaker, Ok(())).is_ok());
    }
}
