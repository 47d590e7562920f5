//! The figures of a report as its tables and plots show them: medians, spreads, ratios.

use crate::report::Report;
use crate::route::{Encryption, Kind};
use crate::sample::{Metric, Series, median};
use crate::scenario;

/// A scenario with the client's leg plain or encrypted: one table, and one row of plots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The scenario's name.
    pub scenario: String,
    /// Whether the client's leg is encrypted.
    pub encryption: Encryption,
    /// Its points, in the order in which they were measured.
    pub points: Vec<String>,
    /// What was measured, the most telling first.
    pub metrics: Vec<Metric>,
}

/// A series of rounds in short.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The median over the rounds.
    pub median: f64,
    /// The least of them.
    pub least: f64,
    /// The most of them.
    pub most: f64,
    /// The median ratio to direct, round by round; `None` for direct itself, and where direct was
    /// not measured.
    pub to_direct: Option<f64>,
}

/// What a metric is called.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// In a heading: `throughput`.
    pub title: &'static str,
    /// On an axis: `transactions a second`.
    pub axis: &'static str,
}

/// Every metric, the most telling first.
const ORDER: [Metric; 25] = [
    Metric::RatePerS,
    Metric::BytesPerS,
    Metric::InstructionsPerTransaction,
    Metric::InstructionsPerByte,
    Metric::BusyPerTransactionUs,
    Metric::BusyPerByteNs,
    Metric::P50Us,
    Metric::P99Us,
    Metric::P999Us,
    Metric::UserBytesPerSession,
    Metric::TotalBytesPerSession,
    Metric::BaseBytes,
    Metric::HeldBytes,
    Metric::HeldMemoryBytes,
    Metric::HeldKernelBytes,
    Metric::LongestUs,
    Metric::Logins,
    Metric::PacketNs,
    Metric::LoadUs,
    Metric::PolicyBytes,
    Metric::CyclesPerTransaction,
    Metric::RouteCpuPerTransactionUs,
    Metric::RouteCpuS,
    Metric::SwitchesPerTransaction,
    Metric::SegmentsPerTransaction,
];

/// The scenarios that a report has figures of, in the order in which they were measured.
pub fn places(report: &Report) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for sample in report.samples.all() {
        let known = places
            .iter()
            .position(|it| it.scenario == sample.scenario && it.encryption == sample.encryption);
        let index = known.unwrap_or_else(|| {
            places.push(Place {
                scenario: sample.scenario.clone(),
                encryption: sample.encryption,
                points: Vec::new(),
                metrics: Vec::new(),
            });
            places.len() - 1
        });
        let Some(place) = places.get_mut(index) else {
            continue;
        };
        if !place.points.contains(&sample.point) {
            place.points.push(sample.point.clone());
        }
        if !place.metrics.contains(&sample.metric) {
            place.metrics.push(sample.metric);
        }
    }
    let rank = |metric: &Metric| {
        let place = ORDER.iter().position(|it| it == metric);
        place.unwrap_or(ORDER.len())
    };
    for place in &mut places {
        place.metrics.sort_by_key(rank);
    }
    places
}

impl Place {
    /// What the scenario and its encryption are called together.
    pub fn title(&self) -> String {
        let encryption = match self.encryption {
            Encryption::Plain => "plain",
            Encryption::Tls => "client TLS",
        };
        format!("{}, {encryption}", self.scenario)
    }

    /// What the scenario shows, in a sentence.
    pub fn about(&self) -> Option<&'static str> {
        let scenarios = scenario::all();
        let scenario = scenarios.iter().find(|it| it.name() == self.scenario);
        scenario.map(|it| it.shows())
    }

    /// A route's figure at a point.
    pub fn cell(&self, report: &Report, point: &str, route: &str, metric: Metric) -> Option<Cell> {
        let rounds = report.samples.rounds(self.series(point, route, metric));
        let mut cell = Cell::of(rounds.iter().map(|it| it.1))?;
        let relative = self.relative(report, point, route, metric);
        cell.to_direct = relative.map(|it| it.median);
        Some(cell)
    }

    /// A route's figure as a ratio to direct at a point, round by round; `None` for direct itself.
    pub fn relative(
        &self,
        report: &Report,
        point: &str,
        route: &str,
        metric: Metric,
    ) -> Option<Cell> {
        self.against_direct(report, (point, route, metric), |own, direct| own / direct)
    }

    /// What a route adds to direct at a point, round by round; `None` for direct itself.
    pub fn added(&self, report: &Report, point: &str, route: &str, metric: Metric) -> Option<Cell> {
        self.against_direct(report, (point, route, metric), |own, direct| own - direct)
    }

    fn against_direct(
        &self,
        report: &Report,
        (point, route, metric): (&str, &str, Metric),
        with: impl Fn(f64, f64) -> f64,
    ) -> Option<Cell> {
        let direct = direct(report).filter(|it| *it != route)?;
        let theirs = report.samples.rounds(self.series(point, direct, metric));
        let ours = report.samples.rounds(self.series(point, route, metric));
        let both = ours.iter().filter_map(|(round, value)| {
            let other = theirs.iter().find(|it| it.0 == *round)?;
            Some(with(*value, other.1))
        });
        Cell::of(both)
    }

    fn series<'a>(&'a self, point: &'a str, route: &'a str, metric: Metric) -> Series<'a> {
        Series {
            scenario: &self.scenario,
            route,
            encryption: self.encryption,
            point,
            metric,
        }
    }
}

