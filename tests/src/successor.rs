//! The process that `postern upgrade` puts in the place of the running one.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::postern::Postern;
use crate::process::run;
use crate::wait::wait_until;
use crate::world::CHANGE_LIMIT;

/// A process that has taken over. It is no child of ours, and has to end with the claim.
#[derive(Debug)]
pub struct Successor(pub Pid);

impl Successor {
    /// Has the running process put another one in its place.
    ///
    /// # Errors
    /// If it does not; the message has what it said.
    pub fn upgrade(postern: &Postern) -> Result<Self> {
        let said = run(&mut postern.command(&["upgrade"])?)?;
        let mut words = said.split(' ');
        let pid = words.nth(1).and_then(|it| it.parse().ok());
        let pid = pid.with_context(|| format!("no process in: {said}"))?;
        Ok(Self(Pid::from_raw(pid)))
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // A zombie has ended.
        let state = stat.rsplit(") ").next().unwrap_or_default();
        !state.is_empty() && !state.starts_with('Z')
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(&self) -> Result<()> {
        // It may have ended meanwhile.
        let _ = kill(self.0, Signal::SIGTERM);
        wait_until("the process ends", CHANGE_LIMIT, || Ok(!self.runs()))
    }

    /// Ends it, and starts the Postern again that it took over from.
    ///
    /// # Errors
    /// If one of them does not end, or the other does not start.
    pub fn leave(&self, postern: &Postern) -> Result<()> {
        self.end()?;
        // The first process has drained, or is ended here.
        postern.stop()?;
        postern.start_again()
    }
}
