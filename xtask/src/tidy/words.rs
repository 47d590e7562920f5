//! Words that the architecture has banned in favour of one name a thing.

use std::path::Path;

use super::Finding;
use super::lexer::Line;

/// The banned word and what to say.
const BANNED: [(&str, &str); 3] = [
    ("upstream", "backend"),
    ("downstream", "client"),
    ("tenant", "database or role"),
];

/// Checks the code and comments of a Rust file.
pub(super) fn check(path: &Path, lines: &[Line]) -> Vec<Finding> {
    let texts = lines.iter().map(|it| format!("{} {}", it.code, it.comment));
    texts
        .enumerate()
        .flat_map(|(index, text)| check_line(path, index + 1, &text))
        .collect()
}

/// Checks the lines of another text.
pub(super) fn check_text(path: &Path, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(index, line)| check_line(path, index + 1, line))
        .collect()
}

fn check_line(path: &Path, number: usize, line: &str) -> Vec<Finding> {
    let line = line.to_lowercase();
    let banned = BANNED.iter().filter(|(word, _)| line.contains(word));
    banned
        .map(|(word, better)| Finding::new(path, number, &format!("say {better}, not {word}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_word_is_found_in_any_case_and_as_part_of_a_name() {
        let found = check_text(Path::new("a.md"), "fine\nthe UpstreamHost\n");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a.md:2: error: say backend, not upstream"]);
    }
}
