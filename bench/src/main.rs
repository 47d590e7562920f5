//! `cargo xtask bench`: what Postern costs, beside its peers, in one run.

use std::process::ExitCode;

use clap::Parser;
use postern_bench::load::stub;
use postern_bench::options::Options;
use postern_bench::{run, soak};
use postern_tests::{signals, wait};

fn main() -> ExitCode {
    if let Some(port) = stub::asked_for() {
        return match stub::serve_port(port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let options = Options::parse();
    let outcome = signals::catch().and_then(|()| match soak::is_asked_for(&options) {
        true => soak::run(&options),
        false => run::run(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if wait::is_interrupted() => {
            eprintln!("Interrupted; all servers are ended and their folder is removed.");
            ExitCode::from(signals::EXIT_INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
