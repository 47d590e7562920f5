//! The bench itself, run for one short scenario.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postern_tests::process::{run, run_any};
use postern_tests::{Scratch, needs, postern, wait_until};
use serde_json::Value;

/// What the bench starts, as programs.
const PEERS: [&str; 2] = ["pgbouncer", "haproxy"];

/// How long the bench may take to start PostgreSQL on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why the bench cannot run here, if so.
fn missing() -> Option<String> {
    if needs::postgres(None).is_none() {
        return Some("PostgreSQL is not installed".to_owned());
    }
    if needs::postgres_client("pgbench").is_none() {
        return Some("pgbench is not installed".to_owned());
    }
    if let Err(error) = postern::binary() {
        return Some(format!("{error:#}"));
    }
    let absent = PEERS.into_iter().find(|it| needs::program(it).is_none());
    match absent {
        Some(peer) => Some(format!("{peer} is not installed")),
        None if needs::nginx_stream().is_none() => Some("nginx is not installed".to_owned()),
        None => None,
    }
}

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_postern-bench"))
}

#[test]
fn a_short_run_reports_every_bar_and_leaves_nothing_behind() -> Result<()> {
    if let Some(why) = missing() {
        needs::skip(
            "a_short_run_reports_every_bar_and_leaves_nothing_behind",
            &why,
        );
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.path().join("out.json");
    let mut command = bench();
    command.args(["--quick", "--only", "copy-out", "--rounds", "1", "--json"]);
    // Its folder, and whatever its servers would leave, would be in here.
    let folder = scratch.subfolder("tmp")?;
    open(&folder)?;
    run(command.arg(&file).env("TMPDIR", &folder))?;
    assert_eq!(std::fs::read_dir(&folder)?.count(), 0);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    for key in ["extent", "machine", "commit", "began", "command", "gaps"] {
        assert!(!report[key].is_null(), "{key} is missing");
    }
    let samples = report["samples"].as_array().context("samples")?;
    for route in ["direct", "postern", "pgbouncer", "haproxy", "nginx"] {
        let is_rate = |it: &&Value| it["route"] == route && it["metric"] == "bytes_per_s";
        let rate = samples
            .iter()
            .find(is_rate)
            .and_then(|it| it["value"].as_f64());
        assert!(rate.is_some_and(|it| it > 0.0), "{route}: {report:#}");
    }
    let bars = report["bars"].as_array().context("bars")?;
    assert!(!bars.is_empty());
    for bar in bars {
        for key in ["name", "value", "bound", "met"] {
            assert!(bar.get(key).is_some(), "{bar} has no {key}");
        }
    }
    Ok(())
}

#[test]
fn a_run_that_is_terminated_ends_its_servers_and_removes_its_folder() -> Result<()> {
    let test = "a_run_that_is_terminated_ends_its_servers_and_removes_its_folder";
    if let Some(why) = missing() {
        needs::skip(test, &why);
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let folder = scratch.subfolder("tmp")?;
    open(&folder)?;
    let mut child = bench()
        .args(["--quick", "--only", "select-simple"])
        .env("TMPDIR", &folder)
        .spawn()?;
    let mut postmaster = None;
    wait_until("PostgreSQL is up", START_LIMIT, || {
        postmaster = running_postmaster(&folder)?;
        Ok(postmaster.is_some())
    })?;
    let postmaster = postmaster.context("no postmaster")?;
    run_any(Command::new("kill").arg(child.id().to_string()))?;
    let status = child.wait()?;
    if status.success() {
        bail!("the run was not interrupted");
    }
    assert_eq!(status.code(), Some(130));
    assert_eq!(std::fs::read_dir(&folder)?.count(), 0);
    assert!(!postern_tests::scratch::is_running(postmaster));
    Ok(())
}

/// The process id of the PostgreSQL in one of the folders of a run.
fn running_postmaster(folder: &Path) -> Result<Option<u32>> {
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path().join("postgres/data/postmaster.pid");
        // It may not be there yet, or not be written yet.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = text.lines().next().and_then(|it| it.parse().ok()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Servers run as another account and must be able to pass through.
fn open(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
