//! `postern reload` and SIGHUP.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::cast::{GROUP_PREFIX, HR_DATABASE, HR_GROUP};
use postern_tests::process::run;
use postern_tests::raw::CancelKey;
use postern_tests::world::{CHANGE_LIMIT, outcome_of};
use postern_tests::{Certificates, Postern, RawClient, Scratch, World, wait_until};

/// Has the running process reload, which it must do, and returns what it says.
pub(crate) fn reload(postern: &Postern) -> Result<String> {
    run(&mut postern.command(&["reload"])?)
}

fn refused(postern: &Postern) -> Result<String> {
    let (code, text) = outcome_of(&mut postern.command(&["reload"])?)?;
    ensure!(code == 1, "{code}: {text}");
    Ok(text)
}

/// How the last order ended, by its record: which one, and with what outcome.
pub(crate) fn last_ended(postern: &Postern) -> Result<(String, String)> {
    let records = postern.audit()?;
    let ended = records.iter().rfind(|it| it["event"] == "order_ended");
    let ended = ended.context("no end of an order is on record")?;
    let text = |key: &str| ended[key].as_str().unwrap_or_default().to_owned();
    Ok((text("order"), text("outcome")))
}

/// Waits until the log has a text more often than it had.
fn wait_for_log(postern: &Postern, text: &str, before: usize) -> Result<()> {
    wait_until(text, CHANGE_LIMIT, || Ok(count(postern, text)? > before))
}

fn count(postern: &Postern, text: &str) -> Result<usize> {
    Ok(postern.log()?.matches(text).count())
}

