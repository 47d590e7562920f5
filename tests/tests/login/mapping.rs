//! What groups become.

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::world::literal;
use postern_tests::{DirectoryServer, Member, OpenLdap, Someone, World};

pub(crate) fn a_privileged_role_is_never_granted_whatever_a_group_is_called(
    world: &World,
) -> Result<()> {
    let postgres = &world.postgres;
    postgres.sql("create role boss superuser; create role elder createrole; create role heir")?;
    postgres.sql("grant pg_read_all_data to heir")?;
    // A person's role is none to grant either.
    world.psql(&crate::testuser()).query("select 1")?;
    let privileged = [
        "postgres",
        "boss",
        "elder",
        "heir",
        "pg_read_all_data",
        "pg_execute_server_program",
        "postern",
        "postern_owner",
        "testuser",
        "public",
        "none",
    ];
    let change = |config: &mut postern_tests::ConfigFile| {
        config
            .begin("group_rule")
            .set("group_rule", "regex", "disguised-(.+)")
            .set("group_rule", "role", "$1");
    };
    world.with_config(change, || {
        for (number, role) in privileged.iter().enumerate() {
            let group = format!("disguised-{role}");
            let only = world.person(&format!("climber{number}"), &[&group])?;
            world.psql(&only).refused()?;
            let reason = world.last_refusal()?;
            let expected = ["no_group", "no_group_role_left", "role_reserved"];
            ensure!(expected.contains(&reason.as_str()), "{role}: {reason}");
            let more = world.person(&format!("ladder{number}"), &[&group, HR_GROUP])?;
            // Whether the person is let in without it or refused is not the point here.
            world.psql(&more).run("select 1")?;
            for person in [&only, &more] {
                let groups = world.memberships(&person.login)?;
                ensure!(groups.is_empty() || groups == HR_GROUP, "{role}: {groups}");
            }
        }
        let granted = postgres.sql(
            "select count(*) from pg_auth_members m join pg_roles g \
            on g.oid = m.roleid join pg_roles p on p.oid = m.member where p.rolname ~ \
            '^(climber|ladder)' and g.rolname <> 'postern-hr-data'",
        )?;
        ensure!(granted == "0", "{granted} memberships");
        Ok(())
    })
}

pub(crate) fn a_group_name_of_63_bytes_counts_and_one_of_64_does_not(world: &World) -> Result<()> {
    let longest = format!("postern-{}", "g".repeat(55));
    let longer = format!("{longest}g");
    let fits = world.person("fits", &[&longest, &longer])?;
    world.psql(&fits).query("select 1")?;
    let groups = world.memberships("fits")?;
    ensure!(groups == longest, "{groups}");
    let over = world.person("over", &[&longer])?;
    world.psql(&over).refused()?;
    ensure!(world.last_refusal()? == "no_group");
    Ok(())
}

pub(crate) fn names_with_quotes_dots_dashes_and_upper_case_are_roles_as_spelled(
    world: &World,
) -> Result<()> {
    let group = "postern-O'Brien.\"x\"-Team; drop role nina --";
    let quoted = group.replace('"', "\\\"").replace(';', "\\;");
    let base = postern_tests::openldap::GROUPS_DN;
    for (index, login) in ["Anna-Lena.O'Neil", "x.\"y\".z", "MiXeD", "a b"]
        .iter()
        .enumerate()
    {
        let escaped = login.replace('"', "\\\"");
        let dn = OpenLdap::person_dn(&escaped);
        let password = format!("Secret-{index}-name");
        world.directory.ldif(&format!(
            "dn: {dn}\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n\
             userPassword: {password}\n"
        ))?;
        world.directory.ldif(&match index {
            0 => format!(
                "dn: cn={quoted},{base}\nobjectClass: groupOfNames\ncn: {group}\nmember: {dn}\n"
            ),
            _ => format!("dn: cn={quoted},{base}\nchangetype: modify\nadd: member\nmember: {dn}\n"),
        })?;
        let login = (*login).to_owned();
        let person = Someone { login, password };
        let who = world.psql(&person).query("select session_user")?;
        ensure!(who == person.login, "{who}");
        let groups = world.memberships(&person.login)?;
        ensure!(groups == group, "{groups}");
    }
    Ok(())
}

