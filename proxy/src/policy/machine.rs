//! What the policy needs of the machine: capabilities, interfaces, cgroups.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use postern_core::perimeter::Plan;
use postern_ebpf::abi::{INTERFACE_INDEX_END, Interface, LINK_ETHERNET, LINK_NONE};

use super::error::PolicyError;
use super::netlink::{self, Link};
use crate::config::Perimeter;

/// What the loader needs: the bits of `capabilities(7)` and their names.
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// `CAP_SYS_ADMIN`, which stands for the last two as well.
const SYS_ADMIN: u32 = 21;
/// The inode of the first cgroup namespace (`PROC_CGROUP_INIT_INO`).
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// The interfaces of a policy, as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Interfaces {
    /// Those that are there, by the kernel's number.
    pub(super) present: BTreeMap<u32, Present>,
    /// Those that are awaited.
    pub(super) awaited: Vec<String>,
}

/// An interface that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Present {
    /// Its name.
    pub(super) name: String,
    /// What the maps say of it.
    pub(super) entry: Interface,
}

/// The cgroups of a proxy's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroups {
    /// Where the hooks are.
    pub(super) root: PathBuf,
    /// Its number.
    pub(super) root_id: u64,
    /// The proxy's.
    pub(super) proxy: PathBuf,
    /// Its number; none if it is not there.
    pub(super) proxy_id: Option<u64>,
    /// How deep it lies below the root of all cgroups.
    pub(super) level: u32,
}

/// Whether this process may do what the loader does.
///
/// # Errors
///
/// A capability is missing.
pub(crate) fn check_capabilities() -> Result<(), PolicyError> {
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path);
    let status = status.map_err(|error| PolicyError::file("read", path, error))?;
    let missing = missing_capabilities(&status);
    if missing.is_empty() {
        return Ok(());
    }
    Err(PolicyError::Capabilities(missing))
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let has = |bit: u32| effective >> bit & 1 == 1;
    let is_missing = |bit: u32| !has(bit) && (bit < 38 || !has(SYS_ADMIN));
    let missing = CAPABILITIES.iter().filter(|(bit, _)| is_missing(*bit));
    missing.map(|(_, name)| *name).collect()
}

/// The interfaces of a policy, as they are now.
///
/// # Errors
///
/// The kernel does not list them, or one of them is of a kind that is not understood.
pub(super) fn interfaces(plan: &Plan) -> Result<Interfaces, PolicyError> {
    let links = netlink::links();
    let links = links.map_err(|error| PolicyError::kernel("list the interfaces", &error))?;
    place(plan, &links)
}

/// # Errors
///
/// One that must be there is not.
pub(super) fn check_none_is_missing(plan: &Plan, found: &Interfaces) -> Result<(), PolicyError> {
    let is_present = |name: &str| found.present.values().any(|it| it.name == name);
    let missing = plan.missing(is_present);
    if missing.is_empty() {
        return Ok(());
    }
    Err(PolicyError::Interfaces(missing))
}

fn place(plan: &Plan, links: &[Link]) -> Result<Interfaces, PolicyError> {
    let mut interfaces = Interfaces::default();
    for (bit, planned) in (0..).zip(&plan.interfaces) {
        let Some(link) = links.iter().find(|it| it.name == planned.name) else {
            interfaces.awaited.push(planned.name.clone());
            continue;
        };
        if link.index >= INTERFACE_INDEX_END {
            return Err(PolicyError::InterfaceNumber {
                name: link.name.clone(),
                number: link.index,
            });
        }
        let begins = begins_with(link.kind).ok_or_else(|| PolicyError::InterfaceKind {
            name: link.name.clone(),
            kind: link.kind,
        })?;
        let entry = Interface {
            bit: 1_u64.checked_shl(bit).unwrap_or_default(),
            link: begins,
        };
        let name = link.name.clone();
        interfaces
            .present
            .insert(link.index, Present { name, entry });
    }
    Ok(interfaces)
}

/// What packets begin with, by the kernel's number of a kind (`if_arp.h`); none for kinds with
/// headers of their own.
fn begins_with(kind: u16) -> Option<u64> {
    match kind {
        // Ethernet and loopback.
        1 | 772 => Some(LINK_ETHERNET),
        // PPP, raw IP, tunnels of IP in IP, tun and WireGuard.
        512 | 519 | 768 | 769 | 776 | 65_534 => Some(LINK_NONE),
        _ => None,
    }
}

