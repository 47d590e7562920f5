//! One too many, or too slow.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::{CHANGE_LIMIT, last_refusal};
use postern_tests::{ConfigFile, RawClient, World, wait_until};

use crate::SLACK;

pub(crate) fn one_session_too_many_is_told_so(world: &World) -> Result<()> {
    let person = world.person("crowd", &[HR_GROUP])?;
    let change = |config: &mut ConfigFile| {
        config.set("limits", "sessions_max", 1);
    };
    world.with_plain_config(change, || {
        let port = world.plain.port();
        let mut first = world.raw(&person)?;
        let told = RawClient::refused(port, "crowd", HR_DATABASE, &person.password)?;
        let (code, text) = (told.field(b'C'), told.field(b'M'));
        ensure!(code.as_deref() == Some("53300"), "{told:?}");
        let own = "sorry, too many clients already";
        ensure!(text.as_deref() == Some(own), "{told:?}");
        ensure!(last_refusal(&world.plain)? == "too_many_connections");
        ensure!(first.query("select 1")? == "1");
        drop(first);
        wait_until("the place is free again", CHANGE_LIMIT, || {
            Ok(RawClient::log_in(port, "crowd", HR_DATABASE, &person.password)?.is_ok())
        })
    })
}

pub(crate) fn one_login_too_many_is_told_so(world: &World) -> Result<()> {
    let person = world.person("queue", &[HR_GROUP])?;
    let change = |config: &mut ConfigFile| {
        config.set("limits", "logins_max", 1);
    };
    world.with_plain_config(change, || {
        let port = world.plain.port();
        let mut first = RawClient::connect(port)?;
        first.startup(
            PROTOCOL_3_0,
            &[("user", "queue"), ("database", HR_DATABASE)],
        )?;
        ensure!(first.read()?.tag == b'R');
        // A client that has not sent its password yet is no login under way.
        ensure!(world.raw(&person)?.query("select 1")? == "1");
        world.directory.pause()?;
        first.password(b"keeps the directory busy")?;
        let told = RawClient::refused(port, "queue", HR_DATABASE, &person.password);
        world.directory.resume()?;
        let told = told?;
        let code = told.field(b'C');
        ensure!(code.as_deref() == Some("53300"), "{told:?}");
        let refused = first.read()?;
        ensure!(
            refused.field(b'C').as_deref() == Some("28P01"),
            "{refused:?}"
        );
        // The session is no login any more.
        ensure!(world.raw(&person)?.query("select 1")? == "1");
        Ok(())
    })
}

pub(crate) fn a_client_that_never_sends_its_password_is_dropped_in_time(
    world: &World,
) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config.set("limits", "login_timeout_ms", 1_000);
    };
    world.with_plain_config(change, || {
        let start = Instant::now();
        let mut silent = RawClient::connect(world.plain.port())?;
        let mut asked = RawClient::connect(world.plain.port())?;
        asked.startup(
            PROTOCOL_3_0,
            &[("user", "nobody"), ("database", HR_DATABASE)],
        )?;
        ensure!(asked.read()?.tag == b'R');
        silent.expect_end()?;
        asked.expect_end()?;
        let taken = start.elapsed();
        ensure!(taken >= Duration::from_millis(900), "{taken:?}");
        ensure!(taken < Duration::from_secs(1) + SLACK, "{taken:?}");
        wait_until("it is on record", CHANGE_LIMIT, || {
            Ok(last_refusal(&world.plain)? == "login_timed_out")
        })
    })
}
