//! One table of the file, checked against its declaration.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::files::{self, Places};
use super::keys;
use super::problem::Problem;
use super::schema::{self, Absent, FileUse, Item, Key, Kind, Table, nearest};
use super::value::{Value, value_of};
use crate::limits::CONFIG_SHOWN_BYTES_MAX;

/// What is known while a file is read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// The text of the file, for lines and values in errors.
    pub(super) source: &'a str,
    /// Where paths start.
    pub(super) places: Places,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
    /// What is insecure or without effect so far.
    pub(super) warnings: Vec<String>,
}

impl Reading<'_> {
    /// The line of a place in the source, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.source.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// Adds something wrong with the file.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds something that the operator should know.
    pub(super) fn warn(&mut self, key: &str, text: impl Display) {
        self.warnings.push(format!("{key}: {text}"));
    }
}

/// What stands for a value that could be a secret.
const HIDDEN: &str = "(not shown)";

/// The values of one table, with the defaults of the declaration.
///
/// A key whose value was wrong reads as `None`, and the error has been noted.
#[derive(Debug)]
pub(super) struct Section {
    table: &'static Table,
    /// How errors call it: `listen`, or `backend 2`.
    label: String,
    line: Option<usize>,
    values: BTreeMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    value: Option<Value>,
    line: Option<usize>,
    shown: Option<String>,
    /// True once the program has asked for it.
    taken: Cell<bool>,
}

impl Section {
    /// Reads a table; `given` is what stands in the file, `line` where it starts.
    pub(super) fn read(
        table: &'static Table,
        label: String,
        given: Option<(&DeTable<'_>, usize)>,
        reading: &mut Reading<'_>,
    ) -> Self {
        let line = given.map(|(_, line)| line);
        let mut section = Self {
            table,
            label,
            line,
            values: BTreeMap::new(),
        };
        for (name, value) in given.iter().flat_map(|(content, _)| content.iter()) {
            let line = reading.line(name.span().start);
            if schema::subtable(table, name.get_ref()).is_some() {
                continue;
            }
            let Some(key) = table.key(name.get_ref()) else {
                let problem = unknown_key(table, &section.label, name.get_ref());
                reading.problem(problem.at(Some(line)));
                continue;
            };
            let source = reading.source.get(value.span()).unwrap_or_default();
            let shown = shown(key, value.get_ref(), source);
            let entry = section.check(key, value.get_ref(), reading, (line, shown));
            section.values.insert(key.name, entry);
        }
        section.fill(reading);
        section
    }

    fn check(
        &self,
        key: &Key,
        value: &DeValue<'_>,
        reading: &mut Reading<'_>,
        (line, shown): (usize, String),
    ) -> Entry {
        let name = self.name_of(key.name);
        let value = value_of(key.kind, value);
        let value = value.and_then(|value| self.resolved(key, value, reading));
        let value = value.map_err(|why| {
            let problem = Problem::of(name, why)
                .at(Some(line))
                .given(Some(shown.clone()));
            reading.problem(problem.valid(key.kind.valid()));
        });
        Entry {
            value: value.ok(),
            line: Some(line),
            shown: Some(shown),
            taken: Cell::new(false),
        }
    }

    /// A path where the text is one, and otherwise the value itself.
    fn resolved(
        &self,
        key: &Key,
        value: Value,
        reading: &mut Reading<'_>,
    ) -> Result<Value, String> {
        if let (Kind::File(file_use), Value::Text(text)) = (key.kind, &value) {
            return path_of(file_use, &self.name_of(key.name), text, reading);
        }
        Ok(value)
    }

    /// Adds the defaults, and an error for each key that must be there and is not.
    fn fill(&mut self, reading: &mut Reading<'_>) {
        for key in self.table.keys {
            if self.values.contains_key(key.name) {
                continue;
            }
            match key.absent {
                Absent::Required => {
                    let problem = Problem::of(self.name_of(key.name), "is missing");
                    reading.problem(problem.at(self.line).valid(key.kind.valid()));
                }
                Absent::Default(literal) => self.set_default(key, literal, reading),
                Absent::ByFlavor { .. } | Absent::RequiredWhen(_) | Absent::Unset { .. } => {}
            }
        }
    }

    /// Gives the keys that depend on the flavor their defaults.
    pub(super) fn fill_by_flavor(&mut self, active_directory: bool, reading: &mut Reading<'_>) {
        for key in self.table.keys {
            if let Absent::ByFlavor {
                active_directory: left,
                openldap: right,
            } = key.absent
                && !self.values.contains_key(key.name)
            {
                self.set_default(key, if active_directory { left } else { right }, reading);
            }
        }
    }

    fn set_default(&mut self, key: &'static Key, literal: &str, reading: &mut Reading<'_>) {
        // A default that does not fit its own declaration is a defect that a test finds; the
        // reader says so instead of going on without a value.
        let value = DeValue::parse(literal)
            .map_err(|error| error.to_string())
            .and_then(|value| value_of(key.kind, value.get_ref()))
            .and_then(|value| self.resolved(key, value, reading))
            .map_err(|why| {
                let name = self.name_of(key.name);
                reading.problem(Problem::of(name, format!("the default {literal} {why}")));
            });
        let entry = Entry {
            value: value.ok(),
            line: None,
            shown: None,
            taken: Cell::new(true),
        };
        self.values.insert(key.name, entry);
    }

    /// How errors call a key of this table.
    pub(super) fn name_of(&self, key: &str) -> String {
        format!("{}.{key}", self.label)
    }

    /// Something wrong with the value of a key, with its line and value.
    pub(super) fn problem(&self, key: &str, why: impl Into<String>) -> Problem {
        let entry = self.values.get(key);
        let line = entry.and_then(|entry| entry.line).or(self.line);
        let given = entry.and_then(|entry| entry.shown.clone());
        Problem::of(self.name_of(key), why).at(line).given(given)
    }

    /// Whether the key stands in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values
            .get(key)
            .is_some_and(|entry| entry.line.is_some())
    }

