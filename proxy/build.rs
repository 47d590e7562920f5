//! Takes the policy programs into the program; without them it is not built.

#[path = "../ebpf/digest.rs"]
mod digest;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    match take() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("cargo::error={what}");
            println!("cargo::error=run: cargo xtask setup && cargo xtask ebpf");
            ExitCode::FAILURE
        }
    }
}

/// Copies the programs to where the compiler takes them from, if they are of the sources that are
/// here.
///
/// # Errors
/// What is wrong, for the person who builds.
fn take() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (object, built_of) = (root.join(digest::OBJECT), root.join(digest::OBJECT_SOURCES));
    let (code, manifest) = (root.join("ebpf/src"), root.join("ebpf/Cargo.toml"));
    let builder = root.join(digest::BUILDER);
    for input in [&code, &manifest, &builder, &object, &built_of] {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    let sources = digest::of_sources(&root)
        .map_err(|error| format!("the sources in ebpf/ cannot be read: {error}"))?;
    let built = fs::read_to_string(built_of)
        .map_err(|_| "the policy programs have not been built".to_owned())?;
    if built.trim() != sources {
        return Err("the policy programs are older than their sources in ebpf/".to_owned());
    }
    let out = env::var_os("OUT_DIR").ok_or("cargo has set no OUT_DIR")?;
    fs::copy(&object, PathBuf::from(out).join("postern-programs"))
        .map_err(|error| format!("{} cannot be copied: {error}", object.display()))?;
    Ok(())
}
