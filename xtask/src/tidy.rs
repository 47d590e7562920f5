//! `cargo xtask tidy`: the house rules that a program can check.

mod functions;
mod lexer;
mod markdown;
mod regions;
mod rust;
mod security;
mod specification;
mod sql;
mod tree;
mod words;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::part::Counts;
use crate::root;

/// Folders that are nobody's source.
const SKIPPED_FOLDERS: [&str; 3] = [".git", "target", "node_modules"];

/// A rule that a line breaks.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &Path, line: usize, message: &str) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.to_owned(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: error: {}",
            self.path.display(),
            self.line,
            self.message
        )
    }
}

/// Options of `cargo xtask tidy`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Another copy of the repository.
    folder: Option<PathBuf>,
}

/// The command.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = arguments.folder.clone().map_or_else(root, Ok)?;
    let counts = check_folder(&folder)?;
    Ok(if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks the workspace and prints what it finds.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn check() -> Result<Counts> {
    check_folder(&root()?)
}

fn check_folder(folder: &Path) -> Result<Counts> {
    let (files, findings) = findings(folder)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {files} files, {} errors", findings.len());
    Ok(Counts::one(findings.is_empty()))
}

/// How many files there are, and every rule that one of them breaks.
fn findings(root: &Path) -> Result<(usize, Vec<Finding>)> {
    let mut files = Vec::new();
    list(root, Path::new(""), &mut files)?;
    files.sort();
    let mut texts = Vec::new();
    for path in &files {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        if ["rs", "md", "sql"].contains(&extension.as_ref()) {
            let text = fs::read_to_string(root.join(path));
            let text = text.with_context(|| path.display().to_string())?;
            texts.push((path, extension.into_owned(), text));
        }
    }
    let rust = texts.iter().filter(|(_, extension, _)| extension == "rs");
    let test_modules = rust
        .flat_map(|(path, _, text)| regions::test_modules(path, text))
        .collect();
    let mut findings = Vec::new();
    for (path, extension, text) in &texts {
        findings.extend(match extension.as_str() {
            "rs" => rust::check(path, text, &test_modules),
            "md" => markdown::check(path, text),
            _ => sql::check(path, text),
        });
    }
    let sources = specification::Sources {
        files: &files,
        texts: texts
            .iter()
            .map(|(path, _, text)| (path.as_path(), text.as_str()))
            .collect(),
        test_modules: &test_modules,
    };
    findings.extend(specification::check(&sources));
    findings.extend(security::check(&sources));
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    findings.extend(tree::check(root, &files, &architecture));
    findings.sort();
    findings.dedup();
    Ok((files.len(), findings))
}

/// Lists the files below a folder, relative to `root`.
fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            files.push(path);
        } else if !SKIPPED_FOLDERS.contains(&name.as_str()) {
            list(root, &path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() -> Result<()> {
        let (_, findings) = findings(&root()?)?;
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
        Ok(())
    }
}
