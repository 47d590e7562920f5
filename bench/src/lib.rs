//! What Postern costs, beside its peers, in one run: the library of `cargo xtask bench`.

pub mod report;
pub mod route;
pub mod sample;
