//! Settings that come another way than by a drive of their own.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run;
use postern_tests::wait_until;

use super::super::{World, switch_on, wait_for_login};
use crate::appliance::guest::{CLEAR, Guest, START_LIMIT, Settings, make_drive};
use crate::appliance::stage::files;

/// The terminal of a shell. The page would be there too.
const TERMINAL: &str = "/dev/ttyS0";

/// A file beside `postern.toml` that would be left over, and what is said of it.
const LEFT_OVER: [(&str, &str); 3] = [
    ("tls/ca.pem", "tls: the only folders of settings are"),
    ("secrets/backup", "secrets/backup: no secret has this name"),
    (
        "network/eth0.conf",
        "network/eth0.conf: its name does not end in",
    ),
];

/// What takes the settings once more.
const TAKE: &str = "/usr/lib/postern/settings; echo \"ends with $?\"; rm -f /etc/postern/problem";

/// The same of another drive than the machine's own.
const TAKE_OTHER: &str = "unshare -m sh -c 'mount --make-rprivate /; \
                          mount --bind /dev/null OWN; /usr/lib/postern/settings'; \
                          echo \"ends with $?\"; rm -f /etc/postern/problem";

/// Where an ext2 file system says what is needed to read it, and a need that nobody knows
/// (<https://docs.kernel.org/filesystems/ext4/globals.html#super-block>).
const NEEDS_OFFSET: u64 = 1_024 + 0x60;
const UNKNOWN_NEED: [u8; 4] = [0, 0, 0, 0x80];

/// The name that a `.link` file gives to an interface.
const LINK: &str = "[Match]\nType=ether\n\n[Link]\nName=gate7\n";

/// Drives with more than is taken.
pub(super) fn left_over(world: &mut World) -> Result<()> {
    let mounted = world.guest.run("mount")?;
    ensure!(!mounted.contains("/run/postern-drive"), "{mounted}");
    for (number, (file, wanted)) in LEFT_OVER.iter().enumerate() {
        let name = format!("left-over-{number}");
        let folder = world.stage.scratch.subfolder(&name)?;
        let file = folder.join(file);
        fs::create_dir_all(file.parent().context("no folder")?)?;
        fs::write(file, "text")?;
        fs::write(folder.join("postern.toml"), "")?;
        let drive = folder.with_extension("img");
        make_drive(&drive, "postern", &folder)?;
        let take = take_other(world)?;
        is_refused(world, &drive, &take, wanted)?;
    }
    Ok(())
}

/// A second drive with the very same files.
pub(super) fn several(world: &mut World) -> Result<()> {
    let folder = world.stage.scratch.subfolder("several")?;
    let drive = folder.join("drive.img");
    make_drive(&drive, "postern", &world.stage.settings())?;
    is_refused(world, &drive, TAKE, "several drives have the label postern")
}

/// A drive whose label can be read, and nothing else of it.
pub(super) fn unreadable(world: &mut World) -> Result<()> {
    let folder = world.stage.scratch.subfolder("unreadable")?;
    let drive = folder.join("drive.img");
    let mut format = Command::new("mke2fs");
    format.args(["-q", "-t", "ext2", "-L", "postern"]);
    run(format.arg(&drive).arg("4M"))?;
    let file = fs::File::options().write(true).open(&drive)?;
    file.write_all_at(&UNKNOWN_NEED, NEEDS_OFFSET)?;
    let wanted = "the drive with the label postern cannot be read";
    let take = take_other(world)?;
    is_refused(world, &drive, &take, wanted)
}

fn take_other(world: &mut World) -> Result<String> {
    let own = world.guest.run("findfs LABEL=postern")?;
    Ok(TAKE_OTHER.replace("OWN", &own))
}

/// Plugs a drive in, waits until the settings are refused because of it, and pulls it out.
fn is_refused(world: &mut World, drive: &Path, take: &str, wanted: &str) -> Result<()> {
    world.guest.plug_in("another", drive)?;
    let mut said = String::new();
    let waited = wait_until("it is refused by name", START_LIMIT, || {
        said = world.guest.run(take)?;
        Ok(said.contains(wanted) && said.ends_with("ends with 1"))
    });
    world.guest.pull_out("another")?;
    // The next one has the same label.
    wait_until("the drive has gone", START_LIMIT, || {
        Ok(!world.guest.run("cat /proc/partitions")?.contains(" sd"))
    })?;
    waited.with_context(|| format!("not {wanted:?} but {said}"))
}

/// Every file in SMBIOS.
pub(super) fn credentials(world: &mut World) -> Result<()> {
    let settings = Settings::Credentials(world.stage.credentials()?);
    let mut guest = switch_on(&world.stage, "credentials", &world.image, &settings)?;
    let waited = wait_for_login(&world.stage, &guest);
    waited.with_context(|| guest.page().unwrap_or_default())?;
    guest.wait_for_page("credentials of the machine")?;
    changed_root(&mut guest)?;
    guest.switch_off()
}

/// A megabyte of the root becomes another one.
fn changed_root(guest: &mut Guest) -> Result<()> {
    let said = guest.run(
        "dd if=/dev/urandom of=/dev/disk/by-partlabel/root-a bs=1M count=1 seek=20 conv=notrunc \
         2> /dev/null; sync; echo 3 > /proc/sys/vm/drop_caches; \
         find /usr -xdev -type f -exec cat {} + > /dev/null; dmesg | grep -c 'is corrupted'",
    )?;
    let corrupted = said.lines().last().and_then(|it| it.parse::<u64>().ok());
    ensure!(corrupted.is_some_and(|it| it > 0), "{said}");
    Ok(())
}

/// The files of the drive, as `write_files` of a cloud-config on a CD-ROM, and a name for the
/// interface.
pub(super) fn cloud(world: &mut World) -> Result<()> {
    let folder = world.stage.scratch.subfolder("cloud")?;
    let mut text = "#cloud-config\nhostname: gate\nwrite_files:\n".to_owned();
    let settings = world.stage.settings();
    for file in files(&settings)? {
        let name = file.strip_prefix(&settings)?.display().to_string();
        let content = match name.as_str() {
            "shell" => TERMINAL.to_owned(),
            _ => fs::read_to_string(&file)?,
        };
        writeln!(text, "  - path: /etc/postern/{name}\n    content: |")?;
        for line in content.lines() {
            writeln!(text, "      {line}")?;
        }
    }
    writeln!(
        text,
        "  - path: /etc/postern/network/10-gate.link\n    content: |"
    )?;
    for line in LINK.lines() {
        writeln!(text, "      {line}")?;
    }
    fs::write(folder.join("user-data"), text)?;
    fs::write(folder.join("meta-data"), "instance-id: gate\n")?;
    let settings = Settings::CdRom("cidata", folder);
    let guest = switch_on(&world.stage, "cloud-machine", &world.image, &settings)?;
    let waited = wait_for_login(&world.stage, &guest);
    waited.with_context(|| guest.console().unwrap_or_default())?;
    guest.wait_for_console("built-in shell")?;
    let terminal = guest.type_in("echo $((6 * 7)) is the answer\n")?;
    guest.wait_for_console("42 is the answer")?;
    drop(terminal);
    let terminal = guest.type_in("ls /sys/class/net\n")?;
    guest.wait_for_console("gate7")?;
    drop(terminal);
    let console = guest.console()?;
    ensure!(!console.contains(CLEAR), "the page is there too: {console}");
    guest.switch_off()
}
