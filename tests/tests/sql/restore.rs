//! What `pg_dumpall` writes is restored to another cluster, where roles have other numbers.

use anyhow::{Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::process::run;
use postern_tests::{DirectoryServer, Member, Postgres, wait_until};

use crate::{SEEN_LIMIT, Test, World, Worlds};

pub(crate) const TESTS: &[Test] = &[(
    "in_a_cluster_that_a_dump_is_restored_to_everybody_has_the_role_that_they_had",
    restore,
)];

/// Names that SQL writes in quotes are among them.
const PEOPLE: [&str; 3] = ["stayer", "leaver", "odd-name.1"];

/// What Postern knows of roles, by their names.
const KNOWN: &str = "select m.role_oid, m.directory_id from postern.managed_role m
    join pg_roles r on r.oid = m.role_oid and r.rolname = m.role_name order by m.directory_id";

fn restore(_: &Worlds) -> Result<()> {
    let world = World::start(Postgres::start)?;
    for login in PEOPLE {
        world.add_person(login, HR_GROUP)?;
        world.psql(login).query("select 1")?;
    }
    before_version_4(&world)?;
    // One is dropped by hand, and somebody comes for the first time.
    world.add_person("dropped", HR_GROUP)?;
    world.psql("dropped").query("select 1")?;
    world.postgres.sql("drop role dropped")?;
    world
        .directory
        .remove_member(HR_GROUP, Member::Person("dropped"))?;
    world.add_person("newcomer", HR_GROUP)?;
    world.psql("newcomer").query("select 1")?;
    let known = world.postgres.sql(KNOWN)?;
    ensure!(known.lines().count() == PEOPLE.len() + 1, "{known}");

    let other = Postgres::start(&world.scratch, &world.certificates)?;
    for number in 0..40 {
        other.sql(&format!("create role here_before_{number}"))?;
    }
    let dump = run(&mut world
        .postgres
        .superuser("postgres")
        .client("pg_dumpall", &[])?)?;
    let is_new = |line: &&str| *line != "CREATE ROLE postgres;";
    other.sql(&dump.lines().filter(is_new).collect::<Vec<_>>().join("\n"))?;
    let number = "select oid from pg_roles where rolname = 'stayer'";
    ensure!(other.sql(number)? != world.postgres.sql(number)?);
    ensure!(other.sql(KNOWN)? == known, "{}", other.sql(KNOWN)?);

    let changes = other.sql("select count(*) from postern.change_log")?;
    world.postern.restart_with(|config| {
        let port = i32::from(other.port());
        config
            .set("role_store", "port", port)
            .set("backend", "port", port);
    })?;
    for login in PEOPLE.into_iter().chain(["newcomer"]) {
        let is_member = format!("select session_user, pg_has_role('{HR_GROUP}', 'member')");
        ensure!(world.psql(login).query(&is_member)? == format!("{login}|t"));
    }
    let now = other.sql("select count(*) from postern.change_log")?;
    ensure!(
        now == changes,
        "something was changed: {now} is not {changes}"
    );
    world
        .directory
        .remove_member(HR_GROUP, Member::Person("leaver"))?;
    wait_until("access is lost", SEEN_LIMIT, || {
        Ok(other.sql("select rolcanlogin from pg_roles where rolname = 'leaver'")? == "f")
    })?;
    // Nobody who was there before has become somebody's.
    let others = "select count(*) from pg_auth_members m join pg_roles r
        on r.oid in (m.roleid, m.member) where r.rolname like 'here_before_%'
        and m.roleid <> 'postern_owner'::regrole and m.member <> 'postern_owner'::regrole";
    ensure!(other.sql(others)? == "0");
    Ok(())
}

/// Makes the schema what it was in version 3, whose numbers a dump wrote as they were, and installs
/// it again.
fn before_version_4(world: &World) -> Result<()> {
    world.postern.stop()?;
    world.postgres.sql(
        "alter table postern.managed_role alter column role_oid type oid;
         alter table postern.group_role alter column role_oid type oid;
         alter table postern.membership alter column role_oid type oid,
            alter column group_oid type oid;
         insert into postern.schema_version (version, digest) values (3, 'older')",
    )?;
    world.postern.install_schema(&world.postgres)?;
    world.postern.start_again()
}
