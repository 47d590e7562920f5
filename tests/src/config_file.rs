//! Postern's configuration file, put together key by key.

use std::fmt;
use std::path::{Path, PathBuf};

/// A TOML file of tables with simple values, in the order in which they were set.
#[derive(Debug, Clone, Default)]
pub struct ConfigFile {
    tables: Vec<Table>,
}

#[derive(Debug, Clone)]
struct Table {
    name: String,
    /// `[[name]]`, of which there may be several.
    is_array: bool,
    values: Vec<(String, Value)>,
}

/// A value of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A number.
    Number(i64),
    /// True or false.
    Bool(bool),
    /// A list of strings.
    List(Vec<String>),
    /// A list of numbers.
    Numbers(Vec<i64>),
}

impl ConfigFile {
    /// A file without a table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key of the table `[table]`, or of the last `[[table]]`; makes the table if need be.
    pub fn set(&mut self, table: &str, key: &str, value: impl Into<Value>) -> &mut Self {
        let index = self.tables.iter().rposition(|it| it.name == table);
        let index = index.unwrap_or_else(|| self.add(table, false));
        if let Some(table) = self.tables.get_mut(index) {
            table.values.retain(|(name, _)| name != key);
            table.values.push((key.to_owned(), value.into()));
        }
        self
    }

    /// Begins another `[[table]]`.
    pub fn begin(&mut self, table: &str) -> &mut Self {
        self.add(table, true);
        self
    }

    /// Removes a key from the table that [`ConfigFile::set`] would set it in.
    pub fn unset(&mut self, table: &str, key: &str) -> &mut Self {
        if let Some(table) = self.tables.iter_mut().rfind(|it| it.name == table) {
            table.values.retain(|(name, _)| name != key);
        }
        self
    }

    /// Removes every table of a name.
    pub fn remove(&mut self, table: &str) -> &mut Self {
        self.tables.retain(|it| it.name != table);
        self
    }

    fn add(&mut self, name: &str, is_array: bool) -> usize {
        self.tables.push(Table {
            name: name.to_owned(),
            is_array,
            values: Vec::new(),
        });
        self.tables.len() - 1
    }
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            if table.is_array {
                writeln!(f, "[[{}]]", table.name)?;
            } else {
                writeln!(f, "[{}]", table.name)?;
            }
            for (key, value) in &table.values {
                writeln!(f, "{key} = {value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quote(f, text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::List(items) => list(f, items, |f, it| quote(f, it)),
            Self::Numbers(items) => list(f, items, |f, it| write!(f, "{it}")),
        }
    }
}

/// A TOML array, <https://toml.io/en/v1.0.0#array>.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut item: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str("[")?;
    for (index, value) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        item(f, value)?;
    }
    f.write_str("]")
}

/// A TOML basic string, <https://toml.io/en/v1.0.0#string>.
fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(f, "\\{letter}")?,
            it if it.is_control() => write!(f, "\\u{:04x}", u32::from(it))?,
            it => write!(f, "{it}")?,
        }
    }
    f.write_str("\"")
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Self {
        Self::Text(path.display().to_string())
    }
}

impl From<&PathBuf> for Value {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(items: [&str; N]) -> Self {
        Self::List(items.iter().map(|&it| it.to_owned()).collect())
    }
}

impl From<Vec<String>> for Value {
    fn from(items: Vec<String>) -> Self {
        Self::List(items)
    }
}

impl<const N: usize> From<[u16; N]> for Value {
    fn from(items: [u16; N]) -> Self {
        Self::Numbers(items.map(i64::from).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_twice_stands_once_and_arrays_keep_their_order() {
        let mut file = ConfigFile::new();
        file.set("cache", "recheck_s", 60)
            .set("cache", "recheck_s", 2)
            .begin("backend")
            .set("backend", "host", "a")
            .begin("backend")
            .set("backend", "host", "b\"\\\n")
            .set("backend", "databases", ["x", "y"])
            .set("backend", "ports", [1_u16, 2])
            .set("listen", "tls", false);
        let expected = "[cache]\nrecheck_s = 2\n\n[[backend]]\nhost = \"a\"\n\n[[backend]]\n\
                        host = \"b\\\"\\\\\\u000a\"\ndatabases = [\"x\", \"y\"]\n\
                        ports = [1, 2]\n\n\
                        [listen]\ntls = false\n\n";
        assert_eq!(file.to_string(), expected);
    }
}
