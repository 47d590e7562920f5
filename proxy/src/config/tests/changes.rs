//! What differs between two configurations, and which of it a running process can take.

use super::*;
use crate::config::values::is_fixed;

fn told(before: &Config, now: &Config) -> Vec<String> {
    let changes = before.values.changes(&now.values);
    changes.iter().map(ToString::to_string).collect()
}

fn refused(before: &Config, now: &Config) -> Vec<String> {
    let changes = before.values.changes(&now.values);
    changes.iter().filter_map(Change::refusal).collect()
}

#[test]
fn a_default_that_is_written_down_is_no_change() {
    let folder = folder();
    let read = |sample: &Sample| read_in(folder.path(), &sample.text()).unwrap();
    let before = read(&Sample::new());
    let now = read(&with("limits.logins_max", "1_000"));
    assert_eq!(told(&before, &now), [""; 0]);
}

#[test]
fn a_change_is_told_with_both_values() {
    let folder = folder();
    let read = |sample: &Sample| read_in(folder.path(), &sample.text()).unwrap();
    let before = read(&Sample::new());
    let mut sample = with("limits.logins_max", "900");
    sample.add("[[group_rule]]\nprefix = 'x-'\n");
    let now = read(&sample);
    let said = told(&before, &now);
    assert!(
        said.contains(&"limits.logins_max: 1000 -> 900".to_owned()),
        "{said:?}"
    );
    assert!(
        said.contains(&"group_rule 2.prefix: (unset) -> \"x-\"".to_owned()),
        "{said:?}"
    );
    assert_eq!(refused(&before, &now), [""; 0]);
    let is_of = |tables| {
        before
            .values
            .changes(&now.values)
            .iter()
            .all(|it| it.is_of(tables))
    };
    assert!(is_of(&["limits", "group_rule"]));
    assert!(!is_of(&["limits"]));
}

#[test]
fn a_file_that_holds_something_else_is_a_change_and_one_that_moved_is_another() {
    let folder = folder();
    let read = |sample: &Sample| read_in(folder.path(), &sample.text()).unwrap();
    let before = read(&Sample::new());
    std::fs::write(folder.path().join("cert.pem"), "renewed\n").unwrap();
    let now = read(&Sample::new());
    let content = "listen.tls_cert_file: the file holds something else";
    assert_eq!(told(&before, &now), [content]);
    let moved = read(&with("listen.tls_cert_file", "'ca.pem'"));
    assert_eq!(told(&now, &moved).len(), 1);
    assert_eq!(refused(&before, &moved), [""; 0]);
}

#[test]
fn another_cluster_key_takes_a_restart_and_another_path_to_it_does_not() {
    let folder = folder();
    let read = |sample: &Sample| read_in(folder.path(), &sample.text()).unwrap();
    let before = read(&Sample::new());
    let copy = folder.path().join("copy.key");
    std::fs::copy(folder.path().join("cluster.key"), &copy).unwrap();
    let moved = with("credential.cluster_key_file", "'copy.key'");
    assert_eq!(told(&before, &read(&moved)), [""; 0]);
    std::fs::write(&copy, "another\n").unwrap();
    let said = refused(&before, &read(&moved));
    assert!(
        said.iter()
            .all(|it| it.contains("credential.cluster_key_file"))
    );
    assert_eq!(said.len(), 1);
}

#[test]
fn every_key_that_takes_a_restart_is_refused_by_name() {
    let folder = folder();
    let read = |sample: &Sample| read_in(folder.path(), &sample.text()).unwrap();
    let before = read(&Sample::new());
    for (key, value) in [
        ("listen.addresses", "['127.0.0.1:7']"),
        ("metrics.listen", "'127.0.0.1:7'"),
        ("control.socket", "'other.sock'"),
        ("audit.file", "'other.jsonl'"),
        ("limits.sessions_max", "7"),
        ("limits.splice_threads", "7"),
    ] {
        assert!(is_fixed(key), "{key}");
        let said = refused(&before, &read(&with(key, value)));
        let named = said
            .iter()
            .any(|it| it.starts_with(key) && it.contains("needs a restart"));
        assert!(named, "{key}: {said:?}");
    }
}