pub(crate) fn role_names_are_lower_cased_when_configured(world: &World) -> Result<()> {
    let upper = world.person("UpperCase", &[HR_GROUP])?;
    let change = |config: &mut postern_tests::ConfigFile| {
        config.set("groups", "lowercase_roles", true);
    };
    world.with_config(change, || {
        let who = world.psql(&upper).query("select session_user")?;
        ensure!(who == "uppercase", "{who}");
        ensure!(world.may_log_in("UpperCase")?.is_empty());
        Ok(())
    })
}

pub(crate) fn a_database_is_opened_only_by_the_groups_listed_for_it(world: &World) -> Result<()> {
    let clerk = world.person("clerk", &["ledger-team"])?;
    let change = |config: &mut postern_tests::ConfigFile| {
        config
            .begin("group_rule")
            .set("group_rule", "names", ["ledger-team"])
            .set("group_rule", "databases", ["finance"]);
    };
    world.with_config(change, || {
        let told = world.psql(&clerk).refused()?;
        ensure!(told.contains("password authentication failed"), "{told}");
        ensure!(world.last_refusal()? == "database_not_granted");
        ensure!(world.finance(&clerk).query("select 1")? == "1");
        world.psql(&clerk).refused()?;
        world
            .directory
            .add_member(HR_GROUP, Member::Person("clerk"))?;
        Ok(())
    })?;
    // A group without a list opens every database, also beside one with a list.
    world.with_config(change, || {
        ensure!(world.psql(&clerk).query("select 1")? == "1");
        Ok(())
    })
}

pub(crate) fn a_template_names_the_role(world: &World) -> Result<()> {
    let writer = world.person("writer", &["db-rw-stock", "db-rw-stock-x"])?;
    let change = |config: &mut postern_tests::ConfigFile| {
        config
            .begin("group_rule")
            .set("group_rule", "regex", "db-(ro|rw)-([a-z]+)")
            .set("group_rule", "role", "$2_$1");
    };
    world.with_config(change, || {
        world.psql(&writer).query("select 1")?;
        let groups = world.memberships("writer")?;
        ensure!(groups == "stock_rw", "{groups}");
        let rights = world.postgres.sql(
            "select rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication \
             or rolbypassrls from pg_roles where rolname = 'stock_rw'",
        )?;
        ensure!(rights == "f", "{rights}");
        Ok(())
    })
}

pub(crate) fn a_missing_group_role_is_created_skipped_or_refused_as_configured(
    world: &World,
) -> Result<()> {
    let choose = |choice: &'static str| {
        move |config: &mut postern_tests::ConfigFile| {
            config.set("groups", "missing", choice);
        }
    };
    let exists = |role: &str| {
        let role = literal(role);
        world.postgres.sql(&format!(
            "select count(*) from pg_roles where rolname = {role}"
        ))
    };
    let person = world.person("pioneer", &["postern-absent"])?;
    world.with_config(choose("refuse"), || {
        let told = world.psql(&person).refused()?;
        ensure!(told.contains("a role of your groups is missing"), "{told}");
        ensure!(world.last_refusal()? == "group_role_missing");
        Ok(())
    })?;
    world.with_config(choose("skip"), || {
        world.psql(&person).refused()?;
        ensure!(world.last_refusal()? == "no_group_role_left");
        world
            .directory
            .add_member(HR_GROUP, Member::Person("pioneer"))?;
        Ok(())
    })?;
    world.with_config(choose("skip"), || {
        world.psql(&person).query("select 1")?;
        ensure!(world.memberships("pioneer")? == HR_GROUP);
        Ok(())
    })?;
    ensure!(exists("postern-absent")? == "0");
    let psql = world.psql(&person);
    world.with_config(choose("create"), || {
        psql.database(HR_DATABASE).query("select 1")?;
        ensure!(world.memberships("pioneer")? == format!("postern-absent,{HR_GROUP}"));
        ensure!(exists("postern-absent")? == "1");
        Ok(())
    })
}
