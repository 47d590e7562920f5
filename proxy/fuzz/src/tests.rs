use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::TARGETS;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The inputs of a target's corpus, in the order of their names.
fn corpus(name: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(here().join("corpus").join(name))? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        inputs.push((path, bytes));
    }
    inputs.sort();
    Ok(inputs)
}

#[test]
fn every_property_holds_for_the_corpus_and_for_what_is_near_to_it() -> io::Result<()> {
    for (name, target) in TARGETS {
        let inputs = corpus(name)?;
        assert!(!inputs.is_empty(), "{name} has no corpus");
        target(b"");
        for (path, bytes) in inputs {
            // A failure says by what it was caused: the test's output is shown then.
            println!("{}", path.display());
            target(&bytes);
            let step = (bytes.len() / 32).max(1);
            for at in (0..bytes.len()).step_by(step) {
                target(&bytes[..at]);
                for change in [1, 0x20, 0x80, 0xff] {
                    let mut near = bytes.clone();
                    near[at] ^= change;
                    target(&near);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_nothing_else_has() -> io::Result<()> {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for folder in ["targets", "corpus"] {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(here().join(folder))? {
            let path = entry?.path();
            found.extend(path.file_stem().map(|it| it.to_string_lossy().into_owned()));
        }
        assert_eq!(found, names, "{folder}");
    }
    let manifest = fs::read_to_string(here().join("Cargo.toml"))?;
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
    Ok(())
}
