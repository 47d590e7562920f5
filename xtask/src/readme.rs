//! Whether the README's transcript is what the demonstration prints.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::part::Counts;
use crate::root;

/// What begins and ends the transcript in the README.
const FENCE: (&str, &str) = (
    "<!-- transcript -->\n```text\n",
    "```\n<!-- end of transcript -->",
);

/// Plays the demonstration with one kind of directory, and compares what it prints with the
/// README when that shows it.
///
/// # Errors
/// If the demonstration cannot be started.
pub(crate) fn demo(directory: &str) -> Result<Counts> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["demo", "--check", "--directory", directory])
        .current_dir(root()?)
        .output()
        .context("the demonstration cannot be started")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        print!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        return Ok(Counts::one(false));
    }
    let held = printed
        .lines()
        .filter(|line| line.starts_with("ok  "))
        .count();
    let mut counts = Counts {
        passed: u64::try_from(held)?,
        ..Counts::default()
    };
    if directory == "openldap" {
        let readme = std::fs::read_to_string(root()?.join("README.md"))?;
        counts.add(Counts::one(match missing(&readme, &printed)? {
            None => true,
            Some(line) => {
                println!("README.md: error: the demonstration does not print: {line}");
                false
            }
        }));
    }
    Ok(counts)
}

/// The first line of the README's transcript that the demonstration does not print, in order.
fn missing(readme: &str, printed: &str) -> Result<Option<String>> {
    let shown = readme
        .split_once(FENCE.0)
        .and_then(|(_, rest)| rest.split_once(FENCE.1))
        .map(|(shown, _)| shown);
    let shown = shown.context("README.md has no transcript")?;
    ensure!(
        !shown.trim().is_empty(),
        "README.md has an empty transcript"
    );
    let mut printed = printed.lines().map(shape);
    let mut lines = shown.lines().filter(|line| !line.trim().is_empty());
    Ok(lines
        .find(|line| !printed.any(|it| it == shape(line)))
        .map(str::to_owned))
}

/// A line without what differs from run to run: numbers, names of folders, widths of columns, and
/// which of the machine's loopback addresses `localhost` is.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for word in line.split_whitespace() {
        let word = match word.split_once("/tmp/postern-") {
            Some((before, after)) => {
                let rest = after.split_once('/').map_or("", |(_, rest)| rest);
                format!("{before}/tmp/postern/{rest}")
            }
            None => word.replace("(::1)", "(127.0.0.1)"),
        };
        let mut last = None;
        for character in word.chars() {
            let character = if character.is_ascii_digit() {
                '#'
            } else {
                character
            };
            if (character == '#' || character == '-') && last == Some(character) {
                continue;
            }
            shape.push(character);
            last = Some(character);
        }
        shape.push(' ');
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme(transcript: &str) -> String {
        format!("# Title\n{}{transcript}{}\n", FENCE.0, FENCE.1)
    }

    #[test]
    fn a_line_that_is_not_printed_is_found() -> Result<()> {
        let printed = "── 1. One\n$ psql -p 5050 -h /tmp/postern-1-ab/x\n\
            at localhost (::1), port 5050\nok      it works\n";
        let same = "── 1. One\n$ psql -p 6060 -h /tmp/postern-99-cd/x\n\
            at localhost (127.0.0.1), port 6060\nok      it works\n";
        assert_eq!(missing(&readme(same), printed)?, None);
        let other = "── 1. One\nok      it flies\n";
        assert_eq!(
            missing(&readme(other), printed)?,
            Some("ok      it flies".to_owned())
        );
        let order = "ok      it works\n── 1. One\n";
        assert_eq!(
            missing(&readme(order), printed)?,
            Some("── 1. One".to_owned())
        );
        Ok(())
    }

    #[test]
    fn an_empty_transcript_is_an_error() {
        assert!(missing(&readme("\n"), "").is_err());
        assert!(missing("# Title\n", "").is_err());
    }
}
