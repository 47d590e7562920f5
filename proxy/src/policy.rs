//! The perimeter's policy in the kernel: `postern policy`.
//!
//! `load` puts it in force, `inspect` asks the kernel whether it is, `watch` shows what it refuses.
//! It stays when every process has gone: programs, maps and links are pinned on bpffs (`pins`).

mod attach;
mod clock;
mod drift;
mod error;
mod explain;
mod finding;
mod hook;
mod inspect;
mod load;
mod machine;
mod maps;
mod netlink;
mod nft;
mod object;
mod pins;
mod places;
mod status;
mod wanted;
mod watch;

pub(crate) use attach::Tc;
pub(crate) use error::PolicyError;
pub(crate) use explain::{Question, explain};
pub(crate) use finding::probes;
pub(crate) use load::{Options as LoadOptions, close, load, unload};
pub(crate) use machine::check_capabilities;
pub(crate) use status::status;
pub(crate) use watch::{Options as WatchOptions, Stop, watch};

/// Bytes as text.
fn hexadecimal(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let digit = |value: u8| char::from(digits.get(usize::from(value)).copied().unwrap_or(b'?'));
    let pairs = bytes.iter();
    pairs
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
