//! What is ordered, and by whom.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use anyhow::{Context, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::process::run;
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::world::{CHANGE_LIMIT, last_refusal, outcome_of};
use postern_tests::{Postern, RawClient, World, wait_until};

use crate::{
    HELPDESK, OPERATOR, VIEWER, accounts_file, console, hostile, last_record, refused, said,
    set_account,
};

/// The identifier of the only live session of a role.
fn session_of(world: &World, role: &str) -> Result<String> {
    let (rows, _) = said(&console(&world.plain, VIEWER), "show sessions")?;
    let of_role = format!("|{role}|");
    let row = rows.lines().find(|it| it.contains(&of_role));
    let row = row.with_context(|| format!("{role}: {rows}"))?;
    Ok(row.split('|').next().unwrap_or_default().to_owned())
}

/// How the next thing that the server says ends a session: its SQLSTATE, and why.
pub(crate) fn ended(client: &mut RawClient) -> Result<(String, String)> {
    let message = client.read()?;
    ensure!(message.tag == b'E', "{message:?}");
    let field = |code| message.field(code).unwrap_or_default();
    Ok((field(b'C'), format!("{} {}", field(b'M'), field(b'D'))))
}

pub(crate) fn kill_ends_a_session_or_all_of_a_role(world: &World) -> Result<()> {
    let psql = console(&world.plain, HELPDESK);
    let person = world.person("killed", &[HR_GROUP])?;
    let mut first = world.raw(&person)?;
    let session = session_of(world, "killed")?;
    let (_, notice) = said(&psql, &format!("kill '{session}' reason 'it''s late'"))?;
    ensure!(notice.contains("was ended"), "{notice}");
    let (sqlstate, why) = ended(&mut first)?;
    ensure!(
        sqlstate == "57P01" && why.contains("Ended by desk: it's late"),
        "{why}"
    );
    let mut both = [world.raw(&person)?, world.raw(&person)?];
    let (_, notice) = said(&psql, "KILL ROLE killed")?;
    ensure!(notice.contains("2 sessions of killed ended"), "{notice}");
    for client in &mut both {
        ensure!(ended(client)?.0 == "57P01");
    }
    for command in ["kill 0000", "kill role nobody"] {
        let told = refused(&psql, command)?;
        ensure!(told.contains("42704"), "{told}");
    }
    Ok(())
}

