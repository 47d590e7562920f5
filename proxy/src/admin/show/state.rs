//! The program, its configuration, and how what it rests on is.

use std::sync::Arc;

use postern_core::console::{Cell, Kind};

use super::{Columns, Row};
use crate::backend::Target;
use crate::check::{Outcome, Probe};
use crate::clock::now_ms;
use crate::config::Directory;
use crate::door::State;
use crate::gate::Gate;

pub(super) const VERSION: Columns = &[
    ("version", Kind::Text),
    ("pid", Kind::Integer),
    ("started_at", Kind::Time),
    ("running_s", Kind::Integer),
    ("logins", Kind::Text),
];

pub(super) const CONFIG: Columns = &[("key", Kind::Text), ("value", Kind::Text)];

pub(super) const BACKENDS: Columns = &[
    ("backend", Kind::Integer),
    ("host", Kind::Text),
    ("port", Kind::Integer),
    ("databases", Kind::Text),
    ("sslmode", Kind::Text),
    ("sessions", Kind::Integer),
];

/// Of what is looked at in intervals.
pub(super) const PARTS: Columns = &[
    ("part", Kind::Text),
    ("state", Kind::Text),
    ("detail", Kind::Text),
];

/// One row.
pub(super) fn version(gate: &Gate) -> Vec<Row> {
    let running = gate.started.elapsed();
    let running_ms = u64::try_from(running.as_millis()).unwrap_or(u64::MAX);
    let unix_ms = now_ms().saturating_sub(running_ms);
    let logins = match gate.door.state() {
        State::Open | State::KeptOpen => "open".to_owned(),
        State::Paused => format!("paused, {} wait", gate.door.waiting()),
        State::Draining { since, .. } => format!("draining for {} s", since.elapsed().as_secs()),
    };
    vec![vec![
        Cell::text(crate::VERSION),
        Cell::integer(std::process::id()),
        Cell::Time { unix_ms },
        Cell::integer(running.as_secs()),
        Cell::Text(logins),
    ]]
}

/// In the order of the keys. Secrets are in files, of which only the paths are here.
pub(super) fn config(gate: &Gate) -> Vec<Row> {
    let shown = gate.config.values.shown();
    let row = |(key, value)| vec![Cell::text(key), Cell::text(value)];
    shown.map(row).collect()
}

/// In the order of the configuration.
pub(super) fn backends(gate: &Gate) -> Vec<Row> {
    let live = gate.sessions.list();
    let row = |(index, target): (usize, &Arc<Target>)| {
        let theirs = live.iter();
        let theirs = theirs.filter(|(_, it)| it.target.host() == target.host());
        let databases = match target.config.databases.is_empty() {
            true => "all that no other one lists".to_owned(),
            false => target.config.databases.join(", "),
        };
        let number = index.saturating_add(1);
        vec![
            Cell::integer(number),
            Cell::text(&target.config.endpoint.host),
            Cell::integer(target.config.endpoint.port),
            Cell::Text(databases),
            setting(gate, &format!("backend {number}.sslmode")),
            Cell::integer(theirs.count()),
        ]
    };
    gate.targets.iter().enumerate().map(row).collect()
}

pub(super) fn directory(gate: &Gate) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Directory::Ldap(_) = &gate.config.directory {
        let mut shown = gate.config.values.shown();
        let urls = shown.find(|(key, _)| *key == "directory.urls");
        let servers = Cell::or_null(urls, |(_, value)| Cell::text(value));
        rows.push(part("servers", "configured", servers));
    }
    if let Some(local) = &gate.config.local {
        let file = Cell::text(local.file.display());
        rows.push(part("file of accounts", "configured", file));
    }
    rows.extend(looked_at(gate, "directory"));
    rows
}

pub(super) fn policy(gate: &Gate) -> Vec<Row> {
    looked_at(gate, "perimeter").collect()
}

/// What is remembered of the directory, and for how long.
pub(super) fn cache(gate: &Gate) -> Vec<Row> {
    let (cache, policy) = (&gate.config.cache, &gate.config.cache.policy);
    let figure = |name: &str, value: Cell| vec![Cell::text(name), value];
    vec![
        figure("people", Cell::integer(gate.authenticator.remembered())),
        figure("people_max", Cell::integer(cache.entries_max)),
        figure("recheck_s", Cell::integer(policy.recheck.as_secs())),
        figure("stale_s", Cell::integer(policy.stale.as_secs())),
        figure("dead_s", Cell::integer(policy.dead.as_secs())),
        figure("negative_s", Cell::integer(policy.negative.as_secs())),
    ]
}

/// What was seen last of a leg.
fn looked_at<'a>(gate: &Gate, leg: &'a str) -> impl Iterator<Item = Row> + use<'a> {
    let seen = gate.health.seen().into_iter();
    seen.filter(move |it| it.leg == leg).map(|probe: Probe| {
        let (state, detail) = match probe.outcome {
            Outcome::Ok { detail } => ("ok", detail),
            Outcome::Warning { why, cure } => ("warning", with_cure(why, &cure)),
            Outcome::Failed { why, cure } => ("failed", with_cure(why, &cure)),
        };
        part(&probe.what, state, Cell::Text(detail))
    })
}

fn with_cure(why: String, cure: &str) -> String {
    match cure {
        "" => why,
        cure => format!("{why}; {cure}"),
    }
}

fn part(part: &str, state: &str, detail: Cell) -> Row {
    vec![Cell::text(part), Cell::text(state), detail]
}

/// The value of a key.
fn setting(gate: &Gate, key: &str) -> Cell {
    let value = gate.config.values.get(key);
    Cell::or_null(value, |it| Cell::text(it.trim_matches('"')))
}
