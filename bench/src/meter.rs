//! What the machine does while a load runs.
//!
//! The figures are not those of the proxy alone, because most of what it costs is the work that it
//! makes for others: the kernel's, and that of both ends. Instructions, context switches and
//! segments are the whole machine's, so nothing else should run meanwhile; what other programs do
//! shows in the spread of the rounds.

mod group;
mod machine;
mod perf;
mod process;

use std::time::Instant;

use anyhow::Result;

use group::Group;
use machine::Machine;
pub use perf::Perf;
pub use process::{cpu_s, family};

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

    /// Runs a load and counts meanwhile; `pids` are the processes whose CPU time counts, their
    /// children included.
    ///
    /// # Errors
    /// If the load fails or a counter cannot be read.
    pub fn around<T>(&self, pids: &[u32], load: impl FnOnce() -> Result<T>) -> Result<(T, Counts)> {
        let counting = self.perf.as_ref().map(Perf::start).transpose()?;
        let cpu = cpu_s(pids)?;
        let busy = self.group.as_ref().map(Group::busy_s).transpose()?;
        let before = Machine::read()?;
        let start = Instant::now();
        let result = load()?;
        let took_s = start.elapsed().as_secs_f64();
        let after = Machine::read()?;
        let cpu = cpu_s(pids)? - cpu;
        let hardware = counting.map(perf::Counting::finish).transpose()?;
        let busy_s = match (&self.group, busy) {
            (Some(group), Some(busy)) => {
                group.busy_s()? - busy + after.interrupts_s - before.interrupts_s
            }
            _ => took_s * self.cores - (after.idle_s - before.idle_s),
        };
        let counts = Counts {
            took_s,
            instructions: hardware.map(|it| it.instructions),
            cycles: hardware.map(|it| it.cycles),
            busy_s: busy_s.max(0.0),
            switches: after.switches - before.switches,
            segments: after.segments - before.segments,
            cpu_s: cpu.max(0.0),
        };
        Ok((result, counts))
    }
}

impl Counts {
    /// What a longer load took more than a shorter one, so that their set-up cancels.
    #[must_use]
    pub fn less(&self, shorter: &Self) -> Self {
        let both = |longer: Option<f64>, shorter: Option<f64>| Some(longer? - shorter?);
        Self {
            took_s: self.took_s - shorter.took_s,
            instructions: both(self.instructions, shorter.instructions),
            cycles: both(self.cycles, shorter.cycles),
            busy_s: self.busy_s - shorter.busy_s,
            switches: self.switches - shorter.switches,
            segments: self.segments - shorter.segments,
            cpu_s: self.cpu_s - shorter.cpu_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_computes_is_counted_as_busy() -> Result<()> {
        let (meter, _) = Meter::new()?;
        let own = [std::process::id()];
        let (sum, counts) = meter.around(&own, || {
            let start = Instant::now();
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

    #[test]
    fn set_up_cancels_in_the_difference_of_two_loads() {
        let counts = |transactions: f64| Counts {
            took_s: transactions / 1_000.0,
            instructions: Some(4_000_000.0 + 87_600.0 * transactions),
            busy_s: 0.5 + transactions / 500.0,
            ..Counts::default()
        };
        let steady = counts(3_000.0).less(&counts(1_000.0));
        assert_eq!(steady.instructions.map(|it| it / 2_000.0), Some(87_600.0));
        assert!((steady.busy_s - 4.0).abs() < 1e-9);
        assert_eq!(steady.cycles, None);
    }
}
