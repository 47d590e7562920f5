//! One denial: read from the kernel's bytes, named, and written for people and programs.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use postern_core::audit::{Record, rfc3339};
use postern_core::perimeter::address_of;
use postern_ebpf::Reason;
use postern_ebpf::abi::{Address, Event, Hook};

use super::super::clock::Boot;
use super::super::machine;
use super::super::netlink;
use crate::config::Perimeter;
use crate::limits::{CGROUPS_NAMED_MAX, CGROUPS_WALKED_MAX};
use crate::printable::printable;

/// A denial, as the kernel sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    at_ms: u64,
    cgroup: u64,
    source: (Address, u16),
    destination: (Address, u16),
    interface: u32,
    pid: u32,
    protocol: u8,
    hook: &'static str,
    reason: &'static str,
    dropped: bool,
    command: String,
}

/// A denial with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    denial: Denial,
    interface: Option<String>,
    cgroup: Option<String>,
}

/// The names that denials have only as numbers.
#[derive(Debug)]
pub(super) struct Names {
    root: Option<PathBuf>,
    interfaces: HashMap<u32, String>,
    cgroups: HashMap<u64, String>,
}

impl Denial {
    /// Reads an [`Event`]; none from bytes that are not one.
    pub(super) fn read(bytes: &[u8], boot: Boot) -> Option<Self> {
        if bytes.len() < size_of::<Event>() {
            return None;
        }
        let dropped: [u8; 1] = part(bytes, core::mem::offset_of!(Event, dropped))?;
        let [hook]: [u8; 1] = part(bytes, core::mem::offset_of!(Event, hook))?;
        let [reason]: [u8; 1] = part(bytes, core::mem::offset_of!(Event, reason))?;
        let [protocol]: [u8; 1] = part(bytes, core::mem::offset_of!(Event, protocol))?;
        let command: [u8; 16] = part(bytes, core::mem::offset_of!(Event, command))?;
        let port = |at| part(bytes, at).map(u16::from_ne_bytes);
        let number = |at| part(bytes, at).map(u32::from_ne_bytes);
        let long = |at| part(bytes, at).map(u64::from_ne_bytes);
        Some(Self {
            at_ms: boot.unix_ms(long(core::mem::offset_of!(Event, at_ns))?),
            cgroup: long(core::mem::offset_of!(Event, cgroup))?,
            source: (
                part(bytes, core::mem::offset_of!(Event, source))?,
                port(core::mem::offset_of!(Event, source_port))?,
            ),
            destination: (
                part(bytes, core::mem::offset_of!(Event, destination))?,
                port(core::mem::offset_of!(Event, destination_port))?,
            ),
            interface: number(core::mem::offset_of!(Event, interface))?,
            pid: number(core::mem::offset_of!(Event, pid))?,
            protocol,
            hook: hook_name(hook),
            reason: Reason::of(reason).map_or("unknown", Reason::name),
            dropped: dropped != [0],
            command: text(&command),
        })
    }
}

impl Named {
    /// When it was, in milliseconds of Unix time.
    pub(super) fn at_ms(&self) -> u64 {
        self.denial.at_ms
    }

    /// One line for a person; `at` is the time.
    pub(super) fn text(&self, at: &str) -> String {
        let denial = &self.denial;
        let done = if denial.dropped { "drop" } else { "seen" };
        let route = format!("{} -> {}", end(denial.source), end(denial.destination));
        let mut line = format!(
            "{at}  {done}  {:<7}  {:<18}  {route:<43}",
            denial.hook, denial.reason
        );
        if let Some(interface) = &self.interface {
            line.push_str("  ");
            line.push_str(interface);
        }
        if denial.pid != 0 {
            line.push_str(&format!(
                "  pid {} {}",
                denial.pid,
                printable(&denial.command)
            ));
        }
        if let Some(cgroup) = &self.cgroup {
            line.push_str("  ");
            line.push_str(&printable(cgroup));
        }
        line.trim_end().to_owned()
    }

    /// One line for programs.
    pub(super) fn json(&self) -> String {
        let denial = &self.denial;
        let called = denial.pid != 0;
        serde_json::json!({
            "event": "denied",
            "at": rfc3339(denial.at_ms),
            "dropped": denial.dropped,
            "hook": denial.hook,
            "reason": denial.reason,
            "source": (denial.source.0 != [0; 16]).then(|| address_of(denial.source.0)),
            "source_port": denial.source.1,
            "destination": address_of(denial.destination.0).to_string(),
            "destination_port": denial.destination.1,
            "protocol": denial.protocol,
            "interface": self.interface,
            "pid": called.then_some(denial.pid),
            "command": called.then_some(&denial.command),
            "cgroup": self.cgroup,
        })
        .to_string()
    }

