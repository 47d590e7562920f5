//! The bench itself, run for one short scenario.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use postern_tests::process::{run, run_any};
use postern_tests::{Scratch, needs, postern, wait_until};
use serde_json::Value;

/// What the bench starts, as programs.
const PEERS: [&str; 2] = ["pgbouncer", "haproxy"];

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
    for bar in report["bars"].as_array().context("bars")? {
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
    let pid_file = || -> Option<PathBuf> {
        let own = std::fs::read_dir(&folder).ok()?.flatten().next()?.path();
        let file = own.join("postgres/data/postmaster.pid");
        file.is_file().then_some(file)
    };
    wait_until("PostgreSQL is up", START_LIMIT, || Ok(pid_file().is_some()))?;
    let file = pid_file().context("PostgreSQL has ended")?;
    let postmaster = std::fs::read_to_string(file)?;
    let postmaster: u32 = postmaster.lines().next().context("no pid")?.parse()?;
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

/// How long the bench may take to start PostgreSQL on a busy machine.
const START_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Servers run as another account and must be able to pass through.
fn open(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
