//! The places of a policy's programs together: attaching, removing, comparing.

use std::thread;
use std::time::Instant;

use super::attach::{self, Tc};
use super::drift::{Drift, of_hook, of_program};
use super::error::PolicyError;
use super::hook::Hook;
use super::inspect::{self, Found};
use super::pins::Set;
use super::wanted::Wanted;
use crate::config::Perimeter;
use crate::limits::{POLICY_DETACH_WAIT, POLICY_POLL};

/// Whether a program of a set is attached to its place. What runs before it does not matter: it
/// may be one that was just removed and that the kernel has not detached yet.
pub(super) fn stands(set: &Set, hook: &Hook) -> bool {
    let (Ok(expected), Ok(found)) = (
        inspect::program(set, hook.program),
        inspect::look(set, hook),
    ) else {
        return false;
    };
    matches!(found, Found::Attached { program, .. } if program == expected)
}

/// Attaches what does not stand where it should.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn attach_missing(set: &Set, wanted: &Wanted, tc: Tc) -> Result<(), PolicyError> {
    for hook in &wanted.hooks {
        let found = inspect::look(set, hook)?;
        let program = inspect::program(set, hook.program)?;
        if of_hook(hook, &found, &program).is_some() {
            attach::attach(set, hook, tc)?;
        }
    }
    Ok(())
}

/// Removes programs from where they should not stand any more.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn detach_others(set: &Set, wanted: &Wanted) -> Result<(), PolicyError> {
    let kept: Vec<_> = wanted.hooks.iter().map(|hook| set.link(hook)).collect();
    for path in set.links()? {
        if !kept.contains(&path) {
            attach::remove(&path)?;
        }
    }
    Ok(())
}

/// What is not as it should be at the places of programs.
///
/// # Errors
///
/// The kernel does not say.
pub(super) fn drift(set: &Set, wanted: &Wanted) -> Result<Vec<Drift>, PolicyError> {
    let mut drift = Vec::new();
    for hook in &wanted.hooks {
        match inspect::program(set, hook.program) {
            Ok(program) => {
                let found = inspect::look(set, hook)?;
                drift.extend(of_hook(hook, &found, &program));
            }
            Err(error) => drift.push(of_program(hook.program, &error.to_string())),
        }
    }
    Ok(drift)
}

/// The programs that stand somewhere, with their numbers.
pub(super) fn standing(set: &Set, perimeter: &Perimeter) -> Vec<(Hook, u32)> {
    let Ok(wanted) = Wanted::now(perimeter) else {
        return Vec::new();
    };
    let hooks = wanted.hooks.into_iter();
    let hooks = hooks.filter_map(|hook| match inspect::look(set, &hook) {
        Ok(Found::Attached { program, .. }) => Some((hook, program.id)),
        _ => None,
    });
    hooks.collect()
}

/// The kernel detaches in its own time; this waits for it, but not for ever.
pub(super) fn wait_until_gone(stood: &[(Hook, u32)]) {
    let until = Instant::now() + POLICY_DETACH_WAIT;
    while stood.iter().any(|(hook, id)| inspect::runs(hook, *id)) && Instant::now() < until {
        thread::sleep(POLICY_POLL);
    }
}
