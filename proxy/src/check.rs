//! The test buttons: what works, what does not, and what to do.
