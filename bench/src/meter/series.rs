//! Counters over time, so that a part of a load can be looked at by itself.

use super::Counts;

/// Counters at one moment: the time, in seconds since 1970, and what they stood at.
pub(super) type Moment<const N: usize> = (f64, [f64; N]);

/// The kernel's counters: busy time and CPU time in seconds, context switches, TCP segments.
pub(super) const KERNEL: usize = 4;
/// The hardware's counters: instructions and cycles.
pub(super) const HARDWARE: usize = 2;

/// What was counted while a load ran, by time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub(super) kernel: Vec<Moment<KERNEL>>,
    pub(super) hardware: Option<Vec<Moment<HARDWARE>>>,
}

impl Series {
    /// What was counted from the first to the last moment.
    #[must_use]
    pub fn whole(&self) -> Counts {
        let ends = self.kernel.first().zip(self.kernel.last());
        let (from_s, to_s) = ends.map_or((0.0, 0.0), |(first, last)| (first.0, last.0));
        let mut counts = self.between(from_s, to_s);
        // The hardware's are on for a little longer, which is nothing's but ours.
        let hardware = self.hardware.as_ref().and_then(|it| it.last());
        counts.instructions = hardware.map(|it| it.1[0]);
        counts.cycles = hardware.map(|it| it.1[1]);
        counts
    }

    /// What was counted between two times, in seconds since 1970. Between two moments the
    /// counters are taken to have grown evenly.
    #[must_use]
    pub fn between(&self, from_s: f64, to_s: f64) -> Counts {
        let kernel = difference(&self.kernel, from_s, to_s);
        let hardware = self.hardware.as_ref();
        let hardware = hardware.map(|it| difference(it, from_s, to_s));
        Counts {
            took_s: to_s - from_s,
            instructions: hardware.map(|it| it[0]),
            cycles: hardware.map(|it| it[1]),
            busy_s: kernel[0].max(0.0),
            cpu_s: kernel[1].max(0.0),
            switches: kernel[2],
            segments: kernel[3],
        }
    }
}

fn difference<const N: usize>(moments: &[Moment<N>], from_s: f64, to_s: f64) -> [f64; N] {
    let (from, to) = (at(moments, from_s), at(moments, to_s));
    std::array::from_fn(|it| to[it] - from[it])
}

/// What the counters stood at, at any time; before the first and after the last moment they stand
/// still.
fn at<const N: usize>(moments: &[Moment<N>], time_s: f64) -> [f64; N] {
    let after = moments.partition_point(|it| it.0 <= time_s);
    let before = after.checked_sub(1).and_then(|it| moments.get(it));
    match (before, moments.get(after)) {
        (Some(before), Some(after)) => {
            let share = (time_s - before.0) / (after.0 - before.0);
            std::array::from_fn(|it| before.1[it] + share * (after.1[it] - before.1[it]))
        }
        (Some(moment), None) | (None, Some(moment)) => moment.1,
        (None, None) => [0.0; N],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        // A busy set-up of two seconds, then 1,000 segments a second.
        let kernel = vec![
            (100.0, [50.0, 0.0, 7.0, 500.0]),
            (102.0, [54.0, 1.0, 7.0, 500.0]),
            (104.0, [56.0, 2.0, 7.0, 2_500.0]),
        ];
        let hardware = vec![(100.0, [0.0, 0.0]), (104.5, [9_000.0, 4_500.0])];
        Series {
            kernel,
            hardware: Some(hardware),
        }
    }

    #[test]
    fn set_up_is_not_in_what_is_counted_later() {
        let counts = series().between(103.0, 104.0);
        let expected = Counts {
            took_s: 1.0,
            busy_s: 1.0,
            cpu_s: 0.5,
            switches: 0.0,
            segments: 1_000.0,
            instructions: Some(2_000.0),
            cycles: Some(1_000.0),
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn the_whole_is_all_that_was_counted() {
        let counts = series().whole();
        assert_eq!(counts.took_s, 4.0);
        assert_eq!(counts.busy_s, 6.0);
        assert_eq!(counts.segments, 2_000.0);
        assert_eq!(counts.instructions, Some(9_000.0));
    }

    #[test]
    fn a_machine_without_hardware_counters_has_none_in_any_part() {
        let mut series = series();
        series.hardware = None;
        assert_eq!(series.whole().instructions, None);
        assert_eq!(series.between(101.0, 102.0).cycles, None);
    }
}
