//! Putting a policy in force, in place of an earlier one, and taking it away.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use aya::programs::{
    CgroupSkb, CgroupSockAddr, Program as Loadable, ProgramError, SchedClassifier,
};
use aya::{Ebpf, EbpfLoader};
use postern_ebpf::abi::{Interface, Mode};

use super::attach::{self, Tc};
use super::drift::{self, Drift};
use super::error::PolicyError;
use super::hook::{At, Hook, Kind, Program};

use super::maps::{self, Maps};
use super::nft::{self, Shut};
use super::pins::{Pins, Record, Set};
use super::wanted::Wanted;
use super::{machine, object, places};
use crate::clock::now_ms;
use crate::config::Perimeter;

/// How a policy is put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    /// How programs are attached to interfaces.
    pub(crate) tc: Tc,
    /// There must be one already.
    pub(crate) must_replace: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Counts the policies that have been in force.
    pub(crate) generation: u64,
    /// Where programs stand.
    pub(crate) hooks: usize,
    /// Interfaces that are awaited, and shut until they come.
    pub(crate) awaited: Vec<String>,
    /// What the operator should know.
    pub(crate) notes: Vec<String>,
}

/// Puts the configured policy in force, at once for all programs; an earlier one stays in force
/// until then, and if anything is refused.
///
/// # Errors
///
/// Why it is not in force.
pub(crate) fn load(perimeter: &Perimeter, options: Options) -> Result<Loaded, PolicyError> {
    machine::check_capabilities()?;
    let mut wanted = Wanted::now(perimeter)?;
    machine::check_none_is_missing(&perimeter.plan, &wanted.interfaces)?;
    let notes = notes(perimeter)?;
    let pins = Pins::new(&perimeter.pins);
    if options.must_replace && pins.record().is_none() {
        return Err(PolicyError::NotLoaded(perimeter.pins.clone()));
    }
    pins.prepare()?;
    let _lock = pins.lock()?;
    pins.recover()?;
    if let Some(cgroups) = &mut wanted.cgroups {
        machine::make_cgroup(cgroups)?;
    }
    let put = match replaceable(&pins) {
        Some(mut maps) => replace(perimeter, &wanted, &mut maps, options.tc)?,
        None => install(perimeter, &wanted, &pins, options.tc)?,
    };
    attach::sweep(&pins.current())?;
    open(perimeter, &wanted, put.was_open)?;
    Ok(Loaded {
        generation: put.generation,
        hooks: wanted.hooks.len(),
        awaited: wanted.interfaces.awaited,
        notes,
    })
}

/// Shuts everything that is protected, until a policy is in force; false if that is not
/// configured.
///
/// # Errors
///
/// nftables is not there, or refuses.
pub(crate) fn close(perimeter: &Perimeter) -> Result<bool, PolicyError> {
    shut(perimeter, Shut::All)?;
    Ok(perimeter.mode == Mode::Enforce && perimeter.default_drop)
}

/// Takes the policy away: what was protected is open.
///
/// # Errors
///
/// Something cannot be removed, or there is nothing.
pub(crate) fn unload(perimeter: &Perimeter) -> Result<(), PolicyError> {
    machine::check_capabilities()?;
    let pins = Pins::new(&perimeter.pins);
    let has_pins = pins.root().exists();
    if has_pins {
        let _lock = pins.lock()?;
        pins.recover()?;
        let stood = places::standing(&pins.current(), perimeter);
        pins.remove()?;
        places::wait_until_gone(&stood);
    }
    let has_table = nft::is_there() && nft::difference(None)?.is_some();
    if has_table {
        nft::remove()?;
    }
    match has_pins || has_table {
        true => Ok(()),
        false => Err(PolicyError::NotLoaded(perimeter.pins.clone())),
    }
}

/// Attaches programs to what was not there at the last load, while that policy stays in force;
/// the names of what was attached.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn attach_new(perimeter: &Perimeter, tc: Tc) -> Result<Vec<String>, PolicyError> {
    let pins = Pins::new(&perimeter.pins);
    let wanted = Wanted::now(perimeter)?;
    let _lock = pins.lock()?;
    let set = pins.current();
    let mut maps = Maps::open(&set)?;
    let bank = maps.active()?;
    let known = maps.interfaces(bank)?;
    let present = &wanted.interfaces.present;
    let mut names = Vec::new();
    for (index, interface) in present {
        if known.get(index) == Some(&interface.entry) {
            continue;
        }
        // The programs come first: what arrives without an entry is from nowhere, and is dropped.
        let at_this = |hook: &&Hook| hook.at.to_string() == interface.name;
        for hook in wanted.hooks.iter().filter(at_this) {
            attach::attach(&set, hook, tc)?;
        }
        maps.set_interface(bank, *index, interface.entry)?;
        names.push(interface.name.clone());
    }
    let gone = known.keys().filter(|index| !present.contains_key(index));
    for index in gone {
        maps.set_interface(bank, *index, Interface::default())?;
    }
    shut(perimeter, Shut::Beyond(&wanted.covered()))?;
    Ok(names)
}