pub(crate) fn revoke_keeps_a_person_out_until_restore(world: &World) -> Result<()> {
    let psql = console(&world.plain, HELPDESK);
    let person = world.person("outcast", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    let (_, notice) = said(&psql, "revoke outcast for 1h reason 'a stolen laptop'")?;
    ensure!(notice.contains("outcast is kept out until 20"), "{notice}");
    ensure!(ended(&mut live)?.0 == "57P01");
    let record = last_record(&world.plain, "ordered")?;
    ensure!(
        record["detail"] == "for 3600 s: a stolen laptop",
        "{record}"
    );
    ensure!(!world.psql(&person).run("select 1")?.ok, "it is in again");
    let (_, notice) = said(&psql, "restore outcast")?;
    ensure!(notice.contains("may log in again"), "{notice}");
    wait_until("the person is in", CHANGE_LIMIT, || {
        Ok(world.psql(&person).run("select 1")?.ok)
    })?;
    let told = refused(&psql, "restore outcast")?;
    ensure!(told.contains("nobody keeps outcast out"), "{told}");
    Ok(())
}

pub(crate) fn rotate_closes_the_audit_file(world: &World) -> Result<()> {
    let told = refused(&console(&world.plain, VIEWER), "rotate")?;
    ensure!(told.contains("ROTATE needs the right \"rotate\""), "{told}");
    let files = world.plain.audit_files()?.len();
    let (_, notice) = said(&console(&world.plain, OPERATOR), "rotate")?;
    ensure!(notice.contains("is closed: its last record is"), "{notice}");
    ensure!(world.plain.audit_files()?.len() == files + 1);
    let record = last_record(&world.plain, "ordered")?;
    ensure!(
        record["order"] == "rotate" && record["by"] == OPERATOR.0,
        "{record}"
    );
    Ok(())
}

/// The number of logins that wait, as SHOW VERSION has it.
pub(crate) fn door(postern: &Postern) -> Result<String> {
    let (row, _) = said(&console(postern, VIEWER), "show version")?;
    Ok(row.rsplit('|').next().unwrap_or_default().to_owned())
}

pub(crate) fn a_pause_holds_logins_and_no_session(world: &World) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    let person = world.person("patient", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    said(&psql, "pause")?;
    ensure!(live.query("select 1")? == "1", "a live session is held");
    let waiting = {
        let plain = world.plain.psql(&person.login, &person.password);
        let psql = plain.database("hr");
        thread::spawn(move || psql.query("select session_user"))
    };
    wait_until("the login waits", CHANGE_LIMIT, || {
        Ok(door(&world.plain)? == "paused, 1 wait")
    })?;
    let (limits, _) = said(&psql, "show limits")?;
    ensure!(limits.contains("paused logins|1000|1|"), "{limits}");
    ensure!(!waiting.is_finished());
    said(&psql, "resume")?;
    let user = waiting
        .join()
        .map_err(|_| anyhow::anyhow!("it panicked"))??;
    ensure!(user == "patient", "{user}");
    ensure!(door(&world.plain)? == "open");
    let told = refused(&psql, "resume")?;
    ensure!(told.contains("55000"), "{told}");
    Ok(())
}

/// What the address of the numbers says of the process.
fn readiness(postern: &Postern) -> Result<String> {
    let text = std::fs::read_to_string(postern.config_file())?;
    let port = text.split("127.0.0.1:").filter_map(|it| {
        let digits: String = it.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u16>().ok()
    });
    let port = port.filter(|it| *it != postern.port()).last();
    let mut stream = TcpStream::connect(("127.0.0.1", port.context("no port")?))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn a_drain_refuses_logins_and_ends_what_is_left_in_time(world: &World) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    let person = world.person("drained", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    let (_, notice) = said(&psql, "drain")?;
    ensure!(
        notice.contains("no more sessions begin; 1 session left"),
        "{notice}"
    );
    let ready = readiness(&world.plain)?;
    ensure!(
        ready.contains("503") && ready.contains("draining"),
        "{ready}"
    );
    let port = world.plain.port();
    let refusal = {
        let mut client = RawClient::connect(port)?;
        client.startup(PROTOCOL_3_0, &[("user", &person.login), ("database", "hr")])?;
        client.read()?
    };
    ensure!(
        refusal.field(b'C').as_deref() == Some("57P03"),
        "{refusal:?}"
    );
    ensure!(refusal.field(b'M').unwrap_or_default().contains("draining"));
    ensure!(last_refusal(&world.plain)? == "draining");
    let told = refused(&psql, "pause")?;
    ensure!(told.contains("draining"), "{told}");
    ensure!(live.query("select 1")? == "1", "a live session was ended");
    said(&psql, "drain within 1s")?;
    let (sqlstate, why) = ended(&mut live)?;
    ensure!(sqlstate == "57P01" && why.contains("draining"), "{why}");
    said(&psql, "resume")?;
    ensure!(world.raw(&person)?.query("select 1")? == "1");
    ensure!(!readiness(&world.plain)?.contains("draining"));
    Ok(())
}

pub(crate) fn who_is_asked_before_a_drain_is_not_in_after_it(world: &World) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    let person = world.person("undecided", &[HR_GROUP])?;
    // From memory too, which asks nobody.
    drop(world.raw(&person)?);
    let mut asked = RawClient::connect(world.plain.port())?;
    asked.startup(PROTOCOL_3_0, &[("user", &person.login), ("database", "hr")])?;
    ensure!(asked.read()?.tag == b'R');
    wait_until("no session is left", CHANGE_LIMIT, || {
        Ok(said(&psql, "show sessions")?.0.is_empty())
    })?;
    let (_, notice) = said(&psql, "drain")?;
    ensure!(notice.contains("0 sessions left"), "{notice}");
    asked.password(person.password.as_bytes())?;
    let answer = asked.read_until_ready()?;
    let told = answer.iter().find(|it| it.tag == b'E');
    let told = told.and_then(|it| it.field(b'C'));
    said(&psql, "resume")?;
    ensure!(told.as_deref() == Some("57P03"), "{answer:?}");
    ensure!(last_refusal(&world.plain)? == "draining");
    Ok(())
}

pub(crate) fn reload_takes_another_configuration_over_or_says_why_not(world: &World) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    let mut open = hostile::logged_in(world, "eyes")?;
    let limit = |client: &mut RawClient| {
        client.send_query("show limits")?;
        let rows = client.read_until_ready()?;
        let mut rows = rows
            .iter()
            .filter(|it| it.tag == b'D')
            .map(Message::columns);
        let row = rows.find(|it| {
            it.first()
                .is_some_and(|it| it == "limits.sessions_per_role_max")
        });
        row.context("no such limit")
    };
    let file = world.plain.config_file();
    let before = std::fs::read_to_string(&file)?;
    let with = |line: &str| std::fs::write(&file, format!("{before}\n[limits]\n{line}\n"));
    ensure!(!before.contains("[limits]"), "{before}");
    with("sessions_per_role_max = 7")?;
    let (_, notice) = said(&psql, "reload")?;
    ensure!(
        notice.contains("limits.sessions_per_role_max: (unset) -> 7"),
        "{notice}"
    );
    let record = last_record(&world.plain, "order_ended")?;
    ensure!(
        record["order"] == "reload" && record["outcome"] == "done",
        "{record}"
    );
    ensure!(record["by"] == "ops", "{record}");
    let row = limit(&mut open)?;
    ensure!(
        row.get(1).is_some_and(|it| it == "7"),
        "an open session shows {row:?}"
    );
    with("sessions_per_role_max = 0")?;
    let told = refused(&psql, "reload")?;
    ensure!(
        told.contains("55000") && told.contains("out of range"),
        "{told}"
    );
    let record = last_record(&world.plain, "order_ended")?;
    ensure!(record["outcome"] == "failed", "{record}");
    std::fs::write(&file, before)?;
    said(&psql, "reload")?;
    Ok(())
}

