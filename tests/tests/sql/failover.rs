//! Another server takes the place of the database.

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{DirectoryServer, Member, Postgres, wait_until};

use crate::{SEEN_LIMIT, Test, World, Worlds};

pub(crate) const TESTS: &[Test] = &[
    ("nobody_is_let_in_through_a_standby", standby),
    ("what_a_new_primary_has_missed_is_made_up_for", failover),
];

fn start() -> Result<World> {
    World::start(Postgres::start)
}

fn standby(_: &Worlds) -> Result<()> {
    let world = start()?;
    world.add_person("reader", HR_GROUP)?;
    world.psql("reader").query("select 1")?;
    let standby = world
        .postgres
        .start_standby(&world.scratch, &world.certificates)?;
    let (primary, port) = (world.postgres.port(), standby.port());
    let point_at = |port: u16| {
        world.postern.restart_with(|config| {
            let port = i32::from(port);
            config
                .set("role_store", "port", port)
                .set("backend", "port", port);
        })
    };
    point_at(port)?;
    let said = world.psql("reader").refused()?;
    ensure!(said.contains("the database is not available"), "{said}");
    let log = world.postern.log()?;
    ensure!(
        log.contains("is a standby and cannot change roles"),
        "{log}"
    );
    point_at(primary)?;
    world.psql("reader").query("select 1")?;
    Ok(())
}

fn failover(_: &Worlds) -> Result<()> {
    let world = start()?;
    for login in ["leaver", "stayer"] {
        world.add_person(login, HR_GROUP)?;
        world.psql(login).query("select 1")?;
    }
    let mut standby = world
        .postgres
        .start_standby(&world.scratch, &world.certificates)?;
    // From here on the standby hears of nothing.
    standby.sql("alter system set primary_conninfo = ''")?;
    standby.reload()?;
    wait_until("the standby follows nobody", SEEN_LIMIT, || {
        Ok(standby.sql("select count(*) from pg_stat_wal_receiver")? == "0")
    })?;
    world
        .directory
        .remove_member(HR_GROUP, Member::Person("leaver"))?;
    world.add_person("newcomer", HR_GROUP)?;
    world.psql("newcomer").query("select 1")?;
    let may_log_in = |postgres: &Postgres, login: &str| {
        postgres.sql(&format!(
            "select rolcanlogin from pg_roles where rolname = '{login}'"
        ))
    };
    wait_until("access is lost", SEEN_LIMIT, || {
        Ok(may_log_in(&world.postgres, "leaver")? == "f")
    })?;
    ensure!(
        may_log_in(&standby, "leaver")? == "t",
        "the standby has heard of it"
    );
    ensure!(may_log_in(&standby, "newcomer")?.is_empty());

    world.postgres.stop()?;
    standby.take_over(world.postgres.port())?;
    wait_until(
        "the leaver's role is stripped once more",
        SEEN_LIMIT,
        || Ok(may_log_in(&standby, "leaver")? == "f"),
    )
    .with_context(|| world.postern.log().unwrap_or_default())?;
    world.psql("leaver").refused()?;
    // Their roles were known to match on a server that is no more.
    for login in ["newcomer", "stayer"] {
        let told = world.psql(login).query("select session_user");
        ensure!(told.context(login)? == login);
    }
    Ok(())
}
