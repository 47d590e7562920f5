//! Which part of a file is tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::lexer::{Line, split};

/// The modules that a file declares for tests only: `#[cfg(test)] mod NAME;`, as the paths of
/// their files without the extension.
pub(super) fn test_modules(path: &Path, source: &str) -> BTreeSet<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = match stem.as_ref() {
        "lib" | "main" | "mod" => folder.to_owned(),
        stem => folder.join(stem),
    };
    let lines = split(source);
    let modules = attributed(&lines).filter_map(|(_, code)| code.strip_suffix(';'));
    modules.map(|name| folder.join(name)).collect()
}

/// The line from which on a file is tests, counted from 0; its length if it has none.
pub(super) fn tests_from(path: &Path, lines: &[Line], modules: &BTreeSet<PathBuf>) -> usize {
    let module = path.with_extension("");
    // A module's file may be named in the attribute #[path]; then its name says it.
    let is_named = module.to_string_lossy().ends_with("_tests");
    let is_folder_of_tests = path.components().any(|it| it.as_os_str() == "tests");
    let is_module = module.ancestors().any(|it| modules.contains(it));
    if is_folder_of_tests || is_module || is_named {
        return 0;
    }
    let blocks = attributed(lines).filter(|(_, code)| code.ends_with('{'));
    blocks.map(|(index, _)| index).next().unwrap_or(lines.len())
}

/// The modules with `#[cfg(test)]`: the attribute's line, and what follows `mod`.
fn attributed(lines: &[Line]) -> impl Iterator<Item = (usize, &str)> {
    let mut attribute = None;
    lines.iter().enumerate().filter_map(move |(index, line)| {
        let code = line.code.trim();
        if code.starts_with("#[cfg(test)]") {
            attribute = Some(index);
        } else if let (Some(from), Some((_, name))) = (attribute, code.split_once("mod ")) {
            attribute = None;
            return Some((from, name));
        } else if !code.is_empty() && !code.starts_with('#') {
            attribute = None;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(path: &str, source: &str, modules: &[&str]) -> usize {
        let modules = modules.iter().map(PathBuf::from).collect();
        tests_from(Path::new(path), &split(source), &modules)
    }

    #[test]
    fn a_module_for_tests_has_a_file_beside_or_below() {
        let source = "#[cfg(test)]\npub(crate) mod sim;\nmod b;\n#[cfg(test)]\nmod tests {\n}\n";
        let found = test_modules(Path::new("ring/src/lib.rs"), source);
        assert_eq!(found, BTreeSet::from([PathBuf::from("ring/src/sim")]));
        let found = test_modules(Path::new("src/scram.rs"), "#[cfg(test)]\nmod cases;\n");
        assert_eq!(found, BTreeSet::from([PathBuf::from("src/scram/cases")]));
    }

    #[test]
    fn a_file_of_such_a_module_is_tests_from_its_first_line() {
        assert_eq!(from("ring/src/sim.rs", "a\nb", &["ring/src/sim"]), 0);
        assert_eq!(from("ring/src/sim/driver.rs", "a\nb", &["ring/src/sim"]), 0);
        assert_eq!(from("tests/src/wait.rs", "a\nb", &[]), 0);
        assert_eq!(from("src/a.rs", "a\n#[cfg(test)]\nmod tests {\n}", &[]), 1);
        assert_eq!(from("src/a.rs", "#[cfg(test)]\nmod tests;\nb", &[]), 3);
    }
}
