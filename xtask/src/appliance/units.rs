//! Whether the units keep what they run as small as is promised, and start in an order that there
//! is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run_any;
use postern_tests::{Scratch, needs};

use crate::root;

/// Where units are, below a root.
const UNITS: &str = "usr/lib/systemd/system";
/// Where those of systemd itself are.
const SYSTEMS_OWN: &str = "/usr/lib/systemd/system:/lib/systemd/system";

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

/// What orders the start on a Debian of a cloud: the network is there before `sysinit.target`,
/// <https://docs.cloud-init.io/en/latest/explanation/boot.html>.
const CLOUD: [(&str, &str); 3] = [
    (
        "cloud-init-local.service",
        "Wants=network-pre.target\nAfter=systemd-remount-fs.service\n\
         Before=network-pre.target sysinit.target",
    ),
    (
        "networking.service",
        "Wants=network.target\nAfter=local-fs.target network-pre.target\n\
         Before=network.target network-online.target",
    ),
    (
        "cloud-init.service",
        "Wants=cloud-init-local.service networking.service\n\
         After=cloud-init-local.service networking.service\n\
         Before=network-online.target sysinit.target",
    ),
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

/// What the score weighs so little that it would not show.
#[test]
fn the_units_have_each_restriction_that_is_promised_by_name() -> Result<()> {
    for (unit, _) in EXPOSURE_MAX {
        let text = fs::read_to_string(root()?.join("appliance/root").join(UNITS).join(unit))?;
        let of = |key: &str| {
            let mut all = text.lines().filter_map(|it| it.strip_prefix(key));
            (all.next(), all.next())
        };
        ensure!(of("NoNewPrivileges=") == (Some("yes"), None), "{unit}");
        ensure!(of("LimitCORE=") == (Some("0"), None), "{unit}");
        ensure!(
            of("MemoryDenyWriteExecute=") == (Some("yes"), None),
            "{unit}"
        );
        ensure!(of("AmbientCapabilities=") == (None, None), "{unit}");
        let bounds = of("CapabilityBoundingSet=");
        let wanted = match unit {
            "postern.service" => "",
            "postern-fence.service" | "postern-closed.service" => "CAP_NET_ADMIN",
            _ => "CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
        };
        ensure!(bounds == (Some(wanted), None), "{unit}: {bounds:?}");
    }
    Ok(())
}

#[test]
fn the_units_of_the_package_start_in_an_order_that_there_is() -> Result<()> {
    let Some(analyze) = analyze() else {
        return Ok(());
    };
    let scratch = Scratch::new()?;
    let folder = scratch.path();
    for unit in PACKAGED {
        let text = fs::read_to_string(root()?.join("appliance/root").join(UNITS).join(unit))?;
        enable(folder, unit, &text)?;
    }
    for (unit, order) in CLOUD {
        let text = format!(
            "[Unit]\nDefaultDependencies=no\n{order}\nBefore=shutdown.target\n\
             Conflicts=shutdown.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        enable(folder, unit, &text)?;
    }
    let found = cycles(&analyze, folder)?;
    ensure!(found.is_empty(), "{found}");
    // A unit that waits for the rest of the machine before it lets the network start: without
    // this nobody would know whether a cycle is found at all.
    let waits = "[Unit]\nBefore=network-pre.target\nWants=network-pre.target\n[Service]\n\
                 ExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    enable(folder, "waits.service", waits)?;
    let found = cycles(&analyze, folder)?;
    ensure!(!found.is_empty(), "a cycle is not found");
    Ok(())
}

#[test]
fn a_unit_that_starts_again_and_again_does_not_stop_trying() -> Result<()> {
    for unit in PACKAGED {
        let text = fs::read_to_string(root()?.join("appliance/root").join(UNITS).join(unit))?;
        let again = text.lines().any(|it| it == "Restart=always");
        let for_ever = text.lines().any(|it| it == "StartLimitIntervalSec=0");
        ensure!(again == for_ever, "{unit}");
        // It would not wait any more: a connection to the socket starts it at once.
        ensure!(!text.contains("\nRestartPreventExitStatus"), "{unit}");
    }
    Ok(())
}

#[test]
fn the_proxy_of_the_package_starts_where_there_is_no_perimeter() -> Result<()> {
    for unit in ["postern.service", "postern.socket"] {
        let text = fs::read_to_string(root()?.join("appliance/root").join(UNITS).join(unit))?;
        let mut pulls = text.lines().filter(|it| {
            let pulls = ["Wants=", "Requires=", "BindsTo=", "Requisite="];
            pulls.iter().any(|begin| it.starts_with(begin))
        });
        // Without `[perimeter]` each of these fails.
        let perimeter = ["postern-closed", "postern-policy", "postern-watch"];
        let pulled = pulls.find(|it| perimeter.iter().any(|name| it.contains(name)));
        ensure!(pulled.is_none(), "{unit}: {pulled:?}");
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

/// Lays a unit as it is where it is enabled.
fn enable(folder: &Path, unit: &str, text: &str) -> Result<()> {
    fs::write(folder.join(unit), text)?;
    let target = text.lines().find_map(|it| it.strip_prefix("WantedBy="));
    if let Some(target) = target {
        let wants = folder.join(format!("{target}.wants"));
        fs::create_dir_all(&wants)?;
        symlink(folder.join(unit), wants.join(unit))?;
    }
    Ok(())
}

/// What systemd says of cycles in the order of a start, with the units of a folder beside its own.
fn cycles(analyze: &Path, folder: &Path) -> Result<String> {
    let mut command = Command::new(analyze);
    command.args(["verify", "--man=no", "multi-user.target"]);
    command.env(
        "SYSTEMD_UNIT_PATH",
        format!("{}:{SYSTEMS_OWN}", folder.display()),
    );
    let output = run_any(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let cycles = said.lines().filter(|it| it.contains("ordering cycle"));
    Ok(cycles.collect::<Vec<_>>().join("\n"))
}

fn analyze() -> Option<PathBuf> {
    let analyze = needs::program("systemd-analyze");
    if analyze.is_none() {
        needs::skip("units", "systemd-analyze is not installed");
    }
    analyze
}
