//! How long it takes from a change in the directory until access has gone.

mod administrator;
mod audit;
mod looker;
mod site;
mod trial;
mod visits;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use postern_tests::needs;

use self::site::{OTHERS, SESSIONS, Site};
use self::trial::{Crowd, Trial};
use super::{Extent, Point, Recorder, Scenario, names};
use crate::limits::{REVOCATION_LIMIT, REVOCATION_VISIT_PAUSE};
use crate::load::latency::Latencies;
use crate::load::{float, run};
use crate::route::{Encryption, Kind, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many times access is taken away where a run has the time.
const TRIALS: u32 = 200;
/// How many times the database ends as many sessions alone.
const FLOORS: u32 = 10;

/// A person with a hundred live sessions loses the last group; others stay.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    /// How the changes were heard of, by the point.
    sources: Mutex<BTreeMap<&'static str, String>>,
}

/// How the directory's changes are heard of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The point of its figures.
    name: &'static str,
    server: Server,
    /// At what interval the directory is polled, in seconds; none where it tells its changes.
    poll_s: Option<u16>,
    /// Whether the change is made by another process than the one that tells it.
    is_elsewhere: bool,
    trials: u32,
    /// Each change is made at another moment of this time.
    phase: Duration,
}

/// Which directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    OpenLdap,
    Samba,
}

impl Scenario for Revocation {
    fn name(&self) -> &'static str {
        names::REVOCATION
    }

    /// Samba waits for seconds before it tells, two hundred times.
    fn is_on_request(&self) -> bool {
        true
    }

    fn shows(&self) -> &'static str {
        "a person with 100 live sessions loses the last group in the directory: from its answer \
         to the last backend gone, and to the last client's end"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let points = ways(extent).into_iter().map(|it| Point {
            name: it.name.to_owned(),
            encryption: Encryption::Plain,
            amount: u64::from(it.trials),
        });
        points.collect()
    }

    fn rounds(&self, _extent: Extent) -> usize {
        // A percentile of many changes is none of a few.
        1
    }

    fn measures(&self, route: &Route) -> bool {
        route.kind == Kind::Postern
    }

    fn facts(&self) -> Vec<(String, String)> {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split_whitespace().take(3).collect();
        let setup = format!(
            "{SESSIONS} sessions of one person and {OTHERS} of another, and beside them a login \
             every {} ms; the load average at the end was {}",
            REVOCATION_VISIT_PAUSE.as_millis(),
            load.join(", ")
        );
        let sources = self.sources().clone().into_iter();
        let sources = sources.map(|(way, source)| (format!("revocation, {way}"), source));
        let mut facts = vec![("revocation".to_owned(), setup)];
        facts.extend(sources);
        facts
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let ways = ways(stage.extent());
        let way = ways.iter().find(|it| it.name == point.name);
        let way = way.context("no such way")?;
        if let Some(missing) = way.missing() {
            recorder.gap(&format!(
                "revocation, {}: the directory cannot be started here, and nothing is known of \
                 its bounds: {missing}",
                way.name
            ));
            return Ok(());
        }
        let site = Site::start(stage, route, way)?;
        let mut found = Found::new()?;
        let limit = (REVOCATION_LIMIT + way.phase) * (way.trials * 2 + 1);
        let outcome = run(limit, async {
            let mut crowd = Crowd::gather(&site).await?;
            for _ in 0..way.trials.min(FLOORS) {
                found.floor.record(crowd.floor().await?);
            }
            // An earlier change may make Postern compare everybody just after a later one, which
            // then shows nothing of the feed.
            for number in 0..u64::from(way.trials) * 2 {
                if found.gone.count() == u64::from(way.trials) {
                    break;
                }
                let trial = crowd.trial(number, way.phase).await;
                let trial = trial.with_context(|| format!("change {number}"))?;
                found.add(&trial, way);
            }
            Ok(())
        });
        // What was found before a change failed is told; the failure is a gap.
        found.record(way, recorder);
        self.sources().insert(way.name, site.source()?);
        outcome
    }
}

impl Revocation {
    fn sources(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // Whoever panicked meanwhile left it whole.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    fn missing(&self) -> Option<String> {
        match self.server {
            Server::OpenLdap => needs::missing_for_openldap(),
            Server::Samba => needs::missing_for_samba(),
        }
    }

    /// Where it is heard of by this way, as the audit file has it.
    fn heard_by(&self) -> &'static str {
        match self.poll_s {
            None => "feed",
            Some(_) => "comparison",
        }
    }
}

