//! The splice over real sockets of the loopback interface, through the public API alone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on panics"
)]

mod ending;
mod limits;
mod plain;
mod support;
mod tls;
