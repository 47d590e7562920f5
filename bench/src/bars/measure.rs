//! How a bar's value is worked out of the samples.

use crate::bars::NOT_RUN;
use crate::bars::promises::{At, Of};
use crate::report::RouteSummary;
use crate::report::format::{figure, ratio};
use crate::route::Kind;
use crate::sample::{Metric, Samples, Series, median};
use crate::scenario::names;

/// What was found for a bar.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) value: Option<f64>,
    pub(super) note: String,
}

impl Found {
    pub(super) fn nothing(why: impl Into<String>) -> Self {
        Self {
            value: None,
            note: why.into(),
        }
    }

    /// Adds the ratio at another point to the note, if there is one.
    fn with_aside(
        mut self,
        point: Option<&'static str>,
        of: impl Fn(Option<&'static str>) -> Result<Self, String>,
    ) -> Self {
        // That the other point was not measured takes nothing from this one.
        let aside = point.and_then(|it| Some((it, of(Some(it)).ok()?.value?)));
        if let Some((point, value)) = aside {
            self.note = format!("{}; {point}: {}", self.note, ratio(value));
        }
        self
    }

    pub(super) fn with_note_before(mut self, note: &str) -> Self {
        self.note = format!("{note}: {}", self.note);
        self
    }
}

/// The figures of a run, and whose they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) samples: &'a Samples,
    pub(super) routes: &'a [RouteSummary],
}

/// Figures of the same thing, each with its round.
type Rounds = Vec<(usize, f64)>;

