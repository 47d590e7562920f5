//! Properties that hold for any bytes that a peer, a directory or a file may bring.
//!
//! Each function here is a target: it takes bytes, and panics where a property does not hold.
//! Not to panic is the least of them; the others are that what was read is written as it came,
//! that every limit is kept, that doing a thing twice is doing it once, and that two ways to an
//! answer agree.
//!
//! `cargo test -p postern-fuzz` tries the committed corpus, and what is near to it, with nothing
//! but the compiler; `cargo xtask fuzz` lets libFuzzer look for more.

mod account;
mod backend;
mod console;
mod directory;
mod frontend;
mod ldap;
mod login_name;
mod mapping;
mod packet;
mod pieces;
mod proxy_header;
mod role_store;
mod scram;
mod settings;
mod startup;

pub use account::account;
pub use backend::backend;
pub use console::console;
pub use directory::directory;
pub use frontend::frontend;
pub use login_name::login_name;
pub use mapping::mapping;
pub use packet::packet;
pub use proxy_header::proxy_header;
pub use scram::{scram_client, scram_server};
pub use settings::settings;
pub use startup::startup;

/// A target: the name that its corpus and its program have, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 13] = [
    ("startup", startup),
    ("frontend", frontend),
    ("scram_server", scram_server),
    ("scram_client", scram_client),
    ("backend", backend),
    ("console", console),
    ("proxy_header", proxy_header),
    ("directory", directory),
    ("account", account),
    ("login_name", login_name),
    ("mapping", mapping),
    ("settings", settings),
    ("packet", packet),
];

#[cfg(test)]
mod tests;
