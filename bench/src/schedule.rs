//! The order of a run: routes in turn, A B C, then B C A, so that what drifts with time drifts
//! for all of them.

use anyhow::{Result, bail};
use postern_tests::wait;

use crate::options::Options;
use crate::progress::Progress;
use crate::route::{Encryption, Route};
use crate::sample::Samples;
use crate::scenario::{Point, Recorder, Scenario};
use crate::stage::Stage;

/// What a run has found so far.
#[derive(Debug, Default)]
pub struct Found {
    /// Every figure.
    pub samples: Samples,
    /// What could not be measured, and why.
    pub gaps: Vec<String>,
}

/// One point of one scenario, with all rounds of it.
struct Turn<'a> {
    scenario: &'a dyn Scenario,
    point: Point,
    rounds: usize,
    routes: Vec<&'a Route>,
}

/// Measures everything that the options ask for.
///
/// # Errors
/// If a server has ended by itself, or we are interrupted. A measurement that fails is a gap.
pub fn run(
    stage: &Stage,
    scenarios: &[Box<dyn Scenario>],
    options: &Options,
    progress: &Progress,
    found: &mut Found,
) -> Result<()> {
    let turns = turns(stage, scenarios, options);
    let all = turns.iter().map(|it| it.rounds * it.routes.len()).sum();
    let begin = progress.elapsed();
    let mut done = 0;
    for turn in &turns {
        let mut failed: Vec<&str> = Vec::new();
        for (round, route) in order(turn.rounds, &turn.routes) {
            if !failed.contains(&route.name.as_str()) {
                progress.step(&line(turn, route, round), (done, all), begin);
                if let Err(error) = measure(stage, turn, route, round, found) {
                    if wait::is_interrupted() {
                        bail!("interrupted");
                    }
                    let gap = format!("{}: {error:#}", line(turn, route, round));
                    progress.say(&gap);
                    found.gaps.push(gap);
                    failed.push(&route.name);
                    stage.check()?;
                }
            }
            done += 1;
        }
    }
    Ok(())
}

/// Every point of the scenarios that are asked for, with the routes that can be measured there.
fn turns<'a>(
    stage: &'a Stage,
    scenarios: &'a [Box<dyn Scenario>],
    options: &Options,
) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    for scenario in scenarios.iter().filter(|it| options.wants(it.name())) {
        let rounds = options.rounds.map(usize::from);
        let rounds = rounds.unwrap_or_else(|| scenario.rounds(stage.extent()));
        for point in scenario.points(stage.extent()) {
            let routes = stage.routes();
            let can = |it: &&Route| it.supports(point.encryption) && scenario.measures(it);
            turns.push(Turn {
                scenario: scenario.as_ref(),
                routes: routes.filter(can).collect(),
                point,
                rounds,
            });
        }
    }
    turns
}

/// Every round with every route; each round begins with another one.
fn order<'a, T>(rounds: usize, routes: &'a [&T]) -> impl Iterator<Item = (usize, &'a T)> {
    let count = routes.len();
    (0..rounds).flat_map(move |round| {
        let turn = routes.iter().cycle().skip(round % count.max(1)).take(count);
        turn.map(move |&route| (round, route))
    })
}

fn measure(
    stage: &Stage,
    turn: &Turn<'_>,
    route: &Route,
    round: usize,
    found: &mut Found,
) -> Result<()> {
    let mut recorder = Recorder {
        samples: &mut found.samples,
        gaps: &mut found.gaps,
        scenario: turn.scenario.name(),
        route: &route.name,
        encryption: turn.point.encryption,
        point: &turn.point.name,
        round,
    };
    turn.scenario.run(stage, route, &turn.point, &mut recorder)
}

/// `select-prepared, 16 clients, TLS: postern, round 1 of 5`.
fn line(turn: &Turn<'_>, route: &Route, round: usize) -> String {
    let mut line = turn.scenario.name().to_owned();
    if !turn.point.name.is_empty() {
        line += &format!(", {}", turn.point.name);
    }
    if turn.point.encryption == Encryption::Tls {
        line += ", TLS";
    }
    let (name, rounds) = (&route.name, turn.rounds);
    line + &format!(": {name}, round {} of {rounds}", round + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_route() {
        let ordered: Vec<String> = order(4, &[&'a', &'b', &'c'])
            .map(|(round, route)| format!("{round}{route}"))
            .collect();
        assert_eq!(ordered.join(" "), "0a 0b 0c 1b 1c 1a 2c 2a 2b 3a 3b 3c");
        assert_eq!(order::<char>(4, &[]).count(), 0);
    }
}