/// What keeps the prefixes shut where no program stands, if that is configured.
pub(super) fn default_drop(perimeter: &Perimeter, wanted: &Wanted) -> Option<nft::Table> {
    let is_wanted = perimeter.default_drop && perimeter.mode == Mode::Enforce;
    is_wanted.then(|| nft::table(&perimeter.plan, Shut::Beyond(&wanted.covered())))
}

/// Whether the default drop can be put in place, before anything is touched.
fn notes(perimeter: &Perimeter) -> Result<Vec<String>, PolicyError> {
    let mut notes = Vec::new();
    match (perimeter.mode, perimeter.default_drop) {
        (Mode::Monitor, _) => notes.push("mode = \"monitor\": nothing is dropped".to_owned()),
        (Mode::Enforce, false) => notes.push(
            "default_drop = false: until the policy is in force after a boot, and where no \
             program stands, nothing keeps the protected prefixes shut"
                .to_owned(),
        ),
        (Mode::Enforce, true) => nft::check()?,
    }
    Ok(notes)
}

fn shut(perimeter: &Perimeter, shut: Shut<'_>) -> Result<(), PolicyError> {
    match (perimeter.mode, perimeter.default_drop) {
        (Mode::Enforce, true) => nft::apply(&nft::table(&perimeter.plan, shut)),
        // A table that an earlier policy left would drop what this one does not.
        (Mode::Monitor, _) | (Mode::Enforce, false) if nft::is_there() => nft::remove(),
        (Mode::Monitor, _) | (Mode::Enforce, false) => Ok(()),
    }
}

/// Leaves to the programs what passes where they stand; `is_shut` says that everything has been
/// shut since this command began.
fn open(perimeter: &Perimeter, wanted: &Wanted, is_shut: bool) -> Result<(), PolicyError> {
    let covered = wanted.covered();
    let beyond = Shut::Beyond(&covered);
    let table = default_drop(perimeter, wanted).filter(|_| is_shut);
    // Somebody may have removed the table meanwhile; then the whole of it is put there again.
    match table.map(|it| nft::open(&perimeter.plan, &it)) {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => shut(perimeter, beyond),
    }
}

/// A policy that has been put in force.
struct Put {
    generation: u64,
    /// None was in force before, so that everything was shut while this one took its place.
    was_open: bool,
}

/// What of an earlier policy decides how another one takes its place.
struct InForce {
    generation: u64,
    interfaces: BTreeMap<u32, Interface>,
}

fn in_force(maps: &Maps) -> Result<InForce, PolicyError> {
    let bank = maps.active()?;
    Ok(InForce {
        generation: maps.settings(bank)?.generation,
        interfaces: maps.interfaces(bank)?,
    })
}

/// The maps of a loaded policy whose programs are the same as ours: only the maps need change.
fn replaceable(pins: &Pins) -> Option<Maps> {
    let record = pins.record()?;
    if record.object != object::digest() {
        return None;
    }
    // Maps that cannot be opened are left to the new set.
    Maps::open(&pins.current()).ok()
}

/// Fills the other bank, and puts it in force.
fn replace(
    perimeter: &Perimeter,
    wanted: &Wanted,
    maps: &mut Maps,
    tc: Tc,
) -> Result<Put, PolicyError> {
    let pins = Pins::new(&perimeter.pins);
    let set = pins.current();
    let active = maps.active()?;
    let before = in_force(maps)?;
    let generation = before.generation.saturating_add(1);
    let was_open = !is_whole(&set, wanted, &before);
    if was_open {
        shut(perimeter, Shut::All)?;
    }
    places::attach_missing(&set, wanted, tc)?;
    let other = 1 - active;
    let bank = wanted.bank(perimeter, generation);
    confirm(drift::of_bank(&bank, &maps.fill(other, &bank)?))?;
    maps.activate(other)?;
    set.write_record(&record())?;
    places::detach_others(&set, wanted)?;
    confirm(places::drift(&set, wanted)?)?;
    maps.clear(active, before.interfaces.into_keys())?;
    Ok(Put {
        generation,
        was_open,
    })
}

/// Loads the programs with maps of their own, attaches them beside those of an earlier policy,
/// and removes these only then.
fn install(
    perimeter: &Perimeter,
    wanted: &Wanted,
    pins: &Pins,
    tc: Tc,
) -> Result<Put, PolicyError> {
    let current = pins.current();
    let before = Maps::open(&current).and_then(|maps| in_force(&maps));
    // Maps that cannot be read are no policy.
    let before = before.ok();
    let was_open = !before
        .as_ref()
        .is_some_and(|bank| is_whole(&current, wanted, bank));
    let last = before.map_or(0, |it| it.generation);
    let generation = last.saturating_add(1);
    let set = pins.next();
    // At the same time: nftables takes as long as the verifier.
    let (shut, built) = thread::scope(|scope| {
        let shutting = scope.spawn(|| match was_open {
            true => shut(perimeter, Shut::All),
            false => Ok(()),
        });
        let built = build(perimeter, wanted, &set, generation);
        (joined(shutting), built)
    });
    let built = shut
        .and(built)
        .and_then(|()| places::attach_missing(&set, wanted, tc))
        .and_then(|()| places::drift(&set, wanted))
        .and_then(confirm);
    if let Err(error) = built {
        // The earlier policy is still in force; what is left of this one goes now, or else with
        // the next load.
        let _ = pins.recover();
        return Err(error);
    }
    pins.commit()?;
    confirm(places::drift(&pins.current(), wanted)?)?;
    Ok(Put {
        generation,
        was_open,
    })
}

