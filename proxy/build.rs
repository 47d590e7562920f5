//! Takes the policy programs into the program; without them it is not built.

#[path = "../ebpf/digest.rs"]
mod digest;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (object, built_of) = (root.join(digest::OBJECT), root.join(digest::OBJECT_SOURCES));
    for input in [
        &root.join("ebpf/src"),
        &root.join("ebpf/Cargo.toml"),
        &object,
        &built_of,
    ] {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    let sources = match digest::of_sources(&root) {
        Ok(digest) => digest,
        Err(error) => fail(&format!("the sources in ebpf/ cannot be read: {error}")),
    };
    match fs::read_to_string(built_of) {
        Err(_) => fail("the policy programs have not been built"),
        Ok(built) if built.trim() != sources => {
            fail("the policy programs are older than their sources in ebpf/")
        }
        Ok(_) => {}
    }
    let Some(out) = env::var_os("OUT_DIR") else {
        fail("cargo has set no OUT_DIR")
    };
    if let Err(error) = fs::copy(&object, PathBuf::from(out).join("postern-programs")) {
        fail(&format!("{} cannot be copied: {error}", object.display()));
    }
}

fn fail(what: &str) -> ! {
    println!("cargo::error={what}");
    println!("cargo::error=run: cargo xtask setup && cargo xtask ebpf");
    process::exit(1);
}
