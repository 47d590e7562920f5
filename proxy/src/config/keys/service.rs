//! The keys of `[[service_account]]`.

use super::{LISTEN_TLS, key, names};
use crate::config::schema::{Absent, Form, Item, Kind, Table};

/// `[[service_account]]`.
pub(super) static SERVICE_ACCOUNT: Table = Table {
    name: "service_account",
    form: Form::Several,
    doc: &[
        "Roles of programs that the database itself authenticates, beside people on the same port.",
        "Their SCRAM exchange passes through, so that Postern learns no password; the role has to \
         be there already, and Postern changes nothing about it.",
        "Their sessions are recorded, limited, listed and ended like everybody's, and `postern \
         revoke ROLE` keeps one out; the directory has no say about them.",
        "Channel binding ends where TLS does: where the way to the database has TLS too, clients \
         of libpq that connect with TLS need `channel_binding=disable`.",
        "It is passed on where the listener's certificate is the database's own, because a \
         connection is known by that.",
    ],
    keys: &[
        key(
            "roles",
            Kind::List(Item::Text),
            Absent::Required,
            &[
                "The names of the roles, exactly as they are in the database.",
                "Nobody of the directory gets in under such a name.",
            ],
        ),
        key(
            "networks",
            Kind::List(Item::Text),
            Absent::Required,
            &[
                "Where they may come from: prefixes such as `10.20.0.0/24` or `fd00:20::/64`.",
                "From elsewhere such a name is asked for a password, as every name is, and \
                 refused.",
            ],
        ),
        key(
            "tls",
            Kind::Choice(&names(&LISTEN_TLS)),
            Absent::Default(r#""require""#),
            &[
                "Whether they may come without TLS.",
                "`allow-plaintext` needs `listen.tls = \"allow-plaintext\"` too; what such a \
                 session says can be read on the way.",
            ],
        ),
        key(
            "replication",
            Kind::Boolean,
            Absent::Default("false"),
            &[
                "Whether they may open replication connections, as backups and standbys do.",
                "The role needs REPLICATION, which its owner in the database gives it.",
            ],
        ),
    ],
};
