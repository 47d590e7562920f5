//! Tests of the rules and of their templates.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not so"
)]

use super::*;

fn group(name: &str) -> Group {
    Group {
        name: name.to_owned(),
        dn: format!("cn={name},ou=groups"),
        path: Vec::new(),
        direct: true,
    }
}

fn rule(matcher: Matcher, role: Option<&str>, databases: &[&str]) -> GroupRule {
    let databases = databases.iter().map(|name| (*name).to_owned()).collect();
    GroupRule::new(matcher, role.map(str::to_owned), databases).unwrap()
}

fn prefix(text: &str) -> Matcher {
    Matcher::Prefix(text.to_owned())
}

fn names(names: &[&str]) -> Matcher {
    Matcher::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

fn regex(pattern: &str) -> Matcher {
    Matcher::Regex(Regex::new(pattern).unwrap())
}

fn grants(rules: Vec<GroupRule>, groups: &[&str], database: &str) -> Grants {
    let groups: Vec<_> = groups.iter().map(|name| group(name)).collect();
    GroupRules::new(rules).grants(&groups, database)
}

fn roles(grants: &Grants) -> Vec<&str> {
    grants
        .roles
        .iter()
        .map(|grant| grant.role.as_str())
        .collect()
}

#[test]
fn a_group_keeps_the_directory_s_spelling_and_is_found_without_case() {
    let rules = vec![
        rule(prefix("PG-"), None, &[]),
        rule(names(&["Auditors"]), None, &[]),
    ];
    let found = grants(rules, &["pg-Readers", "AUDITORS", "xpg-a", "p", "é"], "app");
    assert_eq!(roles(&found), ["AUDITORS", "pg-Readers"]);
    assert!(found.opens_database);
    let dropped: Vec<_> = found
        .dropped
        .iter()
        .map(|d| d.group.name.as_str())
        .collect();
    assert_eq!(dropped, ["xpg-a", "p", "é"]);
    assert!(
        found
            .dropped
            .iter()
            .all(|dropped| dropped.why == DroppedWhy::NoRule)
    );
}

#[test]
fn groups_that_differ_by_case_are_two_roles() {
    let found = grants(
        vec![rule(prefix("r"), None, &[])],
        &["readers", "Readers"],
        "app",
    );
    assert_eq!(roles(&found), ["Readers", "readers"]);
}

#[test]
fn two_groups_of_one_role_are_one_grant() {
    let rules = vec![rule(regex("(emea|apac)-(.+)"), Some("$2"), &[])];
    let found = grants(rules, &["emea-dba", "apac-dba", "emea-app"], "app");
    assert_eq!(roles(&found), ["app", "dba"]);
    let groups: Vec<_> = found.roles.iter().map(|grant| grant.groups.len()).collect();
    assert_eq!(groups, [1, 2]);
}

#[test]
fn the_first_matching_rule_decides_even_when_its_role_cannot_be() {
    let rules = vec![
        rule(names(&["dba"]), Some("pg_read_all_data"), &[]),
        rule(regex(".*"), None, &[]),
    ];
    let found = grants(rules, &["dba"], "app");
    assert!(found.roles.is_empty() && !found.opens_database);
    assert_eq!(
        found.dropped[0].why,
        DroppedWhy::RoleName(RoleNameError::Reserved)
    );
}

#[test]
fn a_long_or_reserved_group_is_dropped_and_never_truncated() {
    let long = "g".repeat(64);
    let found = grants(
        vec![rule(regex(".*"), None, &[])],
        &[&long, "none", "ok"],
        "app",
    );
    assert_eq!(roles(&found), ["ok"]);
    let why: Vec<_> = found.dropped.iter().map(|dropped| dropped.why).collect();
    assert_eq!(
        why,
        [
            DroppedWhy::RoleName(RoleNameError::TooLong),
            DroppedWhy::RoleName(RoleNameError::Reserved),
        ]
    );
}

#[test]
fn a_prefix_can_be_taken_off_and_cannot_reach_a_reserved_name() {
    let rules = || vec![rule(prefix("Heimdall-"), Some("$1"), &[])];
    let found = grants(
        rules(),
        &["heimdall-Readers", "heimdall-pg_monitor", "Heimdall-"],
        "a",
    );
    assert_eq!(roles(&found), ["Readers"]);
    let why: Vec<_> = found.dropped.iter().map(|dropped| dropped.why).collect();
    assert_eq!(
        why,
        [
            DroppedWhy::RoleName(RoleNameError::Reserved),
            DroppedWhy::RoleName(RoleNameError::Empty),
        ]
    );
}

#[test]
fn databases_decide_what_opens_and_never_which_roles_are_held() {
    let rules = || {
        vec![
            rule(names(&["a"]), None, &["sales"]),
            rule(names(&["b"]), None, &[]),
        ]
    };
    let found = grants(rules(), &["a"], "sales");
    assert!(found.opens_database);
    let found = grants(rules(), &["a"], "Sales");
    assert!(!found.opens_database);
    assert_eq!(roles(&found), ["a"]);
    assert!(grants(rules(), &["a", "b"], "other").opens_database);
    assert!(!grants(rules(), &[], "sales").opens_database);
    assert!(!grants(Vec::new(), &["a"], "sales").opens_database);
}

#[test]
fn an_expression_matches_whole_names_whatever_its_form() {
    for (pattern, name, matches) in [
        ("a|ab", "ab", true),
        ("app", "app-admins", false),
        ("app", "my-app", false),
        ("(?i)app", "APP", true),
        ("app", "APP", false),
        ("(?x) app # the application", "app", true),
        ("(?x) app # the application", "app\n", false),
        ("(?m)^app$", "app\nevil", false),
        ("app$", "app\n", false),
        (".*", "two\nlines", false),
    ] {
        let regex = Regex::new(pattern).unwrap();
        let found = grants(
            vec![rule(Matcher::Regex(regex), Some("r"), &[])],
            &[name],
            "app",
        );
        assert_eq!(!found.roles.is_empty(), matches, "{pattern} on {name:?}");
    }
}

#[test]
fn templates_take_numbers_names_and_dollars() {
    let template = "${team}_$2$$x${1}0$0";
    let rules = vec![rule(
        regex("(?<team>[a-z]+)-(\\d)(z)?"),
        Some(template),
        &[],
    )];
    assert_eq!(
        roles(&grants(rules, &["ops-7"], "app")),
        ["ops_7$xops0ops-7"]
    );
    let rules = vec![rule(regex("(a)|(b)"), Some("<$1|$2>"), &[])];
    assert_eq!(roles(&grants(rules, &["b"], "app")), ["<|b>"]);
}

#[test]
fn a_rule_that_cannot_be_followed_is_refused_when_it_is_made() {
    let error = |matcher, role: &str| {
        GroupRule::new(matcher, Some(role.to_owned()), Vec::new()).unwrap_err()
    };
    let unknown = |name: &str| GroupRuleError::UnknownCapture(name.to_owned());
    assert_eq!(error(regex("(a)"), "$2"), unknown("2"));
    assert_eq!(error(regex("(a)"), "${team}"), unknown("team"));
    assert_eq!(
        error(regex("(a)"), "$99999999999999999999999"),
        unknown(&"9".repeat(23))
    );
    assert_eq!(error(prefix("a"), "$2"), unknown("2"));
    assert_eq!(error(names(&["a"]), "$1"), unknown("1"));
    for template in ["$", "a$b", "${1", "${}", "$ 1"] {
        assert_eq!(
            error(regex("(a)"), template),
            GroupRuleError::LoneDollar,
            "{template}"
        );
    }
    assert_eq!(error(regex("a"), ""), GroupRuleError::EmptyTemplate);
    for matcher in [prefix(""), names(&[]), names(&["a", ""])] {
        assert_eq!(error(matcher, "r"), GroupRuleError::EmptyMatcher);
    }
    let databases = vec![String::new()];
    let made = GroupRule::new(prefix("a"), None, databases);
    assert_eq!(made.unwrap_err(), GroupRuleError::EmptyDatabase);
}

#[test]
fn five_thousand_groups_and_two_hundred_rules_take_no_noticeable_time() {
    let mut rules: Vec<_> = (0..199)
        .map(|n| {
            rule(
                names(&[&format!("never-{n}"), &format!("nope-{n}")]),
                None,
                &[],
            )
        })
        .collect();
    rules.push(rule(regex("team-([0-9]+)"), Some("t$1"), &[]));
    let groups: Vec<_> = (0..5_000).map(|n| group(&format!("team-{n}"))).collect();
    let begun = std::time::Instant::now();
    let found = GroupRules::new(rules).grants(&groups, "app");
    assert_eq!(found.roles.len(), 5_000);
    // Generous, because an unoptimised build on a busy machine runs this too.
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn one_strict_group_makes_a_person_strict_and_one_that_replicates_opens_replication() {
    let rules = || {
        vec![
            rule(prefix("a"), None, &["app"]),
            rule(prefix("s"), None, &[]).strict(true),
            rule(prefix("r"), None, &[]).replication(true),
            rule(prefix("none"), None, &[])
                .strict(true)
                .replication(true),
        ]
    };
    for (groups, strict, replicates) in [
        (&["a"][..], false, false),
        (&["s"], true, false),
        (&["s", "a"], true, false),
        (&["a", "s"], true, false),
        (&["r"], false, true),
        (&["r", "a"], false, true),
        (&["a", "r"], false, true),
        (&["a", "r", "s"], true, true),
        // A group whose role cannot be is worth nothing.
        (&["a", "none"], false, false),
    ] {
        let found = grants(rules(), groups, "app");
        assert_eq!(
            (found.is_strict, found.may_replicate),
            (strict, replicates),
            "{groups:?}"
        );
        assert_eq!(found.open(Replication::Physical), replicates);
        assert_eq!(found.open(Replication::Logical), replicates);
        assert!(found.open(Replication::No));
    }
    let elsewhere = grants(rules(), &["a"], "other");
    assert!(!elsewhere.open(Replication::No) && !elsewhere.open(Replication::Logical));
    assert_eq!(GroupRules::new(rules()).rules().len(), 4);
    assert!(GroupRules::new(rules()).open_replication());
    assert!(!GroupRules::new(vec![rule(prefix("a"), None, &[])]).open_replication());
}

#[test]
fn who_replicates_all_databases_need_not_be_let_into_one() {
    let rules = vec![rule(prefix("r"), None, &["app"]).replication(true)];
    let found = grants(rules, &["r"], "other");
    assert!(found.open(Replication::Physical));
    assert!(!found.open(Replication::Logical) && !found.open(Replication::No));
}

#[test]
fn a_rule_can_be_shown_as_it_was_written() {
    let shown = rule(prefix("PG-"), Some("r_$1"), &["app"]);
    assert_eq!(
        (shown.role(), shown.databases()),
        (Some("r_$1"), &["app".to_owned()][..])
    );
    assert!(matches!(shown.matcher(), Matcher::Prefix(text) if text == "PG-"));
    assert_eq!(rule(prefix("a"), None, &[]).role(), None);
}
