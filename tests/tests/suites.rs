//! What others test PostgreSQL with, twice: directly, and through Postern; the same must fail.
//!
//! `cargo xtask test --only suites` makes ready what all suites need and runs them; otherwise there
//! is a sample of what needs nothing but PostgreSQL.

#[path = "suites/card.rs"]
mod card;
#[path = "suites/drivers.rs"]
mod drivers;
#[path = "suites/pipeline.rs"]
mod pipeline;
#[path = "suites/regress.rs"]
mod regress;
#[path = "suites/site.rs"]
mod site;

use std::process::ExitCode;

use anyhow::Result;
use postern_tests::harness;

use site::Site;

type Test = (&'static str, fn(&Site) -> Result<()>);

/// A list of tests from the names of functions.
macro_rules! claims {
    ($($claim:path),* $(,)?) => {
        &[$((
            stringify!($claim),
            |site| $claim(site).map_err(|error| site.explain(error)),
        )),*]
    };
}

/// What needs nothing but PostgreSQL.
const SAMPLE: &[Test] = claims![];

/// What takes long, or needs more.
const OTHERS: &[Test] = claims![
    regress::the_same_regression_tests_fail_on_both_routes,
    pipeline::the_same_pipelines_and_their_traces_fail_on_both_routes,
    regress::the_same_isolation_tests_fail_on_both_routes,
];

fn main() -> ExitCode {
    let mut tests = [SAMPLE, drivers::SAMPLE].concat();
    if site::folder().is_some() {
        tests.extend([OTHERS, drivers::OTHERS].concat());
    }
    harness::run(site::missing(), Site::start, &tests)
}
