//! What is in force, by the kernel's own word, and how it differs from the configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use postern_core::perimeter::Place;

use super::clock;
use super::drift::{self, Drift, LOAD};
use super::error::PolicyError;
use super::hook::{At, Hook};
use super::inspect::{self, Found, Way};
use super::maps::{Bank, Counts, Maps};
use super::pins::{Pins, Record, Set};
use super::wanted::Wanted;
use super::{load, nft, object, places};
use crate::config::Perimeter;

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Status {
    /// Whether the policy is in force and as configured.
    pub(crate) in_force: bool,
    /// Where it stands.
    pub(crate) place: &'static str,
    /// `enforce` or `monitor`, as it is in force.
    pub(crate) mode: &'static str,
    /// Counts the policies that have been in force.
    pub(crate) generation: u64,
    /// When it was loaded, in milliseconds of Unix time.
    pub(crate) loaded_at_ms: Option<u64>,
    /// Where programs stand.
    pub(crate) hooks: Vec<HookStatus>,
    /// How many prefixes are protected.
    pub(crate) protected: usize,
    /// How many sources are allowed.
    pub(crate) allowed: usize,
    /// Interfaces that are awaited, and shut.
    pub(crate) awaited: Vec<String>,
    /// What nftables does beside the programs.
    pub(crate) default_drop: &'static str,
    /// Packets and calls that passed, by reason.
    pub(crate) passed: BTreeMap<&'static str, u64>,
    /// Packets and calls that were not to pass, by reason.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// Denials that were not reported because there were too many.
    pub(crate) events_suppressed: u64,
    /// Denials that were not reported because nobody read earlier ones.
    pub(crate) events_lost: u64,
    /// Everything that is not as configured.
    pub(crate) drift: Vec<Drift>,
}

/// A place where a program should stand.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct HookStatus {
    /// The program.
    pub(crate) program: &'static str,
    /// The interface or the cgroup.
    pub(crate) at: String,
    /// The kernel's number of the interface or the cgroup.
    pub(crate) number: u64,
    /// How it is attached: `tcx`, `clsact`, `cgroup`; or `absent`, `detached`, `elsewhere`.
    pub(crate) state: &'static str,
    /// The kernel's number of the program.
    pub(crate) program_id: Option<u32>,
    /// The digest that the kernel makes of its instructions.
    pub(crate) tag: Option<String>,
}

/// Asks the kernel.
///
/// # Errors
///
/// It does not answer; that the policy is not in force is no error.
pub(crate) fn status(perimeter: &Perimeter) -> Result<Status, PolicyError> {
    let wanted = Wanted::now(perimeter)?;
    let pins = Pins::new(&perimeter.pins);
    // What a load is changing would look like drift.
    let lock = match pins.root().exists() {
        true => Some(pins.lock()),
        false => None,
    };
    let record = pins.record();
    let mut status = Status {
        in_force: false,
        place: perimeter.plan.place.name(),
        mode: mode(perimeter.mode as u32),
        generation: 0,
        loaded_at_ms: record.as_ref().map(|it| it.at_ms),
        hooks: Vec::new(),
        protected: 0,
        allowed: 0,
        awaited: wanted.interfaces.awaited.clone(),
        default_drop: "not configured",
        passed: BTreeMap::new(),
        dropped: BTreeMap::new(),
        events_suppressed: 0,
        events_lost: 0,
        drift: of_machine(perimeter, &wanted),
    };
    match &record {
        Some(record) => {
            let other = of_pins(&pins, record);
            status.drift.extend(other);
            of_kernel(perimeter, &wanted, &pins.current(), &mut status)?;
        }
        None => {
            let what = format!("no policy is loaded in {}", perimeter.pins.display());
            status.drift.push(Drift::new(what, LOAD));
        }
    }
    if let Some(Err(error)) = &lock {
        let cure = "ask again when it has ended";
        status.drift.push(Drift::new(error.to_string(), cure));
    }
    of_default_drop(perimeter, &wanted, &mut status);
    status.in_force = status.drift.is_empty();
    Ok(status)
}

