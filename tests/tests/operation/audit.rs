//! The audit file: complete, sealed, and without secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::world::{CHANGE_LIMIT, outcome_of};
use postern_tests::{ConfigFile, RawClient, World, wait_until};
use serde_json::Value;

/// What the records of a session may take in the audit file, of a person with one group.
const SESSION_BYTES_MAX: u64 = 2_048;

fn verify(world: &World, text: &str) -> Result<(i32, String)> {
    let copy = world.scratch.path().join("copy.jsonl");
    fs::write(&copy, text)?;
    let mut command = world.postern.command(&["audit", "verify", "--file"])?;
    // The file's name belongs behind its option.
    let mut ordered = std::process::Command::new(command.get_program());
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    for argument in arguments {
        let is_option = argument == "--file";
        ordered.arg(argument);
        if is_option {
            ordered.arg(&copy);
        }
    }
    command = ordered;
    outcome_of(&mut command)
}

pub(crate) fn one_session_is_on_record_from_its_first_packet_to_its_last(
    world: &World,
) -> Result<()> {
    let person = world.person("recorded", &[HR_GROUP])?;
    let pid = world.psql(&person).query("select pg_backend_pid()")?;
    let of_session = || -> Result<Vec<Value>> {
        let records = world.postern.audit()?;
        let attempt = records.iter().rfind(|it| it["user"] == "recorded");
        let session = attempt.context("no attempt")?["session"].clone();
        let own = records.into_iter().filter(|it| it["session"] == session);
        Ok(own.collect())
    };
    wait_until("the end is on record", CHANGE_LIMIT, || {
        Ok(of_session()?.iter().any(|it| it["event"] == "closed"))
    })?;
    let records = of_session()?;
    let events: Vec<_> = records
        .iter()
        .filter_map(|it| it["event"].as_str())
        .collect();
    let expected = [
        "attempted",
        "authenticated",
        "roles_changed",
        "opened",
        "closed",
    ];
    ensure!(events == expected, "{events:?}");
    let find = |event: &str| records.iter().find(|it| it["event"] == event);
    let opened = find("opened").context("not opened")?;
    ensure!(
        opened["backend_pid"].as_u64() == pid.parse().ok(),
        "{opened}"
    );
    ensure!(opened["role"] == "recorded" && opened["database"] == HR_DATABASE);
    let attempted = find("attempted").context("not attempted")?;
    ensure!(attempted["tls"].to_string().contains("TLS"), "{attempted}");
    let authenticated = find("authenticated").context("not authenticated")?;
    let dn = "uid=recorded,ou=people,dc=corp,dc=example";
    ensure!(authenticated["dn"] == dn && authenticated["source"] == "directory");
    let closed = find("closed").context("not closed")?;
    let bytes = closed["bytes_to_client"].as_u64().unwrap_or_default();
    ensure!(
        bytes > 0 && closed["bytes_to_backend"].as_u64() > Some(0),
        "{closed}"
    );
    Ok(())
}

/// How many sessions have ended, by the file.
fn ends(world: &World) -> Result<usize> {
    let records = world.postern.audit()?;
    Ok(records.iter().filter(|it| it["event"] == "closed").count())
}

pub(crate) fn a_session_takes_little_room(world: &World) -> Result<()> {
    let person = world.person("brief", &[HR_GROUP])?;
    let bytes = || -> Result<u64> { Ok(fs::metadata(world.postern.audit_file())?.len()) };
    for what in ["the first, which makes the role", "the next ones"] {
        let (before, ended) = (bytes()?, ends(world)?);
        world.psql(&person).query("select 1")?;
        wait_until("the end is on record", CHANGE_LIMIT, || {
            Ok(ends(world)? > ended)
        })?;
        let taken = bytes()? - before;
        ensure!(taken <= SESSION_BYTES_MAX, "{what}: {taken} bytes");
    }
    Ok(())
}

