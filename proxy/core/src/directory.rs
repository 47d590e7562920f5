//! What a directory says, where it is no more than bytes: elements of BER, the values by which it
//! tells of changes, and the identifiers of entries.

pub mod ber;
pub mod dirsync;
pub mod guard;
pub mod identifier;
mod message;
pub mod paging;
pub mod sync_message;
