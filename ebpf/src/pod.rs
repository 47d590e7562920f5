//! The maps' values, for aya: it copies them to the kernel as they lie in memory.
#![allow(
    unsafe_code,
    reason = "aya asks for the promise that a value is plain bytes"
)]

use aya::Pod;

use crate::abi::{Allowed, Event, Interface, Pace, Protected, Settings};

// SAFETY: `repr(C)` without padding (a test of `abi` adds the fields up), and every pattern of
// bits is a value, for there are only integers and arrays of them.
unsafe impl Pod for Settings {}
// SAFETY: as above.
unsafe impl Pod for Protected {}
// SAFETY: as above.
unsafe impl Pod for Allowed {}
// SAFETY: as above.
unsafe impl Pod for Interface {}
// SAFETY: as above.
unsafe impl Pod for Event {}
// SAFETY: as above.
unsafe impl Pod for Pace {}