    /// For the audit file.
    pub(super) fn record(&self) -> Record {
        let denial = &self.denial;
        let called = denial.pid != 0;
        Record::Denied {
            refused_at: rfc3339(denial.at_ms),
            dropped: denial.dropped,
            hook: denial.hook.to_owned(),
            reason: denial.reason.to_owned(),
            source: end(denial.source),
            destination: end(denial.destination),
            interface: self.interface.clone(),
            pid: called.then_some(denial.pid),
            command: called.then(|| denial.command.clone()),
            cgroup: self.cgroup.clone(),
        }
    }
}

impl Names {
    pub(super) fn new(perimeter: &Perimeter) -> Self {
        let root = match perimeter.plan.place.has_interfaces() {
            true => None,
            // Without its root a cgroup is shown by its number.
            false => machine::cgroups(perimeter).ok().map(|it| it.root),
        };
        Self {
            root,
            interfaces: HashMap::new(),
            cgroups: HashMap::new(),
        }
    }

    /// Gives a denial its names.
    pub(super) fn name(&mut self, denial: Denial) -> Named {
        let interface = (denial.interface != 0).then(|| self.interface(denial.interface));
        let cgroup = (denial.cgroup != 0).then(|| self.cgroup(denial.cgroup, denial.pid));
        Named {
            denial,
            interface,
            cgroup,
        }
    }

    /// Interfaces have come or gone.
    pub(super) fn forget_interfaces(&mut self) {
        self.interfaces.clear();
    }

    fn interface(&mut self, index: u32) -> String {
        if self.interfaces.is_empty() {
            // Without the list interfaces are shown by their numbers.
            let links = netlink::links().unwrap_or_default();
            self.interfaces = links.into_iter().map(|it| (it.index, it.name)).collect();
        }
        let name = self.interfaces.get(&index).cloned();
        name.unwrap_or_else(|| format!("interface {index}"))
    }

    fn cgroup(&mut self, id: u64, pid: u32) -> String {
        if let Some(name) = self.cgroups.get(&id) {
            return name.clone();
        }
        let root = self.root.as_deref();
        let found = root.and_then(|root| of_process(root, id, pid).or_else(|| walk(root, id)));
        let name = found.unwrap_or_else(|| format!("cgroup {id}"));
        if self.cgroups.len() >= CGROUPS_NAMED_MAX {
            self.cgroups.clear();
        }
        self.cgroups.insert(id, name.clone());
        name
    }
}

/// The cgroup of a process, if it is the one with this number.
fn of_process(root: &Path, id: u64, pid: u32) -> Option<String> {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = lines.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = root.join(path.trim_start_matches('/'));
    (fs::metadata(folder).ok()?.ino() == id).then(|| path.to_owned())
}

/// The path of a cgroup below a root, by its number; not looked for among too many.
fn walk(root: &Path, id: u64) -> Option<String> {
    let mut left = vec![root.to_owned()];
    let mut walked = 0;
    while let Some(folder) = left.pop() {
        walked += 1;
        if walked > CGROUPS_WALKED_MAX {
            return None;
        }
        if fs::metadata(&folder).is_ok_and(|it| it.ino() == id) {
            let below = folder.strip_prefix(root).ok()?;
            return Some(format!("/{}", below.display()));
        }
        // A cgroup that has gone meanwhile has nothing below it.
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir()));
        left.extend(folders.map(|it| it.path()));
    }
    None
}

/// An address, with its port where there is one.
fn end((address, port): (Address, u16)) -> String {
    if address == [0; 16] {
        return "-".to_owned();
    }
    let address = address_of(address);
    match port {
        0 => address.to_string(),
        port => SocketAddr::new(address, port).to_string(),
    }
}

