//! Postern: the only way in to a PostgreSQL database.
//!
//! Where to look: `login` is the straight line of a login; `run` puts the process together;
//! every other module is one step or one part of those two.

mod admin;
mod arrivals;
mod ask;
mod audit;
mod authenticate;
mod authorize;
mod backend;
mod budgets;
mod cancel;
mod check;
mod cli;
mod clock;
mod cluster;
mod commands;
mod config;
mod control;
mod directory;
mod door;
mod durations;
mod error;
mod explain;
mod gate;
mod health;
mod limits;
mod listener;
mod logging;
mod login;
mod manual;
mod metrics;
mod negotiate;
mod open;
mod operators;
mod phases;
mod policy;
mod printable;
mod pulse;
mod random;
mod rates;
mod report;
mod revocation;
mod role_store;
mod run;
mod schema;
mod service;
mod session;
mod single_flight;
mod sizes;
mod splice;
mod stream;
mod supervisor;
mod sync;
mod tls;
mod turns;
mod upkeep;

use std::process::ExitCode;

use clap::Parser as _;

use self::printable::printable_lines;

/// The program's allocator: small, fast with many threads, and it gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version that `--version` and the audit file say.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    postern_ring::look_up_by_files_and_dns();
    match commands::execute(cli::Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let why = printable_lines(&format!("{error:#}"));
            eprintln!("postern: {why}");
            ExitCode::FAILURE
        }
    }
}