/// The cgroups that the configuration names.
///
/// # Errors
///
/// There is no cgroup2, or this process does not see the root of all cgroups.
pub(super) fn cgroups(perimeter: &Perimeter) -> Result<Cgroups, PolicyError> {
    let namespace = fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
    if namespace != Path::new(FIRST_CGROUP_NAMESPACE) {
        let text = "place = \"proxy-host\" must be loaded from the machine itself: in a container \
                    with cgroups of its own, nobody outside of it would be kept away";
        return Err(PolicyError::Cgroup(text.to_owned()));
    }
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path);
    let mounts = mounts.map_err(|error| PolicyError::file("read", path, error))?;
    let mounted = cgroup2_mounts(&mounts);
    let root = match (&perimeter.cgroup_root, mounted.first()) {
        (Some(root), _) => root.clone(),
        (None, Some((at, _))) => at.clone(),
        (None, None) => {
            let text = "cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup";
            return Err(PolicyError::Cgroup(text.to_owned()));
        }
    };
    // The innermost mount that the root lies in.
    let above = mounted.iter().filter(|(at, _)| root.starts_with(at));
    let Some((at, below)) = above.max_by_key(|(at, _)| at.components().count()) else {
        let text = format!(
            "perimeter.cgroup_root: {} is not on cgroup2; without the key its mount point is used",
            root.display()
        );
        return Err(PolicyError::Cgroup(text));
    };
    let proxy = root.join(&perimeter.cgroup);
    let inside = proxy.strip_prefix(at).unwrap_or(&proxy);
    let level = depth(below) + depth(inside);
    Ok(Cgroups {
        root_id: id(&root).map_err(|error| PolicyError::file("look at", &root, error))?,
        proxy_id: id(&proxy).ok(),
        level,
        root,
        proxy,
    })
}

/// Makes the proxy's cgroup if it is missing; its number.
///
/// # Errors
///
/// It cannot be made.
pub(super) fn make_cgroup(cgroups: &mut Cgroups) -> Result<(), PolicyError> {
    if cgroups.proxy_id.is_none() {
        let made = fs::create_dir_all(&cgroups.proxy).and_then(|()| id(&cgroups.proxy));
        let made = made.map_err(|error| PolicyError::file("make", &cgroups.proxy, error))?;
        cgroups.proxy_id = Some(made);
    }
    Ok(())
}

/// The number that the kernel gives a cgroup: the inode of its folder.
fn id(folder: &Path) -> io::Result<u64> {
    fs::metadata(folder).map(|it| it.ino())
}

/// Where cgroup2 is mounted, and what of it, in the lines of `/proc/self/mountinfo` (proc(5)).
fn cgroup2_mounts(mounts: &str) -> Vec<(PathBuf, PathBuf)> {
    let of_line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (below, at) = (fields.next()?, fields.next()?);
        let is_cgroup2 = after.split(' ').next() == Some("cgroup2");
        is_cgroup2.then(|| (unescaped(at), unescaped(below)))
    };
    mounts.lines().filter_map(of_line).collect()
}

/// A path of `mountinfo`, where blanks and backslashes are written in octal.
fn unescaped(field: &str) -> PathBuf {
    let pairs = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let text = pairs.iter().fold(field.to_owned(), |text, (code, char)| {
        text.replace(code, char)
    });
    PathBuf::from(text)
}

/// How many names a path has.
fn depth(path: &Path) -> u32 {
    let names = path
        .components()
        .filter(|it| matches!(it, std::path::Component::Normal(_)));
    u32::try_from(names.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capabilities_are_named() {
        let missing = |mask: &str| missing_capabilities(&format!("Name:\tx\nCapEff:\t{mask}\n"));
        assert_eq!(missing("000001ffffffffff"), [""; 0]);
        assert_eq!(missing("000000c000001000"), [""; 0]);
        assert_eq!(missing("0000000000201000"), [""; 0]);
        assert_eq!(missing("000000c000000000"), ["CAP_NET_ADMIN"]);
        let all = ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"];
        assert_eq!(missing("0000000000000000"), all);
        assert_eq!(missing_capabilities(""), all);
    }

    #[test]
    fn cgroup2_is_found_where_it_is_mounted() {
        let mounts = "\
25 1 0:22 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
30 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
40 1 0:26 /a/b /mnt/with\\040blank rw - cgroup2 none rw
";
        let expect = [("/sys/fs/cgroup/unified", "/"), ("/mnt/with blank", "/a/b")];
        let expect = expect.map(|(at, below)| (PathBuf::from(at), PathBuf::from(below)));
        assert_eq!(cgroup2_mounts(mounts), expect);
    }

    #[test]
    fn the_depth_of_a_cgroup_counts_its_names() {
        assert_eq!(depth(Path::new("/")), 0);
        assert_eq!(depth(Path::new("/system.slice/postern.service")), 2);
        assert_eq!(depth(Path::new("postern.slice")), 1);
    }

    #[test]
    fn kinds_with_headers_of_their_own_are_not_understood() {
        assert_eq!(begins_with(1), Some(LINK_ETHERNET));
        assert_eq!(begins_with(65_534), Some(LINK_NONE));
        // InfiniBand, GRE, IEEE 802.11 with radiotap.
        for kind in [32, 778, 803] {
            assert_eq!(begins_with(kind), None);
        }
    }
}
