//! What was measured: every raw figure, by what it belongs to.

use serde::Serialize;

use crate::route::Encryption;

/// What a figure is about. Units are in the names, last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Instructions of the whole machine a transaction, user space and kernel, at steady state.
    InstructionsPerTransaction,
    /// Cycles of the whole machine a transaction, at steady state.
    CyclesPerTransaction,
    /// Time that the machine's cores were busy with the bench a transaction, at steady state, in
    /// microseconds.
    BusyPerTransactionUs,
    /// CPU time of the route's own processes a transaction, in microseconds.
    RouteCpuPerTransactionUs,
    /// Context switches of the machine a transaction, at steady state.
    SwitchesPerTransaction,
    /// TCP segments sent by the machine a transaction, at steady state.
    SegmentsPerTransaction,
    /// Transactions (or logins, or rows) a second.
    RatePerS,
    /// Half of all transactions took no longer, in microseconds.
    P50Us,
    /// 99 of 100 took no longer, in microseconds.
    P99Us,
    /// 999 of 1,000 took no longer, in microseconds.
    P999Us,
    /// Application bytes a second.
    BytesPerS,
    /// Instructions of the whole machine a byte.
    InstructionsPerByte,
    /// Time that the machine's cores were busy with the bench a byte, in nanoseconds.
    BusyPerByteNs,
    /// CPU time of the route's own processes, in seconds.
    RouteCpuS,
    /// Memory of the route's processes with hardly any session, after some work, in bytes.
    BaseBytes,
    /// Memory of the route's processes an idle session, in bytes.
    UserBytesPerSession,
    /// Memory of the route's processes and of the kernel (slab, sockets, page tables) an idle
    /// session, in bytes.
    TotalBytesPerSession,
    /// Bytes that a route's processes have read for a client that does not read, and not yet
    /// written to it, a direction.
    HeldBytes,
    /// How much more memory the route's processes have while a client does not read, in bytes.
    HeldMemoryBytes,
    /// Bytes that wait in the kernel in the route's two sockets for a client that does not read.
    HeldKernelBytes,
    /// The longest that anybody waited for an answer, in microseconds.
    LongestUs,
    /// How many logins ended in one way.
    Logins,
    /// What a packet's verdict takes, in nanoseconds.
    PacketNs,
    /// What it takes to load a policy and to have the kernel confirm it, in microseconds.
    LoadUs,
    /// What the kernel has for the maps of a policy, in bytes.
    PolicyBytes,
}

/// One figure of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// The scenario's name: `select-prepared`.
    pub scenario: String,
    /// The route's name.
    pub route: String,
    /// Whether the client's leg is encrypted.
    pub encryption: Encryption,
    /// What tells one point of a scenario from another: `16 clients`, `1 MiB rows`, or nothing.
    pub point: String,
    /// The round, from 0. Figures of one round were made one after the other.
    pub round: usize,
    /// What it is.
    pub metric: Metric,
    /// The figure.
    pub value: f64,
}

/// What names a series of samples of several rounds.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// As in [`Sample`].
    pub scenario: &'a str,
    /// As in [`Sample`].
    pub route: &'a str,
    /// As in [`Sample`].
    pub encryption: Encryption,
    /// As in [`Sample`].
    pub point: &'a str,
    /// As in [`Sample`].
    pub metric: Metric,
}

/// All samples of a run, in the order in which they were made.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// All of them.
    pub fn all(&self) -> &[Sample] {
        &self.0
    }

    /// The values of a series, one a round, by round.
    pub fn rounds(&self, series: Series<'_>) -> Vec<(usize, f64)> {
        let mine = self.0.iter().filter(|it| {
            it.scenario == series.scenario
                && it.route == series.route
                && it.encryption == series.encryption
                && it.point == series.point
                && it.metric == series.metric
        });
        mine.map(|it| (it.round, it.value)).collect()
    }

    /// The median of a series over its rounds.
    pub fn median(&self, series: Series<'_>) -> Option<f64> {
        median(self.rounds(series).into_iter().map(|(_, value)| value))
    }

    /// The median over the rounds of the ratio of two series. Rounds that only one has are left
    /// out: a ratio is of figures that were made one after the other.
    pub fn ratio(&self, above: Series<'_>, below: Series<'_>) -> Option<f64> {
        self.combine(above, below, |above, below| above / below)
    }

    /// The median over the rounds of the difference of two series.
    pub fn difference(&self, from: Series<'_>, less: Series<'_>) -> Option<f64> {
        self.combine(from, less, |from, less| from - less)
    }

    fn combine(
        &self,
        one: Series<'_>,
        other: Series<'_>,
        with: impl Fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let others = self.rounds(other);
        let ones = self.rounds(one);
        let pairs = ones.iter().filter_map(|&(round, one)| {
            let (_, other) = others.iter().find(|it| it.0 == round)?;
            Some(with(one, *other))
        });
        median(pairs)
    }
}

/// The middle value; the mean of the middle two of an even number. `None` of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|it| it.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(middle - 1)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let mut samples = Samples::default();
        // The machine was twice as slow in the second round; the peer had no third.
        for (route, round, value) in [
            ("postern", 0, 10.0),
            ("peer", 0, 20.0),
            ("postern", 1, 20.0),
            ("peer", 1, 40.0),
            ("postern", 2, 99.0),
        ] {
            samples.push(Sample {
                scenario: "select".to_owned(),
                route: route.to_owned(),
                encryption: Encryption::Plain,
                point: String::new(),
                round,
                metric: Metric::RatePerS,
                value,
            });
        }
        let series = |route| Series {
            scenario: "select",
            route,
            encryption: Encryption::Plain,
            point: "",
            metric: Metric::RatePerS,
        };
        assert_eq!(samples.ratio(series("postern"), series("peer")), Some(0.5));
        assert_eq!(samples.median(series("postern")), Some(20.0));
        assert_eq!(samples.median(series("nobody")), None);
        assert_eq!(
            samples.difference(series("peer"), series("postern")),
            Some(15.0)
        );
    }
}
