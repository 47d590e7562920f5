//! Who has something that a change in the directory could take away.

use std::collections::HashMap;
use std::sync::Arc;

use postern_core::principal::{EntryId, Principal};

use crate::gate::Gate;

/// Everybody with a live session of this process or a place in its memory, with the groups that
/// the directory named last.
pub(super) fn people(gate: &Gate) -> HashMap<EntryId, Arc<Principal>> {
    let mut people: HashMap<_, _> = gate
        .authenticator
        .people()
        .into_iter()
        .map(|it| (it.id.clone(), it))
        .collect();
    people.extend(gate.sessions.people());
    people
}

/// Whether an entry is one of the groups by which somebody is in.
///
/// Distinguished names are compared without regard to case, as directories do (RFC 4517, 4.2.11).
pub(super) fn is_in(principal: &Principal, dn: &str) -> bool {
    let mut groups = principal.groups.iter();
    groups.any(|group| group.dn.eq_ignore_ascii_case(dn) || is_on_the_way(&group.path, dn))
}

/// The path of a nested group names the groups between by their names, which stand in the first
/// part of their distinguished names.
fn is_on_the_way(path: &[String], dn: &str) -> bool {
    let first = dn.split(',').next().unwrap_or_default();
    let name = first.split_once('=').map_or(first, |(_, name)| name);
    path.iter()
        .any(|it| it.eq_ignore_ascii_case(name) || it.eq_ignore_ascii_case(dn))
}

#[cfg(test)]
mod tests {
    use postern_core::principal::Group;

    use super::*;

    #[test]
    fn a_group_is_known_by_its_name_and_by_those_between() {
        let principal = Principal {
            id: EntryId::new("uuid:1"),
            dn: "uid=alice".to_owned(),
            name: "alice".to_owned(),
            groups: vec![Group {
                name: "hr-data".to_owned(),
                dn: "cn=hr-data,ou=groups,dc=corp".to_owned(),
                path: vec!["hr-team".to_owned()],
                direct: false,
            }],
            version: None,
        };
        assert!(is_in(&principal, "CN=HR-Data,OU=Groups,DC=corp"));
        assert!(is_in(&principal, "cn=hr-team,ou=groups,dc=corp"));
        assert!(!is_in(&principal, "cn=it,ou=groups,dc=corp"));
        assert!(!is_in(&principal, ""));
    }
}
