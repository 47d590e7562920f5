//! `bulk-paths`: which way of moving bulk bytes from one socket to another is cheapest.

use std::process::ExitCode;

use clap::Parser;
use postern_bench::paths::{self, Arguments};
use postern_tests::{signals, wait};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = signals::catch().and_then(|()| paths::run(&arguments));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if wait::is_interrupted() => {
            eprintln!("Interrupted; the network namespaces are removed.");
            ExitCode::from(signals::EXIT_INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
