//! Startup packets at their limits, and what reaches the database of them.

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::postern::PROVISIONER;
use postern_tests::postgres::SUPERUSER;
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::{ConfigFile, RawClient, Someone, World};

/// Logs in with more parameters than the two that everybody sends.
fn log_in(world: &World, person: &Someone, more: &[(&str, &str)]) -> Result<RawClient> {
    let mut client = RawClient::connect(world.plain.port())?;
    let mut parameters = vec![("user", person.login.as_str()), ("database", HR_DATABASE)];
    parameters.extend(more);
    client.startup(PROTOCOL_3_0, &parameters)?;
    let in_session = client.finish(&person.password)?;
    in_session.map_err(|told| anyhow!("{more:?}: {:?} {:?}", told.field(b'C'), told.field(b'M')))
}

pub(crate) fn ten_thousand_bytes_are_a_startup_packet_and_not_one_more(
    world: &World,
) -> Result<()> {
    let person = world.person("verbose", &[HR_GROUP])?;
    let fixed = "user\0verbose\0database\0hr\0search_path\0\0\0".len() + 8;
    for (bytes, is_in) in [(10_000, true), (10_001, false)] {
        let path = "x".repeat(bytes - fixed);
        let mut client = RawClient::connect(world.plain.port())?;
        let parameters = [
            ("user", "verbose"),
            ("database", HR_DATABASE),
            ("search_path", path.as_str()),
        ];
        client.startup(PROTOCOL_3_0, &parameters)?;
        if is_in {
            let in_session = client.finish(&person.password)?;
            let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
            ensure!(client.query("show search_path")? == path);
        } else {
            let told = client.read()?;
            ensure!(told.field(b'C').as_deref() == Some("08P01"), "{told:?}");
            client.expect_end()?;
        }
    }
    Ok(())
}

pub(crate) fn of_repeated_names_the_last_counts(world: &World) -> Result<()> {
    let person = world.person("insisting", &[HR_GROUP])?;
    let mut client = log_in(
        world,
        &person,
        &[
            ("application_name", "first"),
            ("database", "postgres"),
            ("user", "postgres"),
            ("Application_Name", "second"),
            ("database", HR_DATABASE),
            ("user", "insisting"),
        ],
    )?;
    let said = client.query(
        "select concat_ws(' ', session_user, current_database(), \
         current_setting('application_name'))",
    )?;
    ensure!(said == "insisting hr second", "{said}");
    Ok(())
}

pub(crate) fn empty_values_and_escapes_arrive_as_with_postgresql(world: &World) -> Result<()> {
    let person = world.person("escaping", &[HR_GROUP])?;
    for (options, setting, value) in [
        (r"-c my.text=a\ b\\c", "my.text", r"a b\c"),
        (r"-cmy.text=one  --my.text=two", "my.text", "two"),
        (
            r"--default-transaction-read-only=on",
            "transaction_read_only",
            "on",
        ),
        ("\t-c\nmy.text=\\-\\-x=y", "my.text", "--x=y"),
        (r"-c my.text=\=\ \	\'", "my.text", "= \t'"),
        ("", "my.text", ""),
    ] {
        let more = [("options", options), ("application_name", "")];
        let mut client = log_in(world, &person, &more)?;
        let said = client.query(&format!("select current_setting('{setting}', true)"))?;
        ensure!(said == value, "{options:?}: {said:?}");
        ensure!(client.query("show application_name")? == "");
    }
    // The database's own refusal of a setting comes through as it is.
    let mut client = RawClient::connect(world.plain.port())?;
    let parameters = [
        ("user", "escaping"),
        ("database", HR_DATABASE),
        ("options", "-c no_such_setting=1"),
    ];
    client.startup(PROTOCOL_3_0, &parameters)?;
    let told = client.finish(&person.password)?.err();
    let told = told.context("it is in")?;
    let own = "unrecognized configuration parameter \"no_such_setting\"";
    ensure!(told.field(b'C').as_deref() == Some("42704"), "{told:?}");
    ensure!(told.field(b'M').as_deref() == Some(own), "{told:?}");
    Ok(())
}

pub(crate) fn a_packet_that_does_not_end_is_refused(world: &World) -> Result<()> {
    for body in [
        &b"user\0open"[..],
        b"user\0open\0",
        b"user\0open\0database\0",
        b"user\0open\0database\0hr\0",
        b"user\0open\0\0\0",
        b"\0",
        b"user\0\0\0",
    ] {
        let mut client = RawClient::connect(world.plain.port())?;
        client.send_packet(&[&PROTOCOL_3_0.to_be_bytes()[..], body].concat())?;
        let told = client.read()?;
        ensure!(
            told.field(b'C').as_deref() == Some("08P01"),
            "{body:?}: {told:?}"
        );
        client.expect_end()?;
    }
    Ok(())
}

