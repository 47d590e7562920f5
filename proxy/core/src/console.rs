//! The admin console: what may be said to it, who may say what, and the tables that it answers
//! with.
//!
//! The same commands and tables serve the control socket.

mod command;
mod right;
mod table;
mod words;

pub use command::{CommandError, Constant, Kill, Order, Setting, Shown, Statement, lasting, parse};
pub use right::{BUNDLES, Right, Rights};
pub use table::{Cell, Column, Kind, Table};
