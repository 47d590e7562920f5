//! Who gets in.

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_GROUP, TESTUSER};
use postern_tests::world::{CHANGE_LIMIT, last_refusal};
use postern_tests::{RawClient, World, wait_until};

use crate::{CONSOLE, NOBODY, OPERATOR, VIEWER, bound, console, last_record, said};

pub(crate) fn an_account_is_in_with_its_login_bound_to_the_connection(world: &World) -> Result<()> {
    let psql = console(&world.postern, OPERATOR);
    for channel_binding in ["require", "prefer", "disable"] {
        let (ok, text) = bound(&psql, channel_binding, "select current_user")?;
        ensure!(ok && text == "ops", "{channel_binding}: {text}");
    }
    let record = last_record(&world.postern, "authenticated")?;
    ensure!(
        record["source"] == "console" && record["name"] == "ops",
        "{record}"
    );
    let opened = last_record(&world.postern, "opened")?;
    let (database, backend) = (&opened["database"], &opened["backend"]);
    ensure!(database == CONSOLE && backend == "console", "{opened}");
    wait_until("its end is on record", CHANGE_LIMIT, || {
        let closed = last_record(&world.postern, "closed")?;
        let is_of_it = closed["session"] == opened["session"];
        Ok(is_of_it && closed["reason"] == "client_closed")
    })
}

pub(crate) fn a_wrong_password_an_unknown_name_and_no_right_are_told_the_same(
    world: &World,
) -> Result<()> {
    let right = console(&world.postern, VIEWER);
    let no_right = console(&world.postern, NOBODY);
    for (psql, reason) in [
        (right.login("eyes", "wrong"), "wrong_password"),
        (right.login("stranger", "wrong"), "unknown_login"),
        (no_right, "no_group"),
    ] {
        let told = psql.refused()?;
        let words = format!("password authentication failed for user \"{}\"", psql.user);
        ensure!(told.contains(&words), "{told}");
        let refusal = last_refusal(&world.postern)?;
        ensure!(refusal == reason, "{refusal}");
    }
    said(&right, "show version")?;
    Ok(())
}

pub(crate) fn nobody_of_the_directory_is_in_and_the_directory_is_not_asked(
    world: &World,
) -> Result<()> {
    let person = world.person("ops-of-ldap", &[HR_GROUP])?;
    world.directory.stop()?;
    let psql = world.postern.psql(&person.login, &person.password);
    let told = psql.database(CONSOLE).refused();
    world.directory.start_again()?;
    // Had it been asked, the login would have been told that it is away.
    let told = told?;
    ensure!(told.contains("password authentication failed"), "{told}");
    ensure!(last_refusal(&world.postern)? == "unknown_login");
    // And an account of the console is nobody elsewhere.
    let psql = console(&world.postern, OPERATOR).database("hr");
    ensure!(psql.refused()?.contains("password authentication failed"));
    Ok(())
}

pub(crate) fn without_tls_nobody_is_asked(world: &World) -> Result<()> {
    let refusal = RawClient::refused(world.postern.port(), "ops", CONSOLE, "x")?;
    ensure!(
        refusal.field(b'C').as_deref() == Some("28000"),
        "{refusal:?}"
    );
    ensure!(last_refusal(&world.postern)? == "tls_required");
    Ok(())
}

pub(crate) fn the_console_is_there_while_directory_and_database_are_not(
    world: &World,
) -> Result<()> {
    world.directory.stop()?;
    let outcome = (|| {
        let (ok, text) = bound(&console(&world.postern, VIEWER), "require", "show version")?;
        ensure!(ok, "{text}");
        let told = world.postern.psql(TESTUSER.login, "not remembered");
        ensure!(!told.database("hr").run("select 1")?.ok);
        Ok(())
    })();
    world.directory.start_again()?;
    outcome
}
