//! Ctrl-C and SIGTERM end a command cleanly: every wait stops, every server is ended, every
//! folder removed.

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::wait;

/// What a command that was ended by Ctrl-C ends with: 128 and the number of SIGINT, as in shells.
pub const EXIT_INTERRUPTED: u8 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP do not end the process but every wait in it, with an
/// error; a second one ends the process at once.
///
/// The signals are handled and not blocked: programs that are started would inherit a block, and
/// a server that blocks SIGTERM does not end.
///
/// # Errors
/// If the system refuses.
pub fn catch() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if wait::is_interrupted() {
                eprintln!("Ended at once by a second signal.");
                // Servers end with us: each has asked Linux for that. The folder is removed by
                // the next start.
                std::process::abort();
            }
            wait::interrupt();
        }
    });
    Ok(())
}
