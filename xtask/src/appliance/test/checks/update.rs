//! To the second slot and back.

use anyhow::{Context, Result, ensure};
use postern_tests::wait_until;

use super::super::{World, wait_for_login};
use super::only_the_proxy;
use crate::appliance::guest::START_LIMIT;
use crate::appliance::{build, disk};

/// What an update's file has behind the running version.
const NEXT: &str = "1";
const RECORDS: &str = "grep -c opened /var/log/postern/audit.jsonl";

/// A newer image is made of the same program; a drive with its update is plugged in.
pub(super) fn forward(world: &mut World) -> Result<()> {
    let folder = world.stage.scratch.subfolder("update")?;
    // A program that was built for the first image is that of the second.
    build::make(
        &folder,
        &world.program,
        &format!("{}.{NEXT}", build::VERSION),
    )?;
    let before: u64 = world.guest.run(RECORDS)?.parse()?;
    world.guest.plug_in("update", &folder.join(build::UPDATE))?;
    wait_for_journal(world, "is in slot b, for the next start")?;
    world.guest.pull_out("update")?;
    ensure!(slot(world)? == "a", "the slot has changed without a start");
    world.guest.reboot()?;
    wait_for_login(&world.stage, &world.guest)?;
    ensure!(slot(world)? == "b", "the update does not run");
    let version = world.guest.run("grep IMAGE_VERSION /usr/lib/os-release")?;
    ensure!(version.ends_with(&format!(".{NEXT}")), "{version}");
    let after: u64 = world.guest.run(RECORDS)?.parse()?;
    ensure!(after > before, "{before} logins on record, then {after}");
    only_the_proxy(world)
}

/// A drive with the one word is plugged in.
pub(super) fn back(world: &mut World) -> Result<()> {
    ensure!(slot(world)? == "b", "there was no update");
    let drive = world.stage.scratch.path().join("back.img");
    disk::make_update(&drive, &[("back", Vec::new())])?;
    world.guest.plug_in("back", &drive)?;
    wait_for_journal(world, "slot a is started next time")?;
    world.guest.pull_out("back")?;
    world.guest.reboot()?;
    wait_for_login(&world.stage, &world.guest)?;
    ensure!(slot(world)? == "a", "the update still runs");
    only_the_proxy(world)
}

fn slot(world: &mut World) -> Result<String> {
    world.guest.run("cat /run/postern-slot")
}

fn wait_for_journal(world: &mut World, text: &str) -> Result<()> {
    let mut said = String::new();
    let waited = wait_until("the update says that it is done", START_LIMIT, || {
        said = world
            .guest
            .run("journalctl --boot --unit 'postern-update@*' --output cat")?;
        Ok(said.contains(text))
    });
    waited.with_context(|| format!("it says\n{said}"))
}
