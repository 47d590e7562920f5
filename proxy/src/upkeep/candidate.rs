//! The process that is to take over, as a child of this one.

use std::process::{Child, Command};
use std::time::Instant;
use std::{io, thread};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::limits::{CHILD_END_TIMEOUT, STOP_POLL};

/// A process that was started to take over. It is ended when this is dropped, unless it has.
pub(super) struct Candidate {
    child: Option<Child>,
    /// Its number.
    pub(super) pid: u32,
}

impl Candidate {
    /// Starts it, on a thread where a slow disk holds nobody up.
    ///
    /// # Errors
    ///
    /// It cannot be.
    pub(super) async fn start(mut command: Command) -> io::Result<Self> {
        let start = move || {
            let child = command.spawn()?;
            Ok(Self {
                pid: child.id(),
                child: Some(child),
            })
        };
        spawn_blocking(start).await.map_err(io::Error::other)?
    }

    /// The child, which has taken over.
    pub(super) fn into_child(mut self) -> Option<Child> {
        self.child.take()
    }

    /// Ends it, and returns whether its end was seen.
    pub(super) async fn end(&mut self) -> bool {
        let deadline = Instant::now() + CHILD_END_TIMEOUT;
        while !self.is_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(STOP_POLL).await;
        }
        true
    }

    /// It cannot refuse, but the system may take its time.
    fn is_ended(&mut self) -> bool {
        let Some(child) = &mut self.child else {
            return true;
        };
        // It has ended by itself when this fails.
        drop(child.kill());
        let is_ended = child.try_wait().is_ok_and(|status| status.is_some());
        if is_ended {
            self.child = None;
        }
        is_ended
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let deadline = Instant::now() + CHILD_END_TIMEOUT;
        while !self.is_ended() && Instant::now() < deadline {
            thread::park_timeout(STOP_POLL);
        }
    }
}