/// The ways to name another role in a startup packet: a parameter, and its value.
fn ways_to_be(role: &str) -> Vec<(&'static str, String)> {
    let options = [
        "-c role=ROLE",
        "-crole=ROLE",
        "--role=ROLE",
        "-c Role=ROLE",
        "-c\trol\\e=ROLE",
        "-e -c geqo=off -c role=ROLE",
        "-c session_authorization=ROLE",
        "-csession_authorization=ROLE",
        "--session-authorization=ROLE",
        "-c session\\_Authorization=ROLE",
    ];
    let options = options.map(|it| ("options", it.replace("ROLE", role)));
    let names = ["role", "ROLE", "session_authorization"];
    let names = names.map(|it| (it, role.to_owned()));
    options.into_iter().chain(names).collect()
}

pub(crate) fn a_role_that_one_is_not_in_is_not_had_by_a_startup_packet(
    world: &World,
) -> Result<()> {
    let person = world.person("climber", &[HR_GROUP])?;
    let other = world.person("nextdoor", &[HR_GROUP])?;
    world.raw(&other)?;
    for role in [
        SUPERUSER,
        PROVISIONER,
        "postern_owner",
        "postern_people",
        "pg_read_all_data",
        FINANCE_GROUP,
        &other.login,
    ] {
        for (name, value) in ways_to_be(role) {
            let why = log_in(world, &person, &[(name, &value)]);
            let why = why.err().map(|it| it.to_string()).unwrap_or_default();
            ensure!(why.contains("42501"), "{name} {value:?}: {why:?}");
        }
    }
    // What they are in, they may be: the ways are ways.
    for (name, value) in ways_to_be(HR_GROUP) {
        let client = log_in(world, &person, &[(name, &value)]);
        if value.to_lowercase().contains("auth") || name.contains("auth") {
            ensure!(client.is_err(), "{name} {value:?}");
            continue;
        }
        let said = client?.query("select concat_ws(' ', session_user, current_user)")?;
        ensure!(said == format!("climber {HR_GROUP}"), "{name} {value:?}");
    }
    Ok(())
}

pub(crate) fn a_startup_packet_that_names_a_role_is_refused_where_that_is_denied(
    world: &World,
) -> Result<()> {
    let denied = |config: &mut ConfigFile| {
        let parameters = ["role", "session_authorization"];
        config.set("listen", "denied_parameters", parameters);
    };
    world.with_plain_config(denied, || {
        for (name, value) in ways_to_be(HR_GROUP) {
            let mut client = RawClient::connect(world.plain.port())?;
            let parameters = [("user", "climber"), (name, value.as_str())];
            client.startup(PROTOCOL_3_0, &parameters)?;
            let told = client.read()?;
            let code = told.field(b'C');
            ensure!(
                code.as_deref() == Some("28000"),
                "{name} {value:?}: {told:?}"
            );
            client.expect_end()?;
        }
        Ok(())
    })
}

pub(crate) fn what_the_database_says_during_the_login_reaches_the_client(
    world: &World,
) -> Result<()> {
    let person = world.person("noticed", &[HR_GROUP])?;
    world.raw(&person)?;
    // A role that may not be taken any more is a warning at every login.
    for sql in [
        "create role once_hers",
        "alter role noticed set role = once_hers",
        "alter role noticed set application_name = 'by the role'",
    ] {
        world.postgres.sql(sql)?;
    }
    let mut client = RawClient::connect(world.plain.port())?;
    let parameters = [("user", "noticed"), ("database", HR_DATABASE)];
    client.startup(PROTOCOL_3_0, &parameters)?;
    ensure!(client.read()?.tag == b'R');
    client.password(person.password.as_bytes())?;
    let messages = client.read_until_ready()?;
    let notices = messages.iter().filter(|it| it.tag == b'N');
    let mut texts = notices.filter_map(|it| it.field(b'M'));
    let warning = "permission denied to set role \"once_hers\"";
    ensure!(texts.any(|it| it == warning), "{messages:?}");
    let told = b"application_name\0by the role\0";
    ensure!(
        messages.iter().any(|it| it.tag == b'S' && it.body == told),
        "{messages:?}"
    );
    Ok(())
}