pub(crate) fn an_edited_deleted_or_swapped_record_is_found(world: &World) -> Result<()> {
    // Two sessions, so that there is something to edit.
    let (person, ended) = (world.person("edited", &[HR_GROUP])?, ends(world)?);
    for _ in 0..2 {
        world.psql(&person).query("select 1")?;
    }
    wait_until("their ends are on record", CHANGE_LIMIT, || {
        Ok(ends(world)? >= ended + 2)
    })?;
    let text = fs::read_to_string(world.postern.audit_file())?;
    let end = text.rfind('\n').context("empty")?;
    let text = text.get(..=end).context("empty")?;
    let (code, said) = verify(world, text)?;
    ensure!(code == 0, "{said}");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    ensure!(lines.len() > 6, "too few records to edit");
    let edited = text.replacen("\"attempted\"", "\"attemptee\"", 1);
    let address = text.replacen("127.0.0.1", "127.0.0.2", 1);
    let deleted: String = [&lines[..2], &lines[3..]].concat().concat();
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let doubled: String = [&lines[..3], &lines[2..]].concat().concat();
    for (what, forged) in [
        ("an edited event", edited),
        ("an edited address", address),
        ("a deleted record", deleted),
        ("two records in the wrong order", swapped.concat()),
        ("a record twice", doubled),
    ] {
        ensure!(forged != text, "{what}: nothing was edited");
        let (code, said) = verify(world, &forged)?;
        ensure!(code != 0, "{what} is not found: {said}");
    }
    Ok(())
}

pub(crate) fn an_audit_file_that_cannot_be_written_refuses_to_start(world: &World) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config.set("audit", "file", "/proc/nowhere/audit.jsonl");
    };
    let mut started = false;
    let outcome = world.with_config(change, || {
        started = true;
        Ok(())
    });
    ensure!(
        outcome.is_err() && !started,
        "it starts without its audit file"
    );
    ensure!(world.postern.log_contains("/proc/nowhere/audit.jsonl")?);
    Ok(())
}

pub(crate) fn an_audit_file_is_readable_by_its_owner_only(world: &World) -> Result<()> {
    let mode = fs::metadata(world.postern.audit_file())?
        .permissions()
        .mode();
    ensure!(mode & 0o007 == 0, "{mode:o}");
    Ok(())
}

pub(crate) fn no_secret_of_a_person_is_in_any_log(world: &World) -> Result<()> {
    let person = world.person("discreet", &[HR_GROUP])?;
    let mistyped = "Mistyped-secret-77";
    let mirror = |config: &mut ConfigFile| {
        config.set("credential", "mode", "mirror");
    };
    world.psql(&person).query("select 1")?;
    world.psql(&person).login("discreet", mistyped).refused()?;
    let port = world.plain.port();
    RawClient::refused(port, "discreet", HR_DATABASE, mistyped)?;
    world.with_config(mirror, || {
        world.psql(&person).query("select 1")?;
        world.postgres.sql("alter role discreet password null")?;
        world.psql(&person).query("select 1")?;
        Ok(())
    })?;
    // PostgreSQL logs every statement of everybody, with its bound parameters.
    let logged = fs::read_to_string(world.postgres.log_file())?;
    ensure!(logged.contains("apply_login"), "nothing is logged");
    let stored = "select rolpassword from pg_authid where rolname = 'discreet'";
    let verifier = world.postgres.sql(stored)?;
    let keys = verifier.rsplit('$').next().context("no verifier")?;
    let keys = keys.split(':').next().context("no verifier")?;
    for file in [
        world.postgres.log_file(),
        world.postern.log_file(),
        world.plain.log_file(),
        world.postern.audit_file(),
        world.plain.audit_file(),
    ] {
        let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
        for secret in [person.password.as_str(), mistyped, keys, "SCRAM-SHA-256$"] {
            // The administrator's own statement, which installs the provisioner.
            let installs = |line: &str| line.contains("postgres@postgres LOG:  statement: CREATE");
            let mut lines = text.lines().filter(|line| !installs(line));
            let found = lines.find(|line| line.contains(secret));
            ensure!(found.is_none(), "{}: {found:?}", file.display());
        }
    }
    Ok(())
}
