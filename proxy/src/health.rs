//! Whether the running process and what it rests on are well: what `postern health` prints.
//!
//! It is looked at in intervals, on the control thread, and every change is logged, so that
//! nobody has to ask to be told.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::audit::Room;
use crate::check::{Outcome, Probe, certificate_outcome};
use crate::control::byte_count;
use crate::gate::{CurrentPlane, Gate};
use crate::limits::{AUDIT_WAIT, HEALTH_AGE_MAX, HEALTH_INTERVAL, STRANGERS_INTERVAL};
use crate::policy;

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Health {
    seen: Mutex<Seen>,
    strangers: Mutex<Option<Probe>>,
    room: Mutex<Option<Room>>,
    feed: Mutex<Option<Hearing>>,
    store: Mutex<Option<Hearing>>,
}

/// What the last look has found, and when that was.
#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    probes: Vec<Probe>,
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
    /// What was seen last; nothing before the first look. That nobody has looked for long is a
    /// failure by itself.
    pub(crate) fn seen(&self) -> Vec<Probe> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut probes = seen.probes.clone();
        probes.extend(seen.at.and_then(|at| of_age(at.elapsed())));
        probes
    }

    /// The room of the audit file, as it was seen last; none when it cannot be looked at.
    pub(crate) fn room(&self) -> Option<Room> {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner)
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
        log_changes(&seen.probes, &probes);
        *seen = Seen {
            at: Some(Instant::now()),
            probes,
        };
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

/// Looks for as long as the process runs. It waits for nobody else than the audit file's disk, and
/// for that not long.
pub(crate) async fn watch(current: Arc<CurrentPlane>) {
    let mut ticks = interval(HEALTH_INTERVAL);
    let mut looking = Looking::default();
    loop {
        ticks.tick().await;
        let gate = &current.gate();
        let perimeter = gate.config.perimeter.as_ref();
        let room = looking.room(gate.audit.path()).await;
        *gate
            .health
            .room
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = room.as_ref().ok().copied();
        let mut probes = vec![of_audit(gate, room)];
        probes.extend(gate.health.heard());
        probes.push(of_lag(gate));
        probes.extend(of_certificate(gate));
        probes.extend(of_perimeter(perimeter.map(|it| it.state_file.as_path())));
        let strangers = gate.health.strangers.lock();
        probes.extend(strangers.unwrap_or_else(PoisonError::into_inner).clone());
        gate.health.see(probes);
    }
}

