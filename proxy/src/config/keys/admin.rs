//! The keys of `[admin]`.

use super::key;
use crate::config::schema::{Absent, FileUse, Form, Kind, Table};

/// `[admin]`.
pub(super) static ADMIN: Table = Table {
    name: "admin",
    form: Form::Optional,
    doc: &[
        "The admin console: `psql` to a database of a reserved name, with accounts of its own.",
        "No account of the directory and no service account gets in there.",
    ],
    keys: &[
        key(
            "accounts_file",
            Kind::File(FileUse::Password),
            Absent::Required,
            &[
                "The accounts, as `postern local passwd` writes them, in a file of their own.",
                "Their groups are their rights: `show`, `kill`, `revoke`, `restore`, `reload`, \
                 `drain`, `pause`, `resume`, `rotate`; or several at once: `viewer` (`show`), \
                 `helpdesk` (`show`, `kill`, `revoke`, `restore`), `operator` (`show`, `kill`, \
                 `reload`, `drain`, `pause`, `resume`, `rotate`) and `admin` (all).",
                "A change counts from the next login on, and in open sessions from the next \
                  command on.",
            ],
        ),
        key(
            "database",
            Kind::Text,
            Absent::Default(r#""postern""#),
            &["The reserved name; no backend can serve a database of this name."],
        ),
    ],
};
