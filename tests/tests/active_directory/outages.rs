//! A directory that is not to be trusted, not there, or silent.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postern_tests::{RawClient, Samba, wait_until};

use crate::Test;
use crate::world::{PASSWORD, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_certificate_of_another_authority_is_refused_and_named",
        foreign_authority,
    ),
    ("starttls_works_with_our_authority", starttls),
    (
        "a_directory_that_is_down_is_57p03_within_a_second_until_it_is_back",
        stopped,
    ),
    (
        "a_directory_that_hangs_is_57p03_within_the_total_timeout",
        hung,
    ),
    (
        "who_is_remembered_gets_in_while_the_directory_is_down",
        remembered,
    ),
];

/// How long a started domain controller may take to answer on a busy machine.
const BACK_LIMIT: Duration = Duration::from_secs(30);

/// What the client is told while the directory is out of reach.
const AWAY: &str = "the directory that checks passwords is not available";

fn foreign_authority(world: &World) -> Result<()> {
    world.add_person("ilse")?;
    let authority = world.foreign_authority()?;
    world.with_config(
        |config| {
            config.set("directory", "tls_ca_file", &authority);
        },
        || {
            let said = world.psql("ilse").refused()?;
            ensure!(said.contains(AWAY), "{said}");
            let refusal = world.last_refusal("ilse")?;
            ensure!(
                refusal.detail.contains(&world.samba.url())
                    && refusal.detail.contains("certificate"),
                "{refusal:?}"
            );
            let binds = world.binds_of(&Samba::dn("ilse"))?;
            ensure!(binds == 0, "a password went to an unknown server");
            Ok(())
        },
    )
}

fn starttls(world: &World) -> Result<()> {
    world.add_person("jana")?;
    let urls = vec![world.samba.plain_url()];
    world.with_config(
        |config| {
            config.set("directory", "urls", urls);
            config.set("directory", "starttls", true);
        },
        || {
            let role = world.role_of("jana")?;
            ensure!(role == "jana", "{role}");
            Ok(())
        },
    )
}

fn stopped(world: &World) -> Result<()> {
    world.add_person("katja")?;
    with_plaintext(world, || {
        world.samba.stop()?;
        let outcome = refused_with_57p03(world, "katja", Duration::from_secs(1));
        world.samba.start_again()?;
        outcome?;
        let refusal = world.last_refusal("katja")?;
        ensure!(
            refusal.reason == "directory_unreachable"
                && refusal.detail.contains(&world.samba.url()),
            "{refusal:?}"
        );
        // A domain controller that has just started may be slow.
        wait_until("katja is in", BACK_LIMIT, || {
            Ok(world.role_of("katja").is_ok_and(|it| it == "katja"))
        })
    })
}

fn hung(world: &World) -> Result<()> {
    world.add_person("linda")?;
    let limit = Duration::from_millis(2_500);
    with_plaintext(world, || {
        // A connection of the service principal is kept by now.
        world.role_of("linda")?;
        world.add_person("luise")?;
        world.samba.pause()?;
        // The first waits on the kept connection, the second for a new one.
        let outcome = refused_with_57p03(world, "luise", limit)
            .and_then(|()| refused_with_57p03(world, "luise", limit));
        world.samba.resume()?;
        outcome?;
        let refusal = world.last_refusal("luise")?;
        ensure!(refusal.reason == "directory_timed_out", "{refusal:?}");
        let role = world.role_of("luise")?;
        ensure!(role == "luise", "{role}");
        Ok(())
    })
}

fn remembered(world: &World) -> Result<()> {
    world.add_person("maria")?;
    world.role_of("maria")?;
    world.samba.stop()?;
    let in_again = world.role_of("maria");
    let wrong = world.postern.psql("maria", "Wrong-2718-guess").refused();
    world.samba.start_again()?;
    ensure!(in_again? == "maria", "another role");
    let wrong = wrong?;
    ensure!(wrong.contains(AWAY), "{wrong}");
    Ok(())
}

/// A Postern with short timeouts that also takes clients without TLS, so that a test can read the
/// SQLSTATE, which psql does not show.
fn with_plaintext(world: &World, test: impl FnOnce() -> Result<()>) -> Result<()> {
    world.with_config(
        |config| {
            config.set("listen", "tls", "allow-plaintext");
            config.set("directory", "connect_timeout_ms", 1_000);
            config.set("directory", "operation_timeout_ms", 1_500);
            config.set("directory", "total_timeout_ms", 2_000);
        },
        test,
    )
}

fn refused_with_57p03(world: &World, login: &str, within: Duration) -> Result<()> {
    let start = Instant::now();
    let error = RawClient::refused(world.postern.port(), login, "postgres", PASSWORD)?;
    let took = start.elapsed();
    ensure!(
        error.field(b'C').as_deref() == Some("57P03") && error.field(b'M').as_deref() == Some(AWAY),
        "{error:?}"
    );
    ensure!(
        took < within,
        "{login} was told after {} ms",
        took.as_millis()
    );
    Ok(())
}
