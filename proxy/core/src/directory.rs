//! What a directory says, where it is no more than bytes: elements of BER, the values by which it
//! tells of changes, entries with their identifiers, and whether an account may log in.

pub mod account;
pub mod ber;
pub mod dirsync;
pub mod entry;
pub mod guard;
pub mod identifier;
mod message;
pub mod paging;
pub mod sync_message;
