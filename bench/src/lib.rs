//! What Postern costs, beside its peers, in one run: the library of `cargo xtask bench`.

pub mod bars;
pub mod child;
pub mod emulator;
pub mod facts;
pub mod limits;
pub mod load;
pub mod meter;
pub mod options;
pub mod paths;
pub mod peers;
pub mod pgbench;
pub mod progress;
pub mod report;
pub mod route;
pub mod run;
pub mod sample;
pub mod scenario;
pub mod schedule;
pub mod soak;
pub mod stage;
