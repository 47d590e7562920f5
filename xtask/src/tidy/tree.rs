//! The tree is the diagram: ARCHITECTURE.md names every top-level noun of every crate, and what
//! its diagram draws exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Finding;
use super::lexer::has_word;

/// What stands at the top of the repository, beside folders that begin with a dot.
const TOP_LEVEL: [&str; 18] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "SPECIFICATION.md",
    "appliance",
    "bench",
    "deny.toml",
    "docs",
    "ebpf",
    "proxy",
    "sql",
    "target",
    "tests",
    "xtask",
];

/// Files that are no noun of their own.
const UNNAMED: [&str; 5] = ["main", "lib", "mod", "tests", "build"];

/// Checks the tree against the text of ARCHITECTURE.md; `files` are relative to `root`.
pub(super) fn check(root: &Path, files: &[PathBuf], architecture: &str) -> Vec<Finding> {
    let mut findings = check_top_level(files);
    for noun in nouns(files) {
        let name = noun.file_stem().unwrap_or_default().to_string_lossy();
        if !is_named(architecture, &name) {
            let message = format!("ARCHITECTURE.md does not name {}", noun.display());
            findings.push(Finding::new(&noun, 1, &message));
        }
    }
    for (number, path) in drawn(architecture) {
        if !root.join(&path).exists() {
            let message = format!("the diagram draws {}, which is not there", path.display());
            findings.push(Finding::new(Path::new("ARCHITECTURE.md"), number, &message));
        }
    }
    findings
}

fn check_top_level(files: &[PathBuf]) -> Vec<Finding> {
    let mut tops = BTreeSet::new();
    for file in files {
        if let Some(top) = file.components().next() {
            tops.insert(top.as_os_str().to_string_lossy().into_owned());
        }
    }
    let is_allowed = |it: &String| it.starts_with('.') || TOP_LEVEL.contains(&it.as_str());
    let strangers = tops.into_iter().filter(|it| !is_allowed(it));
    strangers
        .map(|it| Finding::new(Path::new(&it), 1, "does not belong at the top of the tree"))
        .collect()
}

/// The files and folders directly in the `src` folder of a crate.
fn nouns(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut nouns = BTreeSet::new();
    for file in files
        .iter()
        .filter(|it| it.extension().is_some_and(|it| it == "rs"))
    {
        let parts: Vec<_> = file.components().collect();
        let Some(source) = parts.iter().position(|it| it.as_os_str() == "src") else {
            continue;
        };
        let noun: PathBuf = parts.iter().take(source + 2).collect();
        let stem = noun
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !UNNAMED.contains(&stem.as_str()) {
            nouns.insert(noun.with_extension(""));
        }
    }
    nouns
}

/// Whether the text names a module: in code, as a folder or as a file.
fn is_named(architecture: &str, name: &str) -> bool {
    let mut in_code = false;
    architecture.lines().any(|line| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return false;
        }
        if in_code {
            return has_word(line, name);
        }
        let mut quoted = line.split('`').skip(1).step_by(2);
        quoted.any(|it| has_word(it, name))
    })
}

/// What the first block of code draws: each line's folder or file, under the less indented ones
/// above it.
fn drawn(architecture: &str) -> Vec<(usize, PathBuf)> {
    let mut paths = Vec::new();
    let mut parents: Vec<(usize, PathBuf)> = Vec::new();
    let lines = architecture.lines().enumerate();
    let block = lines
        .skip_while(|(_, line)| !line.starts_with("```"))
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("```"));
    for (index, line) in block {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = line.split_whitespace().next() else {
            continue;
        };
        let is_path = name.ends_with('/') || Path::new(name).extension().is_some();
        // The continuation of a description is indented deeper than any name.
        let is_description = parents.last().is_some_and(|(it, _)| indent > it + 4);
        if !is_path || is_description {
            continue;
        }
        parents.retain(|(it, _)| *it < indent);
        let path = parents
            .last()
            .map(|(_, it)| it.clone())
            .unwrap_or_default()
            .join(name);
        paths.push((index + 1, path.clone()));
        if name.ends_with('/') {
            parents.push((indent, path));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_the_diagram_does_not_name_is_found() {
        let files = [
            "proxy/src/main.rs",
            "proxy/src/login.rs",
            "proxy/src/tls/mod.rs",
            "notes.txt",
        ];
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let text = "# A\n```\nproxy/\n```\nThe `login` line.\n";
        let found = check(Path::new("/"), &files, text);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|it| it.contains("notes.txt:1")),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|it| it.contains("does not name proxy/src/tls")),
            "{found:?}"
        );
        assert!(!found.iter().any(|it| it.contains("login")), "{found:?}");
        assert!(
            found
                .iter()
                .any(|it| it.contains("draws proxy/, which is not there"))
        );
    }

    #[test]
    fn nesting_in_the_diagram_is_nesting_on_disk() {
        let text = "```\nproxy/        the program. Assembly:\n              config/ is text\n\
                    \x20 core/  pure\nsql/   x\n```\n";
        let paths: Vec<PathBuf> = drawn(text).into_iter().map(|(_, it)| it).collect();
        assert_eq!(paths, ["proxy/", "proxy/core/", "sql/"].map(PathBuf::from));
    }
}