/// What is missing of the machine.
fn of_machine(perimeter: &Perimeter, wanted: &Wanted) -> Vec<Drift> {
    let present = &wanted.interfaces.present;
    let is_present = |name: &str| present.values().any(|it| it.name == name);
    let missing = perimeter.plan.missing(is_present);
    let mut drift: Vec<Drift> = missing
        .iter()
        .map(|it| {
            Drift::new(
                it.to_string(),
                "make the interface, then postern policy load",
            )
        })
        .collect();
    if let Some(cgroups) = &wanted.cgroups
        && cgroups.proxy_id.is_none()
    {
        let what = format!("the proxy's cgroup {} has gone", cgroups.proxy.display());
        drift.push(Drift::new(
            what,
            "postern policy load makes it; then start the proxy in it",
        ));
    }
    drift
}

/// What an earlier command left behind.
fn of_pins(pins: &Pins, record: &Record) -> Vec<Drift> {
    let mut drift = Vec::new();
    if pins.is_unfinished() {
        let what = "a load is under way, or was cut off";
        drift.push(Drift::new(what, "postern policy load finishes it"));
    }
    if record.object != object::digest() {
        let what = "the programs in the kernel are of another version of postern";
        drift.push(Drift::new(what, LOAD));
    }
    drift
}

/// What the kernel has of a set.
fn of_kernel(
    perimeter: &Perimeter,
    wanted: &Wanted,
    set: &Set,
    status: &mut Status,
) -> Result<(), PolicyError> {
    for hook in &wanted.hooks {
        let found = inspect::look(set, hook)?;
        status.hooks.push(hook_status(hook, &found));
    }
    status.drift.extend(places::drift(set, wanted)?);
    match Maps::open(set).and_then(|maps| of_maps(&maps)) {
        Ok((found, counts)) => {
            let expected = wanted.bank(perimeter, found.settings.generation);
            status.drift.extend(drift::of_bank(&expected, &found));
            status.mode = mode(found.settings.mode);
            status.generation = found.settings.generation;
            status.protected = found.protected.len();
            status.allowed = found.allowed.len();
            add_counts(status, &counts);
        }
        Err(error) => status.drift.push(Drift::new(error.to_string(), LOAD)),
    }
    Ok(())
}

fn of_maps(maps: &Maps) -> Result<(Bank, Counts), PolicyError> {
    Ok((maps.read(maps.active()?)?, maps.counts()?))
}

fn of_default_drop(perimeter: &Perimeter, wanted: &Wanted, status: &mut Status) {
    let expected = load::default_drop(perimeter, wanted);
    if expected.is_none() && !nft::is_there() {
        return;
    }
    if expected.is_some() {
        status.default_drop = "in place";
    }
    match nft::difference(expected.as_ref()) {
        Ok(None) => {}
        Ok(Some(what)) => {
            status.default_drop = "not as configured";
            status.drift.push(Drift::new(what, LOAD));
        }
        Err(error) => {
            status.default_drop = "not known";
            let cure = "look at it with nft list table inet postern";
            status.drift.push(Drift::new(error.to_string(), cure));
        }
    }
}

fn add_counts(status: &mut Status, counts: &Counts) {
    for (reason, count) in &counts.reasons {
        let list = match reason.passes() {
            true => &mut status.passed,
            false => &mut status.dropped,
        };
        list.insert(reason.name(), *count);
    }
    status.events_suppressed = counts.suppressed;
    status.events_lost = counts.lost;
}

fn hook_status(hook: &Hook, found: &Found) -> HookStatus {
    let state = match found {
        Found::Absent => "absent",
        Found::Detached => "detached",
        Found::Elsewhere => "elsewhere",
        Found::Attached { way, .. } => match way {
            Way::Tcx => "tcx",
            Way::Clsact => "clsact",
            Way::Cgroup => "cgroup",
        },
    };
    let program = match found {
        Found::Attached { program, .. } => Some(program),
        Found::Absent | Found::Detached | Found::Elsewhere => None,
    };
    HookStatus {
        program: hook.program.name(),
        at: hook.at.to_string(),
        number: match &hook.at {
            At::Interface { index, .. } => u64::from(*index),
            At::Cgroup { id, .. } => *id,
        },
        state,
        program_id: program.map(|it| it.id),
        tag: program.map(|it| it.tag.clone()),
    }
}

const fn mode(number: u32) -> &'static str {
    match number {
        0 => "monitor",
        _ => "enforce",
    }
}

