//! Postern: the only way in to a PostgreSQL database.

mod audit;
#![allow(
    unreachable_pub,
    reason = "a program exports nothing; `pub` marks what other modules may use"
)]

#[allow(
    dead_code,
    unused_imports,
    reason = "the command line that uses it is not there yet"
)]
mod check;
#[allow(
    dead_code,
    unused_imports,
    reason = "the command line that uses it is not there yet"
)]
mod config;
#[allow(
    dead_code,
    unused_imports,
    reason = "the modules that use them are not all there yet"
)]
mod limits;
#[allow(
    dead_code,
    unused_imports,
    reason = "the listener and the dialer that use it are not there yet"
)]
mod limits;
mod role_store;
mod schema;
mod tls;
mod directory;
mod limits;

fn main() {}
