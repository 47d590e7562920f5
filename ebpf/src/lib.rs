//! What the policy programs decide, and the layout of their maps.
//!
//! The programs for the kernel are this package's binary; they and the tests on the host share
//! the verdict and the ABI of this library.
#![no_std]

#[cfg(feature = "user")]
extern crate std;

pub mod abi;
#[cfg(feature = "user")]
pub mod kernel;
pub mod packet;
#[cfg(feature = "user")]
mod pod;
mod reason;
pub mod verdict;

pub use reason::Reason;
