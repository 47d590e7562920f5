//! `[perimeter]` and its rules.

use std::path::{Component, Path, PathBuf};

use postern_core::perimeter::{AllowRule, Configured, Place, ProtectRule, Refused, Rule, compile};
use postern_ebpf::abi::Mode;

use crate::config::section::{Reading, Section};
use crate::config::{Perimeter, keys};

/// `cgroup` where it is not given.
const CGROUP: &str = "/postern.slice";

/// The rules of the file.
#[derive(Clone, Copy)]
pub(in crate::config) struct Rules<'a> {
    /// `[[perimeter.protect]]`.
    pub(in crate::config) protect: &'a [Section],
    /// `[[perimeter.allow]]`.
    pub(in crate::config) allow: &'a [Section],
}

/// `[perimeter]`.
pub(in crate::config) fn perimeter(
    section: &Section,
    rules: &Rules<'_>,
    reading: &mut Reading<'_>,
) -> Option<Perimeter> {
    let cgroup = cgroup(section, reading);
    let mode = section.choice("mode", &keys::MODE);
    let configured = configured(section, rules)?;
    let plan = match compile(&configured) {
        Ok(plan) => plan,
        Err(refused) => {
            for refused in &refused {
                reading.problem(problem(section, rules, refused));
            }
            return None;
        }
    };
    let (mode, default_drop) = (mode?, section.boolean("default_drop")?);
    if plan.place == Place::ProxyHost && mode == Mode::Enforce && !default_drop {
        let why = "= false leaves a way around: with place = \"proxy-host\", what this machine \
                   forwards for containers is seen by nftables only";
        let problem = section.problem("default_drop", why);
        reading.problem(problem.valid("true, or mode = \"monitor\""));
        return None;
    }
    Some(Perimeter {
        plan,
        mode,
        pins: section.path("pins")?,
        cgroup_root: section.path("cgroup_root"),
        cgroup: cgroup?,
        default_drop,
        state_file: section.path("state_file")?,
        audit_file: section.path("audit_file"),
    })
}

fn configured(section: &Section, rules: &Rules<'_>) -> Option<Configured> {
    let protect = rules.protect.iter().map(|rule| {
        let ports = rule.list("ports")?;
        Some(ProtectRule {
            prefixes: rule.list("prefixes")?,
            // The reader has checked that they are ports.
            ports: ports.iter().filter_map(|port| port.parse().ok()).collect(),
        })
    });
    let allow = rules.allow.iter().map(|rule| {
        Some(AllowRule {
            sources: rule.list("sources")?,
            interfaces: rule.list("interfaces")?,
        })
    });
    let protect = protect.collect::<Option<Vec<_>>>();
    let allow = allow.collect::<Option<Vec<_>>>();
    let cgroup_keys = ["cgroup_root", "cgroup"].into_iter();
    Some(Configured {
        place: section.choice("place", &keys::PLACE)?,
        interfaces: section.list("interfaces")?,
        await_interfaces: section.list("await_interfaces")?,
        cgroup_keys: cgroup_keys.filter(|key| section.has(key)).collect(),
        protect: protect?,
        allow: allow?,
    })
}

/// The error of a policy at its place in the file.
fn problem(section: &Section, rules: &Rules<'_>, refused: &Refused) -> crate::config::Problem {
    let (rule, key) = refused.stands_at();
    let at = match rule {
        Some(Rule::Protect(at)) => rules.protect.get(at),
        Some(Rule::Allow(at)) => rules.allow.get(at),
        None => None,
    };
    at.unwrap_or(section).problem(key, refused.to_string())
}

/// The proxy's cgroup: a path below the root, and not the root itself.
fn cgroup(section: &Section, reading: &mut Reading<'_>) -> Option<PathBuf> {
    let text = section.text("cgroup").unwrap_or_else(|| CGROUP.to_owned());
    let path = Path::new(text.trim_start_matches('/'));
    let is_plain = |it: Component<'_>| matches!(it, Component::Normal(_));
    if path.components().next().is_none() || !path.components().all(is_plain) {
        let why = "is not the path of a cgroup below cgroup_root";
        let problem = section.problem("cgroup", why);
        reading.problem(problem.valid("a path such as \"/postern.slice\""));
        return None;
    }
    Some(path.to_owned())
}