pub(crate) fn what_has_changed_is_told_and_holds_and_sessions_go_on(world: &World) -> Result<()> {
    let person = world.person("reloaded", &[HR_GROUP])?;
    let mut session = world.raw(&person)?;
    world.plain.rewrite(|config| {
        config
            .set(
                "listen",
                "denied_parameters",
                vec!["search_path".to_owned()],
            )
            .set("limits", "logins_max", 900);
    })?;
    let said = reload(&world.plain)?;
    ensure!(said.contains("limits.logins_max: 1000 -> 900"), "{said}");
    ensure!(said.contains("listen.denied_parameters: []"), "{said}");
    ensure!(session.query("select 1")? == "1");
    let mut denied = RawClient::connect(world.plain.port())?;
    let parameters = [("user", "reloaded"), ("search_path", "x")];
    denied.startup(postern_tests::raw::PROTOCOL_3_0, &parameters)?;
    let told = denied.read()?;
    ensure!(told.field(b'C').as_deref() == Some("28000"), "{told:?}");
    let records = world.plain.audit()?;
    let ordered = records.iter().rfind(|it| it["event"] == "ordered");
    let ordered = ordered.context("it is not on record")?;
    ensure!(ordered["order"] == "reload", "{ordered}");
    let detail = ordered["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("limits.logins_max"), "{detail}");
    let ended = last_ended(&world.plain)?;
    ensure!(ended == ("reload".into(), "done".into()), "{ended:?}");
    world.plain.rewrite(|config| {
        config
            .unset("listen", "denied_parameters")
            .unset("limits", "logins_max");
    })?;
    reload(&world.plain)?;
    let said = reload(&world.plain)?;
    ensure!(said.trim() == "nothing has changed", "{said}");
    drop(world.raw(&person)?);
    ensure!(session.query("select 2")? == "2");
    Ok(())
}

pub(crate) fn a_file_with_errors_changes_nothing(world: &World) -> Result<()> {
    let person = world.person("steady", &[HR_GROUP])?;
    let before = "the configuration was not reloaded";
    let seen = count(&world.plain, before)?;
    fs::write(world.plain.config_file(), "[listen]\naddresses = 7\n")?;
    world.plain.signal(Signal::SIGHUP)?;
    wait_for_log(&world.plain, before, seen)?;
    drop(world.raw(&person)?);
    // Whoever asks for it at a terminal is told by the process.
    world.plain.rewrite(|config| {
        config
            .set("listen", "tls", "perhaps")
            .set("limits", "logins_max", 0);
    })?;
    let said = refused(&world.plain)?;
    ensure!(
        said.contains("listen.tls") && said.contains("limits.logins_max"),
        "{said}"
    );
    let ended = last_ended(&world.plain)?;
    ensure!(ended == ("reload".into(), "failed".into()), "{ended:?}");
    drop(world.raw(&person)?);
    world.plain.rewrite(|config| {
        config
            .set("listen", "tls", "allow-plaintext")
            .unset("limits", "logins_max");
    })?;
    let done = "the configuration was reloaded";
    let seen = count(&world.plain, done)?;
    world.plain.signal(Signal::SIGHUP)?;
    wait_for_log(&world.plain, done, seen)
}

pub(crate) fn what_takes_a_restart_is_refused_by_name(world: &World) -> Result<()> {
    world.plain.rewrite(|config| {
        config
            .set("limits", "sessions_max", 5)
            .set("limits", "logins_max", 900);
    })?;
    let said = refused(&world.plain)?;
    ensure!(
        said.contains("limits.sessions_max: 10000 -> 5: needs a restart"),
        "{said}"
    );
    // It is all or nothing.
    world.plain.rewrite(|config| {
        config
            .unset("limits", "sessions_max")
            .unset("limits", "logins_max");
    })?;
    let said = reload(&world.plain)?;
    ensure!(said.trim() == "nothing has changed", "{said}");
    Ok(())
}

pub(crate) fn another_certificate_is_shown_to_the_next_client(world: &World) -> Result<()> {
    let person = world.person("careful", &[HR_GROUP])?;
    ensure!(world.psql(&person).query("select 1")? == "1");
    let scratch = Scratch::new()?;
    let others = Certificates::new(&scratch)?;
    let other = others.issue("other", &Account::own())?;
    let own = world.certificates.issue("again", &Account::own())?;
    for (certificate, ca_file) in [
        (&other, others.ca_file()),
        (&own, world.certificates.ca_file()),
    ] {
        world.postern.rewrite(|config| {
            config
                .set("listen", "tls_cert_file", &certificate.cert_file)
                .set("listen", "tls_key_file", &certificate.key_file);
        })?;
        reload(&world.postern)?;
        let mut psql = world.psql(&person);
        psql.ca_file = Some(ca_file);
        ensure!(psql.query("select 1")? == "1");
    }
    // The files stay where they are, and hold something else.
    let renewed = world.certificates.issue("renewed", &Account::own())?;
    fs::copy(&renewed.cert_file, &own.cert_file)?;
    let said = refused(&world.postern)?;
    ensure!(world.psql(&person).query("select 1")? == "1", "{said}");
    fs::copy(&renewed.key_file, &own.key_file)?;
    let said = reload(&world.postern)?;
    let content = "listen.tls_cert_file: the file holds something else";
    ensure!(said.contains(content), "{said}");
    ensure!(world.psql(&person).query("select 1")? == "1");
    Ok(())
}

pub(crate) fn whoever_has_no_group_by_the_new_rules_is_sent_away(world: &World) -> Result<()> {
    let person = world.person("leaver", &[HR_GROUP])?;
    let mut session = world.raw(&person)?;
    world.plain.rewrite(|config| {
        config.set("group_rule", "prefix", "nobody-has-this-");
    })?;
    reload(&world.plain)?;
    let told = session.read()?;
    let back = world.plain.rewrite(|config| {
        config.set("group_rule", "prefix", GROUP_PREFIX);
    });
    back.and_then(|()| reload(&world.plain))?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    let (login, password) = (&person.login, &person.password);
    wait_until("the person may come back", CHANGE_LIMIT, || {
        let port = world.plain.port();
        Ok(RawClient::logged_in(port, login, HR_DATABASE, password).is_ok())
    })
}

pub(crate) fn a_reload_buys_no_more_guesses(world: &World) -> Result<()> {
    let person = world.person("guessed", &[HR_GROUP])?;
    let before = world.directory.failed_binds()?;
    let guess = |number: usize| {
        let (port, password) = (world.plain.port(), format!("guess-{number}"));
        let came_in = RawClient::logged_in(port, &person.login, HR_DATABASE, &password);
        ensure!(came_in.is_err(), "{password} is right");
        Ok(())
    };
    (0..3).try_for_each(guess)?;
    // People are forgotten with it.
    world.plain.rewrite(|config| {
        config.set("cache", "recheck_s", 50);
    })?;
    let said = reload(&world.plain);
    let guessed = (3..9).try_for_each(guess);
    let after = world.directory.failed_binds()?;
    world.plain.rewrite(|config| {
        config.unset("cache", "recheck_s");
    })?;
    reload(&world.plain)?;
    ensure!(said?.contains("cache.recheck_s"));
    guessed?;
    ensure!(after - before == 4, "{before} became {after}");
    Ok(())
}

pub(crate) fn another_password_of_the_provisioner_is_used(world: &World) -> Result<()> {
    let role = postern_tests::postern::PROVISIONER;
    let file = world
        .plain
        .config_file()
        .with_file_name("provisioner-password");
    let first = fs::read_to_string(&file)?;
    let (login, second) = ("renewed", "Another-9876-only");
    let set = |password: &str| {
        world
            .postgres
            .sql(&format!("alter role {role} password '{password}'"))
    };
    set(second)?;
    fs::write(&file, second)?;
    let said = reload(&world.plain)?;
    let content = "role_store.password_file: the file holds something else";
    ensure!(said.contains(content), "{said}");
    let person = world.person(login, &[HR_GROUP])?;
    let came_in = world.raw(&person).map(drop);
    set(&first)?;
    fs::write(&file, first)?;
    reload(&world.plain)?;
    came_in
}

/// Has two parts of the program something to say at the level DEBUG, and returns how often each
/// has said it since ever.
fn lines_of_two_parts(world: &World) -> Result<(usize, usize)> {
    let port = world.plain.port();
    // A health check says nothing.
    let mut silent = RawClient::connect(port)?;
    silent.finish_sending()?;
    silent.expect_end()?;
    let key = vec![0; 4];
    RawClient::cancel(port, &CancelKey { pid: 1, key })?;
    let left = count(&world.plain, "DEBUG postern::login::refusal: a client left")?;
    let asked = count(&world.plain, "DEBUG postern::cancel: a cancel request")?;
    Ok((left, asked))
}

pub(crate) fn the_levels_of_the_log_change_while_it_runs(world: &World) -> Result<()> {
    let (mut left, mut asked) = lines_of_two_parts(world)?;
    let mut rises_by = |said: &[&str], more: (usize, usize)| -> Result<()> {
        run(&mut world.plain.command(&[&["log-level"], said].concat())?)?;
        left += more.0;
        asked += more.1;
        let lines = lines_of_two_parts(world)?;
        ensure!(lines == (left, asked), "{said:?}: {lines:?}");
        Ok(())
    };
    rises_by(&[], (0, 0))?;
    rises_by(&["postern::login=debug"], (1, 0))?;
    rises_by(&["postern::cancel=debug"], (1, 1))?;
    rises_by(&["postern::login=info"], (0, 1))?;
    rises_by(&["postern=debug"], (0, 1))?;
    let records = world.plain.audit()?;
    let is_theirs =
        |it: &&serde_json::Value| it["event"] == "ordered" && it["order"] == "log_level";
    let ordered = records.iter().rfind(is_theirs);
    let ordered = ordered.context("it is not on record")?;
    ensure!(ordered["detail"] == "postern=debug", "{ordered}");
    let said = run(&mut world.plain.command(&["log-level"])?)?;
    ensure!(said.trim() == "info", "{said}");
    rises_by(&[], (0, 0))?;
    let (code, text) = outcome_of(&mut world.plain.command(&["log-level", "postern=loud"])?)?;
    ensure!(code == 1 && text.contains("TARGET=LEVEL"), "{text}");
    let ended = last_ended(&world.plain)?;
    ensure!(ended == ("log_level".into(), "failed".into()), "{ended:?}");
    Ok(())
}

pub(crate) fn levels_that_are_none_are_told_at_the_start(world: &World) -> Result<()> {
    world.plain.stop()?;
    world.plain.start_with(|command| {
        command.env("POSTERN_LOG", "postern=loud");
        Ok(())
    })?;
    let log = world.plain.log()?;
    world.plain.stop()?;
    world.plain.start_again()?;
    let told = "POSTERN_LOG is not understood";
    ensure!(log.contains(told) && log.contains("postern=loud"), "{log}");
    Ok(())
}

pub(crate) fn a_login_has_one_line_with_the_times_of_its_phases(world: &World) -> Result<()> {
    let person = world.person("timed", &[HR_GROUP])?;
    ensure!(world.psql(&person).query("select 1")? == "1");
    let log = world.postern.log()?;
    let mut lines = log.lines();
    let is_theirs = |it: &&str| it.contains("a session is open") && it.contains("role=\"timed\"");
    let line = lines.rfind(is_theirs).context("there is no such line")?;
    for phase in [
        "tls",
        "ask",
        "authenticate",
        "authorize",
        "sync",
        "dial",
        "backend_login",
    ] {
        ensure!(line.contains(&format!(" {phase}_ms=")), "{phase}: {line}");
    }
    Ok(())
}
