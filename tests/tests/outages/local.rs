//! The local file of accounts beside the directory.

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP, TESTUSER};
use postern_tests::{ConfigFile, DirectoryServer, Local, Member, RawClient, Someone, World};

const BREAK_GLASS: &str = "breakglass";

fn local_account(world: &World, login: &str) -> Result<(Local, Someone)> {
    let local = Local::start(&world.scratch)?;
    let password = format!("Local-{login}-1");
    local.add_person(login, &password)?;
    local.add_member(HR_GROUP, Member::Person(login))?;
    let login = login.to_owned();
    Ok((local, Someone { login, password }))
}

fn beside(local: &Local, order: &'static str) -> impl Fn(&mut ConfigFile) {
    let file = local.file().to_owned();
    move |config| {
        config
            .set("local", "file", &file)
            .set("local", "order", order);
    }
}

pub(crate) fn a_local_account_beside_the_directory_is_in_first_or_last(
    world: &World,
) -> Result<()> {
    let (local, account) = local_account(world, "keeper")?;
    for order in ["first", "last"] {
        world.with_plain_config(beside(&local, order), || {
            ensure!(world.raw(&account)?.query("select session_user")? == "keeper");
            let port = world.plain.port();
            let (login, password) = (TESTUSER.login, TESTUSER.password);
            RawClient::logged_in(port, login, HR_DATABASE, password)?;
            RawClient::refused(port, "keeper", HR_DATABASE, "mistyped")?;
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn with_order_first_the_directory_is_not_asked_for_a_local_name(
    world: &World,
) -> Result<()> {
    let (local, account) = local_account(world, "resident")?;
    // What the feeds ask would be counted.
    let unheard = |config: &mut ConfigFile| {
        config.set("directory", "feed", "off");
    };
    let first = |config: &mut ConfigFile| {
        beside(&local, "first")(config);
        unheard(config);
    };
    let claim = || {
        let before = world.directory_calls()?;
        world.raw(&account)?;
        let refused = RawClient::refused(world.plain.port(), "resident", HR_DATABASE, "no")?;
        ensure!(refused.field(b'C').as_deref() == Some("28P01"));
        ensure!(world.directory_calls()? == before);
        Ok(())
    };
    world.with_config(unheard, || world.with_plain_config(first, claim))
}

pub(crate) fn a_local_account_is_in_while_the_directory_is_down(world: &World) -> Result<()> {
    let (local, account) = local_account(world, BREAK_GLASS)?;
    for order in ["first", "last"] {
        world.with_plain_config(beside(&local, order), || {
            world.directory.stop()?;
            let outcome = world.raw(&account);
            world.directory.start_again()?;
            let who = outcome?.query("select session_user")?;
            ensure!(who == BREAK_GLASS, "{who}");
            Ok(())
        })?;
    }
    Ok(())
}
