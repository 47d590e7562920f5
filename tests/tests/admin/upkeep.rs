//! The console while another process takes over.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::process::run;
use postern_tests::world::{CHANGE_LIMIT, outcome_of};
use postern_tests::{Successor, World, wait_until};

use crate::orders::{door, ended};
use crate::{OPERATOR, console, hostile, said};

pub(crate) fn a_session_ends_when_another_process_takes_over(world: &World) -> Result<()> {
    let mut open = hostile::logged_in(world, "ops")?;
    let successor = Successor::upgrade(&world.plain)?;
    let outcome = (|| {
        let (sqlstate, why) = ended(&mut open)?;
        ensure!(
            sqlstate == "57P01" && why.contains("another process serves; log in again"),
            "{why}"
        );
        open.expect_end()?;
        // Nobody is in, and the console does not keep it.
        wait_until("the process before ends", CHANGE_LIMIT, || {
            Ok(!world.plain.is_running()?)
        })?;
        let psql = console(&world.plain, OPERATOR);
        said(&psql, "pause")?;
        ensure!(door(&world.plain)? == "paused, 0 wait");
        said(&psql, "resume").map(drop)
    })();
    successor.leave(&world.plain)?;
    outcome
}

pub(crate) fn no_other_process_takes_over_while_logins_wait_or_are_refused(
    world: &World,
) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    for (order, why) in [
        ("pause", "new logins wait"),
        ("drain", "new logins are refused"),
    ] {
        said(&psql, order)?;
        let (code, told) = outcome_of(&mut world.plain.command(&["upgrade"])?)?;
        said(&psql, "resume")?;
        ensure!(code == 1 && told.contains(why), "{order}: {told}");
        ensure!(told.contains("postern resume first"), "{order}: {told}");
    }
    ensure!(world.plain.is_running()?, "another process has taken over");
    // What was refused has not changed the door.
    said(&psql, "pause; resume").map(drop)
}

pub(crate) fn who_waits_in_a_pause_goes_on_under_the_newest_configuration(
    world: &World,
) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    let person = world.person("queueing", &[HR_GROUP])?;
    said(&psql, "pause")?;
    let waiting = {
        let plain = world.plain.psql(&person.login, &person.password);
        let psql = plain.database(HR_DATABASE);
        thread::spawn(move || psql.run("select 1"))
    };
    let waited = wait_until("the login waits", CHANGE_LIMIT, || {
        Ok(door(&world.plain)? == "paused, 1 wait")
    });
    world.plain.rewrite(|config| {
        config.set("backend", "databases", vec!["elsewhere".to_owned()]);
    })?;
    let reloaded = run(&mut world.plain.command(&["reload"])?);
    said(&psql, "resume")?;
    let answer = waiting.join().map_err(|_| anyhow!("it panicked"))??;
    world.plain.rewrite(|config| {
        config.unset("backend", "databases");
    })?;
    run(&mut world.plain.command(&["reload"])?)?;
    waited?;
    reloaded?;
    ensure!(answer.stderr.contains("is not served here"), "{answer:?}");
    Ok(())
}
