//! A query cut into words.

use super::CommandError;
use crate::limits::{CONSOLE_QUERY_STATEMENTS_MAX, CONSOLE_WORD_BYTES_MAX, CONSOLE_WORDS_MAX};

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// A word as it stands: a keyword, a name or a number.
    Bare(String),
    /// What stands between quotes, which is never a keyword.
    Quoted(String),
    /// Another character.
    Symbol(char),
}

/// The words of a statement, of which there is at least one.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// The first of them, [`CONSOLE_WORDS_MAX`] at most.
    pub(super) words: Vec<Word>,
    /// Whether there are more.
    pub(super) is_too_long: bool,
}

/// The statements of a query.
///
/// Comments are left out, and a semicolon ends a statement.
pub(super) fn statements(query: &str) -> Result<Vec<Cut>, CommandError> {
    let (mut statements, mut cut) = (Vec::new(), Cut::default());
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        if first.is_whitespace() {
            rest = after;
            continue;
        }
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.split_once("*/");
            rest = end
                .map(|(_, rest)| rest)
                .ok_or(CommandError::Unterminated)?;
            continue;
        }
        let word = match first {
            ';' => {
                statements.push(std::mem::take(&mut cut));
                rest = after;
                continue;
            }
            '\'' | '"' => {
                let (text, behind) = quoted(after, first)?;
                rest = behind;
                Word::Quoted(text)
            }
            first if is_bare(first) => {
                let end = rest.find(|it: char| !is_bare(it)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
                rest = behind;
                Word::Bare(word.to_owned())
            }
            other => {
                rest = after;
                Word::Symbol(other)
            }
        };
        check(&word)?;
        match cut.words.len() < CONSOLE_WORDS_MAX {
            true => cut.words.push(word),
            false => cut.is_too_long = true,
        }
    }
    statements.push(cut);
    statements.retain(|it| !it.words.is_empty());
    match statements.len() <= CONSOLE_QUERY_STATEMENTS_MAX {
        true => Ok(statements),
        false => Err(CommandError::TooMany),
    }
}

/// Whether a character may stand in a word without quotes: all that login names, roles, sessions
/// and times are made of.
fn is_bare(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.' | '@' | '\\' | '-' | '+' | '$')
}

/// What stands before the closing quote, and what behind it; two quotes are one.
fn quoted(text: &str, quote: char) -> Result<(String, &str), CommandError> {
    let mut inside = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once(quote).ok_or(CommandError::Unterminated)?;
        inside.push_str(before);
        match behind.strip_prefix(quote) {
            Some(behind) => {
                inside.push(quote);
                rest = behind;
            }
            None => return Ok((inside, behind)),
        }
    }
}

fn check(word: &Word) -> Result<(), CommandError> {
    let (Word::Bare(text) | Word::Quoted(text)) = word else {
        return Ok(());
    };
    if text.len() > CONSOLE_WORD_BYTES_MAX {
        return Err(CommandError::TooLong);
    }
    match text.chars().any(char::is_control) {
        true => Err(CommandError::Control),
        false => Ok(()),
    }
}
