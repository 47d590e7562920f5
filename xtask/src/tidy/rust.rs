//! Rules for Rust files, line by line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::lexer::{Line, has_word, is_word, split};
use super::regions::tests_from;
use super::{Finding, functions, words};

/// The longest file, in lines.
const FILE_LINES_MAX: usize = 500;
/// The longest line, in characters.
const COLUMNS_MAX: usize = 100;
/// How far above an unsafe block its `SAFETY:` comment may begin, in lines.
const SAFETY_DISTANCE_LINES: usize = 12;

/// What the pure crate must not name: sockets, files, threads, clocks, randomness.
const IMPURE: [&str; 13] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "std::time::Instant",
    "Instant",
    "SystemTime",
    "rand",
    "getrandom",
    "tokio",
    "TcpStream",
];

/// Where `unsafe` may stand.
const UNSAFE_FOLDERS: [&str; 2] = ["proxy/ring/", "ebpf/"];
/// The one place in the tests that may sleep: it waits for conditions.
const MAY_SLEEP: &str = "tests/src/wait.rs";

/// Checks one file; `path` is relative to the workspace.
/// `test_modules` are those of the whole workspace.
pub(super) fn check(path: &Path, source: &str, test_modules: &BTreeSet<PathBuf>) -> Vec<Finding> {
    let name = path.to_string_lossy().replace('\\', "/");
    let lines = split(source);
    let tests_from = tests_from(path, &lines, test_modules);
    let mut file = File {
        findings: Vec::new(),
        name,
        path,
        lines: &lines,
        tests_from,
    };
    file.check_size(source);
    for (index, line) in lines.iter().enumerate() {
        file.check_markers(index, line);
        file.check_attributes(index, line);
        file.check_unsafe(index, line);
        file.check_dropped(index, line);
        file.check_purity(index, line);
        file.check_sleep(index, line);
        file.check_indexing(index, line);
    }
    file.check_tests_last();
    let mut findings = file.findings;
    findings.extend(functions::check(path, &lines));
    findings.extend(words::check(path, &lines));
    findings
}

struct File<'a> {
    findings: Vec<Finding>,
    name: String,
    path: &'a Path,
    lines: &'a [Line],
    /// The line from which on the file is tests, counted from 0.
    tests_from: usize,
}

