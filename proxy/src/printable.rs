//! Text from outside for a person at a terminal: names that a client, a process or a directory
//! chose, and what a peer says.

/// The text with everything written out that would command the terminal, begin another line, or
/// change the order in which the rest is read.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() || is_unseen(char) {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    shown
}

/// The same, where a line break is one that the program itself has made.
pub(crate) fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// Separators of lines and paragraphs, and what sets a direction (Unicode's `Bidi_Control`).
fn is_unseen(char: char) -> bool {
    matches!(char,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_command_a_terminal_is_written_out() {
        for (text, shown) in [
            ("J\u{fc}rgen \u{4e2d} '\\x'", "J\u{fc}rgen \u{4e2d} '\\x'"),
            ("a\r\nb\tc\0", r"a\r\nb\tc\u{0}"),
            ("\u{1b}[2J\u{9b}31m\u{7f}", r"\u{1b}[2J\u{9b}31m\u{7f}"),
            (
                "a\u{202e}b\u{2066}c\u{2028}",
                r"a\u{202e}b\u{2066}c\u{2028}",
            ),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\u{7}\nb\n"), "a\\u{7}\nb\n");
    }
}
