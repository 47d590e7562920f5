//! The commented default file and the reference page, both made from the declarations.

use std::fmt::Write as _;

use super::keys;
use super::schema::{Absent, Form, Key, Kind, Table};
use super::values::is_fixed;

/// The widest comment line of the default file, in characters.
const COMMENT_CHARS_MAX: usize = 98;

/// The file that `postern config default` prints.
///
/// Every key stands in it: those that must be filled in without a value, the others commented
/// out with their default or an example.
pub(crate) fn default_text() -> String {
    let mut text = String::new();
    comment(&mut text, "The configuration of Postern.");
    comment(
        &mut text,
        "Keys that stand without a value must be filled in.",
    );
    comment(
        &mut text,
        "Commented keys show their default, or an example where it says so.",
    );
    comment(
        &mut text,
        "Relative paths start at the folder of this file.",
    );
    comment(
        &mut text,
        "\"credential:NAME\" is the file NAME that systemd provides by LoadCredential=.",
    );
    for table in keys::TABLES {
        default_table(&mut text, table);
    }
    text
}

fn default_table(text: &mut String, table: &Table) {
    text.push('\n');
    for sentence in table.doc {
        comment(text, sentence);
    }
    match table.form {
        Form::One => push(text, &format!("[{}]", table.name)),
        Form::Optional => push(text, &format!("#[{}]", table.name)),
        Form::Several => {
            comment(text, "It can stand more than once.");
            push(text, &format!("#[[{}]]", table.name));
        }
        Form::Many => {
            comment(text, "It can stand more than once.");
            push(text, &format!("[[{}]]", table.name));
        }
    }
    for key in table.keys {
        text.push('\n');
        for sentence in key.doc {
            comment(text, sentence);
        }
        comment(text, &format!("{}.", capitalised(&key.kind.valid())));
        for sentence in absent(key) {
            comment(text, &sentence);
        }
        let line = format!("{} = {}", key.name, placeholder(key));
        let active = matches!(key.absent, Absent::Required | Absent::RequiredWhen(_));
        if active && !table.form.may_be_absent() {
            push(text, &line);
        } else {
            push(text, &format!("#{line}"));
        }
    }
}

/// What stands after the equals sign in the default file.
fn placeholder(key: &Key) -> &'static str {
    match key.absent {
        Absent::Default(literal) => literal,
        Absent::ByFlavor {
            active_directory, ..
        } => active_directory,
        Absent::Unset { example, .. } => example,
        Absent::Required | Absent::RequiredWhen(_) => match key.kind {
            Kind::List(_) => "[]",
            Kind::Integer { .. } => "0",
            Kind::Boolean => "false",
            Kind::Text | Kind::Choice(_) | Kind::File(_) => "\"\"",
        },
    }
}

/// What holds when a key is left out, in sentences.
pub(super) fn absent(key: &Key) -> Vec<String> {
    match key.absent {
        Absent::Required => vec!["Required.".to_owned()],
        Absent::RequiredWhen(when) => vec![format!("Required when {when}.")],
        Absent::Default(literal) => vec![format!("Default: {literal}.")],
        Absent::ByFlavor {
            active_directory,
            openldap,
        } => vec![
            format!("Default with flavor \"active-directory\": {active_directory}."),
            format!("Default with flavor \"openldap\": {openldap}."),
        ],
        Absent::Unset { meaning, example } => {
            vec![
                format!("Without it: {}", lowered(meaning)),
                format!("Example: {example}."),
            ]
        }
    }
}

/// The reference page, `docs/configuration.md`.
pub(crate) fn markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Postern reads one TOML file: `postern run --config FILE`.\n\
         `postern config default` prints a commented one, and `postern check --config FILE` \
         tests one with everything that it names.\n\
         A key that is not on this page is an error, and all errors are reported at once.\n\
         Relative paths start at the folder of the file.\n\
         Secrets are given by file only; `credential:NAME` is the file `NAME` that systemd \
         provides by [`LoadCredential=`](https://systemd.io/CREDENTIALS/).\n\
         This page is made from the declarations that the reader uses.\n",
    );
    for table in keys::TABLES {
        markdown_table(&mut page, table);
    }
    page
}

fn markdown_table(page: &mut String, table: &Table) {
    let (open, close) = if table.form.repeats() {
        ("[[", "]]")
    } else {
        ("[", "]")
    };
    push(page, &format!("\n## `{open}{}{close}`\n", table.name));
    for sentence in table.doc {
        push(page, sentence);
    }
    match table.form {
        Form::One => {}
        Form::Optional => push(page, "The table may be left out."),
        Form::Many => push(page, "It stands once or more often."),
        Form::Several => push(page, "It may be left out, or stand more than once."),
    }
    for key in table.keys {
        push(page, &format!("\n### `{}.{}`\n", table.name, key.name));
        for sentence in key.doc {
            push(page, sentence);
        }
        push(page, "");
        push(page, &format!("- Value: {}", in_code(&key.kind.valid())));
        if is_fixed(&format!("{}.{}", table.name, key.name)) {
            push(
                page,
                "- A change takes a restart; `postern reload` refuses it",
            );
        }
        match key.absent {
            Absent::Required => push(page, "- Required"),
            Absent::RequiredWhen(when) => push(page, &format!("- Required when {when}")),
            Absent::Default(literal) => push(page, &format!("- Default: `{literal}`")),
            Absent::ByFlavor {
                active_directory,
                openldap,
            } => {
                push(
                    page,
                    &format!("- Default for Active Directory: `{active_directory}`"),
                );
                push(page, &format!("- Default for OpenLDAP: `{openldap}`"));
            }
            Absent::Unset { meaning, example } => {
                let meaning = lowered(meaning);
                push(
                    page,
                    &format!("- Without it: {}", meaning.trim_end_matches('.')),
                );
                push(page, &format!("- Example: `{example}`"));
            }
        }
    }
}

/// Puts the quoted parts of a phrase into backticks.
fn in_code(phrase: &str) -> String {
    let mut quoted = false;
    let mut text = String::new();
    for char in phrase.chars() {
        match (char, quoted) {
            ('"', false) => text.push_str("`\""),
            ('"', true) => text.push_str("\"`"),
            _ => text.push(char),
        }
        quoted ^= char == '"';
    }
    text
}

fn push(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// Adds a sentence as comment lines.
fn comment(text: &mut String, sentence: &str) {
    let mut line = String::from("#");
    for word in sentence.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_CHARS_MAX {
            push(text, &line);
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    push(text, &line);
}

fn capitalised(phrase: &str) -> String {
    let mut chars = phrase.chars();
    let first = chars.next().map(|char| char.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

fn lowered(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|char| char.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
