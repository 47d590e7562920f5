//! A run from its options to its report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::bars;
use crate::facts;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Report, RouteSummary, page, table};
use crate::route::Route;
use crate::scenario::{self, Scenario};
use crate::schedule::{self, Found};
use crate::stage::Stage;

/// Runs and writes the report to standard output and to the files that the options name.
///
/// # Errors
/// If a server does not start or ends by itself, we are interrupted, or a file cannot be written.
/// What was measured until a server ended is written nevertheless.
pub fn run(options: &Options) -> Result<()> {
    let scenarios = scenario::all();
    check(options, &scenarios)?;
    let began = facts::now();
    let progress = Progress::default();
    let mut found = Found::default();
    let stage = Stage::start(options, &progress, &mut found.gaps)?;
    let mut machine = facts::machine(&stage)?;
    let measured = schedule::run(&stage, &scenarios, options, &progress, &mut found);
    let wanted = scenarios.iter().filter(|it| options.wants(it.as_ref()));
    machine.extend(wanted.flat_map(|it| it.facts()));
    let routes: Vec<RouteSummary> = stage.routes().map(summary).collect();
    progress.say("ending all servers");
    drop(stage);
    if postern_tests::wait::is_interrupted() {
        bail!("interrupted");
    }
    if let Err(error) = &measured {
        found.gaps.push(format!("the run ended early: {error:#}"));
    }
    let report = Report {
        extent: extent(options).to_owned(),
        machine,
        commit: facts::commit(),
        began,
        took_s: progress.elapsed().as_secs_f64(),
        command: command(std::env::args().skip(1)),
        bars: bars::bars(&found.samples, &routes),
        routes,
        gaps: found.gaps,
        samples: found.samples,
    };
    write(&report, options)?;
    progress.say("done");
    measured?;
    if options.strict && bars::is_any_missed(&report.bars) {
        bail!("a bar is missed");
    }
    Ok(())
}

/// What can be known to fail before an hour of work.
fn check(options: &Options, scenarios: &[Box<dyn Scenario>]) -> Result<()> {
    if !scenarios.iter().any(|it| options.wants(it.as_ref())) {
        let names: Vec<&str> = scenarios.iter().map(|it| it.name()).collect();
        bail!("no scenario is called so; there are {}", names.join(", "));
    }
    for file in [&options.json, &options.page].into_iter().flatten() {
        let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
        if !folder.is_none_or(Path::is_dir) {
            bail!("{} cannot be written: no such folder", file.display());
        }
    }
    Ok(())
}

fn extent(options: &Options) -> &'static str {
    match options {
        Options { only: Some(_), .. } => "partial",
        Options { quick: true, .. } => "quick",
        Options { quick: false, .. } => "full",
    }
}

fn summary(route: &Route) -> RouteSummary {
    RouteSummary {
        name: route.name.clone(),
        kind: route.kind,
        version: route.version.clone(),
        configuration: route.configuration.clone(),
    }
}

/// The command that was given, without its password.
fn command(arguments: impl Iterator<Item = String>) -> String {
    const SECRET: &str = "--peer-password";
    let mut command = "cargo xtask bench".to_owned();
    let mut is_secret = false;
    for argument in arguments {
        command.push(' ');
        if is_secret {
            command.push_str("...");
        } else if argument.starts_with(&format!("{SECRET}=")) {
            command.push_str(&format!("{SECRET}=..."));
        } else {
            command.push_str(&argument);
        }
        is_secret = argument == SECRET;
    }
    command
}

fn write(report: &Report, options: &Options) -> Result<()> {
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(report)? + "\n";
        fs::write(file, json).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &options.page {
        let page = page::html(report, json_beside(file, options.json.as_deref()));
        fs::write(file, page).with_context(|| file.display().to_string())?;
    }
    print!("{}", table::text(report));
    Ok(())
}

/// What a link from the page to the raw figures says: their name, if they are in its folder.
fn json_beside<'a>(page: &Path, json: Option<&'a Path>) -> Option<&'a str> {
    let json = json.filter(|it| it.parent() == page.parent())?;
    json.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_links_to_figures_beside_it_and_to_no_others() {
        let page = Path::new("results/run.html");
        for (json, link) in [
            (Some("results/run.json"), Some("run.json")),
            (Some("run.json"), None),
            (None, None),
        ] {
            assert_eq!(json_beside(page, json.map(Path::new)), link);
        }
    }

    #[test]
    fn the_password_is_not_in_the_report() {
        for given in [
            "--quick --peer-password secret",
            "--peer-password=secret --quick",
        ] {
            let command = command(given.split(' ').map(str::to_owned));
            assert!(!command.contains("secret"), "{command}");
            assert!(command.contains("--quick"), "{command}");
        }
    }
}
