//! How the process ends, and comes back.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{RawClient, World, wait_until};

/// How long an orderly end may take; live sessions are given 5 s.
const STOP_MAX: Duration = Duration::from_secs(8);

fn sessions_of(world: &World, role: &str) -> Result<String> {
    world.postgres.sql(&format!(
        "select count(*) from pg_stat_activity where usename = '{role}'"
    ))
}

pub(crate) fn sigterm_tells_live_sessions_and_leaves_nothing(world: &World) -> Result<()> {
    let person = world.person("survivor", &[HR_GROUP])?;
    let psql = world.psql(&person);
    let mut command = psql.command()?;
    command.args(["-c", "select pg_sleep(300)"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let busy = command.spawn()?;
    let mut idle = world.raw(&person)?;
    wait_until("both are in", CHANGE_LIMIT, || {
        Ok(sessions_of(world, "survivor")? == "2")
    })?;
    let start = Instant::now();
    let status = world.postern.stop()?;
    ensure!(start.elapsed() < STOP_MAX, "{:?}", start.elapsed());
    ensure!(status.code() == Some(0), "{status}");
    let status = world.plain.stop()?;
    ensure!(status.code() == Some(0), "{status}");
    let output = busy.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("the proxy is shutting down"), "{said}");
    let told = idle.read()?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    idle.expect_end()?;
    for postern in [&world.postern, &world.plain] {
        let socket = postern.config_file().with_file_name("control.sock");
        ensure!(!socket.exists(), "the control socket is left");
        let records = postern.audit()?;
        let last = records.last().map(|it| it["event"].to_string());
        ensure!(last.as_deref() == Some("\"stopped\""), "{last:?}");
        postern.start_again()?;
    }
    world.postgres.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where usename = 'survivor' and query ~ 'pg_sleep'",
    )?;
    wait_until("no backend is left", CHANGE_LIMIT, || {
        Ok(sessions_of(world, "survivor")? == "0")
    })
}

pub(crate) fn sigterm_ends_a_login_that_waits(world: &World) -> Result<()> {
    let mut waiting = RawClient::connect(world.plain.port())?;
    waiting.startup(PROTOCOL_3_0, &[("user", "slow"), ("database", HR_DATABASE)])?;
    ensure!(waiting.read()?.tag == b'R');
    let start = Instant::now();
    let status = world.plain.stop()?;
    let taken = start.elapsed();
    world.plain.start_again()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(taken < STOP_MAX, "{taken:?}");
    let told = waiting.read()?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    // That it has a terminal record is the last claim of this world.
    let records = world.plain.audit()?;
    let refused = records.iter().any(|it| it["reason"] == "shutting_down");
    ensure!(refused, "its end is not on record");
    Ok(())
}

pub(crate) fn sigterm_ends_a_login_that_the_directory_holds_up(world: &World) -> Result<()> {
    let person = world.person("stalled", &[HR_GROUP])?;
    let mut waiting = RawClient::connect(world.plain.port())?;
    let parameters = [("user", "stalled"), ("database", HR_DATABASE)];
    waiting.startup(PROTOCOL_3_0, &parameters)?;
    ensure!(waiting.read()?.tag == b'R');
    world.directory.pause()?;
    let outcome = waiting.password(person.password.as_bytes()).and_then(|()| {
        let start = Instant::now();
        Ok((world.plain.stop()?, start.elapsed()))
    });
    world.directory.resume()?;
    let (status, taken) = outcome?;
    world.plain.start_again()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(taken < STOP_MAX, "{taken:?}");
    let told = waiting.read()?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    Ok(())
}

pub(crate) fn a_killed_process_comes_back_and_its_audit_file_goes_on(world: &World) -> Result<()> {
    let person = world.person("witness", &[HR_GROUP])?;
    world.raw(&person)?;
    wait_until("the end is on record", CHANGE_LIMIT, || {
        let records = world.plain.audit()?;
        Ok(records.last().is_some_and(|it| it["event"] == "closed"))
    })?;
    world.plain.kill()?;
    // What a crash in the middle of a write leaves behind.
    let mut file = std::fs::File::options()
        .append(true)
        .open(world.plain.audit_file())?;
    std::io::Write::write_all(&mut file, b"{\"seq\":99,\"unfini")?;
    world.plain.start_again()?;
    world.raw(&person)?;
    postern_tests::process::run(&mut world.plain.command(&["audit", "verify"])?)?;
    let records = world.plain.audit()?;
    let recovered = records.iter().any(|it| it["event"] == "recovered");
    ensure!(recovered, "the lost line is not on record");
    Ok(())
}
