//! Whether the running process and what it rests on are well: what `postern health` prints.
//!
//! It is looked at in intervals, on the control thread, and every change is logged, so that
//! nobody has to ask to be told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::time::interval;

use crate::check::{Outcome, Probe, failed};
use crate::gate::{CurrentPlane, Gate};
use crate::limits::{HEALTH_INTERVAL, STRANGERS_INTERVAL};
use crate::policy;

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Health {
    seen: Mutex<Vec<Probe>>,
    feed: Mutex<Option<Hearing>>,
    store: Mutex<Option<Hearing>>,
}

/// How the changes of something are heard of.
#[derive(Debug, Clone)]
pub(crate) struct Hearing {
    /// By which way, or why by none.
    what: Result<String, String>,
    since: Instant,
}

impl Hearing {
    /// They are heard of.
    pub(crate) fn by(way: String) -> Self {
        Self {
            what: Ok(way),
            since: Instant::now(),
        }
    }

    /// They are not.
    pub(crate) fn lost(error: String) -> Self {
        Self {
            what: Err(error),
            since: Instant::now(),
        }
    }

    fn probe(&self, (leg, what, cure): (&str, &str, &str)) -> Probe {
        let since_s = self.since.elapsed().as_secs();
        match &self.what {
            Ok(way) => Probe::ok(leg, what, format!("{way}, for {since_s} s")),
            Err(error) => {
                let why = format!("not heard of for {since_s} s: {error}");
                Probe::failed(leg, what, why, cure)
            }
        }
    }
}

impl Health {
    /// What was seen last; nothing before the first look.
    pub(crate) fn seen(&self) -> Vec<Probe> {
        let seen = self.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The feed follows a server of the directory, or does not any more.
    pub(crate) fn feed(&self, hearing: Hearing) {
        note(&self.feed, hearing);
    }

    /// No directory is followed any more.
    pub(crate) fn follows_none(&self) {
        *self.feed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What other proxies change in the role store is heard, or is not any more.
    pub(crate) fn store(&self, hearing: Hearing) {
        note(&self.store, hearing);
    }

    fn heard(&self) -> Vec<Probe> {
        const FEED: (&str, &str, &str) = (
            "directory",
            "changes of access",
            "look at the directory's servers",
        );
        const STORE: (&str, &str, &str) = (
            "role store",
            "changes by other proxies",
            "look at the role store's server",
        );
        let probe = |hearing: &Mutex<Option<Hearing>>, at| {
            let hearing = hearing.lock().unwrap_or_else(PoisonError::into_inner);
            hearing.as_ref().map(|it| it.probe(at))
        };
        let probes = [probe(&self.feed, FEED), probe(&self.store, STORE)];
        probes.into_iter().flatten().collect()
    }

    /// Takes what was seen now, and logs what has become of it since the last time.
    fn see(&self, probes: Vec<Probe>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_empty() || failed(&seen) > 0 || failed(&probes) > 0 {
            log_changes(&seen, &probes);
        }
        *seen = probes;
    }
}

/// What goes on goes on since it began.
fn note(place: &Mutex<Option<Hearing>>, hearing: Hearing) {
    let mut last = place.lock().unwrap_or_else(PoisonError::into_inner);
    let goes_on = |it: &&Hearing| it.what.is_err() && hearing.what.is_err();
    let since = last.as_ref().filter(goes_on).map(|it| it.since);
    *last = Some(Hearing {
        since: since.unwrap_or(hearing.since),
        ..hearing
    });
}

/// Looks for as long as the process runs.
pub(crate) async fn watch(current: Arc<CurrentPlane>) {
    let mut ticks = interval(HEALTH_INTERVAL);
    let mut strangers = Vec::new();
    let mut asked = None;
    loop {
        ticks.tick().await;
        let plane = current.get();
        let gate = &plane.gate;
        let perimeter = gate.config.perimeter.as_ref();
        if let Some(perimeter) = perimeter
            && asked.is_none_or(|at: Instant| at.elapsed() >= STRANGERS_INTERVAL)
        {
            asked = Some(Instant::now());
            strangers = vec![plane.role_store.strangers(&perimeter.plan).await];
        }
        let mut probes = vec![of_audit(gate)];
        probes.extend(gate.health.heard());
        probes.push(of_lag(gate));
        probes.extend(of_perimeter(perimeter.map(|it| it.state_file.as_path())));
        probes.extend(strangers.iter().cloned());
        gate.health.see(probes);
    }
}

fn of_audit(gate: &Gate) -> Probe {
    let what = gate.config.audit.file.display().to_string();
    match gate.audit.is_broken() {
        false => Probe::ok("audit", what, "written"),
        true => Probe::failed(
            "audit",
            what,
            "cannot be written: nobody may log in until it can",
            "make room on its disk",
        ),
    }
}

/// How long it took until access that was lost had gone, since the start.
fn of_lag(gate: &Gate) -> Probe {
    let lag = gate.lag.summary();
    let ms = |us: u64| us.div_ceil(1_000);
    let detail = match lag.count {
        0 => "none".to_owned(),
        count => format!(
            "{count}, from hearing of it to the last backend {} ms (median), {} ms (p99), {} ms \
             (slowest)",
            ms(lag.p50_us),
            ms(lag.p99_us),
            ms(lag.max_us)
        ),
    };
    Probe::ok("directory", "access lost since the start", detail)
}

fn of_perimeter(state_file: Option<&Path>) -> Vec<Probe> {
    match state_file {
        Some(path) => policy::probes(path),
        None => vec![Probe::ok(
            "perimeter",
            "policy of this machine",
            "none is configured here",
        )],
    }
}

/// Tells what has begun to fail, and what has ended. What is said of it may change meanwhile.
fn log_changes(before: &[Probe], now: &[Probe]) {
    let (before, now) = (failures(before), failures(now));
    for ((leg, what), why) in now.iter().filter(|(at, _)| !before.contains_key(*at)) {
        tracing::error!(leg, what, why, "not well");
    }
    for (leg, what) in before.keys().filter(|at| !now.contains_key(*at)) {
        tracing::info!(leg, what, "well again");
    }
}

/// What has failed, by leg and part, and why.
fn failures(probes: &[Probe]) -> BTreeMap<(&str, &str), &str> {
    let failed = probes.iter().filter_map(|it| match &it.outcome {
        Outcome::Failed { why, .. } => Some(((it.leg.as_str(), it.what.as_str()), why.as_str())),
        Outcome::Ok { .. } | Outcome::Warning { .. } => None,
    });
    failed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_what_is_told() {
        let health = Health::default();
        assert_eq!(health.seen(), []);
        let probe = Probe::failed("perimeter", "policy", "gone", "load it");
        health.see(vec![probe.clone()]);
        assert_eq!(health.seen(), [probe]);
        let well = Probe::ok("perimeter", "policy", "in force");
        health.see(vec![well.clone()]);
        assert_eq!(health.seen(), [well]);
    }
}