pub(crate) fn each_command_needs_its_right(world: &World) -> Result<()> {
    let viewer = console(&world.plain, VIEWER);
    for command in [
        "kill 0000",
        "kill role x",
        "revoke x reason y",
        "restore x",
        "reload",
        "drain",
        "pause",
        "resume",
    ] {
        let told = refused(&viewer, command)?;
        let name = command.split(' ').next().unwrap_or_default();
        let needs = format!(
            "42501: permission denied: {} needs the right",
            name.to_uppercase()
        );
        ensure!(told.contains(&needs), "{command}: {told}");
        let record = last_record(&world.plain, "order_ended")?;
        ensure!(
            record["outcome"] == "denied" && record["by"] == "eyes",
            "{record}"
        );
    }
    refused(&viewer, "kill role accountant reason 'it is late'")?;
    let record = last_record(&world.plain, "ordered")?;
    ensure!(
        record["order"] == "kill_role"
            && record["subject"] == "accountant"
            && record["detail"] == "it is late",
        "{record}"
    );
    let told = refused(&console(&world.plain, HELPDESK), "drain")?;
    ensure!(told.contains("42501"), "{told}");
    ensure!(door(&world.plain)? == "open", "a denied order was obeyed");
    Ok(())
}

pub(crate) fn every_command_is_on_record_before_it_is_done(world: &World) -> Result<()> {
    let psql = console(&world.plain, OPERATOR);
    said(&psql, "show sessions; pause; resume")?;
    let records = world.plain.audit()?;
    let opened = records
        .iter()
        .rfind(|it| it["event"] == "opened" && it["role"] == "ops");
    let session = &opened.context("not on record")?["session"];
    let of_session = records.iter().filter(|it| &it["session"] == session);
    let told: Vec<String> = of_session
        .filter_map(|it| {
            let event = it["event"].as_str()?;
            let order = it["order"].as_str()?;
            let from = it["from"].as_str().unwrap_or_default();
            assert!(from.starts_with("127.0.0.1:"), "{it}");
            assert_eq!(it["by"], "ops");
            let rest = it["outcome"].as_str().or(it["subject"].as_str());
            Some(format!("{event} {order} {}", rest.unwrap_or_default()))
        })
        .collect();
    let expected = [
        "ordered show sessions",
        "ordered pause ",
        "order_ended pause done",
        "ordered resume ",
        "order_ended resume done",
    ];
    ensure!(told == expected, "{told:?}");
    Ok(())
}

