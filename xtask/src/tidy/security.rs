//! SECURITY.md names only what exists: the files that hold a promise, and the tests of it, of which
//! each row has one, and each is where the page says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Finding;
use super::specification::Sources;

/// The page.
const PAGE: &str = "SECURITY.md";
/// What the first columns of its tables are called.
const TITLES: [&str; 2] = ["promise", "attack"];
/// How files end that the page names; a folder ends with a slash.
const ENDINGS: [&str; 5] = [".rs", ".sql", ".md", ".toml", "/"];
/// Whoever has as many parts is a test: the names of programs are shorter.
const TEST_WORDS_MIN: usize = 3;
/// Where the tests of routines are, a file each.
const SQL_TESTS: &str = "sql/tests/";
/// Where the programs are that test end to end, each a file or a folder.
const PROGRAMS: &str = "tests/tests";
/// Where the modules are that have tests of their own.
const MODULES: &str = "proxy";

/// The tests, by the files that they are in.
type Tests<'a> = BTreeMap<&'a Path, BTreeSet<String>>;

/// Checks the last cell of every row, if there is a page.
pub(super) fn check(sources: &Sources<'_>) -> Vec<Finding> {
    let Some(page) = sources.text(PAGE) else {
        return Vec::new();
    };
    let tests = sources.tests_by_file();
    let mut findings = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let row = line.strip_prefix('|').and_then(|it| it.strip_suffix('|'));
        let Some((what, held_by)) = row.and_then(|it| it.rsplit_once('|')) else {
            continue;
        };
        let mut find = |message: &str| {
            findings.push(Finding::new(Path::new(PAGE), index + 1, message));
        };
        let names = names(held_by);
        for name in &names {
            if let Some(wrong) = wrong(sources.files, &tests, *name) {
                find(&wrong);
            }
        }
        let is_row = !TITLES.contains(&what.trim()) && !what.trim().starts_with("---");
        if is_row && !names.iter().any(|it| is_tested(&tests, it.text)) {
            find("no test is named");
        }
    }
    findings
}

/// What stands in backquotes.
#[derive(Debug, Clone, Copy)]
struct Name<'a> {
    text: &'a str,
    /// Where it is, if that stands before it: `suite`: `test`, `another test`.
    suite: Option<&'a str>,
}

fn names(cell: &str) -> Vec<Name<'_>> {
    let mut names: Vec<Name<'_>> = Vec::new();
    let mut parts = cell.split('`');
    while let (Some(between), Some(text)) = (parts.next(), parts.next()) {
        let suite = names.last().and_then(|last| match between {
            ": " => Some(last.text),
            ", " => last.suite,
            _ => None,
        });
        names.push(Name { text, suite });
    }
    names
}

/// What is wrong about a name.
fn wrong(files: &[PathBuf], tests: &Tests<'_>, Name { text, suite }: Name<'_>) -> Option<String> {
    if ENDINGS.iter().any(|it| text.ends_with(it)) {
        return (!exists(files, text)).then(|| format!("there is no file {text}"));
    }
    let has_it = |(path, names): (&&Path, &BTreeSet<String>)| {
        suite.is_none_or(|suite| is_of(path, suite)) && names.contains(text)
    };
    if !is_test(text) || tests.iter().any(has_it) {
        return None;
    }
    let place = suite.map(|it| format!(" in {it}")).unwrap_or_default();
    Some(format!("there is no test {text}{place}"))
}

/// Whether a name is that of a test, of a program or module with tests, of a file of them, or of a
/// command that looks.
fn is_tested(tests: &Tests<'_>, name: &str) -> bool {
    let mut tests = tests.iter().filter(|(_, names)| !names.is_empty());
    is_test(name)
        || name.starts_with("cargo ")
        || name.starts_with(SQL_TESTS)
        || tests.any(|(path, _)| is_of(path, name))
}

/// Whether a file is of a program of tests, or of a module: `core::cache`.
fn is_of(path: &Path, suite: &str) -> bool {
    let path = path.with_extension("");
    if let Ok(program) = path.strip_prefix(PROGRAMS) {
        return program.starts_with(suite);
    }
    let parts: Vec<&OsStr> = path.iter().filter(|it| *it != "src").collect();
    let wanted: Vec<&OsStr> = suite.split("::").map(OsStr::new).collect();
    path.starts_with(MODULES) && parts.windows(wanted.len()).any(|it| it == wanted)
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
    use super::*;

    fn messages(row: &str) -> Vec<String> {
        let page = format!("# S\n| promise | held by |\n|---|---|\n{row}\nAs `gone.rs` was.\n");
        let files = [
            PAGE,
            "proxy/src/admin/answer.rs",
            "sql/tests/a.sql",
            "proxy/core/src/audit/chain.rs",
            "tests/tests/wire.rs",
            "tests/tests/hostile/peers.rs",
        ];
        let files = files.map(PathBuf::from);
        let module = |name: &str| format!("#[cfg(test)]\nmod tests {{\n    fn {name}() {{}}\n}}\n");
        let (answer, chain) = (module("a_is_b"), module("no_bit_is_lost"));
        let (wire, peers) = ("fn none_is_in() {}\n", "fn all_are_slow() {}\n");
        let texts = [page.as_str(), &answer, "", &chain, wire, peers];
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
            "| a | `hostile`: `all_are_slow`; `wire`: `none_is_in`; `admin::answer`: `a_is_b` |",
            "| a | `wire`: `none_is_in`; test `all_are_slow` |",
        ] {
            assert_eq!(messages(row), Vec::<String>::new(), "{row}");
        }
    }

    #[test]
    fn what_is_not_there_is_found() {
        for (row, message) in [
            (
                "| a | `config/answer.rs`; test `wire` |",
                "there is no file config/answer.rs",
            ),
            ("| a | `wer.rs`; test `wire` |", "there is no file wer.rs"),
            (
                "| a | `directory/`; test `wire` |",
                "there is no file directory/",
            ),
            ("| a | `a_is_c` |", "there is no test a_is_c"),
            (
                "| a | `wire`: `none_is_in`, `all_are_slow` |",
                "there is no test all_are_slow in wire",
            ),
            (
                "| a | `core::cache`: `no_bit_is_lost` |",
                "there is no test no_bit_is_lost in core::cache",
            ),
        ] {
            assert_eq!(messages(row), [format!("{PAGE}:4: error: {message}")]);
        }
    }

    #[test]
    fn a_row_without_a_test_is_found() {
        for row in [
            "| a | `answer.rs` |",
            "| a | by hand |",
            "| a | test `gone` |",
            "| a | `core::cache` |",
        ] {
            let expected = format!("{PAGE}:4: error: no test is named");
            assert_eq!(messages(row), [expected], "{row}");
        }
    }
}
