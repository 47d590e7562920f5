//! `[perimeter]`: what is read, what is refused and at which line, and that nothing else is needed.

use postern_core::perimeter::Place;
use postern_ebpf::abi::Mode;

use super::*;

const GATEWAY: &str = "\
[perimeter]
place = 'gateway'
interfaces = ['eth0', 'eth1']
await_interfaces = ['wg0']
[[perimeter.protect]]
prefixes = ['10.20.0.0/24', 'fd00:20::/64']
ports = [5432]
[[perimeter.allow]]
sources = ['10.10.0.5/32']
interfaces = ['eth1', 'wg0']
";

/// The perimeter of a file in which there is nothing else.
fn perimeter(text: &str) -> Result<Perimeter, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, text).unwrap();
    Perimeter::read(&path)
}

/// The only problem of a perimeter: its line, its key and a part of why.
fn refused(text: &str, line: usize, key: &str, why: &str) {
    let errors = perimeter(text).map(drop).unwrap_err();
    let [problem] = errors.problems() else {
        panic!("not exactly one problem with\n{text}\n{errors}");
    };
    assert_eq!(
        (problem.line, problem.key.as_str()),
        (Some(line), key),
        "{errors}"
    );
    assert!(problem.why.contains(why), "{errors}");
}

#[test]
fn a_perimeter_is_read_without_anything_of_a_proxy() {
    let read = perimeter(GATEWAY).unwrap();
    assert_eq!(read.plan.place, Place::Gateway);
    assert_eq!(read.mode, Mode::Enforce);
    assert_eq!(read.pins, Path::new("/sys/fs/bpf/postern"));
    assert_eq!(read.cgroup, Path::new("postern.slice"));
    assert!(read.default_drop && read.cgroup_root.is_none() && read.audit_file.is_none());
    let names: Vec<_> = read
        .plan
        .interfaces
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["eth0", "eth1", "wg0"]);
    assert_eq!((read.plan.protected.len(), read.plan.allowed.len()), (2, 1));
    let with_other_tables = format!("[listen]\naddresses = 7\n{GATEWAY}");
    assert!(perimeter(&with_other_tables).is_ok());
}

#[test]
fn a_whole_file_has_the_same_perimeter() {
    let mut sample = Sample::new();
    sample.add(GATEWAY);
    let config = sample.read().unwrap();
    let plan = config.perimeter.unwrap().plan;
    assert_eq!(plan, perimeter(GATEWAY).unwrap().plan);
    assert!(Sample::new().read().unwrap().perimeter.is_none());
}

#[test]
fn the_proxys_host_names_its_cgroup() {
    let text = "\
[perimeter]
place = 'proxy-host'
mode = 'monitor'
cgroup_root = '/sys/fs/cgroup/unified'
cgroup = '/system.slice/postern.slice'
[[perimeter.protect]]
prefixes = ['10.20.0.0/24']
";
    let read = perimeter(text).unwrap();
    assert_eq!(read.mode, Mode::Monitor);
    assert_eq!(read.cgroup, Path::new("system.slice/postern.slice"));
    for path in ["'/'", "'/a/../b'"] {
        let text = text.replace("'/system.slice/postern.slice'", path);
        refused(&text, 5, "perimeter.cgroup", "is not the path of a cgroup");
    }
}

#[test]
fn a_refusal_stands_at_its_line() {
    let replaced = |from: &str, to: &str| GATEWAY.replace(from, to);
    refused(
        &replaced("'10.20.0.0/24'", "'10.20.0.1/24'"),
        6,
        "perimeter.protect 1.prefixes",
        "\"10.20.0.1/24\" has bits set behind its length; the prefix is 10.20.0.0/24",
    );
    refused(
        &replaced("[5432]", "[0]"),
        7,
        "perimeter.protect 1.ports",
        "is out of range",
    );
    refused(
        &replaced("['eth1', 'wg0']", "['eth2']"),
        10,
        "perimeter.allow 1.interfaces",
        "eth2 is neither in interfaces nor in await_interfaces",
    );
    refused(
        &replaced("'eth0', 'eth1'", "'eth0', 'eth1', 'eth0'"),
        3,
        "perimeter.interfaces",
        "lists eth0 twice",
    );
    refused(
        &format!("{GATEWAY}[[perimeter.protect]]\nprefixes = ['10.20.0.0/25']\nports = [1]\n"),
        12,
        "perimeter.protect 2.prefixes",
        "10.20.0.0/25 lies in 10.20.0.0/24 of rule 1",
    );
    refused(
        &replaced("place = 'gateway'", "place = 'gateway'\ncgroup = '/a'"),
        3,
        "perimeter.cgroup",
        "has no meaning with place = \"gateway\"",
    );
}

#[test]
fn a_file_without_a_perimeter_has_no_policy() {
    let errors = perimeter("[listen]\n").map(drop).unwrap_err();
    assert!(
        errors.to_string().contains("[perimeter]: is missing"),
        "{errors}"
    );
    let errors = perimeter("[perimetr]\n").map(drop).unwrap_err();
    assert!(
        errors.to_string().contains("did you mean [perimeter]?"),
        "{errors}"
    );
}

#[test]
fn a_rule_is_written_with_two_brackets() {
    let text =
        "[perimeter]\nplace = 'proxy-host'\n[perimeter.protect]\nprefixes = ['10.0.0.0/8']\n";
    let errors = perimeter(text).map(drop).unwrap_err().to_string();
    let expect = ":3: perimeter.protect: is written as [[perimeter.protect]]";
    assert!(errors.contains(expect), "{errors}");
}
