//! What a declaration of a key is made of.
//!
//! The declarations themselves are in `keys`.
//! Reading with range checks, the search for unknown keys, `postern config default` and
//! `docs/configuration.md` all come from them.

use super::keys;

/// One table of the file, `[name]` or `[[name]]`.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name, without brackets.
    pub(super) name: &'static str,
    /// How often it stands in a file.
    pub(super) form: Form,
    /// What it is about, one sentence an element.
    pub(super) doc: &'static [&'static str],
    /// Its keys, in the order of the documentation.
    pub(super) keys: &'static [Key],
}

/// How often a table stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[name]`; where it is left out, its defaults hold.
    One,
    /// `[name]`; where it is left out, the thing does not exist.
    Optional,
    /// `[[name]]`, once or more often.
    Many,
    /// `[[name]]`, as often as one likes, below a table that is optional itself.
    Several,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name, the unit last.
    pub(super) name: &'static str,
    /// Which values it takes.
    pub(super) kind: Kind,
    /// What holds when it is left out.
    pub(super) absent: Absent,
    /// What it means, one sentence an element.
    pub(super) doc: &'static [&'static str],
}

/// Which values a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A whole number, from `min` to `max`, both included.
    Integer {
        unit: &'static str,
        min: u64,
        max: u64,
    },
    /// `true` or `false`.
    Boolean,
    /// A text that is not empty.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A path; relative ones start at the folder of the configuration file.
    File(FileUse),
    /// A list of such texts.
    List(Item),
}

/// What the program does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileUse {
    /// It must be there and readable.
    Read,
    /// As `Read`, and it holds passwords: world-readable is warned about.
    Password,
    /// As `Read`, and it holds a key: world-readable is refused.
    PrivateKey,
    /// It is made when it is not there.
    Append,
}

/// What a list is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    /// Texts that are not empty.
    Text,
    /// `address:port`.
    Socket,
    /// `ldaps://host[:port]` or `ldap://host[:port]`.
    Url,
    /// Each one of these.
    Choice(&'static [&'static str]),
    /// Ports of TCP, UDP and the like; numbers in the file.
    Port,
}

/// What holds when a key is left out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// The file is refused.
    Required,
    /// The file is refused when this is so; a clause that follows "when".
    RequiredWhen(&'static str),
    /// This value, as it would be written in the file.
    Default(&'static str),
    /// The value of the directory's `flavor`, as it would be written in the file.
    ByFlavor {
        active_directory: &'static str,
        openldap: &'static str,
    },
    /// Nothing; a sentence says what that means, and an example how a value looks.
    Unset {
        meaning: &'static str,
        example: &'static str,
    },
}

impl Form {
    /// Whether it is written with two brackets.
    pub(super) const fn repeats(self) -> bool {
        match self {
            Self::One | Self::Optional => false,
            Self::Many | Self::Several => true,
        }
    }

    /// Whether it may be left out as a whole.
    pub(super) const fn may_be_absent(self) -> bool {
        match self {
            Self::Optional | Self::Several => true,
            Self::One | Self::Many => false,
        }
    }
}

impl Table {
    /// The declaration of a key of this table.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The declaration of a table.
pub(super) fn table(name: &str) -> Option<&'static Table> {
    keys::TABLES
        .iter()
        .copied()
        .find(|table| table.name == name)
}

/// The declaration of a table that stands below another one: `[[perimeter.allow]]`.
pub(super) fn subtable(table: &Table, name: &str) -> Option<&'static Table> {
    keys::TABLES.iter().copied().find(|below| {
        let split = below.name.split_once('.');
        split.is_some_and(|(above, last)| above == table.name && last == name)
    })
}

