//! What goes wrong on the machine itself, and in its settings.

use anyhow::{Context, Result, ensure};
use postern_tests::{cast, wait_until};

use super::super::{World, switch_on, wait_for_login};
use super::connect;
use crate::appliance::guest::{PROXY_PORT, START_LIMIT, Settings};
use crate::appliance::stage::OUTSIDE;

/// Takes what [`fill`] has put on the audit file's partition.
pub(super) const EMPTY: &str = "rm /var/fill /var/fill2";

/// The audit file's partition is filled to the last block, and emptied.
pub(super) fn full_audit(world: &mut World) -> Result<()> {
    let said = fill(world);
    world.guest.run(EMPTY)?;
    let said = said?;
    // What psql shows of 57P03, with what is said of the audit file and of nothing else.
    ensure!(said.contains("logins cannot be recorded"), "{said}");
    wait_for_login(&world.stage, &world.guest).context("after the partition has room again")
}

/// Fills the audit file's partition until nobody is let in, and returns what they are told.
pub(super) fn fill(world: &mut World) -> Result<String> {
    world.guest.run(
        "dd if=/dev/zero of=/var/fill bs=1M 2> /dev/null; \
         dd if=/dev/zero of=/var/fill2 bs=4k 2> /dev/null",
    )?;
    let psql = world.stage.psql(world.guest.port, cast::TESTUSER);
    wait_until("nobody is let in", START_LIMIT, || {
        Ok(!psql.run("select 1")?.ok)
    })?;
    Ok(psql.run("select 1")?.stderr)
}

/// The settings are right but for one table that the perimeter has nothing to do with.
pub(super) fn wrong_configuration(world: &mut World) -> Result<()> {
    let mut wrong = world.stage.configuration();
    wrong.set("directory", "tls_ca_file", "absent.pem");
    let mut credentials = world.stage.credentials()?;
    credentials.retain(|(name, _)| name != "postern.toml");
    credentials.push(("postern.toml".to_owned(), wrong.to_string()));
    let settings = Settings::Credentials(credentials);
    let mut guest = switch_on(&world.stage, "wrong", &world.image, &settings)?;
    guest.wait_for_page("directory.tls_ca_file")?;
    let page = guest.page()?;
    ensure!(page.contains("absent.pem"), "{page}");
    ensure!(page.contains("NOT IN FORCE"), "{page}");
    ensure!(page.contains("DOWN"), "{page}");
    let fence = guest.run("nft list tables")?;
    ensure!(
        fence.contains("postern-fence"),
        "the fence is not there: {fence}"
    );
    for port in [
        world.stage.postgres.port(),
        world.stage.directory.tls_port(),
    ] {
        let reached = guest.run(&connect(OUTSIDE, port))?;
        ensure!(
            reached.ends_with("refused"),
            "something is reached: {reached}"
        );
    }
    // A client that waits would have the service tried over and over.
    let reached = guest.run(&connect("127.0.0.1", PROXY_PORT))?;
    ensure!(
        reached.ends_with("refused"),
        "clients are taken and not served: {reached}"
    );
    guest.switch_off()
}

/// The beginning of the state partition is overwritten, and the power fails.
pub(super) fn damaged_state(world: &mut World) -> Result<()> {
    let drive = world.stage.drive();
    let mut guest = switch_on(&world.stage, "damaged", &world.image, &drive)?;
    guest.run(
        "dd if=/dev/zero of=/dev/disk/by-partlabel/postern-state bs=1M count=64 conv=fsync \
         2> /dev/null",
    )?;
    guest.reboot_by("echo b > /proc/sysrq-trigger")?;
    guest.wait_for_page("mount: /var")?;
    let page = guest.page()?;
    ensure!(page.contains("NOT IN FORCE"), "{page}");
    ensure!(page.contains("DOWN"), "{page}");
    let reached = guest.run(&connect(OUTSIDE, world.stage.directory.tls_port()))?;
    ensure!(
        reached.ends_with("refused"),
        "something is reached: {reached}"
    );
    guest.switch_off()
}