fn ways(extent: Extent) -> Vec<Way> {
    let openldap = Way {
        name: names::OPENLDAP,
        server: Server::OpenLdap,
        poll_s: None,
        is_elsewhere: false,
        trials: TRIALS,
        // A few logins beside.
        phase: Duration::from_millis(100),
    };
    let itself = Way {
        name: names::SAMBA_ITSELF,
        server: Server::Samba,
        trials: 20,
        ..openldap
    };
    let samba = Way {
        name: names::SAMBA,
        // What others of its processes have changed, Samba looks for every five seconds.
        is_elsewhere: true,
        phase: Duration::from_secs(5),
        trials: TRIALS,
        ..itself
    };
    // Each change comes soon after the poll that found the one before: nearly the longest wait.
    let polled = |name, poll_s, trials| Way {
        name,
        poll_s: Some(poll_s),
        trials,
        ..openldap
    };
    match extent {
        Extent::Quick => vec![
            Way {
                trials: 10,
                ..openldap
            },
            Way { trials: 5, ..samba },
            Way {
                trials: 3,
                ..itself
            },
            polled(names::POLLED_QUICKLY, 5, 3),
        ],
        Extent::Full => vec![openldap, samba, itself, polled(names::POLLED, 30, 10)],
    }
}

/// What all changes together came to.
struct Found {
    /// From the directory's answer to the last backend gone.
    gone: Latencies,
    /// What the database takes alone.
    floor: Latencies,
    /// Parts of it, and what else was measured, by what is added to the point's name.
    parts: BTreeMap<&'static str, Latencies>,
    /// How the logins beside were answered.
    answers: BTreeMap<String, u64>,
    /// Logins that were accepted though they began after the loss was on record.
    too_late: u64,
    /// Where the changes were heard of.
    heard: BTreeMap<String, u64>,
}

impl Found {
    fn new() -> Result<Self> {
        let parts = [CHANGE, HEARING, FROM_HEARING, TOLD, CLOSED, LOOK];
        let parts = parts
            .into_iter()
            .map(|it| Ok((it, Latencies::new()?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            gone: Latencies::new()?,
            floor: Latencies::new()?,
            parts,
            answers: BTreeMap::new(),
            too_late: 0,
            heard: BTreeMap::new(),
        })
    }

    fn add(&mut self, trial: &Trial, way: &Way) {
        *self.heard.entry(trial.heard.clone()).or_default() += 1;
        self.too_late += trial.too_late;
        for (answer, count) in &trial.answers {
            *self.answers.entry(answer.clone()).or_default() += count;
        }
        if trial.heard != way.heard_by() {
            return;
        }
        self.gone.record(trial.gone);
        for (part, took) in [
            (CHANGE, trial.change),
            (HEARING, trial.hearing),
            (FROM_HEARING, trial.from_hearing),
            (TOLD, trial.told),
            (CLOSED, trial.closed),
            (LOOK, trial.look),
        ] {
            if let Some(latencies) = self.parts.get_mut(part) {
                latencies.record(took);
            }
        }
    }

    fn record(&self, way: &Way, recorder: &mut Recorder<'_>) {
        if self.gone.count() == 0 {
            return;
        }
        percentiles(&self.gone, recorder);
        for (part, latencies) in self.parts.iter().chain([(&FLOOR, &self.floor)]) {
            let point = format!("{}: {part}", way.name);
            percentiles(latencies, &mut recorder.at(&point));
        }
        let mut logins = |part: &str, count: u64| {
            let point = format!("{}: {part}", way.name);
            recorder.at(&point).figure(Metric::Logins, float(count));
        };
        logins(TOO_LATE, self.too_late);
        for (answer, count) in &self.answers {
            logins(&format!("logins {answer}"), *count);
        }
        let all: u64 = self.heard.values().sum();
        let otherwise = self.heard.iter().filter(|it| it.0 != way.heard_by());
        for (heard, count) in otherwise {
            recorder.gap(&format!(
                "revocation, {}: {count} of {all} changes were heard of by a {heard} first, and \
                 are left out of the times",
                way.name
            ));
        }
    }
}

/// From the request of the change to its answer: when it was committed in between is not known.
const CHANGE: &str = "the change itself";
/// From the answer until Postern heard of it.
const HEARING: &str = "until it is heard of";
/// From there to the last backend gone, as Postern has it on record.
const FROM_HEARING: &str = "from hearing of it on";
/// From the answer to the first client's last message.
const TOLD: &str = "the first client told";
/// From the answer to the end of the last client's connection.
const CLOSED: &str = "the last client closed";
/// What one look at the backends takes: the figures are too large by less than two of them.
const LOOK: &str = "a look at the backends";
/// As many sessions with the database itself, from `pg_terminate_backend` on.
const FLOOR: &str = "the database alone";
/// As in [`Found`].
const TOO_LATE: &str = "accepted too late";

fn percentiles(latencies: &Latencies, recorder: &mut Recorder<'_>) {
    recorder.figure_if_any(Metric::P50Us, latencies.at_us(0.5));
    recorder.figure_if_any(Metric::P99Us, latencies.at_us(0.99));
    recorder.figure_if_any(Metric::LongestUs, latencies.longest_us());
}