    /// Notes that a key with [`Absent::RequiredWhen`] is missing, if it is.
    pub(super) fn require(&self, key: &'static str, reading: &mut Reading<'_>) {
        let Some(declared) = self.table.key(key) else {
            return;
        };
        if let Absent::RequiredWhen(when) = declared.absent
            && !self.values.contains_key(key)
        {
            let why = format!("is missing; it is needed when {when}");
            reading.problem(self.problem(key, why).valid(declared.kind.valid()));
        }
    }

    /// Warns about keys that stand in the file and that nothing asked for.
    pub(super) fn warn_untaken(&self, reading: &mut Reading<'_>) {
        for (name, entry) in &self.values {
            if !entry.taken.get() && entry.value.is_some() {
                reading.warn(
                    &self.name_of(name),
                    "it has no effect with the other settings of the file",
                );
            }
        }
    }

    /// Every key that has a value, with its text; and the path, where it is one.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&'static Key, String, Option<&Path>)> {
        let entries = self.values.iter();
        entries.filter_map(|(name, entry)| {
            let key = self.table.key(name)?;
            let value = entry.value.as_ref()?;
            let path = match value {
                Value::Path(path) => Some(path.as_path()),
                Value::Integer(_) | Value::Boolean(_) | Value::Text(_) | Value::List(_) => None,
            };
            Some((key, value.to_string(), path))
        })
    }

    fn take(&self, key: &str) -> Option<&Value> {
        let entry = self.values.get(key)?;
        entry.taken.set(true);
        entry.value.as_ref()
    }

    /// A whole number.
    pub(super) fn integer<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        match self.take(key)? {
            Value::Integer(value) => T::try_from(*value).ok(),
            Value::Boolean(_) | Value::Text(_) | Value::Path(_) | Value::List(_) => None,
        }
    }

    /// A truth value.
    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(value) => Some(*value),
            Value::Integer(_) | Value::Text(_) | Value::Path(_) | Value::List(_) => None,
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::Text(value) => Some(value.clone()),
            Value::Integer(_) | Value::Boolean(_) | Value::Path(_) | Value::List(_) => None,
        }
    }

    /// A choice, by its table.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
    }

    /// A path, resolved.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        match self.take(key)? {
            Value::Path(value) => Some(value.clone()),
            Value::Integer(_) | Value::Boolean(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    /// A list of texts.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.take(key)? {
            Value::List(value) => Some(value.clone()),
            Value::Integer(_) | Value::Boolean(_) | Value::Text(_) | Value::Path(_) => None,
        }
    }
}

