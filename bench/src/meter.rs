//! What the machine does while a load runs.
//!
//! The figures are not those of the proxy alone, because most of what it costs is the work that it
//! makes for others: the kernel's, and that of both ends. Instructions, context switches and
//! segments are the whole machine's, so nothing else should run meanwhile; what other programs do
//! shows in the spread of the rounds.

mod group;
mod machine;
mod memory;
mod perf;
mod process;
mod series;
mod sockets;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use group::Group;
use machine::Machine;
pub use memory::{kernel_bytes, user_bytes};
pub use perf::Perf;
pub use process::{cpu_s, family};
pub use series::Series;
pub use sockets::{Socket, sockets};

/// Between two readings: short against any load, and long against what a reading costs, which is
/// the same for all routes in any case.
const READ_INTERVAL: Duration = Duration::from_millis(50);

/// What the kernel's counters stood at.
type KernelMoment = series::Moment<{ series::KERNEL }>;

/// Reads the machine's counters around loads.
#[derive(Debug)]
pub struct Meter {
    perf: Option<Perf>,
    group: Option<Group>,
    cores: f64,
}

/// What was counted while a load ran.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// How long it ran, in seconds.
    pub took_s: f64,
    /// Instructions of the whole machine, where it counts them.
    pub instructions: Option<f64>,
    /// Cycles of the whole machine, where it counts them.
    pub cycles: Option<f64>,
    /// Time that the cores were busy with us, in seconds, all cores together. Where control groups
    /// cannot be used it is the time that they were busy at all.
    pub busy_s: f64,
    /// Context switches.
    pub switches: f64,
    /// TCP segments sent.
    pub segments: f64,
    /// CPU time of the processes that were asked for, in seconds.
    pub cpu_s: f64,
}

impl Meter {
    /// Finds out what this machine can count. What it cannot is a line for the report's gaps.
    ///
    /// # Errors
    /// If the system does not say how many cores it has.
    pub fn new() -> Result<(Self, Vec<String>)> {
        let cores = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
        let mut gaps = Vec::new();
        let perf = Perf::probe().map_err(|why| {
            gaps.push(format!(
                "hardware counters: {why:#}; the time that the cores were busy stands in for \
                 instructions and cycles"
            ));
        });
        let group = Group::enter().map_err(|why| {
            gaps.push(format!(
                "CPU time of the bench alone: {why:#}; the time that the cores were busy includes \
                 other programs"
            ));
        });
        let meter = Self {
            perf: perf.ok(),
            group: group.ok(),
            cores,
        };
        Ok((meter, gaps))
    }

    /// Whether instructions and cycles are counted.
    #[must_use]
    pub fn counts_instructions(&self) -> bool {
        self.perf.is_some()
    }

    /// Runs a load and counts meanwhile; `pids` are the processes whose CPU time counts, with the
    /// children that they have at the start.
    ///
    /// # Errors
    /// If the load fails or a counter cannot be read.
    pub fn around<T>(&self, pids: &[u32], load: impl FnOnce() -> Result<T>) -> Result<(T, Counts)> {
        let (result, series) = self.watch(pids, load)?;
        Ok((result, series.whole()))
    }

    /// As [`Meter::around`], but reads the counters again and again, so that a part of the load
    /// can be looked at by itself.
    ///
    /// # Errors
    /// As that.
    pub fn watch<T>(&self, pids: &[u32], load: impl FnOnce() -> Result<T>) -> Result<(T, Series)> {
        let pids: Vec<u32> = family(pids)?.into_iter().collect();
        let counting = self.perf.as_ref().map(Perf::start).transpose()?;
        let (stop, stopped) = channel::<()>();
        let first = self.read(&pids)?;
        let (result, kernel) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.read_until(first, stopped, &pids));
            let result = load();
            // The reader ends when this end of the channel does.
            drop(stop);
            (result, reader.join())
        });
        let hardware = counting.map(perf::Counting::finish).transpose();
        let Ok(kernel) = kernel else {
            bail!("the thread that reads the counters panicked");
        };
        let series = Series {
            kernel: kernel?,
            hardware: hardware?,
        };
        Ok((result?, series))
    }

    fn read_until(
        &self,
        first: KernelMoment,
        stopped: Receiver<()>,
        pids: &[u32],
    ) -> Result<Vec<KernelMoment>> {
        let mut moments = vec![first];
        while stopped.recv_timeout(READ_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            moments.push(self.read(pids)?);
        }
        moments.push(self.read(pids)?);
        Ok(moments)
    }

    fn read(&self, pids: &[u32]) -> Result<KernelMoment> {
        let now_s = now_s()?;
        let machine = Machine::read()?;
        let busy_s = match &self.group {
            Some(group) => group.busy_s()? + machine.interrupts_s,
            // Only differences count, so it does not matter when the time began.
            None => now_s * self.cores - machine.idle_s,
        };
        let cpu_s = process::sum_cpu_s(pids);
        let counters = [busy_s, cpu_s, machine.switches, machine.segments];
        Ok((now_s, counters))
    }
}

/// Seconds since 1970, as the logs of loads have them.
fn now_s() -> Result<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("the clock stands before 1970")?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_computes_is_counted_as_busy() -> Result<()> {
        let (meter, _) = Meter::new()?;
        let own = [std::process::id()];
        let (sum, counts) = meter.around(&own, || {
            let start = std::time::Instant::now();
            let mut sum = 0_u64;
            while start.elapsed().as_millis() < 300 {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
            Ok(sum)
        })?;
        assert!(sum > 0);
        assert!(counts.took_s >= 0.3, "{counts:?}");
        // Other programs may take the core away from us for most of the time.
        assert!(counts.busy_s > 0.01, "{counts:?}");
        assert!(counts.cpu_s > 0.01, "{counts:?}");
        assert_eq!(counts.instructions.is_some(), meter.counts_instructions());
        Ok(())
    }
}
