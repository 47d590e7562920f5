//! A timer that is exact to some microseconds: the runtime's own goes by milliseconds.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel, <https://man7.org/linux/man-pages/man2/timerfd_create.2.html>.
#[derive(Debug)]
pub struct Alarm(AsyncFd<Timer>);

#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// A timer that is not set, for this thread's runtime.
    ///
    /// # Errors
    /// If the system has no more file descriptors.
    pub fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("timerfd_create")?;
        #[expect(
            deprecated,
            reason = "the newer function is unsafe, for types that lend out another descriptor; \
                      a timer owns its own, and this crate has no unsafe"
        )]
        let timer = AsyncFd::with_interest(Timer(timer), Interest::READABLE);
        Ok(Self(timer.context("cannot watch a timer")?))
    }

    /// Waits until a moment; at once when it has passed. It is set anew for each wait.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn wait_until(&mut self, moment: Instant) -> Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let expiration = Expiration::OneShot(left.into());
        let timer = &self.0.get_ref().0;
        let set = timer.set(expiration, TimerSetTimeFlags::empty());
        set.context("timerfd_settime")?;
        loop {
            let mut ready = self.0.readable().await?;
            // This only takes back what made the timer readable.
            match self.0.get_ref().0.wait() {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                outcome => {
                    ready.clear_ready();
                    return outcome.context("read of a timer");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::run;

    #[test]
    fn an_alarm_is_never_early_and_rings_again() -> Result<()> {
        run(Duration::from_secs(20), async {
            let mut alarm = Alarm::new()?;
            for _ in 0..3 {
                let moment = Instant::now() + Duration::from_millis(3);
                alarm.wait_until(moment).await?;
                assert!(Instant::now() >= moment);
            }
            alarm.wait_until(Instant::now()).await
        })
    }
}
