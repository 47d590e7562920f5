//! Which groups count.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_GROUP, NINA, NOAH};
use postern_tests::samba::BASE_DN;
use postern_tests::{DirectoryServer, Member, Samba, wait_until};

use crate::Test;
use crate::world::{PASSWORD, SEEN_LIMIT, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_group_in_a_group_counts", nested),
    (
        "a_group_in_a_group_does_not_count_when_nesting_is_off",
        flat,
    ),
    (
        "the_walk_finds_the_same_groups_as_the_servers_own_rule",
        walk,
    ),
    ("groups_in_a_circle_end", circle),
    ("a_person_without_a_group_that_counts_is_refused", no_group),
    (
        "a_group_with_the_common_name_of_another_does_not_count_as_it",
        same_common_name,
    ),
    ("the_primary_group_counts", primary),
    ("what_the_primary_group_is_in_counts", primary_nested),
    ("a_group_of_1600_members_counts", large_group),
    ("a_person_in_1200_groups_gets_every_one", many_groups),
    (
        "a_group_that_is_taken_away_is_gone_after_the_recheck",
        one_taken_away,
    ),
    (
        "with_the_last_group_everything_is_taken_away",
        last_taken_away,
    ),
];

fn nested(world: &World) -> Result<()> {
    let who = world.postern.psql(NINA.login, NINA.password);
    who.query("select 1")?;
    let roles = world.memberships(NINA.login)?;
    ensure!(roles.iter().eq([FINANCE_GROUP]), "{roles:?}");
    Ok(())
}

fn flat(world: &World) -> Result<()> {
    world.with_config(
        |config| {
            config.set("directory", "nested", false);
        },
        || {
            let refusal = world.refused(NINA.login, NINA.password)?;
            ensure!(refusal.reason == "no_group", "{refusal:?}");
            Ok(())
        },
    )
}

fn walk(world: &World) -> Result<()> {
    world.with_config(
        |config| {
            config.set("directory", "nested_strategy", "walk");
        },
        || {
            world.add_person("sonja")?;
            for group in ["walk-1", "walk-2", "postern-walk-3"] {
                world.samba.add_group(group)?;
            }
            world.samba.add_member("walk-1", Member::Person("sonja"))?;
            world.samba.add_member("walk-2", Member::Group("walk-1"))?;
            world
                .samba
                .add_member("postern-walk-3", Member::Group("walk-2"))?;
            world.role_of("sonja")?;
            let roles = world.memberships("sonja")?;
            ensure!(roles.iter().eq([HR_GROUP, "postern-walk-3"]), "{roles:?}");
            Ok(())
        },
    )
}

fn circle(world: &World) -> Result<()> {
    world.samba.add_person("tanja", PASSWORD)?;
    for group in ["postern-circle-1", "postern-circle-2"] {
        world.samba.add_group(group)?;
    }
    world
        .samba
        .add_member("postern-circle-1", Member::Person("tanja"))?;
    world
        .samba
        .add_member("postern-circle-2", Member::Group("postern-circle-1"))?;
    world
        .samba
        .add_member("postern-circle-1", Member::Group("postern-circle-2"))?;
    world.role_of("tanja")?;
    let roles = world.memberships("tanja")?;
    ensure!(
        roles.iter().eq(["postern-circle-1", "postern-circle-2"]),
        "{roles:?}"
    );
    Ok(())
}

fn no_group(world: &World) -> Result<()> {
    let refusal = world.refused(NOAH.login, NOAH.password)?;
    ensure!(refusal.reason == "no_group", "{refusal:?}");
    Ok(())
}

/// Who may create groups in one folder of the tree may give them any common name that is not in
/// that folder yet; only `sAMAccountName` is unique in the domain.
fn same_common_name(world: &World) -> Result<()> {
    world.samba.add_person("sophie", PASSWORD)?;
    world.samba.ldif(&format!(
        "dn: OU=lab,{BASE_DN}\nobjectClass: organizationalUnit\n\n\
         dn: CN={FINANCE_GROUP},OU=lab,{BASE_DN}\nobjectClass: group\n\
         sAMAccountName: lab-friends\nmember: {}\n",
        Samba::dn("sophie")
    ))?;
    let refusal = world.refused("sophie", PASSWORD)?;
    ensure!(refusal.reason == "no_group", "{refusal:?}");
    Ok(())
}

/// Makes a group the primary one of a person, which then is in it and in no list of it.
fn make_primary(world: &World, group: &str, login: &str) -> Result<()> {
    world.samba.add_group(group)?;
    world.samba.add_member(group, Member::Person(login))?;
    let shown = world
        .samba
        .tool(&["group", "show", group, "--attributes=objectSid"])?;
    let rid = shown.lines().find_map(|it| it.strip_prefix("objectSid: "));
    let rid = rid
        .and_then(|it| it.rsplit('-').next())
        .context("no objectSid")?;
    world.replace(login, "primaryGroupID", rid)?;
    let members = world.samba.search(&format!("(cn={group})"), &["member"])?;
    ensure!(
        !members.contains("member:"),
        "the group still lists {login}: {members}"
    );
    Ok(())
}

fn primary(world: &World) -> Result<()> {
    world.samba.add_person("ulla", PASSWORD)?;
    make_primary(world, "postern-primary", "ulla")?;
    world.role_of("ulla")?;
    let roles = world.memberships("ulla")?;
    ensure!(roles.iter().eq(["postern-primary"]), "{roles:?}");
    Ok(())
}

