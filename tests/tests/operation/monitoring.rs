//! The alerts and the dashboard that are shipped, against the numbers of a running process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use postern_core::audit::RefusedReason;
use postern_tests::cast::HR_GROUP;
use postern_tests::process::{run, run_with_input};
use postern_tests::{World, needs};
use serde_json::Value;

use super::metrics::{ask, with_metrics};

/// What is installed.
const SHIPPED: &str = "../appliance/root/usr/share/postern/monitoring";
/// What each alert takes, as promtool is told.
const ALERT_TESTS: &str = "monitoring/alerts_test.yml";
/// Labels that Prometheus gives, or whose values are any.
const LABELS_OF_OTHERS: [&str; 3] = ["instance", "job", "version"];
/// What the names of all our numbers begin with.
const PREFIX: &str = "postern_";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn shipped(name: &str) -> Result<String> {
    let path = file(SHIPPED).join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// promtool, or a loud skip.
fn promtool(claim: &str) -> Option<Command> {
    let program = needs::program("promtool");
    if program.is_none() {
        needs::skip(claim, "promtool is not installed (the package prometheus)");
    }
    program.map(Command::new)
}

/// The numbers after a login and a refusal.
fn exposition(world: &World, login: &str) -> Result<String> {
    let person = world.person(login, &[HR_GROUP])?;
    let mut text = String::new();
    with_metrics(world, |port| {
        world.psql(&person).query("select 1")?;
        world.psql(&person).login(login, "mistyped").refused()?;
        text = ask(port, "GET /metrics")?.body;
        Ok(())
    })?;
    Ok(text)
}

/// Every word of a text that begins as our numbers do.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|it| it.starts_with(PREFIX)).collect()
}

pub(crate) fn every_number_of_the_alerts_and_the_dashboard_is_told(world: &World) -> Result<()> {
    let exposition = exposition(world, "watched")?;
    let lines = exposition.lines().filter(|it| !it.starts_with('#'));
    let told: BTreeSet<&str> = lines.filter_map(|it| it.split(['{', ' ']).next()).collect();
    for name in ["alerts.yml", "dashboard.json"] {
        let text = shipped(name)?;
        let asked = names(&text);
        ensure!(!asked.is_empty(), "{name} asks for nothing");
        let unknown: Vec<_> = asked.difference(&told).collect();
        ensure!(unknown.is_empty(), "{name}: {unknown:?} of {told:#?}");
    }
    Ok(())
}

/// A number, one of its labels, and what that is or is to be.
type Labelled = (String, String, String);

/// Every label of a number in a text: `leg="audit"` of `postern_health`, or `reason=~"a|b.*"`.
fn labels(text: &str) -> Vec<Labelled> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices(PREFIX) {
        let rest = text.get(start..).unwrap_or_default();
        let Some((name, rest)) = rest.split_once('{') else {
            continue;
        };
        if names(name).first() != Some(&name) {
            // Another one comes between, and this one has no label.
            continue;
        }
        let inside = rest.split('}').next().unwrap_or_default();
        for (label, value) in inside.split(',').filter_map(|it| it.split_once('=')) {
            let value = value.trim_start_matches('~').trim_matches('"');
            found.push((name.to_owned(), label.trim().to_owned(), value.to_owned()));
        }
    }
    found
}

pub(crate) fn every_label_that_alerts_and_their_tests_ask_for_is_told(world: &World) -> Result<()> {
    let mut told = labels(&exposition(world, "labelled")?);
    // Those that nobody has been refused for yet are not told.
    told.extend(RefusedReason::ALL.iter().map(|reason| {
        let text = |it: &str| it.to_owned();
        (
            text("postern_refused_total"),
            text("reason"),
            text(reason.label()),
        )
    }));
    let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")?)?;
    let mut questions = Vec::new();
    collect_questions(&dashboard, &mut questions);
    let texts = [
        shipped("alerts.yml")?,
        fs::read_to_string(file(ALERT_TESTS))?,
        questions.join("\n"),
    ];
    for text in texts {
        let mut asked = labels(&text);
        asked.retain(|(_, label, _)| !LABELS_OF_OTHERS.contains(&label.as_str()));
        for (name, label, value) in asked {
            for one in value.split('|') {
                let is_it = |it: &str| match one.strip_suffix(".*") {
                    Some(start) => it.starts_with(start),
                    None => it == one,
                };
                let mut values = told.iter().filter(|it| (&it.0, &it.1) == (&name, &label));
                let is_told = values.any(|(_, _, value)| is_it(value));
                ensure!(is_told, "{name} is never told with {label}=\"{one}\"");
            }
        }
    }
    Ok(())
}

