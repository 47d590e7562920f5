//! What is shown.

use std::fs;

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::process::run;
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::{RawClient, World};
use serde_json::Value;

use crate::{VIEWER, bound, console, last_record, said};

/// Every table, and how its heading begins.
const TABLES: [(&str, &str); 12] = [
    ("version", "version|pid|started_at|running_s|logins"),
    ("config", "key|value"),
    (
        "sessions",
        "session|role|database|client|backend|pid|open_s|",
    ),
    (
        "clients",
        "session|client|role|database|application_name|tls|",
    ),
    ("servers", "session|backend|pid|role|database|replication|"),
    ("backends", "backend|host|port|databases|sslmode|sessions"),
    ("directory", "part|state|detail"),
    ("cache", "name|value"),
    ("policy", "part|state|detail"),
    ("stats", "name|value"),
    ("limits", "limit|max|used|most_used_by"),
    ("help", "command|right|meaning"),
];

pub(crate) fn every_table_is_shown_and_has_its_columns(world: &World) -> Result<()> {
    let psql = console(&world.postern, VIEWER);
    for (table, heading) in TABLES {
        let command = format!("\\pset tuples_only off\nshow {table}");
        let (rows, _) = said(&psql, &command)?;
        let found = rows.lines().any(|it| it.starts_with(heading));
        ensure!(found, "{table}: {rows}");
    }
    let (rows, _) = said(&psql, "HELP")?;
    ensure!(rows.contains("DRAIN [WITHIN 5m]|drain|"), "{rows}");
    Ok(())
}

pub(crate) fn sessions_clients_and_servers_tell_of_a_live_session(world: &World) -> Result<()> {
    let person = world.person("shown", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    let pid = live.query("select pg_backend_pid()")?;
    let client = live.local_address()?.to_string();
    let psql = console(&world.plain, VIEWER);
    for table in ["sessions", "clients", "servers"] {
        let (rows, _) = said(&psql, &format!("show {table}"))?;
        let row = rows.lines().find(|it| it.contains("|shown|"));
        let row = row.with_context(|| format!("{table}: {rows}"))?;
        ensure!(row.contains(HR_DATABASE), "{row}");
        ensure!(table == "servers" || row.contains(&client), "{row}");
        ensure!(table == "clients" || row.contains(&pid), "{row}");
    }
    let (limits, _) = said(&psql, "show limits")?;
    let used = limits
        .lines()
        .find(|it| it.starts_with("limits.sessions_max|"));
    ensure!(used.is_some_and(|it| !it.contains("|0|")), "{limits}");
    let (stats, _) = said(&psql, "show stats")?;
    ensure!(
        stats.lines().any(|it| it.starts_with("sessions_opened|")),
        "{stats}"
    );
    Ok(())
}

pub(crate) fn what_a_client_calls_itself_is_short_and_makes_no_row(world: &World) -> Result<()> {
    let person = world.person("forger", &[HR_GROUP])?;
    let name = format!("a\n\u{1b}[2J{}", "\u{fc}".repeat(4_000));
    let mut client = RawClient::connect(world.plain.port())?;
    let parameters = [
        ("user", person.login.as_str()),
        ("database", HR_DATABASE),
        ("application_name", &name),
    ];
    client.startup(PROTOCOL_3_0, &parameters)?;
    let client = client.finish(&person.password)?;
    ensure!(client.is_ok(), "{client:?}");
    let shown = r"a\x0a\x1b[2J".to_owned() + &r"\xc3\xbc".repeat(6);
    let rows = run(&mut world.plain.command(&["show", "clients"])?)?;
    let row = rows.lines().find(|it| it.contains(" forger "));
    let row = row.with_context(|| rows.clone())?;
    ensure!(row.contains(&shown), "{row}");
    let record = last_record(&world.plain, "opened")?;
    let recorded = record["application_name"].as_str().unwrap_or_default();
    ensure!(
        recorded.starts_with(&shown) && recorded.len() == 63,
        "{record}"
    );
    Ok(())
}

pub(crate) fn the_configuration_is_shown_without_secrets(world: &World) -> Result<()> {
    let (rows, _) = said(&console(&world.postern, VIEWER), "show config")?;
    for line in [
        "listen.tls|\"require\"",
        "admin.database|\"postern\"",
        "limits.sessions_max|10000",
        "backend 1.host|\"localhost\"",
    ] {
        ensure!(rows.lines().any(|it| it == line), "{line}: {rows}");
    }
    for name in ["cluster-key", "provisioner-password"] {
        let file = world.postern.config_file().with_file_name(name);
        let secret = fs::read_to_string(file)?;
        ensure!(!rows.contains(secret.trim()), "{name} is shown");
    }
    ensure!(rows.contains("provisioner-password"), "its path is: {rows}");
    Ok(())
}

pub(crate) fn the_same_tables_come_by_the_control_socket(world: &World) -> Result<()> {
    for (table, heading) in TABLES {
        let text = run(&mut world.postern.command(&["show", table])?)?;
        let first = heading.split('|').next().unwrap_or_default();
        ensure!(text.trim_start().starts_with(first), "{table}: {text}");
    }
    let json = run(&mut world.postern.command(&["show", "limits", "--json"])?)?;
    let rows: Vec<Value> = serde_json::from_str(&json)?;
    let sessions = rows.iter().find(|it| it["limit"] == "limits.sessions_max");
    let sessions = sessions.with_context(|| json.clone())?;
    ensure!(
        sessions["max"] == 10_000 && sessions["most_used_by"].is_null(),
        "{json}"
    );
    Ok(())
}

pub(crate) fn a_person_sees_aligned_columns(world: &World) -> Result<()> {
    let psql = console(&world.postern, VIEWER);
    let answer = psql.display("show cache")?;
    ensure!(answer.ok, "{}", answer.stderr);
    let line = answer.stdout.lines().find(|it| it.starts_with(" people "));
    ensure!(line.is_some(), "{}", answer.stdout);
    ensure!(answer.stdout.ends_with("(6 rows)"), "{}", answer.stdout);
    // psql's own commands for looking around are SQL, which is refused and ends nothing.
    let (_, text) = bound(&psql, "prefer", "\\d")?;
    ensure!(text.contains("which has no SQL"), "{text}");
    Ok(())
}
