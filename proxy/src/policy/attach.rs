//! Attaching a program to its place, and removing it from there.
//!
//! What is attached is a link of the kernel's, pinned, so that it stays when the loader has gone.
//! Before Linux 6.6 there are none at interfaces: there it is a filter of tc, which stays by
//! itself, and a symbolic link among the pins says which one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, CgroupSockAddrAttachType,
    LinkOrder, ProgramError, SchedClassifier, tc,
};
use nix::errno::Errno;
use postern_ebpf::abi::program::GATE;

use super::error::PolicyError;
use super::hook::{At, Hook, Kind};
use super::netlink::{self, Filter, Side};
use super::pins::{self, NEW, Set};

/// The priority of our filters: the first to be asked.
const PRIORITY: u16 = 1;

/// How programs are attached to interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Tc {
    /// By tcx where the kernel has it (Linux 6.6), else by clsact.
    #[default]
    Auto,
    /// By tcx.
    Tcx,
    /// By clsact.
    Clsact,
}

/// Where a filter is, as a symbolic link among the pins says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// The interface, by the kernel's number.
    pub(super) index: u32,
    /// Its side.
    pub(super) side: Side,
    /// The filter's handle; the priority is always the same.
    pub(super) handle: u16,
}

/// Attaches a program of a set, in place of what its pin named before.
///
/// The new one is attached before the old one goes, so that there is always one.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn attach(set: &Set, hook: &Hook, tc: Tc) -> Result<(), PolicyError> {
    let what = || format!("attach {} to {}", hook.program.name(), hook.at);
    let failed = |error: ProgramError| PolicyError::kernel(what(), &error);
    let program = set.program(hook.program);
    let link = match (hook.program.kind(), &hook.at) {
        (Kind::Tc(side), At::Interface { name, index }) => {
            let mut program = SchedClassifier::from_pin(&program).map_err(failed)?;
            if tc == Tc::Clsact {
                return attach_filter(set, hook, &mut program, (name, *index, side));
            }
            let first = TcAttachOptions::TcxOrder(LinkOrder::first());
            match program.attach_with_options(name, side.attach_type(), first) {
                Ok(id) => program.take_link(id).map_err(failed)?.try_into(),
                Err(error) if tc == Tc::Auto && is_unknown(&error) => {
                    return attach_filter(set, hook, &mut program, (name, *index, side));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        (Kind::Call(kind), At::Cgroup { path, .. }) => {
            attach_call(&program, kind, &open(path)?).map_err(failed)?
        }
        (Kind::Packets, At::Cgroup { path, .. }) => {
            attach_packets(&program, &open(path)?).map_err(failed)?
        }
        (Kind::Tc(_), At::Cgroup { .. })
        | (Kind::Call(_) | Kind::Packets, At::Interface { .. }) => {
            // Hooks are made by `Hook::all`, which puts each kind where it belongs.
            return Err(PolicyError::Kernel {
                what: what(),
                why: "it does not belong there: this is a defect of Postern".to_owned(),
            });
        }
    };
    let link = link.map_err(|error| PolicyError::kernel(what(), &error))?;
    pin(link, &set.link(hook))
}

/// Removes what a pin names from its place, and the pin.
///
/// # Errors
///
/// It cannot be removed.
pub(super) fn remove(path: &Path) -> Result<(), PolicyError> {
    if let Some(note) = note(path) {
        remove_filter(&note, path)?;
    }
    pins::remove_file(path)
}

/// Where the filter is that a pin stands for; none for a link of the kernel's.
pub(super) fn note(path: &Path) -> Option<Note> {
    let text = fs::read_link(path).ok()?;
    Note::parse(text.to_str()?)
}

/// Our filter among those of one side of an interface, and how many are asked before it.
pub(super) fn find(filters: &[Filter], note: &Note) -> Option<(usize, Filter)> {
    let handle = u32::from(note.handle);
    let is_ours = |it: &Filter| it.priority == PRIORITY && it.handle == handle;
    let at = filters.iter().position(is_ours)?;
    Some((at, filters.get(at)?.clone()))
}

/// Pins a link, over another one if there is one.
fn pin(link: FdLink, path: &Path) -> Result<(), PolicyError> {
    let new = path.with_file_name(format!("{}{NEW}", pins::name(path)));
    pins::remove_file(&new)?;
    link.pin(&new)
        .map_err(|error| PolicyError::kernel(format!("pin {}", new.display()), &error))?;
    let before = note(path);
    pins::rename(&new, path)?;
    // The pin of a link goes with it; that of a filter was only a note.
    match before {
        Some(note) => remove_filter(&note, path),
        None => Ok(()),
    }
}

fn open(folder: &Path) -> Result<File, PolicyError> {
    File::open(folder).map_err(|error| PolicyError::file("open", folder, error))
}

fn attach_call(
    program: &Path,
    kind: CgroupSockAddrAttachType,
    cgroup: &File,
) -> Result<Result<FdLink, LinkError>, ProgramError> {
    let mut program = CgroupSockAddr::from_pin(program, kind)?;
    // A link never shuts others out, whatever the mode says.
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(program.take_link(id)?.try_into())
}

fn attach_packets(
    program: &Path,
    cgroup: &File,
) -> Result<Result<FdLink, LinkError>, ProgramError> {
    let kind = CgroupSkbAttachType::Egress;
    let mut program = CgroupSkb::from_pin(program, kind)?;
    let id = program.attach(cgroup, kind, CgroupAttachMode::Single)?;
    Ok(program.take_link(id)?.try_into())
}

/// Whether the kernel has no tcx.
fn is_unknown(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else {
        return false;
    };
    error.io_error.raw_os_error() == Some(Errno::EINVAL as i32)
}

/// Attaches a filter of tc.
///
/// It is written down first: a note without a filter does no harm, but a filter that nobody knows
/// of would stay for ever.
fn attach_filter(
    set: &Set,
    hook: &Hook,
    program: &mut SchedClassifier,
    (name, index, side): (&str, u32, Side),
) -> Result<(), PolicyError> {
    let what = || format!("attach {} to {name} by clsact", hook.program.name());
    add_clsact(name).map_err(|error| PolicyError::kernel(what(), &error))?;
    let filters = netlink::filters(index, side);
    let filters = filters.map_err(|error| PolicyError::kernel(what(), &error))?;
    let is_free = |handle: &u16| {
        let taken = |it: &Filter| it.priority == PRIORITY && it.handle == u32::from(*handle);
        !filters.iter().any(taken)
    };
    let note = Note {
        index,
        side,
        handle: (1..u16::MAX).find(is_free).unwrap_or(u16::MAX),
    };
    let path = set.link(hook);
    let new = path.with_file_name(format!("{}{NEW}", pins::name(&path)));
    remove(&new)?;
    symlink(note.text(), &new).map_err(|error| PolicyError::file("write", &new, error))?;
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: TcHandle::new(0, note.handle),
        classid: None,
    });
    let attached = program
        .attach_with_options(name, side.attach_type(), options)
        .and_then(|id| program.take_link(id));
    // The library would take the filter away when its own record of it goes.
    std::mem::forget(attached.map_err(|error| PolicyError::kernel(what(), &error))?);
    let before = self::note(&path);
    pins::rename(&new, &path)?;
    // The pin of a link goes with it; that of a filter was only a note.
    match before {
        Some(before) => remove_filter(&before, &path),
        None => Ok(()),
    }
}