impl File<'_> {
    fn find(&mut self, index: usize, message: &str) {
        self.findings
            .push(Finding::new(self.path, index + 1, message));
    }

    fn check_size(&mut self, source: &str) {
        let count = source.lines().count();
        if count > FILE_LINES_MAX {
            let message = format!("{count} lines, {FILE_LINES_MAX} are allowed");
            self.find(FILE_LINES_MAX, &message);
        }
        for (index, line) in source.lines().enumerate() {
            // A long address cannot be broken.
            if line.chars().count() > COLUMNS_MAX && !line.contains("://") {
                self.find(index, "longer than 100 columns");
            }
        }
    }

    fn check_markers(&mut self, index: usize, line: &Line) {
        for marker in ["TODO", "FIXME", "XXX"] {
            if has_word(&line.comment, marker) {
                self.find(index, &format!("{marker} left behind"));
            }
        }
        for marker in ["dbg!(", "todo!(", "unimplemented!("] {
            if line.code.contains(marker) {
                self.find(index, &format!("{marker}) left behind"));
            }
        }
    }

    fn check_attributes(&mut self, index: usize, line: &Line) {
        if line.code.contains("#[ignore") {
            self.find(index, "#[ignore]: say that it is skipped with needs::skip");
        }
        if line.code.contains("#[should_panic") {
            self.find(index, "#[should_panic]: return the error and compare it");
        }
        let opens = ["#[allow(", "#[expect(", "#![allow(", "#![expect("];
        if !opens.iter().any(|it| line.code.contains(it)) {
            return;
        }
        let rest = self.lines.iter().skip(index);
        let mut depth = 0_i32;
        let mut has_reason = false;
        for line in rest {
            has_reason |= line.code.contains("reason");
            depth += balance(&line.code, '[', ']');
            if depth <= 0 {
                break;
            }
        }
        if !has_reason {
            self.find(index, "an exception from a lint needs its reason = \"...\"");
        }
    }

    fn check_unsafe(&mut self, index: usize, line: &Line) {
        if !has_word(&line.code, "unsafe") || line.code.contains("unsafe_") {
            return;
        }
        if !UNSAFE_FOLDERS.iter().any(|it| self.name.starts_with(it)) {
            self.find(index, "unsafe is for proxy/ring and ebpf only");
            return;
        }
        let is_use = ["unsafe {", "unsafe impl"]
            .iter()
            .any(|it| line.code.contains(it));
        let from = index.saturating_sub(SAFETY_DISTANCE_LINES);
        let near = self.lines.get(from..=index).unwrap_or_default();
        if is_use && !near.iter().any(|it| it.comment.contains("SAFETY:")) {
            self.find(
                index,
                "unsafe without a SAFETY: comment that says who upholds what",
            );
        }
    }

    fn check_dropped(&mut self, index: usize, line: &Line) {
        let is_made_optional = line.code.trim_end().ends_with(".ok();");
        let is_dropped = is_made_optional && !self.is_kept(index);
        let drops = line.code.contains("let _ =") || is_dropped;
        if drops && index < self.tests_from && !self.has_comment(index) {
            self.find(
                index,
                "an error is dropped without a comment that says why that is right",
            );
        }
    }

    /// Whether the statement that ends on a line keeps its value.
    fn is_kept(&self, index: usize) -> bool {
        for (distance, line) in self.lines.iter().take(index + 1).rev().enumerate() {
            let code = line.code.trim();
            if distance > 0 && (code.is_empty() || code.ends_with([';', '{', '}'])) {
                return false;
            }
            if code.starts_with("return ") || code.contains(" = ") {
                return true;
            }
        }
        false
    }

    /// Whether a line has a comment, itself or on the lines of the statement above it.
    fn has_comment(&self, index: usize) -> bool {
        for (distance, line) in self.lines.iter().take(index + 1).rev().enumerate() {
            if !line.comment.trim().is_empty() {
                return true;
            }
            let code = line.code.trim();
            if distance > 0 && (code.is_empty() || code.ends_with([';', '{', '}'])) {
                return false;
            }
        }
        false
    }

    fn check_purity(&mut self, index: usize, line: &Line) {
        if !self.name.starts_with("proxy/core/src/") || index >= self.tests_from {
            return;
        }
        for word in IMPURE {
            if has_word(&line.code, word) {
                self.find(index, &format!("core is pure, and {word} is not"));
            }
        }
    }

    fn check_sleep(&mut self, index: usize, line: &Line) {
        let code = line.code.as_bytes();
        let mut calls = line
            .code
            .match_indices("sleep(")
            .map(|(at, _)| at.checked_sub(1));
        // `asleep(` and `pg_sleep(` are other names.
        let is_name = |before: usize| {
            let before = code.get(before);
            before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        let sleeps = calls.any(|before| !before.is_some_and(is_name));
        if sleeps && index >= self.tests_from && self.name != MAY_SLEEP {
            self.find(
                index,
                "a test waits for a condition (wait_until) and does not sleep",
            );
        }
    }

    fn check_indexing(&mut self, index: usize, line: &Line) {
        if !self.name.starts_with("proxy/") || index >= self.tests_from {
            return;
        }
        if indexes(&line.code) && !self.has_comment(index) {
            self.find(
                index,
                "an index without a comment that says why it is in bounds; or use get",
            );
        }
    }

    fn check_tests_last(&mut self) {
        if self.tests_from == 0 || self.tests_from >= self.lines.len() {
            return;
        }
        let mut depth = 0;
        let mut ended = false;
        for (index, line) in self.lines.iter().enumerate().skip(self.tests_from) {
            // Several modules of tests may follow each other.
            ended &= !line.code.trim().starts_with("#[cfg(test)]");
            if ended && !line.code.trim().is_empty() {
                self.find(index, "tests come last in a file");
                return;
            }
            let before = depth;
            depth += balance(&line.code, '{', '}');
            ended |= depth == 0 && before > 0;
        }
    }
}

/// Whether a line has `value[index]`; `value[..]` cannot fail.
fn indexes(code: &str) -> bool {
    code.match_indices('[').any(|(at, _)| {
        let before = code.get(..at).and_then(|it| it.chars().next_back());
        let after = code.get(at + 1..).unwrap_or_default();
        let is_value = before.is_some_and(|it| is_word(it) || matches!(it, ')' | ']'));
        is_value && !after.starts_with("..]")
    })
}

