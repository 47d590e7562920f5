//! Servers for tests: real PostgreSQL, OpenLDAP, Samba and Postern itself, each in a temporary
//! folder and on loopback only.
//!
//! One object is one process: it starts in `start`, ends in `stop` or when it is dropped, and
//! answers `log_contains`. Nothing is shared between two objects, so tests may start several.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use postern_tests::{Certificates, OpenLdap, Postgres, Scratch, cast};
//!
//! let scratch = Scratch::new()?;
//! let certificates = Certificates::new(&scratch)?;
//! let postgres = Postgres::start(&scratch, &certificates)?;
//! let directory = OpenLdap::start(&scratch, &certificates)?;
//! cast::populate(&directory)?;
//! assert_eq!(postgres.sql("select 1")?, "1");
//! # Ok(()) }
//! ```
//!
//! A test that cannot run on this machine says so with [`needs::skip`], which `cargo xtask test`
//! prints and counts.

pub mod account;
pub mod archive;
pub mod cast;
pub mod certificates;
pub mod cgroup;
pub mod config_file;
pub mod directory;
pub mod harness;
pub mod local;
pub mod mounts;
pub mod needs;
pub mod network;
pub mod openldap;
pub mod pins;
pub mod policy;
pub mod postern;
pub mod postgres;
pub mod process;
pub mod psql;
pub mod raw;
pub mod samba;
pub mod scratch;
pub mod signals;
pub mod statistics;
pub mod successor;
pub mod template;
pub mod wait;
pub mod wal;
pub mod world;

pub use certificates::{Certificates, ServerCertificate};
pub use cgroup::Cgroup;
pub use config_file::ConfigFile;
pub use directory::{DirectoryServer, Member};
pub use local::Local;
pub use network::Network;
pub use openldap::OpenLdap;
pub use policy::Policy;
pub use postern::Postern;
pub use postgres::Postgres;
pub use process::Server;
pub use psql::{Answer, Psql};
pub use raw::RawClient;
pub use samba::Samba;
pub use scratch::Scratch;
pub use successor::Successor;
pub use wait::{free_port, wait_until};
pub use world::{Someone, World};
