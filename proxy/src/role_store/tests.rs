//! The calls of the role store against real servers, one of each version that is installed; and
//! what is not told to a server that is none, nor kept of what it sends.

mod calls;
mod flood;
mod impostor;
mod listening;
mod races;
mod world;
