//! Settings that come another way than by a drive of their own.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use postern_tests::wait_until;

use super::super::{World, switch_on, wait_for_login};
use crate::appliance::guest::{CLEAR, START_LIMIT, Settings, make_drive};
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

/// What takes the settings once more, of another drive than the machine's own.
const TAKE: &str = "unshare -m sh -c 'mount --make-rprivate /; mount --bind /dev/null OWN; \
                    /usr/lib/postern/settings'; echo \"ends with $?\"; rm -f /etc/postern/problem";

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
        let own = world.guest.run("findfs LABEL=postern")?;
        world.guest.plug_in(&name, &drive)?;
        let mut said = String::new();
        let waited = wait_until("it is refused by name", START_LIMIT, || {
            said = world.guest.run(&TAKE.replace("OWN", &own))?;
            Ok(said.contains(wanted) && said.ends_with("ends with 1"))
        });
        waited.with_context(|| format!("not {wanted:?} but {said}"))?;
        world.guest.pull_out(&name)?;
        // The next one has the same label.
        wait_until("the drive has gone", START_LIMIT, || {
            Ok(!world.guest.run("cat /proc/partitions")?.contains(" sd"))
        })?;
    }
    Ok(())
}

/// Every file in SMBIOS.
pub(super) fn credentials(world: &mut World) -> Result<()> {
    let settings = Settings::Credentials(world.stage.credentials()?);
    let guest = switch_on(&world.stage, "credentials", &world.image, &settings)?;
    let waited = wait_for_login(&world.stage, &guest);
    waited.with_context(|| guest.page().unwrap_or_default())?;
    guest.wait_for_page("credentials of the machine")?;
    guest.switch_off()
}

/// The files of the drive, as `write_files` of a cloud-config on a CD-ROM.
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
    let console = guest.console()?;
    ensure!(!console.contains(CLEAR), "the page is there too: {console}");
    guest.switch_off()
}
