//! What a run measures: the table of scenarios, and what one of them is.

mod cold_logins;
mod copy;
mod direct_rate;
mod fairness;
mod idle;
mod instructions;
mod ldap;
mod logins;
pub mod names;
mod open_loop;
mod perimeter;
mod revocation;
mod rows;
mod select;
mod slow_reader;
mod storm;
mod tpcb;

use anyhow::Result;

use crate::route::{Encryption, Route};
use crate::sample::{Metric, Sample, Samples};
use crate::stage::Stage;

/// Every scenario, in the order in which a run measures them.
#[must_use]
pub fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(instructions::Instructions::default()),
        Box::new(select::Select::prepared()),
        Box::new(select::Select::simple()),
        Box::new(tpcb::Tpcb),
        Box::new(copy::Copy::out()),
        Box::new(copy::Copy::into()),
        Box::new(open_loop::OpenLoop::default()),
        Box::new(rows::Rows),
        Box::new(fairness::Fairness::default()),
        Box::new(slow_reader::SlowReader::default()),
        Box::new(logins::Logins),
        Box::new(cold_logins::ColdLogins),
        Box::new(storm::Storm),
        Box::new(idle::Idle),
        Box::new(perimeter::Perimeter),
        Box::new(revocation::Revocation::default()),
    ]
}

/// How thorough a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All scenarios together take less than five minutes on two cores.
    Quick,
    /// More clients, more bytes and longer than a quick run, as many rounds as an hour allows.
    Full,
}

/// Something that is measured in the same way on every route.
pub trait Scenario {
    /// Its name in all samples: `select-prepared`.
    fn name(&self) -> &'static str;

    /// What it shows, in one sentence.
    fn shows(&self) -> &'static str;

    /// Whether it is measured only when it is asked for by name: what takes longer than all the
    /// others together.
    fn is_on_request(&self) -> bool {
        false
    }

    /// Its points, in the order in which they are measured.
    fn points(&self, extent: Extent) -> Vec<Point>;

    /// How often every route is measured at each point. A run leaves further rounds out when its
    /// time is over.
    fn rounds(&self, extent: Extent) -> usize {
        match extent {
            Extent::Quick => 3,
            Extent::Full => 5,
        }
    }

    /// Whether a route is measured at all; one that cannot do the point's encryption never is.
    fn measures(&self, _route: &Route) -> bool {
        true
    }

    /// What the report should say of how it was measured, by name; asked for after the last round.
    fn facts(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Measures one route once.
    ///
    /// # Errors
    /// If it cannot be measured: that is a gap in the report, and the route is left out of the
    /// point's further rounds.
    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()>;
}

/// One point of a scenario: a place on the axis of its plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its name in all samples: `16 clients`, `1 MiB rows`, or nothing.
    pub name: String,
    /// Whether the client's leg is encrypted.
    pub encryption: Encryption,
    /// What the name counts, for the scenario's own use: clients, bytes.
    pub amount: u64,
}

impl Point {
    /// A number of clients.
    #[must_use]
    pub fn clients(amount: u64, encryption: Encryption) -> Self {
        let name = match amount {
            1 => "1 client".to_owned(),
            _ => format!("{amount} clients"),
        };
        Self {
            name,
            encryption,
            amount,
        }
    }
}

/// Where a scenario puts the figures of one route, point and round.
#[derive(Debug)]
pub struct Recorder<'a> {
    /// All figures of the run.
    pub samples: &'a mut Samples,
    /// What could not be measured.
    pub gaps: &'a mut Vec<String>,
    /// As in [`Sample`].
    pub scenario: &'a str,
    /// As in [`Sample`].
    pub route: &'a str,
    /// As in [`Sample`].
    pub encryption: Encryption,
    /// As in [`Sample`].
    pub point: &'a str,
    /// As in [`Sample`].
    pub round: usize,
}

impl Recorder<'_> {
    /// Adds a figure.
    pub fn figure(&mut self, metric: Metric, value: f64) {
        self.samples.push(Sample {
            scenario: self.scenario.to_owned(),
            route: self.route.to_owned(),
            encryption: self.encryption,
            point: self.point.to_owned(),
            round: self.round,
            metric,
            value,
        });
    }

    /// Adds a figure that may be missing, hardware counters for example.
    pub fn figure_if_any(&mut self, metric: Metric, value: Option<f64>) {
        if let Some(value) = value {
            self.figure(metric, value);
        }
    }

    /// Says once that something cannot be measured here, and why.
    pub fn gap(&mut self, why: &str) {
        if !self.gaps.iter().any(|it| it == why) {
            self.gaps.push(why.to_owned());
        }
    }

    /// The same place at another point, for a scenario that has figures of several at once.
    pub fn at<'b>(&'b mut self, point: &'b str) -> Recorder<'b> {
        Recorder {
            samples: self.samples,
            gaps: self.gaps,
            scenario: self.scenario,
            route: self.route,
            encryption: self.encryption,
            point,
            round: self.round,
        }
    }
}
