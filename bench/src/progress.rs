//! What is under way, on standard error: results have standard output for themselves.

use std::time::{Duration, Instant};

/// Says what is under way and how long the rest will take.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Progress {
    /// One line.
    pub fn say(&self, what: &str) {
        eprintln!("[{:>4} s] {what}", self.start.elapsed().as_secs());
    }

    /// One line for a measurement, the `done`-th of `all`, with an estimate that supposes that
    /// those to come take as long as those since `begin` took.
    pub fn step(&self, what: &str, (done, all): (usize, usize), begin: Duration) {
        let rest = match (u32::try_from(done), u32::try_from(all)) {
            (Ok(done), Ok(all)) if done > 0 => {
                let spent = self.start.elapsed().saturating_sub(begin);
                format!(", about {} s left", (spent / done * (all - done)).as_secs())
            }
            _ => String::new(),
        };
        self.say(&format!("{}/{all} {what}{rest}", done + 1));
    }

    /// How long ago everything began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
