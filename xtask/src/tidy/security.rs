//! SECURITY.md names only what exists: the files that hold a promise, and the tests of it.

use std::path::{Path, PathBuf};

use super::Finding;
use super::specification::{Sources, quoted};

/// The page.
const PAGE: &str = "SECURITY.md";
/// How files end that the page names; a folder ends with a slash.
const ENDINGS: [&str; 5] = [".rs", ".sql", ".md", ".toml", "/"];
/// Whoever has as many parts is a test: the names of programs are shorter.
const TEST_WORDS_MIN: usize = 3;

/// Checks the last cell of every row, if there is a page.
pub(super) fn check(sources: &Sources<'_>) -> Vec<Finding> {
    let Some(page) = sources.text(PAGE) else {
        return Vec::new();
    };
    let tests = sources.tests();
    let mut findings = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let row = line.strip_prefix('|').and_then(|it| it.strip_suffix('|'));
        let held_by = row.and_then(|it| it.rsplit('|').next()).unwrap_or_default();
        for name in quoted(held_by) {
            let wrong = match name {
                path if ENDINGS.iter().any(|it| path.ends_with(it)) => {
                    (!exists(sources.files, path)).then_some("file")
                }
                test if is_test(test) => (!tests.contains(test)).then_some("test"),
                _ => None,
            };
            if let Some(kind) = wrong {
                let message = format!("there is no {kind} {name}");
                findings.push(Finding::new(Path::new(PAGE), index + 1, &message));
            }
        }
    }
    findings
}

/// Whether a path, or the end of one, is that of a file or of a folder with files.
fn exists(files: &[PathBuf], name: &str) -> bool {
    let wanted = Path::new(name.trim_end_matches('/'));
    match name.ends_with('/') {
        true => {
            let folders = files.iter().flat_map(|it| it.ancestors().skip(1));
            folders.into_iter().any(|it| it.ends_with(wanted))
        }
        false => files.iter().any(|it| it.ends_with(wanted)),
    }
}

fn is_test(name: &str) -> bool {
    let is_name = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    name.chars().all(is_name) && name.split('_').count() >= TEST_WORDS_MIN
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn messages(row: &str) -> Vec<String> {
        let page = format!("# S\n| promise | held by |\n|---|---|\n{row}\nAs `gone.rs` was.\n");
        let files = [PAGE, "proxy/src/admin/answer.rs", "sql/tests/a.sql"].map(PathBuf::from);
        let code = "#[cfg(test)]\nmod tests {\n    fn a_is_b() {}\n}\n";
        let texts = [page.as_str(), code, ""];
        let sources = Sources {
            files: &files,
            texts: files.iter().map(PathBuf::as_path).zip(texts).collect(),
            test_modules: &BTreeSet::new(),
        };
        check(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_and_tests_that_are_there_may_be_named_by_the_end_of_their_paths() {
        for row in [
            "| a | `answer.rs` (`Fence`), `admin/answer.rs`; `sql/tests/a.sql`; test `hostile` |",
            "| a | `proxy/src/`, `admin/`; tests `a_is_b`, `core::audit` |",
            "| `gone.rs` | `cargo xtask deny` |",
        ] {
            assert_eq!(messages(row), Vec::<String>::new(), "{row}");
        }
    }

    #[test]
    fn what_is_not_there_is_found() {
        for (row, message) in [
            (
                "| a | `config/answer.rs` |",
                "there is no file config/answer.rs",
            ),
            ("| a | `wer.rs` |", "there is no file wer.rs"),
            ("| a | `directory/` |", "there is no file directory/"),
            ("| a | `a_is_c` |", "there is no test a_is_c"),
        ] {
            assert_eq!(messages(row), [format!("{PAGE}:4: error: {message}")]);
        }
    }
}