/// Asks the database for backends of strangers for as long as the process runs. Beside the other
/// looks, because a database may take long to answer.
pub(crate) async fn watch_strangers(current: Arc<CurrentPlane>) {
    let mut ticks = interval(STRANGERS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let plane = current.get();
        let gate = &plane.gate;
        let seen = match &gate.config.perimeter {
            Some(perimeter) => Some(plane.role_store.strangers(&perimeter.plan).await),
            None => None,
        };
        let last = gate.health.strangers.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

/// The look at the audit file's disk, on a thread of its own, because a disk may hang.
#[derive(Default)]
struct Looking(Option<JoinHandle<io::Result<Room>>>);

impl Looking {
    /// Waits for the look that is under way, or for a new one, but not for long.
    async fn room(&mut self, file: &Path) -> Result<Room, String> {
        let begin = || {
            let file = file.to_owned();
            spawn_blocking(move || Room::of(&file))
        };
        let looking = self.0.get_or_insert_with(begin);
        let Ok(seen) = timeout(AUDIT_WAIT, looking).await else {
            return Err(format!("no answer in {} s", AUDIT_WAIT.as_secs()));
        };
        self.0 = None;
        let seen = seen.map_err(io::Error::other).and_then(|it| it);
        seen.map_err(|error| error.to_string())
    }
}

/// That nobody has looked for so long, if it is long.
fn of_age(age: Duration) -> Option<Probe> {
    let why = format!("{} s ago: what is said here may be over", age.as_secs());
    let cure = "a defect of Postern: please report what the log says of it, and restart";
    (age > HEALTH_AGE_MAX).then(|| Probe::failed("health", "last look", why, cure))
}

fn of_audit(gate: &Gate, room: Result<Room, String>) -> Probe {
    let what = gate.audit.path().display().to_string();
    if gate.audit.is_broken() {
        let why = "cannot be written: nobody may log in until it can";
        return Probe::failed("audit", what, why, "make room on its disk");
    }
    if gate.audit.has_hung_for(AUDIT_WAIT) {
        let why = "its disk does not answer: nobody may log in until it does";
        return Probe::failed("audit", what, why, "look at its disk");
    }
    of_room(what, room)
}

fn of_room(what: String, room: Result<Room, String>) -> Probe {
    match room {
        Ok(room) if room.is_low() => {
            let (free, wanted) = (byte_count(room.free_bytes), byte_count(room.wanted_bytes()));
            let why = format!(
                "{free} are free on its disk, and {wanted} should be: when it is full nobody may \
                 log in"
            );
            let cure = "postern audit rotate, and take closed files away; or enlarge the disk";
            Probe::warning("audit", what, why, cure)
        }
        Ok(room) => {
            let (has, free) = (byte_count(room.file_bytes), byte_count(room.free_bytes));
            Probe::ok(
                "audit",
                what,
                format!("written: {has}, and {free} are free"),
            )
        }
        Err(why) => {
            let why = format!("written, but nobody knows how much room is left: {why}");
            Probe::warning("audit", what, why, "look at its disk")
        }
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

/// The certificate that clients are shown now, whatever its file has since it was read.
fn of_certificate(gate: &Gate) -> Option<Probe> {
    let facts = gate.identity.as_ref()?.facts.as_ref()?;
    let outcome = certificate_outcome(facts);
    Some(Probe::new("listener", "certificate", outcome))
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

/// Tells what has begun to fail or to be worth a warning, and what has ended. What is said of it
/// may change meanwhile.
fn log_changes(before: &[Probe], now: &[Probe]) {
    let (before, now) = (troubles(before), troubles(now));
    for (at @ (leg, what), (is_failure, why)) in &now {
        if before
            .get(at)
            .is_some_and(|(was_failure, _)| was_failure == is_failure)
        {
            continue;
        }
        match is_failure {
            true => tracing::error!(leg, what, why, "not well"),
            false => tracing::warn!(leg, what, why, "well, with a warning"),
        }
    }
    for (leg, what) in before.keys().filter(|at| !now.contains_key(*at)) {
        tracing::info!(leg, what, "well again");
    }
}

/// What is not as it should be, by leg and part: whether it has failed, and why.
fn troubles(probes: &[Probe]) -> BTreeMap<(&str, &str), (bool, &str)> {
    let troubles = probes.iter().filter_map(|it| {
        let (is_failure, why) = match &it.outcome {
            Outcome::Failed { why, .. } => (true, why.as_str()),
            Outcome::Warning { why, .. } => (false, why.as_str()),
            Outcome::Ok { .. } => return None,
        };
        Some(((it.leg.as_str(), it.what.as_str()), (is_failure, why)))
    });
    troubles.collect()
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

    #[test]
    fn what_was_seen_long_ago_is_not_called_well() {
        assert_eq!(of_age(HEALTH_AGE_MAX), None);
        let health = Health::default();
        health.see(vec![Probe::ok("perimeter", "policy", "in force")]);
        let long = HEALTH_AGE_MAX + Duration::from_secs(1);
        let mut seen = health.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.at = Instant::now().checked_sub(long);
        drop(seen);
        let told = health.seen();
        assert!(
            matches!(told.as_slice(), [_, Probe { outcome: Outcome::Failed { why, .. }, .. }]
                if why.starts_with("31 s ago")),
            "{told:?}"
        );
    }

    #[test]
    fn a_disk_that_fills_is_warned_of_while_records_are_written() {
        let room = |free_bytes| Room {
            file_bytes: 12_345,
            free_bytes,
            whole_bytes: 256_000_000,
        };
        let of = |room| of_room("audit.jsonl".to_owned(), room).outcome;
        assert_eq!(
            of(Ok(room(80_000_000))),
            Outcome::Ok {
                detail: "written: 12 kB, and 80 MB are free".to_owned()
            }
        );
        let low = of(Ok(room(60_000_000)));
        assert!(
            matches!(&low, Outcome::Warning { why, .. } if why.starts_with("60 MB are free")),
            "{low:?}"
        );
        let unknown = of(Err("gone".to_owned()));
        assert!(
            matches!(&unknown, Outcome::Warning { why, .. } if why.ends_with(": gone")),
            "{unknown:?}"
        );
    }
}
