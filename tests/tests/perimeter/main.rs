//! The perimeter: only the proxy reaches the database, whatever else is tried.
//!
//! Everything happens in network namespaces, a cgroup and a folder of pins that this program
//! makes. It is also the program that tries things there: see [`actor`].

use std::process::ExitCode;

use postern_tests::{harness, needs};

mod actor;
mod conversation;
mod origin;
mod stage;
mod verdicts;

use stage::Stage;

type Test = harness::Test<Stage>;

/// A list of tests from the names of functions.
macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        &[$((stringify!($test), $test)),+]
    };
}

mod all_ports;
mod capabilities;
mod drift;
mod frames;
mod interfaces;
mod lifecycle;
mod limits;
mod places;
mod proxy_host;
mod reports;
mod sockets;
mod whole;

fn main() -> ExitCode {
    if let Some(code) = actor::run() {
        return code;
    }
    let tests = [
        places::TESTS,
        whole::TESTS,
        sockets::TESTS,
        interfaces::TESTS,
        proxy_host::TESTS,
        frames::TESTS,
        all_ports::TESTS,
        lifecycle::TESTS,
        drift::TESTS,
        reports::TESTS,
        capabilities::TESTS,
        limits::TESTS,
    ];
    harness::run(
        needs::missing_for_perimeter(),
        Stage::start,
        &tests.concat(),
    )
}
