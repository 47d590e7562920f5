//! Rules for Markdown: one title, one sentence a line.

use std::path::Path;

use super::{Finding, words};

/// What may stand before a full stop in the middle of a sentence.
const ABBREVIATIONS: [&str; 6] = ["e.g", "i.e", "etc", "vs", "cf", "approx"];

/// Checks one file.
pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = words::check_text(path, text);
    let mut titles = 0;
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        if line.starts_with("# ") {
            titles += 1;
            if titles == 2 {
                findings.push(Finding::new(path, index + 1, "a second `# Title`"));
            }
        }
        let is_prose = !line.starts_with(['#', '|', '<']) && !line.starts_with("    ");
        if is_prose && has_two_sentences(line) {
            findings.push(Finding::new(path, index + 1, "one sentence a line"));
        }
    }
    if titles == 0 {
        findings.push(Finding::new(path, 1, "no `# Title`"));
    }
    findings
}

/// Whether a sentence ends and another one begins within a line.
fn has_two_sentences(line: &str) -> bool {
    let prose = without_code(line);
    prose.match_indices(['.', '!', '?']).any(|(at, _)| {
        let before = prose.get(..at).unwrap_or_default();
        let after = prose.get(at + 1..).unwrap_or_default();
        let word = before.rsplit([' ', '(']).next().unwrap_or_default();
        let ends = word.chars().filter(|it| it.is_alphabetic()).count() > 1;
        let is_abbreviation = ABBREVIATIONS.contains(&word.to_lowercase().as_str());
        let begins = after.strip_prefix(' ').and_then(|it| it.chars().next());
        ends && !is_abbreviation && begins.is_some_and(char::is_uppercase)
    })
}

/// A line with what stands in backquotes replaced: it may hold any punctuation.
fn without_code(line: &str) -> String {
    let parts = line.split('`').enumerate();
    parts
        .map(|(index, it)| if index % 2 == 0 { it } else { "code" })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let findings = check(Path::new("a.md"), text);
        findings.into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn two_sentences_on_a_line_are_found() {
        let found = messages("# A\n\nOne is here. Two is too.\n");
        assert_eq!(found, ["a.md:3: error: one sentence a line"]);
    }

    #[test]
    fn abbreviations_numbers_code_and_tables_are_no_second_sentence() {
        let text = "# A\n\nSee e.g. Debian.\n1. First of all.\nVersion 1.2. Then `a. B` is.\n\
                    | A. B. | Cd. Ef. |\n```\nAb. Cd.\n```\n";
        assert_eq!(messages(text), Vec::<String>::new());
    }

    #[test]
    fn a_file_has_one_title() {
        assert_eq!(messages("text\n"), ["a.md:1: error: no `# Title`"]);
        assert_eq!(
            messages("# A\n# B\n"),
            ["a.md:2: error: a second `# Title`"]
        );
        assert_eq!(
            messages("# A\n```\n# a comment\n```\n"),
            Vec::<String>::new()
        );
    }
}