impl Measured<'_> {
    /// Works out a value.
    pub(super) fn find(&self, of: Of) -> Found {
        let found = match of {
            Of::AddedToBestPeer { at, cost, goal } => {
                Ok(self.added_to_best_peer(at, cost.exact, goal))
            }
            Of::AddedToPeer { at, metric, peer } => self.added_to_peer(at, metric, peer),
            Of::OfBestPeer { at, metric } => self.of_best_peer(at, metric),
            Of::OfDirect { at, metric, aside } => {
                let of = |point| self.of_direct(At { point, ..at }, metric);
                of(at.point).map(|it| it.with_aside(aside, of))
            }
            Of::Own { at, metric } => self.own(at, metric),
            Of::OfOtherPoint {
                at,
                other,
                metric,
                aside,
            } => {
                let of = |point| self.of_other_point(At { point, ..at }, other, metric);
                of(at.point).map(|it| it.with_aside(aside, of))
            }
        };
        found.unwrap_or_else(Found::nothing)
    }

    /// A cost in instructions as an emulator counted it.
    pub(super) fn emulated(&self, of: Of) -> Option<Found> {
        let Of::AddedToBestPeer { at, cost, goal } = of else {
            return None;
        };
        let point = at.point.filter(|it| *it != names::ONLY_POINT);
        let at = At {
            scenario: names::INSTRUCTIONS,
            point: point.or(Some(at.scenario)),
            ..at
        };
        let is_counted = self.rounds_of(Kind::Postern, at, cost.exact).is_ok();
        is_counted.then(|| self.added_to_best_peer(at, cost.exact, goal))
    }

    /// What takes the place of a cost in instructions where the machine does not count them.
    pub(super) fn stand_in(&self, of: Of) -> Option<Found> {
        let Of::AddedToBestPeer { at, cost, goal } = of else {
            return None;
        };
        let has = |metric| self.rounds_of(Kind::Postern, at, metric).is_ok();
        let is_needed = !has(cost.exact) && has(cost.stand_in);
        is_needed.then(|| self.added_to_best_peer(at, cost.stand_in, goal))
    }

    /// What Postern adds to direct, against what the peer adds that adds least.
    fn added_to_best_peer(&self, at: At, metric: Metric, goal: Option<f64>) -> Found {
        let found = self.added(Kind::Postern, at, metric).and_then(|ours| {
            let peers = self.peers().filter_map(|it| {
                let added = self.added_by(it, at, metric)?;
                Some((it, middle(&added)?, added))
            });
            let best = peers.min_by(|one, other| one.1.total_cmp(&other.1));
            let (name, _, theirs) = best.ok_or("no peer was measured here")?;
            let mut found = ratio_of_costs(&ours, name, &theirs, metric);
            if let (Some(value), Some(goal)) = (found.value, goal) {
                let word = if value <= goal {
                    "reached"
                } else {
                    "not reached"
                };
                found.note = format!("{}; the goal of {goal} is {word}", found.note);
            }
            Ok(found)
        });
        found.unwrap_or_else(Found::nothing)
    }

    fn added_to_peer(&self, at: At, metric: Metric, peer: &str) -> Result<Found, String> {
        let ours = self.added(Kind::Postern, at, metric)?;
        let theirs = self.added_by(peer, at, metric);
        let theirs = theirs.ok_or_else(|| format!("{peer} was not measured here"))?;
        Ok(ratio_of_costs(&ours, peer, &theirs, metric))
    }

    fn of_best_peer(&self, at: At, metric: Metric) -> Result<Found, String> {
        let ours = self.rounds_of(Kind::Postern, at, metric)?;
        let peers = self.peers().filter_map(|it| {
            let theirs = self.rounds(it, at, metric);
            Some((it, middle(&theirs)?, theirs))
        });
        let best = peers.max_by(|one, other| one.1.total_cmp(&other.1));
        let (name, _, theirs) = best.ok_or("no peer was measured here")?;
        ratio_of_rounds(&ours, &theirs, &format!("best peer {name}"))
    }

    fn of_direct(&self, at: At, metric: Metric) -> Result<Found, String> {
        let ours = self.rounds_of(Kind::Postern, at, metric)?;
        let theirs = self.rounds_of(Kind::Direct, at, metric);
        let theirs = theirs.map_err(|_| "direct was not measured here")?;
        ratio_of_rounds(&ours, &theirs, "against direct")
    }

    fn of_other_point(&self, at: At, other: &'static str, metric: Metric) -> Result<Found, String> {
        let ours = self.rounds_of(Kind::Postern, at, metric)?;
        let before = At {
            point: Some(other),
            ..at
        };
        let before = self.rounds_of(Kind::Postern, before, metric)?;
        ratio_of_rounds(&ours, &before, "Postern against itself")
    }

    fn own(&self, at: At, metric: Metric) -> Result<Found, String> {
        let ours = self.rounds_of(Kind::Postern, at, metric)?;
        let values: Vec<f64> = ours.iter().map(|it| it.1).collect();
        let value = middle(&ours).ok_or(NOT_RUN)?;
        if value < 0.0 {
            let text = figure(metric, value);
            return Err(format!(
                "{text} was found: the noise is larger than the cost"
            ));
        }
        let show = |value| figure(metric, value);
        Ok(Found {
            value: Some(value),
            note: spread(&values, show),
        })
    }

    /// The figures of Postern or of direct, by round.
    fn rounds_of(&self, kind: Kind, at: At, metric: Metric) -> Result<Rounds, String> {
        let route = self.routes.iter().find(|it| it.kind == kind);
        let rounds = route.map(|it| self.rounds(&it.name, at, metric));
        rounds.filter(|it| !it.is_empty()).ok_or_else(|| {
            let mut all = self.samples.all().iter();
            let is_run = all.any(|it| it.scenario == at.scenario && it.encryption == at.encryption);
            let why = if is_run {
                "this run has no such figure"
            } else {
                NOT_RUN
            };
            why.to_owned()
        })
    }

    /// What a route adds to direct, round by round.
    fn added(&self, kind: Kind, at: At, metric: Metric) -> Result<Rounds, String> {
        self.rounds_of(kind, at, metric)?;
        let route = self.routes.iter().find(|it| it.kind == kind);
        let added = route.and_then(|it| self.added_by(&it.name, at, metric));
        added.ok_or_else(|| "direct was not measured in the same rounds".to_owned())
    }

    fn added_by(&self, route: &str, at: At, metric: Metric) -> Option<Rounds> {
        let direct = self.rounds_of(Kind::Direct, at, metric).ok()?;
        let pairs = pairs(&self.rounds(route, at, metric), &direct);
        let added: Rounds = pairs.iter().map(|it| (it.0, it.1 - it.2)).collect();
        (!added.is_empty()).then_some(added)
    }

    fn rounds(&self, route: &str, at: At, metric: Metric) -> Rounds {
        let mut points = self.samples.all().iter().filter(|it| {
            it.scenario == at.scenario && it.encryption == at.encryption && it.metric == metric
        });
        let only = || points.next().map(|it| it.point.as_str());
        let rounds = self.samples.rounds(Series {
            scenario: at.scenario,
            route,
            encryption: at.encryption,
            point: at.point.or_else(only).unwrap_or_default(),
            metric,
        });
        rounds.into_iter().filter(|it| it.1.is_finite()).collect()
    }

    fn peers(&self) -> impl Iterator<Item = &str> {
        let peers = self.routes.iter().filter(|it| it.kind == Kind::Peer);
        peers.map(|it| it.name.as_str())
    }
}