/// How many more of one letter than of another a line has.
fn balance(code: &str, open: char, close: char) -> i32 {
    code.chars().fold(0, |sum, letter| match letter {
        it if it == open => sum + 1,
        it if it == close => sum - 1,
        _ => sum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, source: &str) -> Vec<String> {
        let found = check(Path::new(path), source, &BTreeSet::new());
        found.into_iter().map(|it| it.to_string()).collect()
    }

    #[track_caller]
    fn finds(path: &str, source: &str, expected: &str) {
        let found = messages(path, source);
        assert!(found.iter().any(|it| it.contains(expected)), "{found:?}");
    }

    #[track_caller]
    fn accepts(path: &str, source: &str) {
        assert_eq!(messages(path, source), Vec::<String>::new());
    }

    #[test]
    fn core_names_no_clock_outside_its_tests() {
        finds(
            "proxy/core/src/a.rs",
            "use std::time::Instant;\n",
            "core is pure",
        );
        finds(
            "proxy/core/src/a.rs",
            "let x = std::fs::read(p);\n",
            "a.rs:1",
        );
        accepts(
            "proxy/core/src/a.rs",
            "/// Not an `Instant`.\nuse std::time::Duration;\n",
        );
        accepts(
            "proxy/core/src/a.rs",
            "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        );
        accepts("proxy/src/a.rs", "use std::time::Instant;\n");
    }

    #[test]
    fn unsafe_stands_in_two_folders_and_with_its_reason() {
        finds(
            "proxy/src/a.rs",
            "unsafe { f() }\n",
            "proxy/ring and ebpf only",
        );
        finds("proxy/ring/src/a.rs", "unsafe { f() }\n", "SAFETY");
        accepts(
            "proxy/ring/src/a.rs",
            "// SAFETY: the ring owns it.\nunsafe { f() }\n",
        );
        accepts(
            "proxy/src/a.rs",
            "#![forbid(unsafe_code)]\nlet a = \"unsafe\";\n",
        );
    }

    #[test]
    fn an_index_says_why_it_is_in_bounds() {
        finds("proxy/src/a.rs", "let a = b[0];\n", "in bounds");
        accepts("proxy/src/a.rs", "// One a worker.\nlet a = b[0];\n");
        accepts(
            "proxy/src/a.rs",
            "#[derive(A)]\nlet a: [u8; 4] = &b[..];\nvec![1]\n",
        );
        accepts("xtask/src/a.rs", "let a = b[0];\n");
    }

    #[test]
    fn an_exception_from_a_lint_has_a_reason() {
        finds("a.rs", "#[allow(dead_code)]\nfn f() {}\n", "reason");
        accepts(
            "a.rs",
            "#[expect(\n    dead_code,\n    reason = \"later\"\n)]\nfn f() {}\n",
        );
    }

    #[test]
    fn a_dropped_error_has_a_comment() {
        finds("a.rs", "let _ = f();\n", "dropped");
        finds("a.rs", "// About g.\ng();\nf()\n    .ok();\n", "a.rs:4");
        accepts("a.rs", "// It is gone anyway.\nlet _ = f();\n");
        accepts("a.rs", "let a = f()\n    .ok();\n");
        accepts("a.rs", "// It is gone anyway.\nf()\n    .ok();\n");
    }

    #[test]
    fn a_test_may_ignore_what_a_call_gives() {
        accepts(
            "a.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    let _ = f();\n}\n",
        );
    }

    #[test]
    fn tests_wait_for_conditions_and_are_never_ignored() {
        finds(
            "tests/tests/a.rs",
            "std::thread::sleep(x);\n",
            "does not sleep",
        );
        finds(
            "a.rs",
            "#[cfg(test)]\nmod tests {\n    sleep(x);\n}\n",
            "a.rs:3",
        );
        finds("a.rs", "#[ignore]\nfn f() {}\n", "needs::skip");
        accepts("proxy/src/a.rs", "sleep(x).await;\n");
    }

    #[test]
    fn tests_come_last() {
        accepts("a.rs", "#[cfg(test)]\nmod tests;\n\nfn g() {}\n");
        finds(
            "a.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n}\n\nfn g() {}\n",
            "a.rs:6",
        );
        accepts(
            "a.rs",
            "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n",
        );
        accepts("a.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests;\n");
    }

    #[test]
    fn size_and_leftovers_are_found() {
        finds("a.rs", &"x\n".repeat(501), "500 are allowed");
        finds("a.rs", &format!("// {}\n", "x".repeat(98)), "100 columns");
        finds("a.rs", "// TODO: later\n", "left behind");
        finds("a.rs", "dbg!(x);\n", "left behind");
    }
}
