//! What is wrong with a configuration file: everything, at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// Everything that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigErrors {
    file: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The line in the file, from 1, where one can be named.
    pub(crate) line: Option<usize>,
    /// `table.key`, or empty when it is about the file itself.
    pub(crate) key: String,
    /// The value as it stands in the file, unless it could be a secret.
    pub(crate) given: Option<String>,
    /// What is wrong, as a clause.
    pub(crate) why: String,
    /// Which values are valid, or what to do, as a clause.
    pub(crate) valid: Option<String>,
}

impl ConfigErrors {
    /// The problems of `file`, sorted by line; those without a line come last.
    pub(crate) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Self {
            file: file.to_owned(),
            problems,
        }
    }

    /// The problems, sorted by line.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    /// Something wrong with the value of a key.
    pub(super) fn of(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            line: None,
            key: key.into(),
            given: None,
            why: why.into(),
            valid: None,
        }
    }

    /// The same with the line.
    pub(super) fn at(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The same with the value as it stands in the file.
    pub(super) fn given(self, given: Option<String>) -> Self {
        Self { given, ..self }
    }

    /// The same with what would be right.
    pub(super) fn valid(self, valid: impl Into<String>) -> Self {
        Self {
            valid: Some(valid.into()),
            ..self
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// A block of lines for each problem, and their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            writeln!(f, ": {problem}")?;
        }
        let count = self.problems.len();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "{count} {noun} in {}", self.file.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(given) = &self.given {
            write!(f, " = {given}")?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.why)?;
        if let Some(valid) = &self.valid {
            write!(f, "\n    valid: {valid}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