/// The figures of the rounds that both have.
fn pairs(ones: &Rounds, others: &Rounds) -> Vec<(usize, f64, f64)> {
    let pairs = ones.iter().filter_map(|&(round, one)| {
        let other = others.iter().find(|it| it.0 == round)?;
        Some((round, one, other.1))
    });
    pairs.collect()
}

fn middle(rounds: &Rounds) -> Option<f64> {
    median(rounds.iter().map(|it| it.1))
}

/// The ratio of two throughputs or latencies: the median over the rounds.
fn ratio_of_rounds(ours: &Rounds, theirs: &Rounds, note: &str) -> Result<Found, String> {
    let pairs = pairs(ours, theirs);
    let usable = pairs.iter().filter(|it| it.1 > 0.0 && it.2 > 0.0);
    let ratios: Vec<f64> = usable.map(|it| it.1 / it.2).collect();
    let value = median(ratios.iter().copied());
    let value = value.ok_or_else(|| format!("{note}: no round has a figure of both"))?;
    Ok(Found {
        value: Some(value),
        note: format!("{note}; {}", spread(&ratios, ratio)),
    })
}

/// The ratio of two added costs: of their medians, because in a single round a difference of two
/// large figures may be next to nothing, or below it.
fn ratio_of_costs(ours: &Rounds, name: &str, theirs: &Rounds, metric: Metric) -> Found {
    let pairs = pairs(ours, theirs);
    let our_cost = median(pairs.iter().map(|it| it.1));
    let their_cost = median(pairs.iter().map(|it| it.2));
    let (Some(our_cost), Some(their_cost)) = (our_cost, their_cost) else {
        return Found::nothing(format!("Postern and {name} have no round in common"));
    };
    let costs = format!(
        "against {name}: Postern adds {}, {name} {}",
        figure(metric, our_cost),
        figure(metric, their_cost)
    );
    if our_cost <= 0.0 || their_cost <= 0.0 {
        let why = "the noise is larger than the cost, and their ratio is no figure";
        return Found::nothing(format!("{costs}: {why}"));
    }
    let usable = pairs.iter().filter(|it| it.1 > 0.0 && it.2 > 0.0);
    let ratios: Vec<f64> = usable.map(|it| it.1 / it.2).collect();
    let mut note = format!("{costs}; {}", spread(&ratios, ratio));
    if ratios.len() < pairs.len() {
        let count = pairs.len() - ratios.len();
        note = format!(
            "{note}; in {count} of {} rounds no cost could be seen",
            pairs.len()
        );
    }
    Found {
        value: Some(our_cost / their_cost),
        note,
    }
}

/// How far the rounds lie apart.
fn spread(values: &[f64], show: impl Fn(f64) -> String) -> String {
    let least = values.iter().copied().min_by(f64::total_cmp);
    let most = values.iter().copied().max_by(f64::total_cmp);
    match (least, most) {
        (Some(least), Some(most)) if values.len() > 1 => {
            format!(
                "{} to {} in {} rounds",
                show(least),
                show(most),
                values.len()
            )
        }
        (Some(_), Some(_)) => "one round".to_owned(),
        _ => "no round by itself".to_owned(),
    }
}