impl Status {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<13} {value}");
        };
        line("place", self.place);
        line("mode", self.mode);
        let loaded = self.loaded_at_ms.map(clock::local);
        let loaded = loaded.map_or(String::new(), |at| format!(", loaded {at}"));
        line("generation", &format!("{}{loaded}", self.generation));
        line("protected", &count(self.protected, "prefix", "prefixes"));
        if self.place != Place::ProxyHost.name() {
            line("allowed", &count(self.allowed, "source", "sources"));
        }
        line("default drop", self.default_drop);
        for name in &self.awaited {
            line(
                "awaited",
                &format!("{name} is not there; nothing passes it until it comes"),
            );
        }
        self.hook_lines(&mut text);
        let refused = match self.mode {
            "monitor" => "would drop",
            _ => "dropped",
        };
        let lists = [("passed", &self.passed), (refused, &self.dropped)];
        for (title, counts) in lists {
            count_lines(&mut text, title, counts);
        }
        let unreported = self.events_suppressed + self.events_lost;
        if unreported > 0 {
            // As above.
            let _ = writeln!(text, "\n{unreported} denials were counted and not reported");
        }
        self.drift_lines(&mut text);
        text
    }

    fn hook_lines(&self, text: &mut String) {
        if self.hooks.is_empty() {
            return;
        }
        let width = |of: fn(&HookStatus) -> usize| self.hooks.iter().map(of).max().unwrap_or(0);
        let program = width(|it| it.program.len());
        let at = width(|it| it.at.chars().count());
        text.push('\n');
        for hook in &self.hooks {
            let of_program = match (hook.program_id, &hook.tag) {
                (Some(id), Some(tag)) => format!("program {id}  tag {tag}"),
                _ => String::new(),
            };
            let line = format!(
                "{:<program$}  {:<at$}  {:<9}  {of_program}",
                hook.program, hook.at, hook.state
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }

    fn drift_lines(&self, text: &mut String) {
        text.push('\n');
        for drift in &self.drift {
            text.push_str(&format!(
                "DRIFT  {}\n       -> {}\n",
                drift.what, drift.cure
            ));
        }
        text.push_str(&match self.drift.len() {
            0 => "in force, as configured\n".to_owned(),
            number => format!(
                "\nnot as configured: {}\n",
                count(number, "drift", "drifts")
            ),
        });
    }
}

fn count_lines(text: &mut String, title: &str, counts: &BTreeMap<&'static str, u64>) {
    let seen: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    let digits = seen.iter().map(|(_, count)| count.to_string().len()).max();
    for (at, (reason, count)) in seen.into_iter().enumerate() {
        let (gap, title) = if at == 0 { ("\n", title) } else { ("", "") };
        let digits = digits.unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{gap}{title:<13} {count:>digits$}  {reason}");
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let hook = |program, at: &str, state, id: Option<u32>| HookStatus {
            program,
            at: at.to_owned(),
            number: 2,
            state,
            program_id: id,
            tag: id.map(|_| "0011223344556677".to_owned()),
        };
        Status {
            in_force: true,
            place: "gateway",
            mode: "enforce",
            generation: 3,
            loaded_at_ms: None,
            hooks: vec![
                hook("gate_ingress", "eth0", "tcx", Some(41)),
                hook("gate_egress", "wlan10", "absent", None),
            ],
            protected: 2,
            allowed: 1,
            awaited: vec!["wg0".to_owned()],
            default_drop: "in place",
            passed: BTreeMap::from([("source_allowed", 1_234), ("proxy", 0), ("reset", 7)]),
            dropped: BTreeMap::from([("wrong_interface", 12)]),
            events_suppressed: 0,
            events_lost: 0,
            drift: Vec::new(),
        }
    }

    #[test]
    fn a_person_reads_an_aligned_table() {
        let expect = "\
place         gateway
mode          enforce
generation    3
protected     2 prefixes
allowed       1 source
default drop  in place
awaited       wg0 is not there; nothing passes it until it comes

gate_ingress  eth0    tcx        program 41  tag 0011223344556677
gate_egress   wlan10  absent

passed           7  reset
              1234  source_allowed

dropped       12  wrong_interface

in force, as configured
";
        assert_eq!(status().text(), expect);
    }

    #[test]
    fn each_drift_says_what_to_do() {
        let drift = vec![Drift::new("gate_ingress is not attached to eth0", LOAD)];
        let text = Status { drift, ..status() }.text();
        let expect = "
DRIFT  gate_ingress is not attached to eth0
       -> postern policy load

not as configured: 1 drift
";
        assert!(text.ends_with(expect), "{text}");
    }
}
