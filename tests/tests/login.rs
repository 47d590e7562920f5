//! The main job with OpenLDAP: a person with a directory account and no account in the database
//! is in, with exactly the rights of their groups.

#[path = "login/mapping.rs"]
mod mapping;
#[path = "login/refusal.rs"]
mod refusal;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_GROUP, NINA, TESTUSER};
use postern_tests::world::every_session_has_exactly_one_terminal_record;
use postern_tests::{Someone, World, claims, harness};

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        // What the feed asks would be counted among what logins ask.
        || {
            World::start(|config| {
                config.set("directory", "feed", "off");
            })
        },
        claims![
            the_first_login_creates_the_role_with_exactly_the_groups_rights,
            a_nested_user_has_the_rights_of_the_outer_group,
            a_second_login_asks_neither_the_directory_nor_the_role_store,
            two_groups_are_two_memberships,
            a_login_may_name_its_domain_in_either_form,
            refusal::without_a_group_the_refusal_is_postgresqls_own,
            refusal::unknown_wrong_and_no_group_are_told_byte_for_byte_the_same,
            refusal::a_wrong_password_costs_one_bind_and_repeating_it_costs_none,
            refusal::a_wrong_password_does_not_keep_the_right_one_out,
            refusal::guesses_at_a_person_reach_the_directory_four_times,
            refusal::a_foreign_domain_is_refused_without_the_directory,
            refusal::filter_characters_in_a_login_find_nobody,
            refusal::a_role_that_an_administrator_let_expire_opens_no_session,
            refusal::nobody_gets_in_as_whom_postern_asks_with,
            mapping::a_privileged_role_is_never_granted_whatever_a_group_is_called,
            mapping::a_group_name_of_63_bytes_counts_and_one_of_64_does_not,
            mapping::names_with_quotes_dots_dashes_and_upper_case_are_roles_as_spelled,
            mapping::role_names_are_lower_cased_when_configured,
            mapping::a_database_is_opened_only_by_the_groups_listed_for_it,
            mapping::a_template_names_the_role,
            mapping::a_missing_group_role_is_created_skipped_or_refused_as_configured,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

fn testuser() -> Someone {
    Someone {
        login: TESTUSER.login.to_owned(),
        password: TESTUSER.password.to_owned(),
    }
}

fn the_first_login_creates_the_role_with_exactly_the_groups_rights(world: &World) -> Result<()> {
    ensure!(world.may_log_in("testuser")?.is_empty(), "there already");
    let psql = world.psql(&testuser());
    let who = psql.query("select session_user, current_user, count(*) from employees")?;
    ensure!(who == "testuser|testuser|3", "{who}");
    let groups = world.memberships("testuser")?;
    ensure!(groups == HR_GROUP, "{groups}");
    let attributes = world.postgres.sql(
        "select rolcanlogin, rolinherit, rolsuper or rolcreaterole or rolcreatedb or \
         rolreplication or rolbypassrls from pg_roles where rolname = 'testuser'",
    )?;
    ensure!(attributes == "t|t|f", "{attributes}");
    let write = psql.run("insert into employees values (9, 'Eve', 'A1')")?;
    let denied = "permission denied for table employees";
    ensure!(!write.ok && write.stderr.contains(denied), "{write:?}");
    let other = world.finance(&testuser()).run("select * from invoices")?;
    let denied = "permission denied for table invoices";
    ensure!(!other.ok && other.stderr.contains(denied), "{other:?}");
    Ok(())
}

fn a_nested_user_has_the_rights_of_the_outer_group(world: &World) -> Result<()> {
    let nina = Someone {
        login: NINA.login.to_owned(),
        password: NINA.password.to_owned(),
    };
    let rows = world
        .finance(&nina)
        .query("select count(*) from invoices")?;
    ensure!(rows == "2", "{rows}");
    let groups = world.memberships("nina")?;
    ensure!(groups == FINANCE_GROUP, "{groups}");
    Ok(())
}

fn a_second_login_asks_neither_the_directory_nor_the_role_store(world: &World) -> Result<()> {
    let warm = world.person("warm", &[HR_GROUP])?;
    let psql = world.psql(&warm);
    let statements = || world.postgres.syncs();
    let cold = (world.directory_calls()?, statements()?);
    psql.query("select 1")?;
    let before = (world.directory_calls()?, statements()?);
    ensure!(before.0.0 > cold.0.0, "no bind: {before:?}");
    ensure!(before.0.1 > cold.0.1, "no search: {before:?}");
    ensure!(before.1 > cold.1, "no statement: {before:?}");
    psql.query("select 1")?;
    let after = (world.directory_calls()?, statements()?);
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

fn two_groups_are_two_memberships(world: &World) -> Result<()> {
    let both = world.person("both", &[HR_GROUP, FINANCE_GROUP, "canteen"])?;
    ensure!(world.psql(&both).query("select count(*) from employees")? == "3");
    ensure!(
        world
            .finance(&both)
            .query("select count(*) from invoices")?
            == "2"
    );
    let groups = world.memberships("both")?;
    ensure!(groups == format!("{FINANCE_GROUP},{HR_GROUP}"), "{groups}");
    Ok(())
}

fn a_login_may_name_its_domain_in_either_form(world: &World) -> Result<()> {
    let domestic = world.person("domestic", &[HR_GROUP])?;
    for login in [
        "domestic@corp.example",
        "domestic@CORP.Example",
        "corp.example\\domestic",
    ] {
        let psql = world.psql(&domestic).login(login, &domestic.password);
        let who = psql.query("select session_user")?;
        ensure!(who == "domestic", "{login} is {who}");
    }
    Ok(())
}
