//! What `/readyz` says, and what logins meet meanwhile.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use postern_tests::cast::HR_DATABASE;
use postern_tests::mounts::{program_after, seen_by};
use postern_tests::process::run;
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{
    ConfigFile, RawClient, ServerCertificate, World, free_port, needs, wait_until,
};

use super::metrics::{ask, samples, with_metrics};

const DAY: Duration = Duration::from_secs(86_400);

/// A disk that is soon full, in bytes.
const DISK_BYTES: usize = 65_536;

/// What one write puts into a pipe, in bytes: a page of its own, which nothing else fits into.
const PAGE_BYTES: usize = 4_096;

/// Waits until `/readyz` answers so, and returns why.
fn says(port: u16, status: &str) -> Result<String> {
    let mut body = String::new();
    wait_until(status, CHANGE_LIMIT, || {
        let lives = ask(port, "GET /livez")?;
        ensure!(lives.status.ends_with("200 OK"), "it lives");
        let answer = ask(port, "GET /readyz")?;
        body = answer.body;
        Ok(answer.status.contains(status))
    })?;
    Ok(body)
}

fn is_ready(port: u16) -> Result<()> {
    says(port, "200 OK").map(drop)
}

fn complains(port: u16, leg: &str) -> Result<()> {
    let body = says(port, "503 Service Unavailable")?;
    let mut lines = body.lines();
    ensure!(lines.any(|it| it.starts_with(leg)), "not of {leg}: {body}");
    Ok(())
}

pub(crate) fn the_process_is_ready_when_everything_that_it_needs_is(world: &World) -> Result<()> {
    with_metrics(world, |port| {
        is_ready(port)?;
        world.directory.stop()?;
        let outcome = complains(port, "directory");
        world.directory.start_again()?;
        outcome?;
        is_ready(port)?;
        world.postgres.stop()?;
        let outcome = complains(port, "role store");
        world.postgres.start_again()?;
        outcome?;
        is_ready(port)
    })
}

/// Runs a claim with the Postern that allows plaintext, changed, and the port of its `/readyz`.
fn changed(
    world: &World,
    change: impl FnOnce(&mut ConfigFile),
    claim: impl FnOnce(u16) -> Result<()>,
) -> Result<()> {
    let port = free_port()?;
    let change = |config: &mut ConfigFile| {
        config.set("metrics", "listen", format!("127.0.0.1:{port}"));
        change(config);
    };
    world.with_plain_config(change, || claim(port))
}

pub(crate) fn a_policy_that_is_not_in_force_keeps_the_process_from_being_ready(
    world: &World,
) -> Result<()> {
    let file = world.scratch.path().join("finding.json");
    let finds = |in_force: bool, drift: &[&str]| -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let finding = serde_json::json!({
            "at_ms": u64::try_from(now.as_millis())?,
            "in_force": in_force,
            "mode": "enforce",
            "drift": drift,
            "refused": 0,
        });
        Ok(fs::write(&file, finding.to_string())?)
    };
    let perimeter = |config: &mut ConfigFile| {
        config
            .set("perimeter", "place", "gateway")
            .set("perimeter", "interfaces", vec!["lo".to_owned()])
            .set("perimeter", "state_file", file.as_path())
            .begin("perimeter.protect")
            .set(
                "perimeter.protect",
                "prefixes",
                vec!["192.0.2.0/24".to_owned()],
            )
            .begin("perimeter.allow")
            .set(
                "perimeter.allow",
                "sources",
                vec!["192.0.2.10/32".to_owned()],
            )
            .set("perimeter.allow", "interfaces", vec!["lo".to_owned()]);
    };
    changed(world, perimeter, |port| {
        complains(port, "perimeter")?;
        finds(true, &[])?;
        is_ready(port)?;
        finds(false, &["a program is not attached"])?;
        complains(port, "perimeter")
    })
}

