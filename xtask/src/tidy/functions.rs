//! How long functions are and how many parameters they take.

use std::path::Path;

use super::Finding;
use super::lexer::{Line, is_word};

/// The longest function, in lines, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// The most parameters, `self` not counted.
const PARAMETERS_MAX: usize = 5;

/// Checks every function of a file.
pub(super) fn check(path: &Path, lines: &[Line]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(column) = starts_at(&line.code) else {
            continue;
        };
        let Some(function) = read(lines, index, column) else {
            continue;
        };
        if function.lines > FUNCTION_LINES_MAX {
            let lines = function.lines;
            let message = format!("a function of {lines} lines, {FUNCTION_LINES_MAX} are allowed");
            findings.push(Finding::new(path, index + 1, &message));
        }
        if function.parameters > PARAMETERS_MAX {
            let message = format!("{} parameters, five are allowed", function.parameters);
            findings.push(Finding::new(path, index + 1, &message));
        }
    }
    findings
}

struct Function {
    lines: usize,
    parameters: usize,
}

/// Where the word `fn` stands before a name; not in a type as `fn(u8) -> u8`.
fn starts_at(code: &str) -> Option<usize> {
    code.match_indices("fn ").map(|(at, _)| at).find(|&at| {
        let before = code.get(..at).and_then(|it| it.chars().next_back());
        let after = code.get(at + 3..).and_then(|it| it.chars().next());
        !before.is_some_and(is_word) && after.is_some_and(is_word)
    })
}

/// Reads a function from its `fn` on; none if it has no body.
fn read(lines: &[Line], first: usize, column: usize) -> Option<Function> {
    let mut signature = Signature::default();
    let mut depth = 0_u32;
    for (index, line) in lines.iter().enumerate().skip(first) {
        let from = if index == first { column } else { 0 };
        for letter in line.code.get(from..)?.chars() {
            match letter {
                '{' => depth += 1,
                '}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 && signature.ended {
                        return Some(Function {
                            lines: index + 1 - first,
                            parameters: signature.parameters(),
                        });
                    }
                }
                ';' if depth == 0 && signature.nesting == 0 => return None,
                _ => {}
            }
            if depth == 0 {
                signature.read(letter);
            } else if signature.nesting == 0 {
                signature.ended = true;
            }
        }
        signature.read(' ');
    }
    None
}

/// Counts the parameters between the first round brackets after the name's angle brackets.
#[derive(Debug, Default)]
struct Signature {
    /// Brackets of any kind that are open.
    nesting: u32,
    /// The list of parameters has begun.
    in_list: bool,
    list_ended: bool,
    ended: bool,
    parameters: usize,
    current: String,
    previous: char,
}

impl Signature {
    fn read(&mut self, letter: char) {
        let is_arrow = letter == '>' && matches!(self.previous, '-' | '=');
        self.previous = letter;
        let inside = self.in_list && !self.list_ended;
        match letter {
            '(' if self.nesting == 0 && !self.in_list => {
                self.in_list = true;
                self.nesting = 1;
                return;
            }
            '(' | '[' | '<' => self.nesting += 1,
            ')' | ']' | '>' if !is_arrow => {
                self.nesting = self.nesting.saturating_sub(1);
                if inside && self.nesting == 0 {
                    self.take();
                    self.list_ended = true;
                }
            }
            ',' if inside && self.nesting == 1 => {
                self.take();
                return;
            }
            _ => {}
        }
        if inside {
            self.current.push(letter);
        }
    }

    fn take(&mut self) {
        let parameter = std::mem::take(&mut self.current);
        let name = parameter
            .split(':')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let is_self = name.split([' ', '&']).any(|it| it == "self");
        if !name.is_empty() && name != ")" && !is_self {
            self.parameters += 1;
        }
    }

    fn parameters(&self) -> usize {
        self.parameters
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::split;
    use super::*;

    fn found(source: &str) -> Vec<String> {
        let lines = split(source);
        let findings = check(Path::new("a.rs"), &lines);
        findings.into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn a_function_of_71_lines_is_too_long() {
        let body = "    x();\n".repeat(68);
        assert!(found(&format!("fn f() {{\n{body}}}\n")).is_empty());
        let body = "    x();\n".repeat(69);
        let findings = found(&format!("pub fn f() {{\n{body}}}\nfn g() {{}}\n"));
        assert_eq!(
            findings,
            ["a.rs:1: error: a function of 71 lines, 70 are allowed"]
        );
    }

    #[test]
    fn the_sixth_parameter_is_too_many_and_self_does_not_count() {
        assert!(
            found("fn f(&mut self, a: A, b: B, c: C<X, Y>, d: [u8; 4], e: (E, F)) {}").is_empty()
        );
        let many = "fn f<T: Fn(A, B) -> C>(\n    a: A,\n    b: B,\n    c: C,\n    d: D,\n    \
                    e: impl Fn(X, Y) -> Z,\n    f: F,\n) -> R {\n}\n";
        assert_eq!(
            found(many),
            ["a.rs:1: error: 6 parameters, five are allowed"]
        );
    }

    #[test]
    fn a_declaration_without_a_body_has_no_length() {
        let source = format!("trait T {{\n    fn f(&self);\n{}}}\n", "\n".repeat(80));
        assert!(found(&source).is_empty());
    }
}
