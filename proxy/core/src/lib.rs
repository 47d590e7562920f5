//! What Postern decides, free of sockets, files, threads, clocks and randomness.
//!
//! Bytes, time and random numbers are arguments; decisions are return values.
//! The crate knows the PostgreSQL wire format, SCRAM, login names, group rules, the rules of the
//! credential cache, the values of a directory, the perimeter's policy, the commands of the admin
//! console and the form of the audit records, and nothing about how any of them travels.

pub mod audit;
pub mod cache;
pub mod console;
pub mod credential;
pub mod directory;
pub mod limits;
pub mod lockout;
pub mod login_name;
pub mod mapping;
pub mod perimeter;
pub mod principal;
pub mod scram;
pub mod secret;
pub mod sqlstate;
pub mod wire;
