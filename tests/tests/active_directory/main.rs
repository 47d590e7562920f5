//! The main job with Active Directory (Samba): who gets in, as whom, with which memberships, and
//! what becomes of that when the directory changes or is gone.
//!
//! One world serves all tests, one after the other: a domain takes longer to start than any test.

use std::process::ExitCode;

use postern_tests::{harness, needs};

mod accounts;
mod commands;
mod groups;
mod identity;
mod names;
mod outages;
mod passwords;
mod template;
mod world;

use world::World;

type Test = harness::Test<World>;

fn main() -> ExitCode {
    let tests = [
        names::TESTS,
        passwords::TESTS,
        groups::TESTS,
        accounts::TESTS,
        identity::TESTS,
        commands::TESTS,
        template::TESTS,
        outages::TESTS,
        passwords::LAST,
    ];
    let missing = needs::missing_for_samba().or_else(|| {
        let postgres = needs::postgres(None);
        postgres
            .is_none()
            .then(|| "PostgreSQL is not installed".to_owned())
    });
    harness::run(missing, World::start, &tests.concat())
}
