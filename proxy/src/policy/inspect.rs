//! What the kernel says of a place where a program should stand.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};
use postern_ebpf::kernel::{Target, programs_at};

use super::attach;
use super::error::PolicyError;
use super::hook::{At, Hook, Kind, Program};
use super::netlink;
use super::pins::Set;

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The kernel's number of it.
    pub(super) id: u32,
    /// The digest that the kernel makes of its instructions, in hexadecimal.
    pub(super) tag: String,
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a link of tcx.
    Tcx,
    /// By a filter of clsact.
    Clsact,
    /// By a link of a cgroup.
    Cgroup,
}

/// What is found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing is pinned.
    Absent,
    /// What is pinned holds on to nothing any more.
    Detached,
    /// What is pinned is attached somewhere else.
    Elsewhere,
    /// A program.
    Attached {
        /// Which one.
        program: Loaded,
        /// How.
        way: Way,
        /// How many programs run before it that may let packets pass.
        behind: usize,
    },
}

/// The lines about a link in `/proc/self/fdinfo` (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct LinkFacts {
    id: Option<u32>,
    tag: String,
    index: Option<u32>,
    cgroup: Option<u64>,
    attach_type: Option<u32>,
}

/// The program of a set, as it was pinned.
///
/// # Errors
///
/// It is not there.
pub(super) fn program(set: &Set, program: Program) -> Result<Loaded, PolicyError> {
    let path = set.program(program);
    let info = ProgramInfo::from_pin(&path);
    let info =
        info.map_err(|error| PolicyError::kernel(format!("open {}", path.display()), &error))?;
    Ok(Loaded {
        id: info.id(),
        tag: format!("{:016x}", info.tag()),
    })
}

/// What is found at the place of a hook.
///
/// # Errors
///
/// The kernel does not say.
pub(super) fn look(set: &Set, hook: &Hook) -> Result<Found, PolicyError> {
    let path = set.link(hook);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) => return Err(PolicyError::file("look at", &path, error)),
        Ok(_) => {}
    }
    match attach::note(&path) {
        Some(note) => look_at_filter(hook, &note),
        None => look_at_link(hook, &path),
    }
}

/// Whether a program still runs at a place.
pub(super) fn runs(hook: &Hook, id: u32) -> bool {
    order(hook).is_ok_and(|programs| programs.contains(&id))
}

fn look_at_link(hook: &Hook, path: &Path) -> Result<Found, PolicyError> {
    let what = || format!("describe {}", path.display());
    let link = PinnedLink::from_pin(path).map(FdLink::from);
    let link = link.map_err(|error| PolicyError::kernel(what(), &error))?;
    let info = link
        .info()
        .map_err(|error| PolicyError::kernel(what(), &error))?;
    let facts = facts(info.id()).map_err(|error| PolicyError::kernel(what(), &error))?;
    let is_there = match &hook.at {
        At::Interface { index, .. } => facts.index == Some(*index),
        At::Cgroup { id, .. } => facts.cgroup == Some(*id),
    };
    if facts.index.unwrap_or_default() == 0 && facts.cgroup.unwrap_or_default() == 0 {
        return Ok(Found::Detached);
    }
    if !is_there || facts.attach_type != Some(hook.program.attach_type() as u32) {
        return Ok(Found::Elsewhere);
    }
    let programs = order(hook).map_err(|error| {
        let what = format!("list the programs at {}", hook.at);
        PolicyError::kernel(what, &error)
    })?;
    let Some(place) = programs.iter().position(|id| *id == info.program_id()) else {
        return Ok(Found::Detached);
    };
    let (way, behind) = match hook.at {
        At::Interface { .. } => (Way::Tcx, place),
        // In a cgroup every program is asked, and each may refuse.
        At::Cgroup { .. } => (Way::Cgroup, 0),
    };
    Ok(Found::Attached {
        program: Loaded {
            id: info.program_id(),
            tag: facts.tag,
        },
        way,
        behind,
    })
}

fn look_at_filter(hook: &Hook, note: &attach::Note) -> Result<Found, PolicyError> {
    let (Kind::Tc(side), At::Interface { index, .. }) = (hook.program.kind(), &hook.at) else {
        return Ok(Found::Elsewhere);
    };
    if (note.index, note.side) != (*index, side) {
        return Ok(Found::Detached);
    }
    let filters = netlink::filters(*index, side).map_err(|error| {
        let what = format!("list the filters at {}", hook.at);
        PolicyError::kernel(what, &error)
    })?;
    let Some((place, filter)) = attach::find(&filters, note) else {
        return Ok(Found::Detached);
    };
    if filter.program.as_deref() != Some(hook.program.object_name()) || !filter.is_direct {
        return Ok(Found::Elsewhere);
    }
    // Programs of tcx run before all filters; kernels that do not know them have none.
    let before = order(hook).map_or(0, |programs| programs.len());
    Ok(Found::Attached {
        program: Loaded {
            id: filter.program_id,
            tag: filter.tag,
        },
        way: Way::Clsact,
        behind: place + before,
    })
}

/// The programs at the place of a hook, in their order.
fn order(hook: &Hook) -> io::Result<Vec<u32>> {
    let attach_type = hook.program.attach_type();
    match &hook.at {
        At::Interface { index, .. } => programs_at(Target::Interface(*index), attach_type),
        At::Cgroup { path, .. } => {
            let folder = File::open(path)?;
            programs_at(Target::Cgroup(folder.as_fd()), attach_type)
        }
    }
}

/// What the kernel says of an open link of this process, by its number.
fn facts(id: u32) -> io::Result<LinkFacts> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The folder's own descriptor is closed before its lines are read.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let facts = LinkFacts::parse(&text);
        if facts.id == Some(id) {
            return Ok(facts);
        }
    }
    Err(io::Error::other("the kernel does not describe the link"))
}

impl LinkFacts {
    fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(":\t")) {
            // Newer kernels write a word behind the number.
            let first = value.split([' ', '\t']).next().unwrap_or_default();
            match name {
                "link_id" => facts.id = first.parse().ok(),
                "prog_tag" => facts.tag = first.to_owned(),
                "ifindex" => facts.index = first.parse().ok(),
                "cgroup_id" => facts.cgroup = first.parse().ok(),
                "attach_type" => facts.attach_type = first.parse().ok(),
                _ => {}
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_about_a_link_are_read() {
        let tcx = "pos:\t0\nflags:\t02000002\nlink_type:\ttcx\nlink_id:\t7\n\
                   prog_tag:\t0011223344556677\nprog_id:\t41\nifindex:\t2\n\
                   attach_type:\t46 (tcx_ingress)\n";
        let expect = LinkFacts {
            id: Some(7),
            tag: "0011223344556677".to_owned(),
            index: Some(2),
            cgroup: None,
            attach_type: Some(46),
        };
        assert_eq!(LinkFacts::parse(tcx), expect);
        let cgroup = "link_type:\tcgroup\nlink_id:\t8\ncgroup_id:\t1\nattach_type:\t10\n";
        let facts = LinkFacts::parse(cgroup);
        assert_eq!(
            (facts.id, facts.cgroup, facts.attach_type),
            (Some(8), Some(1), Some(10))
        );
        assert_eq!(LinkFacts::parse("pos:\t0\n"), LinkFacts::default());
    }
}
