//! A server whose messages are German: nothing may depend on their words.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::process::run;
use postern_tests::{DirectoryServer, Member, Postgres, needs, wait_until};
use tempfile::TempDir;

use crate::{SEEN_LIMIT, Test, World, Worlds};

pub(crate) const TESTS: &[Test] = &[(NAME, german_server)];

const NAME: &str = "a_server_that_speaks_german_is_understood";

const LOCALE: &str = "de_DE.UTF-8";

/// A folder with the locale, made here if the machine has its source.
///
/// # Errors
/// What the machine lacks.
fn locales() -> Result<TempDir> {
    if needs::program("localedef").is_none() {
        bail!("localedef is not installed");
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("localedef");
    command.args(["-i", "de_DE", "-f", "UTF-8"]);
    run(command.arg(folder.path().join(LOCALE))).context("the package locales is not installed")?;
    Ok(folder)
}

/// The servers with the newest PostgreSQL, in German.
fn start(locales: &TempDir) -> Result<World> {
    let locales = locales.path().display().to_string();
    World::start(|scratch, certificates| {
        let settings = format!("lc_messages = '{LOCALE}'\n");
        let environment = [("LOCPATH", locales.as_str())];
        Postgres::start_in(scratch, certificates, None, &settings, &environment)
    })
}

fn german_server(_: &Worlds) -> Result<()> {
    let locales = match locales() {
        Ok(locales) => locales,
        Err(missing) => {
            needs::skip(NAME, &format!("{missing:#}"));
            return Ok(());
        }
    };
    let world = start(&locales)?;
    let words = world.postgres.superuser("postgres").run("select 1/0")?;
    if !words.stderr.contains("FEHLER") {
        needs::skip(NAME, "PostgreSQL has no German messages");
        return Ok(());
    }
    world.add_person("friederike", HR_GROUP)?;
    let psql = world.psql("friederike");
    ensure!(
        psql.query("select session_user")? == "friederike",
        "another role"
    );

    // Somebody changes the secret behind Postern's back.
    world
        .postgres
        .sql("alter role friederike password 'something else'")?;
    ensure!(
        psql.query("select session_user")? == "friederike",
        "another role"
    );

    // A role that is not Postern's.
    world.add_person("handmade", HR_GROUP)?;
    world.postgres.sql("create role handmade")?;
    let said = world.psql("handmade").refused()?;
    ensure!(said.contains("is not managed here"), "{said}");

    // A database that is not there: the server's own words reach the client.
    let said = psql.database("nirgends").refused()?;
    ensure!(said.contains("existiert nicht"), "{said}");

    world
        .directory
        .remove_member(HR_GROUP, Member::Person("friederike"))?;
    wait_until("the person is refused", SEEN_LIMIT, || {
        Ok(!psql.run("select 1")?.ok)
    })?;
    let left = "select rolcanlogin from pg_roles where rolname = 'friederike'";
    ensure!(
        world.postgres.sql(left)? == "f",
        "the role may still log in"
    );
    Ok(())
}
