//! What the operator's guide shows of the console: made by this test, and compared by it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{FINANCE_DATABASE, HR_DATABASE, NINA, TESTUSER};
use postern_tests::{RawClient, World};

use crate::{OPERATOR, console};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");

/// What begins and ends the capture in the guide.
const FENCE: (&str, &str) = (
    "<!-- console -->\n```text\n",
    "```\n<!-- end of console -->",
);

/// Set, the guide gets what is shown now.
const UPDATE: &str = "POSTERN_UPDATE_DOCS";

pub(crate) fn the_guide_shows_what_psql_shows(world: &World) -> Result<()> {
    let port = world.plain.port();
    let log_in = |person: postern_tests::cast::Person, database| {
        RawClient::logged_in(port, person.login, database, person.password)
    };
    let mut held = [
        log_in(TESTUSER, HR_DATABASE)?,
        log_in(TESTUSER, HR_DATABASE)?,
        log_in(NINA, FINANCE_DATABASE)?,
    ];
    held[0].query("select count(*) from generate_series(1, 9)")?;
    let psql = console(&world.plain, OPERATOR);
    let mut shown = String::new();
    let mut show = |command: &str| -> Result<String> {
        let answer = psql.display(command)?;
        ensure!(answer.ok, "{command}: {}", answer.stderr);
        shown += &format!("postern=> {command};\n");
        for line in answer.stderr.lines().chain(answer.stdout.lines()) {
            shown += &format!("{}\n", line.trim_end());
        }
        Ok(answer.stdout)
    };
    let sessions = show("show sessions")?;
    let killed = sessions.lines().find(|it| it.contains(NINA.login));
    let killed = killed.and_then(|it| it.split_whitespace().next());
    let killed = killed.with_context(|| sessions.clone())?;
    show(&format!("kill '{killed}' reason 'runs since Friday'"))?;
    show("pause")?;
    show("show version")?;
    show("resume")?;
    drop(held);
    compare(Path::new(GUIDE), &shown)
}

/// The guide shows the same commands and columns; what they answer differs from time to time.
fn compare(guide: &Path, shown: &str) -> Result<()> {
    let text = fs::read_to_string(guide)?;
    let (before, rest) = text
        .split_once(FENCE.0)
        .context("the guide has no capture")?;
    let (captured, after) = rest.split_once(FENCE.1).context("the capture has no end")?;
    if std::env::var_os(UPDATE).is_some() {
        let new = [before, FENCE.0, shown, FENCE.1, after].concat();
        return Ok(fs::write(guide, new)?);
    }
    let (captured, shown) = (shape(captured), shape(shown));
    ensure!(
        captured == shown,
        "docs/operating.md shows {captured:?}, and psql {shown:?}; {UPDATE}=1 writes it anew"
    );
    Ok(())
}

/// The commands without what is between quotes, and the headings.
fn shape(text: &str) -> Vec<String> {
    let mut lines = text.lines().peekable();
    let mut shape = Vec::new();
    while let Some(line) = lines.next() {
        let is_heading = lines.peek().is_some_and(|it| it.starts_with("---"));
        if line.starts_with("postern=> ") {
            shape.extend(line.split('\'').step_by(2).map(str::to_owned));
        } else if is_heading {
            shape.extend(line.split('|').map(|it| it.trim().to_owned()));
        }
    }
    shape
}
