//! What is checked.

mod faults;
mod proxy;
mod room;
mod settings;
mod update;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use postern_tests::{Server, cast, wait_until};

use super::World;
use super::wait_for_login;
use crate::appliance::guest::START_LIMIT;
use crate::appliance::stage::OUTSIDE;

/// A claim and what shows it.
type Check = (&'static str, fn(&mut World) -> Result<()>);

/// All of them, in the order in which they are run.
pub(super) const ALL: [Check; 29] = [
    ("every unit has come up", units_are_up),
    (
        "psql through the machine reads as the person",
        reads_as_the_person,
    ),
    (
        "the console's page says what the machine is and that all is well",
        page_is_whole,
    ),
    (
        "the process has no capability, no way to new ones, and leaves no core",
        process_is_restricted,
    ),
    (
        "the fence and the policy are there before the network",
        policy_before_network,
    ),
    ("only the proxy reaches the database", only_the_proxy),
    (
        "nothing listens but the proxy and its figures",
        nothing_else_listens,
    ),
    (
        "the root is read-only and checked by its hash",
        root_is_sealed,
    ),
    (
        "nobody but the proxy and root sees the folder of the audit file",
        audit_is_private,
    ),
    (
        "the root says whose work it is, and has nothing of another first process",
        licences,
    ),
    (
        "whoever connects when the proxy is killed is answered by the next one",
        proxy::killed,
    ),
    (
        "a proxy that hangs is ended by the watchdog, and another one runs",
        proxy::hung,
    ),
    (
        "systemctl reload has the proxy read its configuration again",
        proxy::reloaded,
    ),
    (
        "systemd follows the process that has taken over by an upgrade",
        proxy::followed,
    ),
    (
        "the policy's unit can be restarted, and the proxy comes back with it",
        policy_again,
    ),
    (
        "a full audit partition lets nobody in, and then does again",
        faults::full_audit,
    ),
    (
        "a larger disk is the audit file's after the next start",
        room::larger_disk,
    ),
    ("after a reboot all is as before", reboot),
    (
        "a drive takes closed audit files away from a full partition",
        room::audit_drive,
    ),
    (
        "an update runs after the next start, with the state of before",
        update::forward,
    ),
    (
        "the version before runs again when it is told to go back",
        update::back,
    ),
    (
        "an update that does not come up is left for the slot before",
        update::broken,
    ),
    (
        "a wrong configuration leaves the fence up and the port closed, and the console says why",
        faults::wrong_configuration,
    ),
    (
        "a machine whose state is damaged says so, and nothing passes",
        faults::damaged_state,
    ),
    (
        "a drive with more than is taken is refused by name",
        settings::left_over,
    ),
    (
        "several drives of one label are refused, which of them counts being chance",
        settings::several,
    ),
    (
        "a drive that cannot be read is refused by its label",
        settings::unreadable,
    ),
    (
        "settings come from credentials of the machine as well, and a changed root is not read",
        settings::credentials,
    ),
    (
        "settings come from a cloud's user-data as well, and a shell has its terminal for itself",
        settings::cloud,
    ),
];

fn units_are_up(world: &mut World) -> Result<()> {
    let failed = world
        .guest
        .run("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

fn reads_as_the_person(world: &mut World) -> Result<()> {
    let psql = world.stage.psql(world.guest.port, cast::TESTUSER);
    let said = psql.query("select current_user")?;
    ensure!(said == cast::TESTUSER.login, "the role is {said}");
    let mut wrong = cast::TESTUSER;
    wrong.password = "wrong";
    let said = world.stage.psql(world.guest.port, wrong).refused()?;
    ensure!(said.contains("password authentication failed"), "{said}");
    let journal = format!(
        "journalctl --boot --output cat POSTERN_ROLE={}",
        cast::TESTUSER.login
    );
    let journal = world.guest.run(&journal)?;
    ensure!(!journal.is_empty(), "the journal has no login by its role");
    Ok(())
}

fn page_is_whole(world: &mut World) -> Result<()> {
    // A session that is there when the page is drawn is on it.
    let psql = world.stage.psql(world.guest.port, cast::TESTUSER);
    let mut command = psql.command()?;
    command.args(["--command", "select pg_sleep(600)"]);
    let log = world.stage.scratch.path().join("session.log");
    let mut session = Server::spawn("psql", command, &log, Signal::SIGTERM)?;
    let wanted = [
        format!("version     postern {}", env!("CARGO_PKG_VERSION")),
        "address     ".to_owned(),
        "settings    the drive with the label postern".to_owned(),
        "policy      in force".to_owned(),
        "proxy       running".to_owned(),
        "sessions    1".to_owned(),
        "directory".to_owned(),
        "role store".to_owned(),
    ];
    let mut page = String::new();
    let waited = wait_until("the page says so", START_LIMIT, || {
        page = world.guest.page()?;
        Ok(wanted.iter().all(|it| page.contains(it)))
    });
    session.kill()?;
    waited.with_context(|| format!("not all of {wanted:?} in\n{page}"))
}

fn process_is_restricted(world: &mut World) -> Result<()> {
    let said = world.guest.run(
        "cd /proc/$(systemctl show --value --property MainPID postern.service); \
         cat status limits",
    )?;
    let in_words = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = said.lines().map(in_words).collect();
    let mut missing = vec!["NoNewPrivs: 1".to_owned(), "Seccomp: 2".to_owned()];
    missing.push("Max core file size 0 0 bytes".to_owned());
    for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        missing.push(format!("Cap{set}: 0000000000000000"));
    }
    missing.retain(|it| !lines.contains(it));
    ensure!(missing.is_empty(), "{missing:?} is not in\n{said}");
    Ok(())
}

fn policy_before_network(world: &mut World) -> Result<()> {
    // What is said before the journal is there comes to it from the kernel, as the kernel's.
    let journal = world.guest.run(
        "journalctl --boot --output short-monotonic | grep -F ' systemd[1]: ' | \
         grep -E '(Starting|Finished|Started) (postern|systemd-networkd.service)'",
    )?;
    let at = |text: &str| {
        let line = journal.lines().find(|it| it.contains(text));
        let line = line.with_context(|| format!("no {text:?} in\n{journal}"))?;
        let time = line.trim_start_matches('[').split(']').next();
        let time: f64 = time.unwrap_or_default().trim().parse()?;
        anyhow::Ok(time)
    };
    let order = [
        at("Finished postern-fence.service")?,
        at("Finished postern-closed.service")?,
        at("Finished postern-policy.service")?,
        at("Starting systemd-networkd.service")?,
        at("Started postern.service")?,
    ];
    ensure!(order.is_sorted(), "{order:?}");
    Ok(())
}

pub(super) fn only_the_proxy(world: &mut World) -> Result<()> {
    let database = world.stage.postgres.port();
    let directory = world.stage.directory.tls_port();
    // What is not protected is reached, so that it is not the network that is missing.
    let reached = world.guest.run(&connect(OUTSIDE, directory))?;
    ensure!(
        reached.ends_with("reached"),
        "the directory is not reached: {reached}"
    );
    let reached = world.guest.run(&connect(OUTSIDE, database))?;
    ensure!(
        reached.ends_with("refused"),
        "the database is reached: {reached}"
    );
    let status = world
        .guest
        .run("postern policy status; echo \"ends with $?\"")?;
    ensure!(status.ends_with("ends with 0"), "{status}");
    ensure!(status.contains("foreign_socket"), "{status}");
    Ok(())
}

/// A command that says whether root of the guest reaches a port.
fn connect(host: &str, port: u16) -> String {
    format!("nc -w 5 {host} {port} < /dev/null > /dev/null 2>&1 && echo reached || echo refused")
}

fn nothing_else_listens(world: &mut World) -> Result<()> {
    let said = world.guest.run("netstat -l -n -t -u -w | tail -n +3")?;
    for line in said.lines() {
        let mut words = line.split_whitespace();
        let protocol = words.next().unwrap_or_default();
        let address = words.nth(2).unwrap_or_default();
        let port = address.rsplit(':').next().unwrap_or_default();
        // DHCP answers come to port 68, or 546 by IPv6; ICMPv6 is how routers are found.
        let is_known = matches!(
            (protocol, port),
            ("tcp", "5050" | "9187") | ("udp", "68" | "546") | ("raw", "58")
        );
        ensure!(is_known, "{line}");
    }
    ensure!(said.contains(":5050"), "{said}");
    Ok(())
}

fn root_is_sealed(world: &mut World) -> Result<()> {
    let said = world
        .guest
        .run("dmsetup table root; touch /usr/x; mount | grep ' / '")?;
    ensure!(said.contains(" verity 1 "), "{said}");
    ensure!(said.contains("Read-only file system"), "{said}");
    Ok(())
}

fn audit_is_private(world: &mut World) -> Result<()> {
    let said = world.guest.run("stat -c '%a %U' /var/log/postern")?;
    ensure!(said == "750 postern", "{said}");
    Ok(())
}

fn licences(world: &mut World) -> Result<()> {
    let said = world.guest.run(
        "cd /usr/share/doc; for it in *; do [ -s $it/copyright ] || echo without: $it; done; \
         ls -d linux-image-* systemd busybox-static; zcat postern/libraries.gz | head -n 1; \
         ls -d /etc/rc?.d",
    )?;
    ensure!(!said.contains("without: "), "{said}");
    for wanted in ["linux-image-", "systemd", "busybox-static"] {
        ensure!(said.lines().any(|it| it.starts_with(wanted)), "{said}");
    }
    ensure!(said.contains("Postern is linked with"), "{said}");
    ensure!(
        !said.lines().any(|it| it.starts_with("/etc/rc")),
        "there is something of another first process: {said}"
    );
    Ok(())
}

/// The fence, which the unit opens, is open already then.
fn policy_again(world: &mut World) -> Result<()> {
    let said = world
        .guest
        .run("systemctl restart postern-policy.service; echo \"ends with $?\"; nft list tables")?;
    ensure!(said.contains("ends with 0"), "{said}");
    ensure!(!said.contains("postern-fence"), "{said}");
    wait_for_login(&world.stage, &world.guest)?;
    only_the_proxy(world)
}

fn reboot(world: &mut World) -> Result<()> {
    let records = "grep -c opened /var/log/postern/audit.jsonl";
    let before: u64 = world.guest.run(records)?.parse()?;
    world.guest.reboot()?;
    wait_for_login(&world.stage, &world.guest)?;
    let after: u64 = world.guest.run(records)?.parse()?;
    ensure!(
        before > 0 && after > before,
        "{before} logins, then {after}"
    );
    only_the_proxy(world)
}
