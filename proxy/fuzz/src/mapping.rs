//! Groups and the roles that they become.

use std::collections::BTreeSet;

use postern_core::limits::ROLE_NAME_BYTES_MAX;
use postern_core::mapping::{Grants, GroupRule, GroupRules, Matcher};
use postern_core::principal::Group;
use postern_core::wire::startup::Replication;
use regex::Regex;

use crate::pieces::Pieces;

/// A rule's matcher, template and database, and names of groups, a line each, behind a byte of
/// choices.
pub fn mapping(data: &[u8]) {
    let mut input = Pieces(data);
    let choices = input.byte();
    let (pattern, template, database) = (input.text(), input.text(), input.text());
    let names = input.texts(12);
    // What a regular expression costs to compile is the operator's own time.
    if pattern.len() > 64 {
        return;
    }
    let matcher = match choices & 3 {
        0 => Matcher::Prefix(pattern.clone()),
        1 => Matcher::Names(pattern.split('|').map(str::to_owned).collect()),
        _ => match Regex::new(&pattern) {
            Ok(regex) => Matcher::Regex(regex),
            Err(_) => return,
        },
    };
    let template = (choices & 4 != 0).then_some(template);
    let databases = if choices & 8 != 0 {
        vec![database.clone()]
    } else {
        Vec::new()
    };
    let Ok(rule) = GroupRule::new(matcher, template.clone(), databases) else {
        return;
    };
    let rule = rule
        .strict(choices & 16 != 0)
        .replication(choices & 32 != 0);
    let groups: Vec<Group> = names.iter().map(|it| group(it)).collect();
    let rules = GroupRules::new(vec![rule.clone()]);
    let grants = rules.grants(&groups, &database);
    check(&grants, &groups);
    check_order(&rules, &groups, &database, &grants);
    if template.is_none() {
        check_names(&grants);
    }
    check_same(&rule, &groups, &database);
    if choices & 3 == 0 {
        check_prefix(&grants, &pattern);
    }
}

fn group(name: &str) -> Group {
    Group {
        name: name.to_owned(),
        dn: format!("cn={name}"),
        path: Vec::new(),
        direct: true,
    }
}

/// Each group counts once, for a role that may be, or is left out with a reason.
fn check(grants: &Grants, groups: &[Group]) {
    let counted: usize = grants.roles.iter().map(|it| it.groups.len()).sum();
    assert_eq!(counted + grants.dropped.len(), groups.len());
    assert!(grants.roles.is_sorted_by(|a, b| a.role < b.role));
    for grant in &grants.roles {
        let role = grant.role.as_str();
        assert!(!grant.groups.is_empty());
        assert!(!role.is_empty() && role.len() <= ROLE_NAME_BYTES_MAX);
        assert!(!role.starts_with("pg_") && role != "public" && role != "none");
        assert!(!role.chars().any(char::is_control));
    }
    // Nobody who has no role gets anything opened.
    if grants.roles.is_empty() {
        assert!(!grants.opens_database && !grants.may_replicate && !grants.is_strict);
    }
    assert!(!grants.open(Replication::Logical) || grants.open(Replication::Physical));
    assert!(!grants.open(Replication::Logical) || grants.open(Replication::No));
}

/// The order of the groups changes nothing, and one group less takes no more than its own role.
fn check_order(rules: &GroupRules, groups: &[Group], database: &str, grants: &Grants) {
    let roles = |of: &Grants| {
        of.roles
            .iter()
            .map(|it| it.role.clone())
            .collect::<BTreeSet<_>>()
    };
    let reversed: Vec<Group> = groups.iter().rev().cloned().collect();
    let turned = rules.grants(&reversed, database);
    assert_eq!(roles(&turned), roles(grants));
    assert_eq!(turned.opens_database, grants.opens_database);
    if let Some((_, fewer)) = groups.split_last() {
        let fewer = rules.grants(fewer, database);
        assert!(roles(&fewer).is_subset(&roles(grants)));
        assert!(roles(&fewer).len() + 1 >= roles(grants).len());
        assert!(!fewer.opens_database || grants.opens_database);
    }
}

/// Without a template a role has the group's name.
fn check_names(grants: &Grants) {
    for grant in &grants.roles {
        assert!(grant.groups.iter().all(|it| it.name == grant.role.as_str()));
    }
}

/// A rule that stands twice is the rule, and one behind it that is the same is never asked.
fn check_same(rule: &GroupRule, groups: &[Group], database: &str) {
    let once = GroupRules::new(vec![rule.clone()]).grants(groups, database);
    let twice = GroupRules::new(vec![rule.clone(), rule.clone()]).grants(groups, database);
    assert_eq!(once, twice);
}

/// A prefix counts without the case of ASCII letters, and what it does not match has no role.
fn check_prefix(grants: &Grants, prefix: &str) {
    let begins = |group: &Group| {
        let start = group.name.get(..prefix.len());
        start.is_some_and(|it| it.eq_ignore_ascii_case(prefix))
    };
    assert!(grants.roles.iter().all(|it| it.groups.iter().all(begins)));
    let unmatched = "no rule matches";
    for dropped in &grants.dropped {
        assert_eq!(
            dropped.why.to_string() == unmatched,
            !begins(&dropped.group)
        );
    }
}
