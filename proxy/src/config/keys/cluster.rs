//! `[cluster]`.

use super::key;
use crate::config::schema::{Absent, Form, Item, Kind, Table};

pub(super) static CLUSTER: Table = Table {
    name: "cluster",
    form: Form::Optional,
    doc: &[
        "The other proxies before the same databases, so that a cancel request reaches the one \
         that has the session.",
        "They know each other by `credential.cluster_key_file`, and need no certificates.",
    ],
    keys: &[
        key(
            "listen",
            Kind::Text,
            Absent::Required,
            &["The address and port where the other proxies reach this one."],
        ),
        key(
            "peers",
            Kind::List(Item::Text),
            Absent::Required,
            &[
                "Where the others are reached, each as `host:port`; 32 at most.",
                "This proxy may be among them, so that the list is the same everywhere.",
            ],
        ),
    ],
};
