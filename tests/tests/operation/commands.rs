//! `check`, `explain-login`, `init-sql`.

use anyhow::{Result, ensure};
use postern_tests::cast::FINANCE_GROUP;
use postern_tests::world::outcome_of;
use postern_tests::{ConfigFile, Someone, World, cast};

fn check(world: &World) -> Result<(i32, String)> {
    outcome_of(&mut world.postern.command(&["check"])?)
}

fn failed_lines(table: &str) -> Vec<&str> {
    table.lines().filter(|it| it.starts_with("FAIL")).collect()
}

pub(crate) fn check_passes_when_everything_is_up(world: &World) -> Result<()> {
    let (code, table) = check(world)?;
    ensure!(code == 0, "{table}");
    ensure!(table.contains(" 0 failed"), "{table}");
    // The certificates of the tests end in 2049.
    ensure!(table.contains("2049"), "no end date: {table}");
    Ok(())
}

pub(crate) fn check_fails_and_says_what_to_do_when_the_directory_is_down(
    world: &World,
) -> Result<()> {
    world.directory.stop()?;
    let outcome = check(world);
    world.directory.start_again()?;
    let (code, table) = outcome?;
    ensure!(code == 1, "{code}: {table}");
    let failed = failed_lines(&table);
    let url = world.directory.url();
    ensure!(!failed.is_empty() && table.contains(&url), "{table}");
    ensure!(table.contains("-> "), "not what to do: {table}");
    ensure!(
        !failed.iter().any(|it| it.contains("role store")),
        "{table}"
    );
    Ok(())
}

pub(crate) fn check_fails_when_the_database_is_down_or_the_password_wrong(
    world: &World,
) -> Result<()> {
    world.postgres.stop()?;
    let outcome = check(world);
    world.postgres.start_again()?;
    let (code, table) = outcome?;
    ensure!(code == 1 && table.contains("-> "), "{code}: {table}");
    let wrong = world
        .scratch
        .secret_file("wrong-password", "not this one")?;
    for (table, key) in [
        ("directory", "service_password_file"),
        ("role_store", "password_file"),
    ] {
        let change = |config: &mut ConfigFile| {
            config.set(table, key, &wrong);
        };
        world.with_config(change, || {
            let (code, table) = check(world)?;
            ensure!(code == 1 && table.contains("-> "), "{code}: {table}");
            ensure!(!table.contains("not this one"), "{table}");
            Ok(())
        })?;
    }
    Ok(())
}

/// All that a login changes in the database.
fn state(world: &World) -> Result<String> {
    let roles = "select string_agg(rolname || coalesce(rolpassword, ''), ',' order by oid) \
                 from pg_authid";
    let members = "select string_agg(m::text, ',' order by m::text) from pg_auth_members m";
    let managed = "select (select string_agg(m::text, ',') from postern.managed_role m), \
                   (select count(*) from postern.change_log)";
    let mut state = String::new();
    for sql in [roles, members, managed] {
        state += &world.postgres.sql(sql)?;
    }
    Ok(state)
}

fn explain(world: &World, login: &str, database: &str) -> Result<(i32, String)> {
    let arguments = ["explain-login", login, "--database", database];
    outcome_of(&mut world.postern.command(&arguments)?)
}

pub(crate) fn explain_login_shows_everything_and_changes_nothing(world: &World) -> Result<()> {
    let before = state(world)?;
    let (code, text) = explain(world, "nina", "finance")?;
    ensure!(code == 0, "{code}: {text}");
    for expected in [
        "uid=nina,ou=people,dc=corp,dc=example",
        "payroll-team",
        FINANCE_GROUP,
        "create_role nina",
        "nothing remembered",
        "replication  refused: no group rule opens it",
        "admitted as nina to the database finance",
    ] {
        ensure!(text.contains(expected), "no {expected}: {text}");
    }
    let nested = text.lines().find(|it| it.contains(FINANCE_GROUP));
    let through = nested.is_some_and(|it| it.contains("through") && it.contains("payroll-team"));
    ensure!(through, "no path: {text}");
    ensure!(state(world)? == before, "it changed something");
    let nina = Someone {
        login: cast::NINA.login.to_owned(),
        password: cast::NINA.password.to_owned(),
    };
    world.finance(&nina).query("select 1")?;
    let before = state(world)?;
    let (_, text) = explain(world, "nina", "finance")?;
    ensure!(text.contains("nothing to change"), "{text}");
    ensure!(text.contains("answered from memory"), "{text}");
    ensure!(state(world)? == before, "it changed something");
    Ok(())
}

