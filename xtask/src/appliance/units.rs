//! Whether the units keep what they run as small as is promised.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::needs;
use postern_tests::process::run_any;

use crate::root;

/// Where units are, below a root.
const UNITS: &str = "usr/lib/systemd/system";

/// What `systemd-analyze security` may give each unit, in tenths: 0 is the least exposed.
const EXPOSURE_MAX: [(&str, u32); 5] = [
    ("postern.service", 15),
    ("postern-policy.service", 20),
    ("postern-watch.service", 20),
    ("postern-closed.service", 20),
    ("postern-fence.service", 20),
];

/// The units of the package, which start on machines that have others as well.
const PACKAGED: [&str; 6] = [
    "postern.service",
    "postern.slice",
    "postern.socket",
    "postern-closed.service",
    "postern-policy.service",
    "postern-watch.service",
];

#[test]
fn the_units_are_no_more_exposed_than_promised() -> Result<()> {
    let Some(analyze) = analyze() else {
        return Ok(());
    };
    let folder = root()?.join("appliance/root");
    for (unit, exposure_max) in EXPOSURE_MAX {
        let mut command = Command::new(&analyze);
        command.args(["security", "--no-pager", "--offline=yes"]);
        command.arg(format!("--root={}", folder.display()));
        command.arg(format!("--threshold={exposure_max}"));
        let output = run_any(command.arg(unit))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let verdict = said.lines().last().context("it says nothing")?;
        ensure!(verdict.contains(unit), "{verdict}");
        ensure!(output.status.success(), "{verdict}");
    }
    Ok(())
}

#[test]
fn a_unit_that_starts_again_and_again_does_not_stop_trying() -> Result<()> {
    for unit in PACKAGED {
        let text = fs::read_to_string(root()?.join("appliance/root").join(UNITS).join(unit))?;
        let again = text.lines().any(|it| it == "Restart=always");
        let for_ever = text.lines().any(|it| it == "StartLimitIntervalSec=0");
        ensure!(again == for_ever, "{unit}");
    }
    Ok(())
}

#[test]
fn the_watch_has_a_folder_of_its_own_for_the_record_of_denials() -> Result<()> {
    let read = |path: &str| fs::read_to_string(root()?.join(path)).context(path.to_owned());
    let unit = read("appliance/root/usr/lib/systemd/system/postern-watch.service")?;
    let folder = unit
        .lines()
        .find_map(|it| it.strip_prefix("LogsDirectory="));
    let example = format!(
        "\"/var/log/{}/perimeter.jsonl\"",
        folder.context("it has none")?
    );
    ensure!(
        read("docs/configuration.md")?.contains(&example),
        "{example} is not the example of perimeter.audit_file"
    );
    Ok(())
}

fn analyze() -> Option<PathBuf> {
    let analyze = needs::program("systemd-analyze");
    if analyze.is_none() {
        needs::skip("units", "systemd-analyze is not installed");
    }
    analyze
}