fn hook_name(number: u8) -> &'static str {
    let hooks = [
        (Hook::Ingress, "ingress"),
        (Hook::Egress, "egress"),
        (Hook::Connect, "connect"),
        (Hook::Send, "send"),
        (Hook::Socket, "socket"),
    ];
    let found = hooks.iter().find(|(hook, _)| *hook as u8 == number);
    found.map_or("unknown", |(_, name)| name)
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A text that zeros pad.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len()));
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use postern_core::perimeter::octets;

    use super::*;

    fn address(text: &str) -> Address {
        match text.parse() {
            Ok(address) => octets(address),
            Err(_) => panic!("{text}"),
        }
    }

    fn denial() -> Denial {
        Denial {
            at_ms: 1_700_000_000_123,
            cgroup: 0,
            source: (address("10.1.0.7"), 40_000),
            destination: (address("fd00:20::5"), 5432),
            interface: 2,
            pid: 0,
            protocol: 6,
            hook: "ingress",
            reason: "source_not_allowed",
            dropped: true,
            command: String::new(),
        }
    }

    fn named(denial: Denial, interface: Option<&str>, cgroup: Option<&str>) -> Named {
        Named {
            denial,
            interface: interface.map(str::to_owned),
            cgroup: cgroup.map(str::to_owned),
        }
    }

    #[test]
    fn a_person_reads_who_wanted_what_and_why_not() {
        let at_interface = named(denial(), Some("eth0"), None);
        assert_eq!(
            at_interface.text("T"),
            "T  drop  ingress  source_not_allowed  10.1.0.7:40000 -> [fd00:20::5]:5432          \
             eth0"
        );
        let call = Denial {
            source: ([0; 16], 0),
            interface: 0,
            pid: 77,
            hook: "connect",
            reason: "foreign_socket",
            dropped: false,
            command: "ps\u{1b}ql".to_owned(),
            ..denial()
        };
        assert_eq!(
            named(call, None, Some("/user.slice")).text("T"),
            "T  seen  connect  foreign_socket      - -> [fd00:20::5]:5432                       \
             pid 77 ps\\u{1b}ql  /user.slice"
        );
    }

    #[test]
    fn a_program_reads_every_field() {
        let json = named(denial(), Some("eth0"), None).json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let expect = serde_json::json!({
            "event": "denied",
            "at": "2023-11-14T22:13:20.123Z",
            "dropped": true,
            "hook": "ingress",
            "reason": "source_not_allowed",
            "source": "10.1.0.7",
            "source_port": 40000,
            "destination": "fd00:20::5",
            "destination_port": 5432,
            "protocol": 6,
            "interface": "eth0",
            "pid": null,
            "command": null,
            "cgroup": null,
        });
        assert_eq!(value, expect);
    }

    #[test]
    fn the_kernels_bytes_are_read_field_by_field() {
        let mut bytes = vec![0; size_of::<Event>()];
        let mut put = |at: usize, value: &[u8]| {
            bytes.splice(at..at + value.len(), value.iter().copied());
        };
        put(core::mem::offset_of!(Event, cgroup), &9_u64.to_ne_bytes());
        put(core::mem::offset_of!(Event, source), &address("10.1.0.7"));
        put(
            core::mem::offset_of!(Event, source_port),
            &40_000_u16.to_ne_bytes(),
        );
        put(
            core::mem::offset_of!(Event, destination),
            &address("fd00:20::5"),
        );
        put(
            core::mem::offset_of!(Event, destination_port),
            &5432_u16.to_ne_bytes(),
        );
        put(
            core::mem::offset_of!(Event, interface),
            &2_u32.to_ne_bytes(),
        );
        put(core::mem::offset_of!(Event, pid), &77_u32.to_ne_bytes());
        put(core::mem::offset_of!(Event, protocol), &[6]);
        put(core::mem::offset_of!(Event, hook), &[Hook::Ingress as u8]);
        put(
            core::mem::offset_of!(Event, reason),
            &[Reason::SourceNotAllowed as u8],
        );
        put(core::mem::offset_of!(Event, dropped), &[1]);
        put(core::mem::offset_of!(Event, command), b"psql\0\0");
        let boot = Boot::now();
        let read = Denial::read(&bytes, boot);
        let expect = Denial {
            at_ms: boot.unix_ms(0),
            cgroup: 9,
            pid: 77,
            command: "psql".to_owned(),
            ..denial()
        };
        assert_eq!(read, Some(expect));
        bytes.pop();
        assert_eq!(Denial::read(&bytes, boot), None);
    }

    #[test]
    fn a_cgroup_is_found_by_its_number() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let below = root.path().join("user.slice/a.scope");
        fs::create_dir_all(&below)?;
        let id = fs::metadata(&below)?.ino();
        assert_eq!(
            walk(root.path(), id).as_deref(),
            Some("/user.slice/a.scope")
        );
        assert_eq!(walk(root.path(), 0), None);
        Ok(())
    }
}