impl Cell {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.filter(|it| it.is_finite()).collect();
        Some(Self {
            median: median(values.iter().copied())?,
            least: values.iter().copied().min_by(f64::total_cmp)?,
            most: values.iter().copied().max_by(f64::total_cmp)?,
            to_direct: None,
        })
    }

    /// How far the farthest round is from the median, in per cent of it; `None` where that says
    /// nothing.
    pub fn spread_percent(&self) -> Option<f64> {
        let farthest = (self.most - self.median).max(self.median - self.least);
        let percent = 100.0 * farthest / self.median.abs();
        (farthest > 0.0 && percent.is_finite()).then_some(percent)
    }
}

/// What a metric is called where `scenario` measures it.
pub fn about(metric: Metric, scenario: &str) -> About {
    let (title, axis) = match metric {
        Metric::RatePerS if scenario.starts_with("logins") => ("logins", "logins a second"),
        Metric::RatePerS if scenario == "rows" => ("rows", "rows a second"),
        Metric::RatePerS => ("throughput", "transactions a second"),
        Metric::BytesPerS => ("throughput", "MB a second"),
        Metric::InstructionsPerTransaction => ("instructions", "instructions a transaction"),
        Metric::InstructionsPerByte => ("instructions a byte", "instructions a byte"),
        Metric::CyclesPerTransaction => ("cycles", "cycles a transaction"),
        Metric::BusyPerTransactionUs => ("busy time", "busy µs a transaction"),
        Metric::BusyPerByteNs => ("busy time a byte", "busy ns a byte"),
        Metric::RouteCpuPerTransactionUs => ("proxy's CPU time", "CPU µs a transaction"),
        Metric::RouteCpuS => ("proxy's CPU time", "CPU seconds"),
        Metric::SwitchesPerTransaction => ("context switches", "switches a transaction"),
        Metric::SegmentsPerTransaction => ("TCP segments", "segments a transaction"),
        Metric::P50Us => ("p50", "p50 latency, µs"),
        Metric::P99Us => ("p99", "p99 latency, µs"),
        Metric::P999Us => ("p99.9", "p99.9 latency, µs"),
        Metric::UserBytesPerSession => ("user space", "bytes a session"),
        Metric::TotalBytesPerSession => ("with the kernel", "bytes a session"),
        Metric::BaseBytes => ("without sessions", "bytes"),
        Metric::HeldBytes => ("read and not written", "bytes"),
        Metric::HeldMemoryBytes => ("more memory", "bytes"),
        Metric::HeldKernelBytes => ("held in the kernel", "bytes"),
        Metric::LongestUs => ("longest wait", "µs"),
        Metric::Logins => ("logins that ended so", "logins"),
        Metric::PacketNs => ("a packet's verdict", "ns a packet"),
        Metric::LoadUs => ("load and verify", "µs"),
        Metric::PolicyBytes => ("memory of the policy", "bytes"),
    };
    About { title, axis }
}

/// Whether a figure is a cost of which the part above direct is what a proxy costs.
pub fn is_cost(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::InstructionsPerTransaction
            | Metric::InstructionsPerByte
            | Metric::BusyPerTransactionUs
            | Metric::BusyPerByteNs
    )
}

/// Whether a figure is a latency.
pub fn is_latency(metric: Metric) -> bool {
    matches!(metric, Metric::P50Us | Metric::P99Us | Metric::P999Us)
}

fn direct(report: &Report) -> Option<&str> {
    let direct = report.routes.iter().find(|it| it.kind == Kind::Direct)?;
    Some(&direct.name)
}
