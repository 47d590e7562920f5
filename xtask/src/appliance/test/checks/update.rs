//! To the second slot and back.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use postern_tests::wait_until;

use super::super::{World, wait_for_login};
use super::only_the_proxy;
use crate::appliance::guest::START_LIMIT;
use crate::appliance::{build, disk};

/// What an update's file has behind the running version; and a broken one, which is newer still.
const NEXT: &str = "1";
const BROKEN: &str = "2";
/// A program that the image has the libraries of, and that ends with 1 whatever it is asked.
const BROKEN_PROGRAM: &str = "/bin/false";
/// How often a slot that does not come up is started.
const TRIES: u32 = 3;
/// What counts the starts of the second slot that were in vain.
const STARTS: &str = "journalctl --unit postern-good.service --output cat | \
                      grep -c 'slot b does not serve'";
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
    wait_for_journal(world, "slot b is good")?;
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
    world.guest.reboot()?;
    wait_for_login(&world.stage, &world.guest)?;
    ensure!(slot(world)? == "a", "the update still runs");
    // The drive is still there, and the slots do not change places again.
    wait_for_journal(world, "slot a runs because of this drive")?;
    world.guest.pull_out("back")?;
    only_the_proxy(world)
}

/// An update whose program does nothing but fail; nobody does anything about it.
pub(super) fn broken(world: &mut World) -> Result<()> {
    ensure!(slot(world)? == "a", "the second slot runs");
    let folder = world.stage.scratch.subfolder("broken")?;
    let version = format!("{}.{BROKEN}", build::VERSION);
    build::make(&folder, Path::new(BROKEN_PROGRAM), &version)?;
    let before: u32 = world.guest.run(STARTS)?.parse()?;
    world.guest.plug_in("broken", &folder.join(build::UPDATE))?;
    wait_for_journal(world, "is in slot b, for the next start")?;
    world.guest.reboot()?;
    let limit = START_LIMIT.saturating_mul(TRIES + 1);
    let mut starts = 0;
    wait_until("the slot of before runs after three starts", limit, || {
        // A shell that ends takes the question with it.
        let Ok(said) = world.guest.run(STARTS) else {
            return Ok(false);
        };
        starts = said
            .parse::<u32>()
            .map_or(starts, |it| it.saturating_sub(before));
        Ok(starts >= TRIES && slot(world).is_ok_and(|it| it == "a"))
    })
    .with_context(|| format!("{starts} starts"))?;
    wait_for_login(&world.stage, &world.guest)?;
    let after: u32 = world.guest.run(STARTS)?.parse()?;
    ensure!(after - before == TRIES, "{} starts", after - before);
    // The drive is still there, and its update is not tried once more.
    wait_for_journal(world, "the update is in slot b already")?;
    world.guest.pull_out("broken")?;
    only_the_proxy(world)
}

fn slot(world: &mut World) -> Result<String> {
    world.guest.run("cat /run/postern-slot")
}

fn wait_for_journal(world: &mut World, text: &str) -> Result<()> {
    let mut said = String::new();
    let waited = wait_until("the slots are as wanted", START_LIMIT, || {
        said = world.guest.run(
            "journalctl --boot --unit 'postern-update@*' --unit postern-good.service --output cat",
        )?;
        Ok(said.contains(text))
    });
    waited.with_context(|| format!("it says\n{said}"))
}
