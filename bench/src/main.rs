//! `cargo xtask bench`: what Postern costs, beside its peers, in one run.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("error: no scenario is built yet");
    ExitCode::FAILURE
}
