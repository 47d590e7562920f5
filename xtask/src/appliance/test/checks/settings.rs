//! Settings that come another way than by a drive of their own.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::super::{World, switch_on, wait_for_login};
use crate::appliance::guest::{CLEAR, Settings};
use crate::appliance::stage::files;

/// The terminal of a shell. The page would be there too.
const TERMINAL: &str = "/dev/ttyS0";

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
    let console = guest.console()?;
    ensure!(!console.contains(CLEAR), "the page is there too: {console}");
    guest.switch_off()
}