pub(crate) fn promtool_finds_nothing_wrong_with_the_numbers(world: &World) -> Result<()> {
    let Some(mut promtool) = promtool("promtool_finds_nothing_wrong_with_the_numbers") else {
        return Ok(());
    };
    let text = classic(&exposition(world, "linted")?);
    let output = run_with_input(promtool.args(["check", "metrics"]), &text)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.is_empty(), "{said}\n{text}");
    Ok(())
}

pub(crate) fn promtool_accepts_the_alerts_and_their_tests(_: &World) -> Result<()> {
    let claim = "promtool_accepts_the_alerts_and_their_tests";
    let rules = file(SHIPPED).join("alerts.yml");
    if let Some(mut promtool) = promtool(claim) {
        run(promtool.args(["check", "rules"]).arg(&rules))?;
    }
    if let Some(mut promtool) = promtool(claim) {
        run(promtool.args(["test", "rules"]).arg(file(ALERT_TESTS)))?;
    }
    Ok(())
}

pub(crate) fn every_alert_has_a_test(_: &World) -> Result<()> {
    let tests = fs::read_to_string(file(ALERT_TESTS))?;
    let alerts = shipped("alerts.yml")?;
    let alerts = alerts
        .lines()
        .filter_map(|it| it.trim().strip_prefix("- alert: "));
    let alerts: Vec<&str> = alerts.collect();
    ensure!(!alerts.is_empty(), "there is no alert");
    for alert in alerts {
        ensure!(tests.contains(alert), "{alert} has none");
    }
    Ok(())
}

pub(crate) fn promtool_understands_every_question_of_the_dashboard(world: &World) -> Result<()> {
    let claim = "promtool_understands_every_question_of_the_dashboard";
    let Some(mut promtool) = promtool(claim) else {
        return Ok(());
    };
    let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")?)?;
    let mut questions = Vec::new();
    collect_questions(&dashboard, &mut questions);
    ensure!(questions.len() > 5, "the dashboard asks {questions:?}");
    let rule = |(index, question): (usize, &String)| {
        // Grafana puts a time where this variable stands.
        let question = question.replace("$__rate_interval", "5m");
        serde_json::json!({"record": format!("question:{index}"), "expr": question})
    };
    let rules: Vec<Value> = questions.iter().enumerate().map(rule).collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // JSON is YAML.
    let path = world.scratch.path().join("dashboard-rules.yml");
    fs::write(&path, rules.to_string())?;
    run(promtool.args(["check", "rules"]).arg(path))?;
    Ok(())
}

/// Everything that is asked anywhere in the dashboard.
fn collect_questions(value: &Value, questions: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(question)) = fields.get("expr") {
                questions.push(question.clone());
            }
            fields
                .values()
                .for_each(|it| collect_questions(it, questions));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|it| collect_questions(it, questions)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// OpenMetrics as the older text format, which is all that `promtool check metrics` reads: there a
/// counter is called as its sample, and there are neither units nor `info`,
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn classic(text: &str) -> String {
    let head = |line: &str| -> Option<(String, String, String)> {
        let mut words = line.strip_prefix("# ")?.splitn(3, ' ');
        let mut next = || words.next().map(str::to_owned);
        Some((next()?, next()?, next()?))
    };
    let heads = text.lines().filter_map(head);
    let types: BTreeMap<String, String> = heads
        .filter(|(what, ..)| what == "TYPE")
        .map(|(_, name, kind)| (name, kind))
        .collect();
    let mut classic = String::new();
    for line in text.lines() {
        let line = match head(line) {
            Some((what, name, rest)) if what == "HELP" || what == "TYPE" => {
                let kind = types.get(&name).map(String::as_str);
                let name = match kind {
                    Some("counter") => format!("{name}_total"),
                    Some("info") => format!("{name}_info"),
                    _ => name,
                };
                let rest = if rest == "info" { "gauge" } else { &rest };
                format!("# {what} {name} {rest}")
            }
            _ if line.starts_with('#') => continue,
            _ => line.to_owned(),
        };
        classic.push_str(&line);
        classic.push('\n');
    }
    classic
}
