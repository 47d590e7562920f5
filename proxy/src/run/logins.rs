//! The threads that accept and log in, each on a ring of its own.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::RunError;
use crate::gate::CurrentPlane;
use crate::listener::{self, Bound};
use crate::pulse::Beat;

/// One of them.
pub(super) struct LoginThread {
    pub(super) handle: JoinHandle<()>,
    ready: oneshot::Receiver<Result<(), RunError>>,
}

impl LoginThread {
    /// Starts it. It ends when the process is told to stop, or has handed over.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(super) fn start(
        current: Arc<CurrentPlane>,
        number: usize,
        (group, beat): (Vec<Bound>, Beat),
    ) -> Result<Self, RunError> {
        let (said, ready) = oneshot::channel();
        let main = move || {
            tokio_uring::start(async move {
                drop(tokio_uring::spawn(beat.go_on()));
                match accept_all(&current, group) {
                    Ok(accepting) => {
                        // The main thread has gone only when the process is ending.
                        drop(said.send(Ok(())));
                        for accepts in accepting {
                            // A panic has been said aloud.
                            drop(accepts.await);
                        }
                    }
                    // As above.
                    Err(error) => drop(said.send(Err(error))),
                }
            });
        };
        let handle = thread::Builder::new()
            .name(format!("login-{number}"))
            .spawn(main);
        let handle = handle.map_err(|error| RunError::System {
            what: "thread",
            error,
        })?;
        Ok(Self { handle, ready })
    }

    /// Waits until it accepts.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub(super) async fn is_ready(&mut self) -> Result<(), RunError> {
        (&mut self.ready).await.map_err(|_| RunError::ThreadEnded)?
    }

    /// Whether its last login is over.
    pub(super) fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }
}

fn accept_all(
    current: &Arc<CurrentPlane>,
    group: Vec<Bound>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, RunError> {
    let mut accepting = Vec::new();
    for bound in group {
        let address = bound.address();
        let listener = bound.listen().map_err(|error| RunError::Listen {
            key: "listen.addresses",
            address,
            error,
        })?;
        accepting.push(tokio_uring::spawn(listener::accept(
            current.clone(),
            listener,
        )));
    }
    Ok(accepting)
}
