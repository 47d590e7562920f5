//! What a configuration says, key by key, to tell two of them apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ring::digest::{Context, SHA256};

use super::schema::{FileUse, Kind};
use super::section::Section;
use crate::limits::DIRECTORY_FILE_BYTES_MAX;

/// Every key with its value, defaults included, and what the files hold that are read at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Values {
    texts: BTreeMap<String, String>,
    /// Digests, so that no secret is kept; `None` of a file that cannot be read.
    contents: BTreeMap<String, Option<[u8; 32]>>,
}

/// One difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key, as `limits.logins_max` or `backend 2.host`.
    pub(crate) key: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Value {
        before: Option<String>,
        now: Option<String>,
    },
    /// The same file holds something else.
    Content,
}

/// What takes another process, and why.
const FIXED: [(&str, &str); 7] = [
    ("listen.addresses", "the sockets are open already"),
    ("metrics.listen", "the socket is open already"),
    ("cluster.listen", "the socket is open already"),
    ("control.socket", "the socket is open already"),
    (
        "audit.file",
        "the chain of records goes on in the open file",
    ),
    (
        "limits.sessions_max",
        "the splice threads have memory for so many",
    ),
    ("limits.splice_threads", "the threads are running"),
];

/// The key of the file whose content takes another process.
const CLUSTER_KEY: &str = "credential.cluster_key_file";

/// Whether a change of a key takes a restart.
pub(super) fn is_fixed(key: &str) -> bool {
    key == CLUSTER_KEY || FIXED.iter().any(|(fixed, _)| *fixed == key)
}

impl Values {
    /// What the tables of a file say.
    pub(super) fn of<'a>(sections: impl Iterator<Item = &'a Section>) -> Self {
        let mut values = Self::default();
        for section in sections {
            for (key, text, path) in section.settings() {
                let name = section.name_of(key.name);
                if let (Kind::File(file_use), Some(path)) = (key.kind, path)
                    && is_read_at_start(&name, file_use)
                {
                    values.contents.insert(name.clone(), digest(path));
                }
                values.texts.insert(name, text);
            }
        }
        values
    }

    /// Every key that has a value, and the value, as an operator may see them.
    ///
    /// Secrets are in files of their own, whose paths are no secrets; a URL may have a password in
    /// it, though none should.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let shown = |value| match is_url_with_password(value) {
            true => "(not shown)",
            false => value,
        };
        let texts = self.texts.iter();
        texts.map(move |(key, value)| (key.as_str(), shown(value)))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// What is different in `now`, in the order of the keys.
    pub(crate) fn changes(&self, now: &Self) -> Vec<Change> {
        let keys = self.texts.keys().chain(now.texts.keys());
        let keys: std::collections::BTreeSet<&String> = keys.collect();
        let mut changes = Vec::new();
        for key in keys {
            let (before, after) = (self.texts.get(key), now.texts.get(key));
            let is_value = before != after;
            let is_content = self.contents.get(key) != now.contents.get(key);
            let what = match (is_value, is_content) {
                (true, _) => What::Value {
                    before: before.cloned(),
                    now: after.cloned(),
                },
                (false, true) => What::Content,
                (false, false) => continue,
            };
            // Another path to the same key is no other key.
            if key == CLUSTER_KEY && !is_content {
                continue;
            }
            changes.push(Change {
                key: key.clone(),
                what,
            });
        }
        changes
    }
}

impl Change {
    /// Why a running process cannot take it, if it cannot.
    pub(crate) fn refusal(&self) -> Option<String> {
        let why = match self.key.as_str() {
            CLUSTER_KEY => "another key seals another audit file",
            key => FIXED.iter().find(|(fixed, _)| *fixed == key)?.1,
        };
        Some(format!("{self}: needs a restart, because {why}"))
    }

    /// Whether it is of one of these tables.
    pub(crate) fn is_of(&self, tables: &[&str]) -> bool {
        let table = self.key.split(['.', ' ']).next().unwrap_or_default();
        tables.contains(&table)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |it: &Option<String>| it.clone().unwrap_or_else(|| "(unset)".to_owned());
        match &self.what {
            What::Value { before, now } => {
                write!(f, "{}: {} -> {}", self.key, text(before), text(now))
            }
            What::Content => write!(f, "{}: the file holds something else", self.key),
        }
    }
}

/// The file of accounts is looked at again and again by itself.
fn is_read_at_start(name: &str, file_use: FileUse) -> bool {
    match file_use {
        FileUse::Read | FileUse::PrivateKey => true,
        FileUse::Password => !["local.file", "admin.accounts_file"].contains(&name),
        FileUse::Append => false,
    }
}

/// `ldaps://user:password@host`, alone or among others.
fn is_url_with_password(value: &str) -> bool {
    let mut behind = value.split("://").skip(1);
    behind.any(|it| {
        it.split(['/', ',', '"'])
            .next()
            .is_some_and(|it| it.contains('@'))
    })
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    let file = File::open(path).ok()?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read = file.take(DIRECTORY_FILE_BYTES_MAX).read_to_end(&mut bytes);
    read.ok()?;
    let mut context = Context::new(&SHA256);
    context.update(&bytes);
    context.finish().as_ref().try_into().ok()
}
