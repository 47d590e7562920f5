//! What the policy programs decide, and the layout of their maps.
//!
//! The programs for the kernel are this package's binary; they and the tests on the host share
//! the verdict and the ABI of this library.
#![no_std]

pub mod abi;
mod reason;

pub use reason::Reason;
