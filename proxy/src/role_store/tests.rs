//! The calls of the role store against real servers, one of each version that is installed.

mod calls;
mod listening;
mod races;
mod world;