/// Removes filters of ours that nothing names: a command was killed when it had put another one
/// in their place.
///
/// # Errors
///
/// They cannot be listed or removed.
pub(super) fn sweep(set: &Set) -> Result<(), PolicyError> {
    for path in set.links()? {
        let Some(note) = note(&path) else { continue };
        let filters = netlink::filters(note.index, note.side);
        let filters = filters.map_err(|error| {
            PolicyError::kernel(
                format!("list the filters beside {}", path.display()),
                &error,
            )
        })?;
        for filter in filters.iter().filter(|it| it.priority == PRIORITY) {
            let handle = u16::try_from(filter.handle).unwrap_or_default();
            if handle != note.handle {
                remove_filter(&Note { handle, ..note }, &path)?;
            }
        }
    }
    Ok(())
}

fn add_clsact(name: &str) -> Result<(), tc::TcError> {
    match tc::qdisc_add_clsact(name) {
        Err(tc::TcError::NetlinkError(error))
            if error.raw_os_error() == Some(Errno::EEXIST as i32) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Removes a filter, if it is there and ours.
fn remove_filter(note: &Note, path: &Path) -> Result<(), PolicyError> {
    let what = || format!("remove the filter of {}", path.display());
    let failed = |error: &io::Error| PolicyError::kernel(what(), error);
    let links = netlink::links().map_err(|error| failed(&error))?;
    let Some(link) = links.into_iter().find(|it| it.index == note.index) else {
        // It went with its interface.
        return Ok(());
    };
    let filters = netlink::filters(note.index, note.side).map_err(|error| failed(&error))?;
    let found = find(&filters, note).and_then(|(_, filter)| filter.program);
    if found.as_deref() != Some(GATE) {
        return Ok(());
    }
    let side = note.side.attach_type();
    let handle = TcHandle::new(0, note.handle);
    let link = SchedClassifierLink::attached(&link.name, side, PRIORITY, handle, None);
    let detached = link.map_err(|error| failed(&error))?;
    aya::programs::Link::detach(detached).map_err(|error| PolicyError::kernel(what(), &error))
}

impl Note {
    fn text(self) -> String {
        let side = match self.side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        format!("tc filter {} {side} {}", self.index, self.handle)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_prefix("tc filter ")?.split(' ');
        let (index, side, handle) = (words.next()?, words.next()?, words.next()?);
        let side = match side {
            "ingress" => Side::Ingress,
            "egress" => Side::Egress,
            _ => return None,
        };
        Some(Self {
            index: index.parse().ok()?,
            side,
            handle: handle.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for side in [Side::Ingress, Side::Egress] {
            let note = Note {
                index: 7,
                side,
                handle: 2,
            };
            assert_eq!(Note::parse(&note.text()), Some(note));
        }
        for text in [
            "",
            "tc filter 7 in 2",
            "tc filter 7 ingress",
            "tc filter x ingress 1",
        ] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
    }

    #[test]
    fn our_filter_is_found_with_those_that_are_asked_before_it() {
        let filter = |priority, handle| Filter {
            priority,
            handle,
            ..Filter::default()
        };
        let filters = [filter(1, 2), filter(1, 1), filter(5, 1)];
        let note = Note {
            index: 7,
            side: Side::Ingress,
            handle: 1,
        };
        assert_eq!(find(&filters, &note), Some((1, filter(1, 1))));
        assert_eq!(find(&[filter(5, 1)], &note), None);
    }
}
