//! Whether the units keep what they run as small as is promised.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::needs;
use postern_tests::process::run_any;

use crate::root;

/// What `systemd-analyze security` may give each unit, in tenths: 0 is the least exposed.
const EXPOSURE_MAX: [(&str, u32); 4] = [
    ("postern.service", 15),
    ("postern-policy.service", 20),
    ("postern-closed.service", 20),
    ("postern-fence.service", 20),
];

#[test]
fn the_units_are_no_more_exposed_than_promised() -> Result<()> {
    let Some(analyze) = needs::program("systemd-analyze") else {
        needs::skip("units", "systemd-analyze is not installed");
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