pub(crate) fn a_certificate_that_ends_soon_is_warned_of_until_another_one_is_shown(
    world: &World,
) -> Result<()> {
    let shows = |config: &mut ConfigFile, certificate: &ServerCertificate| {
        config
            .set("listen", "tls_cert_file", &certificate.cert_file)
            .set("listen", "tls_key_file", &certificate.key_file);
    };
    let end = |days: u32| SystemTime::now() + DAY * days + DAY / 2;
    let soon = world.certificates.issue_until("soon", end(9))?;
    let later = world.certificates.issue_until("later", end(40))?;
    changed(
        world,
        |config| shows(config, &soon),
        |port| {
            let body = says(port, "200 OK")?;
            let warned = body.lines().find(|it| it.starts_with("warning: listener"));
            ensure!(
                warned.is_some_and(|it| it.contains("ends in 9 days")),
                "{body}"
            );
            let health = "postern_health{leg=\"listener\"}";
            ensure!(samples(port)?.get(health) == Some(&0.5), "it is not told");
            world.plain.rewrite(|config| shows(config, &later))?;
            run(&mut world.plain.command(&["reload"])?)?;
            wait_until("it is well again", CHANGE_LIMIT, || {
                Ok(samples(port)?.get(health) == Some(&1.0))
            })
        },
    )
}

/// What a login is refused with, if it is, before it is asked for a password.
fn refusal(world: &World) -> Result<Option<String>> {
    let mut client = RawClient::connect(world.plain.port())?;
    client.startup(
        PROTOCOL_3_0,
        &[("user", "unrecorded"), ("database", HR_DATABASE)],
    )?;
    Ok(client.read()?.field(b'C'))
}

/// Who cannot log in can be seen by this all the same.
fn shows_sessions(world: &World) -> Result<()> {
    run(&mut world.plain.command(&["show", "sessions"])?).map(drop)
}

pub(crate) fn with_a_full_disk_nobody_logs_in_and_the_process_is_not_ready(
    world: &World,
) -> Result<()> {
    if !needs::is_root() {
        let claim = "with_a_full_disk_nobody_logs_in_and_the_process_is_not_ready";
        needs::skip(claim, "a disk of its own needs root");
        return Ok(());
    }
    let folder = world.scratch.subfolder("small-disk")?;
    let mount = format!(
        "mount -t tmpfs -o size={DISK_BYTES},mode=0700 none {}",
        folder.display()
    );
    let program = program_after(&mount, &world.scratch)?;
    let file = folder.join("audit.jsonl");
    let on_disk = |config: &mut ConfigFile| {
        config.set("audit", "file", &file);
    };
    changed(world, on_disk, |port| {
        world.plain.stop()?;
        world.plain.start_as(&program)?;
        is_ready(port)?;
        let filler = seen_by(world.plain.pid()?, &folder.join("filler"));
        ensure!(
            fs::write(&filler, vec![0; DISK_BYTES]).is_err(),
            "it has room"
        );
        // The last page of the file may have room for some records more.
        wait_until("nobody logs in", CHANGE_LIMIT, || {
            Ok(refusal(world)?.as_deref() == Some("57P03"))
        })?;
        complains(port, "audit")?;
        shows_sessions(world)?;
        fs::remove_file(&filler)?;
        is_ready(port)?;
        ensure!(refusal(world)?.is_none(), "nobody is asked for a password");
        Ok(())
    })
}

pub(crate) fn with_a_disk_that_hangs_nobody_logs_in_and_the_process_is_not_ready(
    world: &World,
) -> Result<()> {
    // Who writes into a pipe that nobody reads from waits, as for a disk that does not answer.
    let fifo = world.scratch.path().join("audit.fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let in_pipe = |config: &mut ConfigFile| {
        config.set("audit", "file", &fifo);
    };
    changed(world, in_pipe, |port| {
        is_ready(port)?;
        let mut options = File::options();
        options.read(true).write(true);
        options.custom_flags(OFlag::O_NONBLOCK.bits());
        let mut pipe = options.open(&fifo).context("the pipe")?;
        while pipe.write(&[b'\n'; PAGE_BYTES]).is_ok() {}
        let outcome = (|| {
            let told = refusal(world)?;
            ensure!(told.as_deref() == Some("57P03"), "{told:?}");
            complains(port, "audit")?;
            shows_sessions(world)
        })();
        // Or the process could not end.
        while pipe.read(&mut [0; PAGE_BYTES]).is_ok() {}
        outcome?;
        is_ready(port)?;
        ensure!(refusal(world)?.is_none(), "nobody is asked for a password");
        Ok(())
    })
}
