//! The numbers, and whether the process is ready, as a monitoring system asks for them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, World, free_port, wait_until};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long silent clients may take all places: far below what a request may take.
const SILENT_LIMIT: Duration = Duration::from_secs(6);

/// The status line, the head and the body of an answer.
pub(super) struct Answer {
    pub(super) status: String,
    head: String,
    pub(super) body: String,
}

pub(super) fn ask(port: u16, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
    let (status, head) = head.split_once("\r\n").context("no status line")?;
    Ok(Answer {
        status: status.to_owned(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// The samples by name and labels; the text has to be OpenMetrics.
pub(super) fn samples(port: u16) -> Result<BTreeMap<String, f64>> {
    let answer = ask(port, "GET /metrics")?;
    ensure!(answer.status == "HTTP/1.1 200 OK", "{}", answer.status);
    ensure!(
        answer
            .head
            .contains("application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.head
    );
    ensure!(answer.body.ends_with("# EOF\n"), "no end: {}", answer.body);
    let lines = answer.body.lines().filter(|it| !it.starts_with('#'));
    let sample = |line: &str| -> Result<(String, f64)> {
        let (name, value) = line.rsplit_once(' ').context("no value")?;
        Ok((name.to_owned(), value.parse()?))
    };
    lines
        .map(|it| sample(it).with_context(|| it.to_owned()))
        .collect()
}

pub(super) fn with_metrics(world: &World, claim: impl FnOnce(u16) -> Result<()>) -> Result<()> {
    let port = free_port()?;
    let change = |config: &mut ConfigFile| {
        config.set("metrics", "listen", format!("127.0.0.1:{port}"));
    };
    world.with_config(change, || {
        wait_until("the first answer", CHANGE_LIMIT, || {
            Ok(ask(port, "GET /livez").is_ok())
        })?;
        claim(port)
    })
}

pub(crate) fn the_numbers_follow_what_happens_and_name_nobody(world: &World) -> Result<()> {
    let person = world.person("counted", &[HR_GROUP])?;
    with_metrics(world, |port| {
        let before = samples(port)?;
        ensure!(
            before.get("postern_sessions_opened_total") == Some(&0.0),
            "{before:?}"
        );
        world.psql(&person).query("select 1")?;
        world.psql(&person).query("select 1")?;
        world.psql(&person).login("counted", "mistyped").refused()?;
        let ended = "postern_session_size_bytes_count{direction=\"to_client\"}";
        wait_until("the sessions are closed", CHANGE_LIMIT, || {
            Ok(samples(port)?.get(ended) == Some(&2.0))
        })?;
        let after = samples(port)?;
        for (name, value) in [
            ("postern_sessions_opened_total", 2.0),
            ("postern_refused_total{reason=\"wrong_password\"}", 1.0),
            (
                "postern_login_duration_seconds_count{asked=\"directory\"}",
                1.0,
            ),
            (
                "postern_login_duration_seconds_count{asked=\"memory\"}",
                1.0,
            ),
            (
                "postern_login_duration_seconds_bucket{le=\"+Inf\",asked=\"memory\"}",
                1.0,
            ),
            (
                "postern_login_phase_duration_seconds_count{phase=\"backend_login\"}",
                2.0,
            ),
            ("postern_revocation_lag_seconds_count", 0.0),
            ("postern_sessions", 0.0),
            (
                "postern_session_size_bytes_bucket{le=\"1000.0\",direction=\"to_backend\"}",
                2.0,
            ),
            ("postern_health{leg=\"audit\"}", 1.0),
        ] {
            ensure!(after.get(name) == Some(&value), "{name}: {after:#?}");
        }
        let file = fs::metadata(world.postern.audit_file())?.len();
        let told = |name: &str| after.get(name).copied().unwrap_or_default();
        // It is looked at in intervals, and grows.
        let seen = told("postern_audit_file_bytes");
        ensure!(seen > 0.0 && seen <= file as f64, "{seen} of {file}");
        let free = told("postern_audit_free_bytes");
        ensure!(free > told("postern_audit_free_wanted_bytes"), "{after:#?}");
        let bytes = after.get("postern_splice_to_client_bytes_total");
        let of_sessions = "postern_session_size_bytes_sum{direction=\"to_client\"}";
        ensure!(
            bytes > Some(&0.0) && bytes == after.get(of_sessions),
            "{after:#?}"
        );
        ensure!(
            !ask(port, "GET /metrics")?.body.contains("counted"),
            "a person is named"
        );
        Ok(())
    })
}

pub(crate) fn silent_clients_do_not_keep_the_numbers_from_others(world: &World) -> Result<()> {
    with_metrics(world, |port| {
        let silent: std::io::Result<Vec<TcpStream>> = (0..64)
            .map(|_| TcpStream::connect(("127.0.0.1", port)))
            .collect();
        let silent = silent?;
        wait_until("an answer", SILENT_LIMIT, || {
            Ok(ask(port, "GET /livez").is_ok())
        })?;
        drop(silent);
        Ok(())
    })
}

pub(crate) fn what_is_not_asked_for_in_http_is_refused(world: &World) -> Result<()> {
    with_metrics(world, |port| {
        for (request, status) in [
            ("GET /", "404"),
            ("POST /metrics", "405"),
            ("DELETE /readyz", "405"),
            ("nonsense", "400"),
        ] {
            let answer = ask(port, request)?;
            ensure!(
                answer.status.contains(status),
                "{request}: {}",
                answer.status
            );
        }
        ensure!(
            ask(port, "HEAD /metrics")?.body.is_empty(),
            "HEAD has a body"
        );
        Ok(())
    })
}
