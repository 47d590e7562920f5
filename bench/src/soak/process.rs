//! What the process has, sampled, and whether that has changed from the first quarter to the last.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::load::float;

/// What the last quarter may have more than the first, as a share of the first. What it has less
/// has been given back; sessions that are lost are counted for themselves.
pub(super) const DRIFT_MAX: f64 = 0.01;

/// One look at the process.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// From the beginning, in seconds.
    at_s: f64,
    /// Memory that is in RAM, in bytes (`VmRSS`).
    rss_bytes: u64,
    /// What of it is no page of a file, in bytes (`RssAnon`).
    anonymous_bytes: u64,
    /// Open file descriptors.
    descriptors: u64,
}

/// What one figure has come to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Drift {
    /// `rss_bytes`, `anonymous_bytes`, `descriptors`.
    pub(super) what: &'static str,
    /// The median of the first quarter of the time.
    pub(super) first: f64,
    /// The median of the last quarter.
    pub(super) last: f64,
    /// The least and the most of the whole time.
    pub(super) range: (f64, f64),
    /// What the last has more than the first, as a share of the first.
    pub(super) share: f64,
    /// Whether that may be.
    pub(super) holds: bool,
}

/// All samples.
#[derive(Debug, Default)]
pub(super) struct Series(RefCell<Vec<Sample>>);

impl Series {
    /// Looks once.
    pub(super) fn add(&self, at: Duration, pid: u32) -> Result<()> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).context("Postern has ended")?;
        let bytes = |name| field(&status, name).with_context(|| format!("{path} has no {name}"));
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        self.0.borrow_mut().push(Sample {
            at_s: at.as_secs_f64(),
            rss_bytes: bytes("VmRSS:")? * 1_024,
            anonymous_bytes: bytes("RssAnon:")? * 1_024,
            descriptors: u64::try_from(descriptors)?,
        });
        Ok(())
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.0.borrow().clone()
    }

    /// Every figure's drift; none without samples.
    pub(super) fn drifts(&self) -> Vec<Drift> {
        let samples = self.samples();
        let of = |what, figure: fn(&Sample) -> u64| {
            let values: Vec<u64> = samples.iter().map(figure).collect();
            drift(what, &values)
        };
        let drifts = [
            of("rss_bytes", |it| it.rss_bytes),
            of("anonymous_bytes", |it| it.anonymous_bytes),
            of("descriptors", |it| it.descriptors),
        ];
        drifts.into_iter().flatten().collect()
    }
}

fn drift(what: &'static str, values: &[u64]) -> Option<Drift> {
    let quarter = values.len() / 4;
    let first = median(values.get(..quarter)?)?;
    let last = median(values.get(values.len() - quarter..)?)?;
    let share = (last - first) / first;
    Some(Drift {
        what,
        first,
        last,
        range: (float(*values.iter().min()?), float(*values.iter().max()?)),
        share,
        holds: share <= DRIFT_MAX,
    })
}

fn median(values: &[u64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied().map(float)
}

/// A number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_from_the_first_quarter_to_the_last_whatever_is_between() {
        let values = [100, 100, 500, 900, 7, 8, 101, 101];
        let found = drift("descriptors", &values);
        let found = found.map(|it| (it.first, it.last, it.holds, it.range));
        assert_eq!(found, Some((100.0, 101.0, true, (7.0, 900.0))));
        let grown = [100, 100, 100, 100, 100, 100, 102, 102];
        assert_eq!(drift("rss_bytes", &grown).map(|it| it.holds), Some(false));
        let given_back = [100, 100, 100, 100, 100, 100, 90, 90];
        let given_back = drift("rss_bytes", &given_back).map(|it| (it.holds, it.share));
        assert_eq!(given_back, Some((true, -0.1)));
        assert!(drift("rss_bytes", &[1, 2, 3]).is_none());
    }

    #[test]
    fn our_own_memory_and_descriptors_are_seen() -> Result<()> {
        let series = Series::default();
        series.add(Duration::ZERO, std::process::id())?;
        let samples = series.samples();
        let seen = samples.iter().all(|it| {
            it.rss_bytes >= it.anonymous_bytes && it.anonymous_bytes > 0 && it.descriptors > 2
        });
        assert!(seen && samples.len() == 1, "{samples:?}");
        Ok(())
    }
}
