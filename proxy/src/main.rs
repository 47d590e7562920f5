//! Postern: the only way in to a PostgreSQL database.

mod audit;
mod config;

fn main() {}
