//! How what the kernel has differs from what is configured.

use std::collections::BTreeMap;
use std::fmt;

use postern_core::perimeter::Prefix;
use postern_ebpf::abi::Settings;

use super::hook::{Hook, Program};
use super::inspect::{Found, Loaded};
use super::maps::Bank;

/// What nearly always helps.
pub(super) const LOAD: &str = "postern policy load";

/// The most entries of a map that are named one by one.
const NAMED_MAX: usize = 3;

/// One difference between the kernel and the configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Drift {
    /// What is not as configured.
    pub(crate) what: String,
    /// What to do.
    pub(crate) cure: String,
}

impl Drift {
    pub(super) fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cure: cure.into(),
        }
    }

    /// One that another load cures.
    fn loadable(what: impl Into<String>) -> Self {
        Self::new(what, LOAD)
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// How the program at a place differs from the one that should be there.
pub(super) fn of_hook(hook: &Hook, found: &Found, expected: &Loaded) -> Option<Drift> {
    let name = hook.program.name();
    let at = &hook.at;
    match found {
        Found::Absent => Some(Drift::loadable(format!("{name} is not attached to {at}"))),
        Found::Detached => Some(Drift::loadable(format!(
            "{name} has lost its place at {at}: what it was attached to has gone, or it was \
             detached"
        ))),
        Found::Elsewhere => Some(Drift::loadable(format!(
            "{name} is attached, but not to {at}"
        ))),
        Found::Attached { program, .. } if program != expected => Some(Drift::loadable(format!(
            "another program (number {}, tag {}) is in the place of {name} at {at}",
            program.id, program.tag
        ))),
        Found::Attached { behind: 0, .. } => None,
        Found::Attached { behind, .. } => {
            let programs = match behind {
                1 => "another program runs".to_owned(),
                behind => format!("{behind} other programs run"),
            };
            let what = format!("{programs} before {name} at {at} and may let packets pass");
            let cure = "postern policy load puts it first; whoever attaches the other one should \
                        attach it behind";
            Some(Drift::new(what, cure))
        }
    }
}

/// Programs of a set that cannot be found.
pub(super) fn of_program(program: Program, why: &str) -> Drift {
    Drift::loadable(format!(
        "the program {} is not there: {why}",
        program.name()
    ))
}

/// How a bank differs from what it should say.
pub(super) fn of_bank(expected: &Bank, found: &Bank) -> Vec<Drift> {
    let mut drift = of_settings(&expected.settings, &found.settings);
    let interfaces = |bank: &Bank| {
        let entries = bank.interfaces.iter();
        entries
            .map(|(index, it)| (format!("number {index}"), *it))
            .collect()
    };
    drift.extend(of_entries(
        "interface",
        &interfaces(expected),
        &interfaces(found),
    ));
    drift.extend(of_entries(
        "protected prefix",
        &named(&expected.protected),
        &named(&found.protected),
    ));
    drift.extend(of_entries(
        "allowed source",
        &named(&expected.allowed),
        &named(&found.allowed),
    ));
    drift
}

fn of_settings(expected: &Settings, found: &Settings) -> Vec<Drift> {
    let mut drift = Vec::new();
    if found.generation == 0 {
        drift.push(Drift::loadable("there is no policy in the maps"));
        return drift;
    }
    if expected.mode != found.mode {
        let mode = |mode: u32| if mode == 0 { "monitor" } else { "enforce" };
        drift.push(Drift::loadable(format!(
            "the mode in force is {}, configured is {}",
            mode(found.mode),
            mode(expected.mode)
        )));
    }
    let answers = |it: &Settings| (it.answers_len, it.answers);
    if answers(expected) != answers(found) {
        drift.push(Drift::loadable(
            "the ports whose answers are held back are not the configured ones",
        ));
    }
    if (expected.cgroup, expected.cgroup_level) != (found.cgroup, found.cgroup_level) {
        drift.push(Drift::loadable(
            "the proxy's cgroup is not the one that is allowed: it was removed and made again, \
             or configured anew",
        ));
    }
    if drift.is_empty() && expected.digest != found.digest {
        drift.push(Drift::loadable(
            "the configuration has changed since the policy was loaded",
        ));
    }
    drift
}

fn named<T: Copy>(entries: &[(Prefix, T)]) -> BTreeMap<String, T> {
    let named = entries.iter().map(|(prefix, it)| (prefix.to_string(), *it));
    named.collect()
}

fn of_entries<T: PartialEq>(
    kind: &str,
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
) -> Vec<Drift> {
    let missing = expected.keys().filter(|key| !found.contains_key(*key));
    let extra = found.keys().filter(|key| !expected.contains_key(*key));
    let changed = expected.iter().filter(|(key, value)| {
        let found = found.get(*key);
        found.is_some_and(|found| found != *value)
    });
    let lines = [
        ("missing from the maps", missing.collect::<Vec<_>>()),
        ("in the maps and not configured", extra.collect()),
        (
            "in the maps with another value",
            changed.map(|it| it.0).collect(),
        ),
    ];
    let lines = lines.into_iter().filter(|(_, keys)| !keys.is_empty());
    let drift = lines.map(|(what, keys)| {
        let named: Vec<&str> = keys.iter().take(NAMED_MAX).map(|it| it.as_str()).collect();
        let more = match keys.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Drift::loadable(format!("{what}: {kind} {}{more}", named.join(", ")))
    });
    drift.collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use postern_ebpf::abi::{ANSWERS_MAX, Allowed, Interface, PORTS_MAX, Protected};

    use super::super::hook::At;
    use super::super::inspect::Way;
    use super::*;

    fn prefix(at: u8) -> Prefix {
        Prefix::covering([at; 16], 128)
    }

    fn bank() -> Bank {
        let protected = Protected {
            ports: [0; PORTS_MAX],
            ports_len: 0,
            rule: 0,
        };
        let allowed = Allowed {
            interfaces: 1,
            rule: 0,
            reserved: 0,
        };
        let interface = Interface { bit: 1, link: 1 };
        Bank {
            settings: Settings {
                mode: 1,
                answers_len: 1,
                answers: [5432; ANSWERS_MAX],
                cgroup: 0,
                cgroup_level: 0,
                reserved: 0,
                generation: 3,
                digest: [7; 32],
            },
            protected: (1..=5).map(|at| (prefix(at), protected)).collect(),
            allowed: vec![(prefix(9), allowed)],
            interfaces: BTreeMap::from([(2, interface)]),
        }
    }

    /// The drift of a bank after a change.
    fn changed(change: impl FnOnce(&mut Bank)) -> Vec<String> {
        let mut found = bank();
        change(&mut found);
        let drift = of_bank(&bank(), &found);
        drift.into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn a_bank_as_configured_has_no_drift_whatever_its_generation() {
        assert_eq!(changed(|it| it.settings.generation = 99), [""; 0]);
    }

    #[test]
    fn every_difference_of_a_bank_is_named() {
        assert_eq!(
            changed(|it| it.settings.generation = 0),
            ["there is no policy in the maps"]
        );
        assert_eq!(
            changed(|it| it.settings.mode = 0),
            ["the mode in force is monitor, configured is enforce"]
        );
        assert_eq!(
            changed(|it| it.settings.digest = [8; 32]),
            ["the configuration has changed since the policy was loaded"]
        );
        assert_eq!(changed(|it| it.settings.answers_len = 0).len(), 1);
        assert_eq!(changed(|it| it.settings.cgroup = 4).len(), 1);
        assert_eq!(
            changed(|it| it.interfaces.clear()),
            ["missing from the maps: interface number 2"]
        );
        let one = prefix(1).to_string();
        assert_eq!(
            changed(|it| it.protected.truncate(0)),
            [format!(
                "missing from the maps: protected prefix {one}, {}, {} and 2 more",
                prefix(2),
                prefix(3)
            )]
        );
        assert_eq!(
            changed(|it| it.allowed.iter_mut().for_each(|it| it.1.interfaces = 3)),
            [format!(
                "in the maps with another value: allowed source {}",
                prefix(9)
            )]
        );
        let more = |it: &mut Bank| {
            it.allowed.extend(
                bank()
                    .protected
                    .iter()
                    .map(|it| {
                        let allowed = Allowed {
                            interfaces: 1,
                            rule: 0,
                            reserved: 0,
                        };
                        (it.0, allowed)
                    })
                    .take(1),
            )
        };
        assert_eq!(
            changed(more),
            [format!(
                "in the maps and not configured: allowed source {one}"
            )]
        );
    }

    #[test]
    fn every_state_of_a_place_but_the_right_one_is_drift() {
        let hook = Hook {
            program: Program::GateIngress,
            at: At::Interface {
                name: "eth0".to_owned(),
                index: 2,
            },
        };
        let loaded = |id| Loaded {
            id,
            tag: "00".to_owned(),
        };
        let attached = |id, behind| Found::Attached {
            program: loaded(id),
            way: Way::Tcx,
            behind,
        };
        let of = |found: &Found| of_hook(&hook, found, &loaded(1)).map(|it| it.what);
        assert_eq!(of(&attached(1, 0)), None);
        let wrong = [
            (Found::Absent, "gate_ingress is not attached to eth0"),
            (Found::Detached, "gate_ingress has lost its place at eth0"),
            (
                Found::Elsewhere,
                "gate_ingress is attached, but not to eth0",
            ),
            (attached(2, 0), "another program (number 2, tag 00)"),
            (
                attached(1, 1),
                "another program runs before gate_ingress at eth0",
            ),
            (
                attached(1, 2),
                "2 other programs run before gate_ingress at eth0",
            ),
        ];
        for (found, what) in wrong {
            assert!(of(&found).is_some_and(|it| it.starts_with(what)), "{what}");
        }
        let cgroup = At::Cgroup {
            path: PathBuf::from("/sys/fs/cgroup"),
            id: 1,
        };
        assert_eq!(cgroup.to_string(), "/sys/fs/cgroup");
    }
}