/// Loads the programs, and fills and pins everything but the links.
fn build(
    perimeter: &Perimeter,
    wanted: &Wanted,
    set: &Set,
    generation: u64,
) -> Result<(), PolicyError> {
    set.create()?;
    let mut loader = EbpfLoader::new();
    for name in maps::NAMES {
        loader.map_pin_path(name, set.map(name));
    }
    let loaded = loader.load(object::object());
    let mut loaded = loaded.map_err(|error| PolicyError::load("their maps", &error))?;
    let programs = Program::loaded_of(perimeter.plan.place);
    thread::scope(|scope| {
        let filling = scope.spawn(|| {
            let mut maps = Maps::open(set)?;
            let bank = wanted.bank(perimeter, generation);
            confirm(drift::of_bank(&bank, &maps.fill(0, &bank)?))?;
            maps.activate(0)
        });
        let loaded = load_programs(&mut loaded, &programs);
        joined(filling).and(loaded)
    })?;
    for program in programs {
        let name = program.object_name();
        let loadable = loaded
            .program_mut(name)
            .ok_or_else(|| not_in_object(name))?;
        let pinned = loadable.pin(set.program(program));
        pinned.map_err(|error| PolicyError::kernel(format!("pin {name}"), &error))?;
    }
    set.write_record(&record())
}

/// Has the kernel verify the programs, all at the same time.
fn load_programs(loaded: &mut Ebpf, programs: &[Program]) -> Result<(), PolicyError> {
    let mut loadables: BTreeMap<String, &mut Loadable> = loaded
        .programs_mut()
        .map(|(name, loadable)| (name.to_owned(), loadable))
        .collect();
    thread::scope(|scope| {
        let mut verifying = Vec::new();
        for program in programs {
            let (name, kind) = (program.object_name(), program.kind());
            let loadable = loadables.remove(name).ok_or_else(|| not_in_object(name))?;
            verifying.push((name, scope.spawn(move || load_program(loadable, kind))));
        }
        for (name, verified) in verifying {
            joined(verified).map_err(|error| PolicyError::load(name, &error))?;
        }
        Ok(())
    })
}

/// What a thread came to.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn not_in_object(program: &str) -> PolicyError {
    PolicyError::Load {
        what: program.to_owned(),
        why: "it is not in the object: this is a defect of Postern".to_owned(),
    }
}

fn load_program(program: &mut Loadable, kind: Kind) -> Result<(), ProgramError> {
    match kind {
        Kind::Tc(_) => <&mut SchedClassifier>::try_from(program)?.load(),
        Kind::Call(_) => <&mut CgroupSockAddr>::try_from(program)?.load(),
        Kind::Packets => <&mut CgroupSkb>::try_from(program)?.load(),
    }
}

/// Whether an earlier policy is in force where it was put: then nothing need be shut while another
/// one takes its place.
fn is_whole(set: &Set, wanted: &Wanted, before: &InForce) -> bool {
    let was_there = |hook: &&Hook| match &hook.at {
        At::Interface { index, .. } => before.interfaces.contains_key(index),
        At::Cgroup { .. } => true,
    };
    let known: Vec<&Hook> = wanted.hooks.iter().filter(was_there).collect();
    before.generation != 0
        && !known.is_empty()
        && known.iter().all(|hook| places::stands(set, hook))
}

fn confirm(drift: Vec<Drift>) -> Result<(), PolicyError> {
    if drift.is_empty() {
        return Ok(());
    }
    Err(PolicyError::NotConfirmed(drift))
}

fn record() -> Record {
    Record {
        object: object::digest(),
        at_ms: now_ms(),
    }
}

#[cfg(test)]
mod tests {
    use postern_core::perimeter::Place;

    use super::*;

    #[test]
    fn only_an_enforced_policy_needs_nftables() {
        let plan = postern_core::perimeter::Plan {
            place: Place::ProxyHost,
            interfaces: Vec::new(),
            protected: Vec::new(),
            allowed: Vec::new(),
        };
        let mut perimeter = Perimeter {
            plan,
            mode: Mode::Monitor,
            pins: "/sys/fs/bpf/postern".into(),
            cgroup_root: None,
            cgroup: "postern.slice".into(),
            default_drop: true,
            state_file: "/run/postern-policy/state.json".into(),
            audit_file: None,
        };
        assert_eq!(notes(&perimeter).map(|it| it.len()).ok(), Some(1));
        (perimeter.mode, perimeter.default_drop) = (Mode::Enforce, false);
        assert_eq!(notes(&perimeter).map(|it| it.len()).ok(), Some(1));
    }
}