fn primary_nested(world: &World) -> Result<()> {
    world.samba.add_person("uta", PASSWORD)?;
    make_primary(world, "primary-inner", "uta")?;
    world.samba.add_group("postern-primary-outer")?;
    world
        .samba
        .add_member("postern-primary-outer", Member::Group("primary-inner"))?;
    world.role_of("uta")?;
    let roles = world.memberships("uta")?;
    ensure!(roles.iter().eq(["postern-primary-outer"]), "{roles:?}");
    Ok(())
}

/// Above 1,500 members Active Directory gives the list of them in parts.
fn large_group(world: &World) -> Result<()> {
    const OTHERS: usize = 1_599;
    let mut records = format!("dn: OU=crowd,{BASE_DN}\nobjectClass: organizationalUnit\n\n");
    let mut members = String::new();
    for number in 0..OTHERS {
        let dn = format!("CN=contact-{number},OU=crowd,{BASE_DN}");
        writeln!(records, "dn: {dn}\nobjectClass: contact\n")?;
        writeln!(members, "member: {dn}")?;
    }
    world.samba.add_person("vera", PASSWORD)?;
    writeln!(members, "member: {}", Samba::dn("vera"))?;
    let dn = Samba::dn("postern-crowd");
    write!(
        records,
        "dn: {dn}\nobjectClass: group\nsAMAccountName: postern-crowd\n{members}"
    )?;
    world.samba.ldif(&records)?;
    world.role_of("vera")?;
    let roles = world.memberships("vera")?;
    ensure!(roles.iter().eq(["postern-crowd"]), "{roles:?}");
    Ok(())
}

fn many_groups(world: &World) -> Result<()> {
    const GROUPS: usize = 1_200;
    world.samba.add_person("wilma", PASSWORD)?;
    let person = Samba::dn("wilma");
    let name = |number| format!("postern-many-{number:04}");
    let mut records = String::new();
    for number in 0..GROUPS {
        let name = name(number);
        writeln!(
            records,
            "dn: {}\nobjectClass: group\nsAMAccountName: {name}\nmember: {person}\n",
            Samba::dn(&name)
        )?;
    }
    world.samba.ldif(&records)?;
    world.role_of("wilma")?;
    let roles = world.memberships("wilma")?;
    let expected: BTreeSet<String> = (0..GROUPS).map(name).collect();
    ensure!(roles == expected, "{} of {GROUPS} groups", roles.len());
    Ok(())
}

fn one_taken_away(world: &World) -> Result<()> {
    world.add_person("xenia")?;
    world.samba.add_group("postern-brief")?;
    world
        .samba
        .add_member("postern-brief", Member::Person("xenia"))?;
    world.role_of("xenia")?;
    let roles = world.memberships("xenia")?;
    ensure!(roles.iter().eq(["postern-brief", HR_GROUP]), "{roles:?}");
    world
        .samba
        .remove_member("postern-brief", Member::Person("xenia"))?;
    wait_until("the membership is gone", SEEN_LIMIT, || {
        world.role_of("xenia")?;
        Ok(world.memberships("xenia")?.iter().eq([HR_GROUP]))
    })
}

fn last_taken_away(world: &World) -> Result<()> {
    world.add_person("yvonne")?;
    // The record names the role and not what was typed.
    let psql = world.psql("CORP\\yvonne");
    let mut sleeper = psql.command()?;
    sleeper.args(["--command", "select pg_sleep(60)"]);
    sleeper.stdout(std::process::Stdio::null());
    sleeper.stderr(std::process::Stdio::null());
    let mut sleeper = sleeper.spawn()?;
    let asleep = "select count(*) from pg_stat_activity \
        where usename = 'yvonne' and state = 'active'";
    wait_until("the session sleeps", SEEN_LIMIT, || {
        Ok(world.postgres.sql(asleep)? == "1")
    })?;
    world
        .samba
        .remove_member(HR_GROUP, Member::Person("yvonne"))?;
    wait_until("the person is refused", SEEN_LIMIT, || {
        Ok(!psql.run("select 1")?.ok)
    })?;
    let refusal = world.last_refusal("CORP\\yvonne")?;
    ensure!(refusal.reason == "no_group", "{refusal:?}");
    wait_until("the live session has ended", SEEN_LIMIT, || {
        Ok(sleeper.try_wait()?.is_some())
    })?;
    let left = "select rolcanlogin, \
        (select count(*) from pg_auth_members m where m.member = r.oid) \
        from pg_roles r where rolname = 'yvonne'";
    wait_until("the role is stripped", SEEN_LIMIT, || {
        Ok(world.postgres.sql(left)? == "f|0")
    })?;
    wait_until("the revocation is on record", SEEN_LIMIT, || {
        let records = world.postern.audit()?;
        let mut ended = records.iter().filter(|it| it["event"] == "access_ended");
        Ok(ended.any(|it| it["role"] == "yvonne" && it["backends_left"] == 0))
    })?;
    // Who gets the group again is let in again.
    world.samba.add_member(HR_GROUP, Member::Person("yvonne"))?;
    wait_until("the person is back", SEEN_LIMIT, || {
        Ok(psql.run("select 1")?.ok)
    })
}
