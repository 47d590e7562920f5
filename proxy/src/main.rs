//! Postern: the only way in to a PostgreSQL database.

mod config;

fn main() {}
