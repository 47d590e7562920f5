//! One call for all who ask the same thing at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Calls under way, by what they ask.
///
/// The first to ask starts the call, on its own thread and in a task of its own, so that the call
/// comes to its end also when the one who asked has gone; everybody else, on any thread, waits for
/// its answer.
pub(crate) struct SingleFlight<K, V> {
    flights: Arc<Mutex<Flights<K, V>>>,
}

type Flights<K, V> = HashMap<K, watch::Receiver<Option<V>>>;

/// The call ended without an answer: it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoAnswer;

impl<K, V> SingleFlight<K, V>
where
    K: Hash + Eq + Clone + 'static,
    V: Clone + 'static,
{
    /// Nothing under way.
    pub(crate) fn new() -> Self {
        Self {
            flights: Arc::default(),
        }
    }

    /// True when somebody asks this at the moment.
    pub(crate) fn is_under_way(&self, key: &K) -> bool {
        lock(&self.flights).contains_key(key)
    }

    /// Waits for the answer to `key`, and starts `call` if nobody has.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`] when the call panicked.
    pub(crate) async fn run<F, C>(&self, key: K, call: C) -> Result<V, NoAnswer>
    where
        C: FnOnce() -> F,
        F: Future<Output = V> + 'static,
    {
        let mut answer = match self.join_or_start(&key) {
            Joined::Waits(answer) => answer,
            Joined::Starts(sender, answer) => {
                let landing = Landing {
                    flights: self.flights.clone(),
                    key,
                };
                let call = call();
                // The task is not awaited by its handle: the answer comes by the channel, and
                // a panic closes the channel.
                drop(tokio_uring::spawn(async move {
                    let value = call.await;
                    // From here on a new question starts a new call.
                    drop(landing);
                    sender.send_replace(Some(value));
                }));
                answer
            }
        };
        let value = answer
            .wait_for(Option::is_some)
            .await
            .map_err(|_| NoAnswer)?;
        value.clone().ok_or(NoAnswer)
    }

    fn join_or_start(&self, key: &K) -> Joined<V> {
        let mut flights = lock(&self.flights);
        if let Some(answer) = flights.get(key) {
            return Joined::Waits(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        flights.insert(key.clone(), answer.clone());
        Joined::Starts(sender, answer)
    }
}

enum Joined<V> {
    Waits(watch::Receiver<Option<V>>),
    Starts(watch::Sender<Option<V>>, watch::Receiver<Option<V>>),
}

/// Takes the call out of the map, also when it panics.
struct Landing<K: Hash + Eq, V> {
    flights: Arc<Mutex<Flights<K, V>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

/// The map is consistent between two statements, so a panic elsewhere does not spoil it.
fn lock<K, V>(flights: &Mutex<Flights<K, V>>) -> MutexGuard<'_, Flights<K, V>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn two_hundred_who_ask_together_cause_one_call() {
        tokio_uring::start(async {
            let flight = Rc::new(SingleFlight::<&str, u32>::new());
            let calls = Rc::new(Cell::new(0));
            let ask = || {
                let (flight, calls) = (flight.clone(), calls.clone());
                tokio_uring::spawn(async move {
                    let call = || async move {
                        tokio::task::yield_now().await;
                        calls.set(calls.get() + 1);
                        calls.get()
                    };
                    flight.run("alice", call).await
                })
            };
            let asked: Vec<_> = (0..200).map(|_| ask()).collect();
            for answer in asked {
                assert!(matches!(answer.await, Ok(Ok(1))));
            }
            assert_eq!(calls.get(), 1);
        });
    }

    #[test]
    fn a_call_that_panics_gives_no_answer_and_does_not_block_the_next() {
        tokio_uring::start(async {
            let flight = SingleFlight::<&str, u32>::new();
            let panics = flight.run("bob", || async { panic!("on purpose") }).await;
            assert_eq!(panics, Err(NoAnswer));
            assert_eq!(flight.run("bob", || async { 7 }).await, Ok(7));
        });
    }
}