/// The error for a key that is not declared.
///
/// Its value is never shown: a key that nobody declared may hold anything.
fn unknown_key(table: &Table, label: &str, name: &str) -> Problem {
    let shown: String = name.escape_debug().take(CONFIG_SHOWN_BYTES_MAX).collect();
    let full = format!("{label}.{shown}");
    let with_file = format!("{name}_file");
    if table.key(&with_file).is_some() {
        let why = format!("secrets are given by file: use {with_file}");
        return Problem::of(full, why);
    }
    if let Some(problem) = misplaced_secret(&full, name) {
        return problem;
    }
    let why = if let Some(near) = nearest(name, table.keys.iter().map(|key| key.name)) {
        format!("there is no such key; did you mean `{near}`?")
    } else if let Some(other) = keys::TABLES.iter().find(|other| other.key(name).is_some()) {
        let brackets = if other.form.repeats() {
            ("[[", "]]")
        } else {
            ("[", "]")
        };
        let (open, close) = brackets;
        format!(
            "there is no such key here; it belongs into {open}{}{close}",
            other.name
        )
    } else {
        "there is no such key".to_owned()
    };
    Problem::of(full, why)
}

fn misplaced_secret(shown: &str, name: &str) -> Option<Problem> {
    let lower = name.to_ascii_lowercase();
    let words = ["password", "passwd", "secret", "token"];
    let why = "there is no such key, and secrets are given by file only";
    let found = words.iter().any(|word| lower.contains(word));
    found.then(|| Problem::of(shown, why))
}

/// The error for a table that is not declared.
pub(super) fn unknown_table(name: &str) -> Problem {
    let shown: String = name.escape_debug().take(CONFIG_SHOWN_BYTES_MAX).collect();
    if let Some(table) = keys::TABLES.iter().find(|table| table.key(name).is_some()) {
        return Problem::of(
            shown,
            format!("this key belongs below a [{}] line", table.name),
        );
    }
    if let Some(problem) = misplaced_secret(&shown, name) {
        return problem;
    }
    match nearest(name, keys::TABLES.iter().map(|table| table.name)) {
        Some(near) => Problem::of(
            shown,
            format!("there is no such table; did you mean [{near}]?"),
        ),
        None => Problem::of(shown, "there is no such table"),
    }
}

/// The value as it stands in the file, shortened, unless it could be a secret.
fn shown(key: &Key, value: &DeValue<'_>, source: &str) -> String {
    // A password that was put where its file's path belongs does not look like a path.
    let path_like = |text: &str| {
        ["/", "./", "../", files::CREDENTIAL_PREFIX]
            .iter()
            .any(|start| text.starts_with(start))
    };
    if key.kind.holds_secret() && !value.as_str().is_some_and(path_like) {
        return HIDDEN.to_owned();
    }
    // `user:password@host` in a URL.
    if matches!(key.kind, Kind::List(Item::Url)) && source.contains('@') {
        return HIDDEN.to_owned();
    }
    let escape = |char: char| match char.is_control() {
        true => char.escape_default().collect(),
        false => char.to_string(),
    };
    let mut text: String = source.chars().map(escape).collect();
    if text.len() > CONFIG_SHOWN_BYTES_MAX {
        let end = (0..=CONFIG_SHOWN_BYTES_MAX)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The path that a text means, checked by what the program does with the file.
fn path_of(
    file_use: FileUse,
    name: &str,
    text: &str,
    reading: &mut Reading<'_>,
) -> Result<Value, String> {
    let path = reading.places.resolve(text)?;
    if file_use == FileUse::Append {
        return Ok(Value::Path(path));
    }
    if let Some(why) = files::unreadable(&path) {
        return Err(format!("the file {why}"));
    }
    if files::open_to_all(&path) {
        match file_use {
            FileUse::PrivateKey => {
                return Err("the file holds a key and is open to everybody: chmod o= it".to_owned());
            }
            FileUse::Password => {
                let path = path.display();
                reading.warn(name, format!("{path} is open to everybody: chmod o= it"));
            }
            FileUse::Read | FileUse::Append => {}
        }
    }
    Ok(Value::Path(path))
}
