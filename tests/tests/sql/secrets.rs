//! A server that writes down whatever it can.

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{ConfigFile, Postgres, needs};

use crate::{PASSWORD, Test, World, Worlds};

pub(crate) const TESTS: &[Test] = &[(NAME, secrets)];

const NAME: &str = "no_secret_is_in_a_log_or_a_view_of_a_server_that_writes_everything_down";

const SETTINGS: &str = "
shared_preload_libraries = 'pg_stat_statements,auto_explain'
log_statement = 'all'
log_min_duration_statement = 0
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_min_error_statement = 'debug5'
log_error_verbosity = 'verbose'
pg_stat_statements.track = 'all'
pg_stat_statements.track_utility = on
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_verbose = on
track_activity_query_size = 65536
";

/// Fails the sync of one person in the middle, with everything that it was called with.
const FAIL: &str = "create function public.fail() returns trigger language plpgsql as
    $$ begin
        if new.role_name = 'unlucky' then raise exception 'it fails'; end if;
        return new;
    end $$;
    create trigger fail before insert or update on postern.managed_role
        for each row execute function public.fail()";

fn secrets(_: &Worlds) -> Result<()> {
    let version = needs::postgres(None).context("PostgreSQL is not installed")?;
    let library = version.bin.join("../lib/pg_stat_statements.so");
    if !library.is_file() {
        needs::skip(NAME, "PostgreSQL has no pg_stat_statements");
        return Ok(());
    }
    let world = World::start(|scratch, certificates| {
        Postgres::start_version(scratch, certificates, None, SETTINGS)
    })?;
    let sql = |sql: &str| world.postgres.sql(sql);
    sql("create extension pg_stat_statements")?;
    for login in ["discreet", "unlucky", "mirrored"] {
        world.add_person(login, HR_GROUP)?;
    }
    sql(FAIL)?;
    world.psql("discreet").query("select 1")?;
    world.psql("unlucky").refused()?;
    ensure!(
        world.postgres.log_contains("it fails")?,
        "nothing has failed"
    );
    // Somebody changes the secret behind Postern's back, and it is set anew.
    sql("alter role discreet password null")?;
    world.psql("discreet").query("select 1")?;
    let derived = verifier(&world, "discreet")?;
    world.postern.restart_with(|config: &mut ConfigFile| {
        config.set("credential", "mode", "mirror");
    })?;
    world.psql("mirrored").query("select 1")?;
    let mirrored = verifier(&world, "mirrored")?;

    let log = std::fs::read(world.postgres.log_file())?;
    let log = String::from_utf8_lossy(&log);
    ensure!(
        log.contains("apply_login") && log.contains("Query Text"),
        "nothing is logged"
    );
    let views = sql(
        "select string_agg(query, e'\\n') from (select query from pg_stat_statements \
         union all select query from pg_stat_activity) as it",
    )?;
    ensure!(views.contains("apply_login"), "nothing is counted");
    for secret in [PASSWORD, &derived, &mirrored] {
        for (place, text) in [("the log", &*log), ("a view", &*views)] {
            let found = text.lines().find(|it| it.contains(secret));
            ensure!(found.is_none(), "{place}: {found:?}");
        }
    }
    Ok(())
}

/// The keys of a stored verifier, which are enough to log in, or to try passwords.
fn verifier(world: &World, role: &str) -> Result<String> {
    let stored = format!("select rolpassword from pg_authid where rolname = '{role}'");
    let stored = world.postgres.sql(&stored)?;
    let keys = stored.rsplit('$').next().context("no verifier")?;
    Ok(keys.split(':').next().context("no key")?.to_owned())
}
