//! Room for the audit file.

use std::fs;

use anyhow::{Result, ensure};

use super::super::{World, wait_for_login};

const MIB: u64 = 1024 * 1024;
/// What the disk has more than the image, in MiB.
const MORE_MIB: u64 = 512;
/// What a file system takes of that for itself, in MiB.
const OVERHEAD_MIB: u64 = 32;

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
    let after: u64 = world.guest.run(ROOM)?.parse()?;
    ensure!(
        after + OVERHEAD_MIB >= before + MORE_MIB,
        "{before} MiB, then {after} MiB of {disk_mib} MiB"
    );
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
