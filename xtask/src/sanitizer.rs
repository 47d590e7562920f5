//! The ring's tests under AddressSanitizer, with the kernel's own io_uring.
//!
//! It sees what is used after it was freed, or beyond its end, on the heap and on stacks: queues of
//! what is being sent, records of sessions, what rustls holds. The pools of buffers are mapped
//! memory, of which it sees only that it is there; that a buffer is not read while it is the
//! kernel's is what the simulator checks.
//! Miri cannot run them, because it has no io_uring. The compiler's own libraries are not
//! instrumented.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::part::{Counts, cargo_test};
use crate::{cargo, root};

/// The ring's tests.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn check() -> Result<Counts> {
    let host = cargo::host()?;
    if !has_runtime(&host)? {
        let why = "the compiler has no AddressSanitizer (rustup's has)";
        return Ok(Counts::skip("asan", why));
    }
    let folder = root()?.join("target/asan");
    let mut command = cargo::command(&["test", "--package", "postern-ring", "--tests", "--lib"]);
    command
        .args(["--target", &host, "--target-dir"])
        .arg(folder);
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Zsanitizer=address");
    // Only the name of the option is unstable; the stable compiler comes with the runtime.
    command.env("RUSTC_BOOTSTRAP", "1");
    cargo_test(command)
}

/// Whether the compiler came with the sanitizer's runtime.
fn has_runtime(host: &str) -> Result<bool> {
    let sysroot = cargo::rustc(&["--print", "sysroot"])?;
    let libraries = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("lib");
    let mut has_runtime = false;
    for entry in fs::read_dir(libraries)? {
        has_runtime |= entry?.file_name().to_string_lossy().ends_with("_rt.asan.a");
    }
    Ok(has_runtime)
}
