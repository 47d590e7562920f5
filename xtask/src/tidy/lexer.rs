//! Splits Rust source into code and comments, line by line.

/// One line of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The code: what stands in strings and comments is left out, the quotes stay.
    pub(super) code: String,
    /// The text of comments, documentation included.
    pub(super) comment: String,
}

/// Where in the source we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Comments nest; this is the depth.
    BlockComment(u32),
    Text,
    /// With how many `#` the string ends.
    RawText(usize),
}

/// Splits a file. What no Rust compiler accepts gives lines too, in some way.
pub(super) fn split(source: &str) -> Vec<Line> {
    let letters: Vec<char> = source.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        let rest = letters.get(at..).unwrap_or_default();
        if letter == '\n' {
            if state == State::LineComment {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let Some(line) = lines.last_mut() else { break };
        let (next, length) = match state {
            State::Code => code(rest, letters.get(..at).unwrap_or_default(), line),
            State::LineComment => {
                line.comment.push(letter);
                (state, 1)
            }
            State::BlockComment(depth) => block_comment(rest, depth, line),
            State::Text => text(rest, line),
            State::RawText(hashes) => raw_text(rest, hashes, line),
        };
        state = next;
        at += length;
    }
    lines
}

fn code(rest: &[char], before: &[char], line: &mut Line) -> (State, usize) {
    match rest {
        ['/', '/', ..] => (State::LineComment, 2),
        ['/', '*', ..] => (State::BlockComment(1), 2),
        ['"', ..] => {
            line.code.push('"');
            (State::Text, 1)
        }
        ['r', ..] if !ends_with_word(before) || before.ends_with(&['b']) => {
            let hashes = rest.iter().skip(1).take_while(|&&it| it == '#').count();
            if rest.get(hashes + 1) == Some(&'"') {
                line.code.push('"');
                return (State::RawText(hashes), hashes + 2);
            }
            line.code.push('r');
            (State::Code, 1)
        }
        ['\'', ..] => {
            let length = character_length(rest);
            line.code.push('\'');
            (State::Code, length)
        }
        [letter, ..] => {
            line.code.push(*letter);
            (State::Code, 1)
        }
        [] => (State::Code, 1),
    }
}

/// How long a character literal is; 1 for the quote of a lifetime or a label.
fn character_length(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => {
            // The letter after the backslash may itself be a quote.
            let end = rest.iter().skip(3).position(|&it| it == '\'');
            end.map_or(1, |it| it + 4)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

fn block_comment(rest: &[char], depth: u32, line: &mut Line) -> (State, usize) {
    match rest {
        ['/', '*', ..] => (State::BlockComment(depth + 1), 2),
        ['*', '/', ..] if depth == 1 => (State::Code, 2),
        ['*', '/', ..] => (State::BlockComment(depth - 1), 2),
        _ => {
            line.comment.extend(rest.first());
            (State::BlockComment(depth), 1)
        }
    }
}

fn text(rest: &[char], line: &mut Line) -> (State, usize) {
    match rest {
        // A backslash at the end of a line is not followed by a letter that counts.
        ['\\', '\n', ..] => (State::Text, 1),
        ['\\', ..] => (State::Text, 2),
        ['"', ..] => {
            line.code.push('"');
            (State::Code, 1)
        }
        _ => (State::Text, 1),
    }
}

fn raw_text(rest: &[char], hashes: usize, line: &mut Line) -> (State, usize) {
    let closing = rest.iter().skip(1).take_while(|&&it| it == '#').count();
    if rest.first() == Some(&'"') && closing >= hashes {
        line.code.push('"');
        return (State::Code, hashes + 1);
    }
    (State::RawText(hashes), 1)
}

fn ends_with_word(before: &[char]) -> bool {
    before.last().is_some_and(|&it| is_word(it))
}

/// Whether a letter may be part of a name.
pub(super) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether `word` stands in `text` by itself.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|it| it.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|it| it.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, code: &[&str], comments: &[&str]) {
        let lines = split(source);
        let codes: Vec<&str> = lines.iter().map(|it| it.code.as_str()).collect();
        let texts: Vec<&str> = lines.iter().map(|it| it.comment.as_str()).collect();
        assert_eq!(codes, code, "{source}");
        assert_eq!(texts, comments, "{source}");
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        check("let a = \"// {\"; // why", &["let a = \"\"; "], &[" why"]);
        check(
            "a\n/* b\n/* c */ d */ e",
            &["a", "", " e"],
            &["", " b", " c  d "],
        );
        check("r#\"a\"b\"#; for", &["\"\"; for"], &[""]);
        check("br\"\\\"; x", &["b\"\"; x"], &[""]);
        check("\"a\\\"b\\\\\" + c", &["\"\" + c"], &[""]);
        check("\"a\\\nb\" + c", &["\"", "\" + c"], &["", ""]);
    }

    #[test]
    fn a_quote_in_a_character_begins_no_string_and_a_lifetime_is_no_character() {
        check("'\"' x", &["' x"], &[""]);
        check("'\\'' x '\\u{1f}' y", &["' x ' y"], &[""]);
        check(
            "fn f<'a>(x: &'a str) {}",
            &["fn f<'a>(x: &'a str) {}"],
            &[""],
        );
    }

    #[test]
    fn a_word_is_found_only_by_itself() {
        assert!(has_word("std::net::TcpStream", "net"));
        assert!(!has_word("a planet", "net"));
    }
}
