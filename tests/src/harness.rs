//! Runs the tests of one program against servers that are started once.
//!
//! ```no_run
//! # use anyhow::Result;
//! # use postern_tests::{harness, needs};
//! # struct World;
//! # impl World { fn start() -> Result<Self> { Ok(Self) } }
//! # fn a_person_is_in(_: &World) -> Result<()> { Ok(()) }
//! fn main() -> std::process::ExitCode {
//!     harness::run(needs::missing_for_openldap(), World::start, &[
//!         ("a_person_is_in", a_person_is_in),
//!     ])
//! }
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::needs;

/// A test: its claim, and what it does with the servers.
pub type Test<W> = (&'static str, fn(&W) -> Result<()>);

/// Starts the servers, runs the tests one after another, and ends the servers.
///
/// With something `missing` on this machine all tests are skipped, loudly. Nothing is started to
/// list the tests. The tests share the servers and may stop or pause them, so they run on one
/// thread unless `--test-threads` says otherwise.
pub fn run<W: Send + Sync + 'static>(
    missing: Option<String>,
    start: impl FnOnce() -> Result<W>,
    tests: &[Test<W>],
) -> ExitCode {
    run_at_once(1, missing, start, tests)
}

/// As [`run`], with several tests at the same time: for tests that keep out of each other's way
/// by themselves.
pub fn run_at_once<W: Send + Sync + 'static>(
    threads: usize,
    missing: Option<String>,
    start: impl FnOnce() -> Result<W>,
    tests: &[Test<W>],
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    if let Some(why) = &missing {
        tests.iter().for_each(|(name, _)| needs::skip(name, why));
    }
    if missing.is_some() || arguments.list {
        let idle = tests.iter().map(|&(name, _)| Trial::test(name, || Ok(())));
        let idle = idle.map(|it| it.with_ignored_flag(missing.is_some()));
        return libtest_mimic::run(&arguments, idle.collect()).exit_code();
    }
    let world = match start() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("the servers do not start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let trials = tests.iter().map(|&(name, test)| {
        let world = Arc::clone(&world);
        Trial::test(name, move || {
            test(&world).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The last one: the servers end here and their folder is removed.
    drop(world);
    conclusion.exit_code()
}