impl Kind {
    /// Which values are valid, as a noun phrase for errors and documentation.
    pub(super) fn valid(self) -> String {
        match self {
            Self::Integer { unit: "", min, max } => {
                format!("a whole number, {min} to {max}")
            }
            Self::Integer { unit, min, max } => {
                format!("a whole number of {unit}, {min} to {max}")
            }
            Self::Boolean => "true or false".to_owned(),
            Self::Text => "a text that is not empty".to_owned(),
            Self::Choice(choices) => format!("one of {}", quoted(choices)),
            Self::File(FileUse::Read) => "the path of a readable file".to_owned(),
            Self::File(FileUse::Append) => "the path of a file".to_owned(),
            Self::File(FileUse::Password) => {
                "the path of a readable file, or \"credential:NAME\"".to_owned()
            }
            Self::File(FileUse::PrivateKey) => {
                "the path of a file that only its owner and group can read, or \"credential:NAME\""
                    .to_owned()
            }
            Self::List(Item::Text) => "a list of texts that are not empty".to_owned(),
            Self::List(Item::Socket) => {
                "a list of \"address:port\", for example [\"0.0.0.0:5050\", \"[::1]:5050\"]"
                    .to_owned()
            }
            Self::List(Item::Url) => {
                "a list of \"ldaps://host[:port]\" or \"ldap://host[:port]\"".to_owned()
            }
            Self::List(Item::Choice(choices)) => format!("a list out of {}", quoted(choices)),
            Self::List(Item::Port) => "a list of whole numbers, 1 to 65535".to_owned(),
        }
    }

    /// Whether a value that was given by mistake could be a secret.
    pub(super) fn holds_secret(self) -> bool {
        matches!(self, Self::File(FileUse::Password | FileUse::PrivateKey))
    }
}

fn quoted(choices: &[&str]) -> String {
    let quoted: Vec<String> = choices
        .iter()
        .map(|choice| format!("\"{choice}\""))
        .collect();
    quoted.join(", ")
}

/// The name in the file that is nearest to a mistyped one, if any is near.
pub(super) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &str| {
        let bound = (name.len() / 3).max(1);
        let distance = distance(typed, name);
        (distance <= bound).then_some(distance)
    };
    names
        .filter_map(|name| near(name).map(|distance| (distance, name)))
        .min()
        .map(|(_, name)| name)
}

/// The fewest insertions, deletions and replacements of characters between two names.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (above, left_char) in left.chars().enumerate() {
        let mut next = vec![above + 1];
        let pairs = row.iter().zip(row.iter().skip(1)).zip(right.chars());
        for ((diagonal, up), right_char) in pairs {
            let replaced = diagonal + usize::from(left_char != right_char);
            let inserted = next.last().map_or(usize::MAX, |cell| cell + 1);
            next.push(replaced.min(up + 1).min(inserted));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_recognised_and_a_foreign_one_is_not() {
        let names = ["addresses", "tls", "tls_cert_file"];
        assert_eq!(nearest("adresses", names.into_iter()), Some("addresses"));
        assert_eq!(
            nearest("tls_certfile", names.into_iter()),
            Some("tls_cert_file")
        );
        assert_eq!(nearest("tsl", names.into_iter()), None);
        assert_eq!(nearest("workers", names.into_iter()), None);
    }

    #[test]
    fn every_table_and_key_is_declared_once_and_documented() {
        for (index, table) in keys::TABLES.iter().enumerate() {
            assert!(
                keys::TABLES
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != table.name)
            );
            assert!(!table.doc.is_empty(), "{}", table.name);
            for (index, key) in table.keys.iter().enumerate() {
                let twice = table
                    .keys
                    .iter()
                    .skip(index + 1)
                    .any(|other| other.name == key.name);
                assert!(!twice, "{}.{}", table.name, key.name);
                for sentence in key.doc {
                    assert!(
                        sentence.ends_with('.'),
                        "{}.{}: {sentence}",
                        table.name,
                        key.name
                    );
                }
                assert!(!key.doc.is_empty(), "{}.{}", table.name, key.name);
            }
        }
    }
}
