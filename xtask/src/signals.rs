//! Ctrl-C and SIGTERM end a command cleanly: every wait stops, every server is ended, every
//! folder removed.

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};
use postern_tests::wait;

/// From now on SIGINT, SIGTERM and SIGHUP do not end the process but every wait in it, with an
/// error; a second one ends the process at once.
///
/// Must be called before any thread is started, because threads inherit which signals they block.
/// Programs that are started do not: the standard library gives them a fresh set.
///
/// # Errors
/// If the system refuses.
pub(crate) fn catch() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            wait::interrupt();
        }
        if let Ok(signal) = signals.wait() {
            eprintln!("Ended by a second {signal}.");
            // Servers end with us: each has asked Linux for that. The folder is removed by the
            // next start.
            std::process::abort();
        }
    });
    Ok(())
}