pub(crate) fn a_changed_account_loses_its_open_session(world: &World) -> Result<()> {
    set_account(world, "leaver", "operator")?;
    let mut client = hostile::logged_in(world, "leaver")?;
    ensure!(client.query("select 1")? == "1");
    set_account(world, "leaver", "viewer")?;
    client.send_query("pause")?;
    let refusal = client.read()?;
    ensure!(
        refusal.field(b'C').as_deref() == Some("42501"),
        "{refusal:?}"
    );
    client.read_until_ready()?;
    let mut command = std::process::Command::new(postern_tests::postern::binary()?);
    command.args(["local", "remove", "leaver", "--file"]);
    run(command.arg(accounts_file(world)))?;
    client.send_query("show version")?;
    let (sqlstate, why) = ended(&mut client)?;
    ensure!(sqlstate == "57P01" && why.contains("account"), "{why}");
    client.expect_end()
}

pub(crate) fn the_control_socket_orders_the_same(world: &World) -> Result<()> {
    let order = |arguments: &[&str]| outcome_of(&mut world.plain.command(arguments)?);
    let (code, said) = order(&["pause", "--json"])?;
    let lines: Vec<String> = serde_json::from_str(&said)?;
    ensure!(
        code == 0 && lines == ["new logins wait; live sessions go on"],
        "{said}"
    );
    let record = last_record(&world.plain, "ordered")?;
    ensure!(
        record["from"] == "control socket" && record["order"] == "pause",
        "{record}"
    );
    world.person("pariah", &[HR_GROUP])?;
    for (arguments, told) in [
        (
            &["revoke", "pariah", "--reason", "x", "--json"][..],
            "is kept out",
        ),
        (&["revoked", "--json"], "by "),
        (&["restore", "pariah", "--json"], "may log in again"),
    ] {
        let (code, said) = order(arguments)?;
        let lines: Vec<String> = serde_json::from_str(&said).with_context(|| said.clone())?;
        ensure!(
            code == 0 && lines.iter().any(|it| it.contains(told)),
            "{said}"
        );
    }
    ensure!(order(&["resume"])?.0 == 0);
    let (code, said) = order(&["resume"])?;
    ensure!(
        code != 0 && said.contains("neither paused nor refused"),
        "{said}"
    );
    let (code, said) = order(&["drain", "--within", "1h"])?;
    ensure!(code == 0 && said.contains("within 3600 s"), "{said}");
    ensure!(door(&world.plain)?.starts_with("draining"));
    ensure!(order(&["resume"])?.0 == 0);
    let (code, said) = order(&["reload"])?;
    ensure!(code == 0 && said.contains("nothing has changed"), "{said}");
    let (code, said) = order(&["kill", "--role", "nobody"])?;
    ensure!(code != 0 && said.contains("has no session"), "{said}");
    Ok(())
}
