//! The order of a run: routes in turn, A B C, and in the next round B C A, so that what drifts with
//! time drifts for all of them.

use std::time::Duration;

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
    /// Routes that could not be measured in an earlier round.
    failed: Vec<&'a str>,
    /// How long the last round took.
    took: Duration,
}

/// Measures everything that the options ask for, one round of everything after the other.
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
    let mut turns = turns(stage, scenarios, options);
    let all = turns.iter().map(|it| it.rounds * it.routes.len()).sum();
    let rounds = turns.iter().map(|it| it.rounds).max().unwrap_or_default();
    let begin = progress.elapsed();
    let (mut done, mut left_out) = (0, 0);
    for round in 0..rounds {
        for turn in turns.iter_mut().filter(|it| round < it.rounds) {
            let fits = |limit| progress.elapsed() + turn.took <= limit;
            if round > 0 && !options.time_limit().is_none_or(fits) {
                left_out += turn.routes.len();
                done += turn.routes.len();
                continue;
            }
            let before = progress.elapsed();
            for route in order(round, &turn.routes.clone()) {
                let line = line(turn, route, round);
                progress.step(&line, (done, all), begin);
                done += 1;
                if !turn.failed.contains(&route.name.as_str())
                    && let Err(error) = measure(stage, turn, route, round, found)
                {
                    if wait::is_interrupted() {
                        bail!("interrupted");
                    }
                    let gap = format!("{line}: {error:#}");
                    progress.say(&gap);
                    found.gaps.push(gap);
                    turn.failed.push(&route.name);
                    stage.check()?;
                }
            }
            turn.took = progress.elapsed().saturating_sub(before);
        }
    }
    if left_out > 0 {
        found.gaps.push(format!(
            "{left_out} of {all} measurements, all of further rounds, were left out for time"
        ));
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
    for scenario in scenarios.iter().filter(|it| options.wants(it.as_ref())) {
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
                failed: Vec::new(),
                took: Duration::ZERO,
            });
        }
    }
    turns
}

/// The routes as a round has them: each round begins with another one.
fn order<'a, T>(round: usize, routes: &[&'a T]) -> Vec<&'a T> {
    let mut routes = routes.to_vec();
    if !routes.is_empty() {
        let first = round % routes.len();
        routes.rotate_left(first);
    }
    routes
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
        let routes = [&'a', &'b', &'c'];
        let ordered = (0..4).map(|round| order(round, &routes).into_iter().collect::<String>());
        let ordered: Vec<String> = ordered.collect();
        assert_eq!(ordered, ["abc", "bca", "cab", "abc"]);
        assert!(order::<char>(4, &[]).is_empty());
    }
}
