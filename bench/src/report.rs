//! What a run leaves: a table in the terminal, JSON, and a page with plots.

#[cfg(test)]
pub(crate) mod example;
pub mod figures;
pub mod format;
pub mod page;
pub mod plot;
pub mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::route::Kind;
use crate::sample::Samples;

/// Everything that was found out in a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `quick` or `full`, or `partial` when only some scenarios ran.
    pub extent: String,
    /// The machine, by name: `cores`, `memory`, `kernel`, `hardware counters`, `postgresql`.
    pub machine: BTreeMap<String, String>,
    /// The commit that was built, with `+changes` when the tree was not clean.
    pub commit: String,
    /// When the run began, RFC 3339, UTC.
    pub began: String,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// The command that was given.
    pub command: String,
    /// The routes, in the order of the tables: direct, Postern, the peers.
    pub routes: Vec<RouteSummary>,
    /// Every bar, met or not.
    pub bars: Vec<Bar>,
    /// What could not be measured here, and why.
    pub gaps: Vec<String>,
    /// Every raw figure.
    pub samples: Samples,
}

/// A route, as the report shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSummary {
    /// As in [`crate::route::Route`].
    pub name: String,
    /// As in [`crate::route::Route`].
    pub kind: Kind,
    /// As in [`crate::route::Route`].
    pub version: String,
    /// As in [`crate::route::Route`].
    pub configuration: String,
}

/// A promised figure, and what this run found.
#[derive(Debug, Clone, Serialize)]
pub struct Bar {
    /// What it is about, stable from run to run: `plain, 16 clients: added instructions a
    /// transaction, against the best peer`.
    pub name: String,
    /// What was found; `None` when it could not be measured.
    pub value: Option<f64>,
    /// What is promised.
    pub bound: f64,
    /// Whether a value must be at most or at least the bound.
    pub sense: Sense,
    /// The unit of both: `ratio`, `us`, `bytes`.
    pub unit: String,
    /// Whether it holds; `None` when it could not be measured.
    pub met: Option<bool>,
    /// What it was compared with, how much the rounds differ, or why there is no value.
    pub note: String,
}

/// On which side of its bound a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sense {
    /// The value is at most the bound.
    AtMost,
    /// The value is at least the bound.
    AtLeast,
}
