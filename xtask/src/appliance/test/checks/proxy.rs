//! The proxy's unit: killed, hung, told to read its configuration again, and followed by another.

use anyhow::{Context, Result, bail, ensure};
use postern_tests::wait_until;

use super::super::{World, wait_for_login};
use crate::appliance::guest::START_LIMIT;

/// What prints the process that systemd takes for the proxy.
const MAIN_PROCESS: &str = "systemctl show --value --property MainPID postern.service";
/// The limit for logins under way that a reload sets; it is not the default.
const LOGINS_MAX: &str = "900";

/// The first connection after the process has gone is answered, by another one.
pub(super) fn killed(world: &mut World) -> Result<()> {
    let before = main_process(world)?;
    // A request for TLS, which a listening socket alone does not answer.
    let said = world.guest.run(&format!(
        "read -r from rest < /proc/uptime; kill -9 {before}; \
         while [ -d /proc/{before} ]; do :; done; \
         printf '\\000\\000\\000\\010\\004\\322\\026\\057' | nc -w 60 127.0.0.1 5050 | head -c 1; \
         read -r to rest < /proc/uptime; echo \" $from $to\"",
    ))?;
    let words: Vec<&str> = said.split_whitespace().collect();
    let &["S", from, to] = words.as_slice() else {
        bail!("the connection is not answered: {said}");
    };
    world.restart_s = Some(to.parse::<f64>()? - from.parse::<f64>()?);
    ensure!(main_process(world)? != before, "it is the same process");
    wait_for_login(&world.stage, &world.guest)?;
    let status = world
        .guest
        .run("postern policy status > /dev/null; echo $?")?;
    ensure!(status == "0", "the policy is not as configured: {status}");
    Ok(())
}

/// A process that does not say that it lives is ended.
pub(super) fn hung(world: &mut World) -> Result<()> {
    let before = main_process(world)?;
    world.guest.run(&format!("kill -STOP {before}"))?;
    wait_until("another process runs", START_LIMIT, || {
        let process = main_process(world)?;
        Ok(process != before && process != "0")
    })?;
    let journal = world.guest.run(
        "journalctl --boot --unit postern.service --output cat | grep -c 'Watchdog timeout'",
    )?;
    ensure!(journal == "1", "the watchdog has not ended it: {journal}");
    wait_for_login(&world.stage, &world.guest)
}

/// systemd waits until the process says that it has read everything.
pub(super) fn reloaded(world: &mut World) -> Result<()> {
    let before = main_process(world)?;
    let said = world.guest.run(&format!(
        "printf '[limits]\\nlogins_max = {LOGINS_MAX}\\n' >> /etc/postern/postern.toml; \
         systemctl reload postern.service; echo \"ends with $?\"; \
         postern show config | grep 'logins_max'"
    ))?;
    ensure!(said.contains("ends with 0"), "{said}");
    ensure!(
        said.contains(LOGINS_MAX),
        "the limit is not the new one: {said}"
    );
    ensure!(
        main_process(world)? == before,
        "the process is another one, or none"
    );
    wait_for_login(&world.stage, &world.guest)
}

/// systemd follows the process that has taken over.
pub(super) fn followed(world: &mut World) -> Result<()> {
    let before = main_process(world)?;
    let said = world.guest.run("postern upgrade")?;
    let after = main_process(world)?;
    ensure!(
        after != before && said.contains(&format!("process {after} serves now")),
        "systemd knows process {after}, and {before} before: {said}"
    );
    wait_for_login(&world.stage, &world.guest)?;
    // The old one has no session left, and ends without being missed.
    wait_until("the old process ends", START_LIMIT, || {
        let said = world.guest.run(&format!("ls -d /proc/{before}"))?;
        Ok(said.contains("No such file"))
    })?;
    ensure!(
        main_process(world)? == after,
        "the unit was started anew when the old process ended"
    );
    wait_for_login(&world.stage, &world.guest)
}

fn main_process(world: &mut World) -> Result<String> {
    let said = world.guest.run(MAIN_PROCESS)?;
    said.lines()
        .last()
        .map(str::to_owned)
        .context("systemd says nothing")
}
