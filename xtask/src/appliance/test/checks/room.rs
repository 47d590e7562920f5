//! Room for the audit file: a larger disk, and a drive that takes files away.

use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use postern_tests::process::run;
use postern_tests::wait_until;

use super::super::{World, wait_for_login};
use super::faults::{EMPTY, fill};
use crate::appliance::guest::START_LIMIT;
use crate::appliance::tool::tool;

const MIB: u64 = 1024 * 1024;
/// What the disk has more than the image, in MiB.
const MORE_MIB: u64 = 512;
/// What a file system takes of that for itself, in MiB.
const OVERHEAD_MIB: u64 = 32;
/// The drive for audit files, in MiB.
const DRIVE_MIB: u64 = 64;

/// The machine is given a larger disk, and starts again.
pub(super) fn larger_disk(world: &mut World) -> Result<()> {
    const ROOM: &str = "df -m /var | tail -n 1 | awk '{ print $2 }'";
    const RECORDS: &str = "grep -h -c opened /var/log/postern/audit.jsonl";
    let before: u64 = world.guest.run(ROOM)?.parse()?;
    let records: u64 = world.guest.run(RECORDS)?.parse()?;
    let disk_mib = fs::metadata(&world.image)?.len() / MIB + MORE_MIB;
    world.guest.resize_disk(disk_mib)?;
    world.guest.reboot()?;
    wait_for_login(&world.stage, &world.guest)?;
    let mut after = before;
    let waited = wait_until("there is more room", START_LIMIT, || {
        after = world.guest.run(ROOM)?.parse()?;
        Ok(after + OVERHEAD_MIB >= before + MORE_MIB)
    });
    waited.with_context(|| format!("{before} MiB, then {after} MiB of {disk_mib} MiB"))?;
    let kept: u64 = world.guest.run(RECORDS)?.parse()?;
    ensure!(kept > records, "{records} logins on record, then {kept}");
    // The second table of partitions is at the disk's new end.
    let end = world.guest.run("tail -c 512 /dev/vda | head -c 8")?;
    ensure!(end == "EFI PART", "the disk ends with {end:?}");
    let failed = world
        .guest
        .run("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

/// A drive is plugged in while nobody may log in because the partition is full, and gets the files.
pub(super) fn audit_drive(world: &mut World) -> Result<()> {
    world.guest.run("postern audit rotate")?;
    let closed = world.guest.run("ls /var/log/postern/audit.jsonl.0*")?;
    let [first] = closed.lines().collect::<Vec<_>>()[..] else {
        anyhow::bail!("closed files: {closed}");
    };
    let sum = world.guest.run(&format!("sha256sum < {first}"))?;
    fill(world)?;
    let drive = world.stage.scratch.path().join("audit.img");
    File::create(&drive)?.set_len(DRIVE_MIB * MIB)?;
    run(tool("mkfs.vfat").args(["-n", "postern-aud"]).arg(&drive))?;
    world.guest.plug_in_writable("audit", &drive)?;
    let mut said = String::new();
    let taken = wait_until("the files are on the drive", START_LIMIT, || {
        said = world
            .guest
            .run("journalctl --boot --unit 'postern-audit@*' --output cat")?;
        Ok(said.contains("may be pulled out"))
    });
    world.guest.run(EMPTY)?;
    taken.with_context(|| format!("it says\n{said}"))?;
    world.guest.pull_out("audit")?;
    let left = world.guest.run("ls /var/log/postern")?;
    ensure!(!left.contains("audit.jsonl.0"), "{left}");
    wait_for_login(&world.stage, &world.guest)?;

    // What is on the drive is what was here, and what is here says that it was taken away.
    let folder = world.guest.run("cat /etc/machine-id")?;
    let name = first.rsplit('/').next().unwrap_or(first);
    let copied = world.stage.scratch.path().join("taken.jsonl");
    let mut copy = tool("mcopy");
    copy.arg("-i").arg(&drive).arg(format!("::{folder}/{name}"));
    run(copy.arg(&copied))?;
    let there = run(tool("sha256sum").arg(&copied))?;
    let same = there.split_whitespace().next() == sum.split_whitespace().next();
    ensure!(same, "{sum} here, {there} on the drive");
    let record = format!("grep -h '\"order\":\"audit_taken\",\"subject\":\"{name}\"'");
    let on_record = world
        .guest
        .run(&format!("{record} /var/log/postern/audit.jsonl"))?;
    ensure!(on_record.contains("to the drive "), "{on_record}");
    Ok(())
}