pub(crate) fn explain_login_says_why_somebody_would_be_refused(world: &World) -> Result<()> {
    for (login, why) in [
        ("noah", "none of 1 groups counts"),
        ("ghost", "no entry has this login name"),
        ("nina@elsewhere.example", "refused"),
    ] {
        let (code, text) = explain(world, login, "hr")?;
        ensure!(code != 0, "{text}");
        ensure!(text.contains(why), "{login}: {text}");
    }
    Ok(())
}

pub(crate) fn the_process_may_leave_no_core_file(world: &World) -> Result<()> {
    let pid = world.postern.pid()?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits
        .lines()
        .find(|it| it.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
    ensure!(core.ends_with(&["0", "0", "bytes"]), "{core:?}");
    Ok(())
}

pub(crate) fn init_sql_a_second_time_has_nothing_to_do(world: &World) -> Result<()> {
    let before = state(world)?;
    let said = world.postern.install_schema(&world.postgres)?;
    ensure!(said.contains("nothing to do"), "{said}");
    ensure!(state(world)? == before, "it changed something");
    Ok(())
}

pub(crate) fn a_configuration_with_errors_names_them_all(world: &World) -> Result<()> {
    let file = world.scratch.path().join("wrong.toml");
    let right = std::fs::read_to_string(world.postern.config_file())?;
    let wrong = right
        .replace("nested = true", "nested = \"maybe\"\nnestled = 1")
        .replace("[audit]", "[limits]\nsessions_max = 0\n[audit]");
    std::fs::write(&file, wrong)?;
    let mut command = std::process::Command::new(postern_tests::postern::binary()?);
    let (code, text) = outcome_of(command.args(["run", "--config"]).arg(&file))?;
    ensure!(code != 0, "it started");
    for key in ["directory.nested", "nestled", "limits.sessions_max"] {
        let place = format!("{}:", file.display());
        let mut lines = text.lines();
        let is_placed = lines.any(|it| it.contains(&place) && it.contains(key));
        ensure!(is_placed, "not where {key} is: {text}");
    }
    ensure!(text.contains("3 errors in"), "{text}");
    Ok(())
}

/// As a person at a terminal has it, where the secrets are handed to the service only.
pub(crate) fn the_running_process_is_asked_without_any_of_its_secrets(world: &World) -> Result<()> {
    let file = world.scratch.path().join("handed.toml");
    let text = std::fs::read_to_string(world.postern.config_file())?;
    let key = world.postern.config_file().with_file_name("cluster-key");
    let key = key.display().to_string();
    ensure!(text.contains(&key), "no {key} in {text}");
    std::fs::write(&file, text.replace(&key, "credential:cluster-key"))?;
    let outcome = |arguments: &[&str]| {
        let mut command = std::process::Command::new(postern_tests::postern::binary()?);
        command.env_remove("CREDENTIALS_DIRECTORY");
        outcome_of(command.args(arguments).arg("--config").arg(&file))
    };
    for arguments in [
        &["sessions"][..],
        &["show", "limits"],
        &["revoked"],
        &["reconcile", "--dry-run"],
    ] {
        let (code, said) = outcome(arguments)?;
        ensure!(code == 0, "{arguments:?} ends with {code}: {said}");
    }
    let (code, said) = outcome(&["config", "check"])?;
    ensure!(code == 78 && said.contains("cluster"), "{code}: {said}");
    std::fs::write(&file, text)?;
    let (code, said) = outcome(&["config", "check"])?;
    ensure!(code == 0 && said.contains("can be used"), "{code}: {said}");
    Ok(())
}

/// A page asks every few seconds, and must not fill the disk without which nobody logs in.
pub(crate) fn looking_from_the_machine_itself_leaves_no_record(world: &World) -> Result<()> {
    let orders = || -> Result<usize> {
        let records = world.postern.audit()?;
        let orders = records.iter().filter(|it| it["event"] == "ordered");
        Ok(orders.count())
    };
    let before = orders()?;
    for arguments in [
        &["show", "sessions"][..],
        &["sessions"],
        &["revoked"],
        &["health"],
    ] {
        let (code, said) = outcome_of(&mut world.postern.command(arguments)?)?;
        ensure!(code == 0, "{arguments:?} ends with {code}: {said}");
    }
    let after = orders()?;
    ensure!(after == before, "{before} became {after}");
    Ok(())
}
