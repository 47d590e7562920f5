//! The keys of `[role_store]` and `[[backend]]`, which share how a server is reached.

use super::{AUTH_METHODS, SSLMODE, key, milliseconds, names};
use crate::config::schema::{Absent, FileUse, Form, Item, Key, Kind, Table};

const HOST: Key = key(
    "host",
    Kind::Text,
    Absent::Required,
    &["The PostgreSQL server: a name, which its certificate must carry, or an address."],
);
const PORT: Key = key(
    "port",
    Kind::Integer {
        unit: "",
        min: 1,
        max: 65_535,
    },
    Absent::Default("5432"),
    &["Its TCP port."],
);
const ENDPOINT_SSLMODE: Key = key(
    "sslmode",
    Kind::Choice(&names(&SSLMODE)),
    Absent::Default(r#""verify-full""#),
    &[
        "How TLS is used, as libpq means it.",
        "Only `verify-full` proves that the server is the one that was meant.",
    ],
);
const STORE_SSLMODE: Key = key(
    "sslmode",
    Kind::Choice(&names(&SSLMODE)),
    Absent::Default(r#""verify-full""#),
    &[
        "How TLS is used, as libpq means it.",
        "Only `verify-full` proves that the server is the one that was meant.",
        "Where TLS proves nothing (`disable`, `allow`, `prefer`, and `require` without \
         `tls_ca_file`), the server may ask for `scram-sha-256` and nothing else.",
        "With `require` that is bound to the server's certificate (channel binding), which one \
         signed with Ed25519 or RSA-PSS does not allow.",
    ],
);
const ENDPOINT_CA: Key = key(
    "tls_ca_file",
    Kind::File(FileUse::Read),
    Absent::Unset {
        meaning: "The certificate authorities of the system are believed.",
        example: r#""/etc/postern/database-ca.pem""#,
    },
    &["The certificate authorities that sign the server's certificate, in PEM."],
);
const ENDPOINT_TIMEOUT: Key = key(
    "connect_timeout_ms",
    milliseconds(100, 60_000),
    Absent::Default("5000"),
    &["The longest time for TCP, TLS and authentication together."],
);

/// `[role_store]`.
pub(super) static ROLE_STORE: Table = Table {
    name: "role_store",
    form: Form::One,
    doc: &[
        "The privileged connection that makes roles and memberships match the directory.",
        "`postern init-sql` installs the `postern` schema there.",
    ],
    keys: &[
        HOST,
        PORT,
        STORE_SSLMODE,
        ENDPOINT_CA,
        ENDPOINT_TIMEOUT,
        key(
            "database",
            Kind::Text,
            Absent::Default(r#""postgres""#),
            &["The database that holds the `postern` schema."],
        ),
        key(
            "user",
            Kind::Text,
            Absent::Default(r#""postern""#),
            &[
                "The role that makes roles: the provisioner.",
                "`postern init-sql` makes it; it may call the schema's routines and nothing else.",
            ],
        ),
        key(
            "password_file",
            Kind::File(FileUse::Password),
            Absent::Required,
            &["The file that holds its password."],
        ),
        key(
            "statement_timeout_ms",
            milliseconds(100, 60_000),
            Absent::Default("3000"),
            &["The longest time for one call."],
        ),
    ],
};

/// `[[backend]]`.
pub(super) static BACKEND: Table = Table {
    name: "backend",
    form: Form::Many,
    doc: &[
        "A database server behind Postern.",
        "A session goes to the server that lists its database, or else to the one that lists \
         none.",
    ],
    keys: &[
        HOST,
        PORT,
        ENDPOINT_SSLMODE,
        ENDPOINT_CA,
        ENDPOINT_TIMEOUT,
        key(
            "databases",
            Kind::List(Item::Text),
            Absent::Unset {
                meaning: "All databases that no other `[[backend]]` lists.",
                example: r#"["payroll", "crm"]"#,
            },
            &["The databases that go to this server."],
        ),
        key(
            "auth_methods",
            Kind::List(Item::Choice(&names(&AUTH_METHODS))),
            Absent::Default(r#"["scram-sha-256"]"#),
            &[
                "How the server may authenticate Postern; anything else ends the login.",
                "`scram-sha-256` uses channel binding where TLS gives it.",
                "`md5` and `cleartext` show the role's secret to whoever reads the connection.",
                "`trust` accepts a server that asks for nothing, and so checks nobody.",
            ],
        ),
        key(
            "client_address",
            Kind::Boolean,
            Absent::Default("false"),
            &[
                "Whether the client's address is put behind its `application_name`, as in `psql - \
                 192.0.2.7:51234`, so that `pg_stat_activity` and the server's log have it.",
                "It is for people who read them; a session can give itself another name.",
            ],
        ),
    ],
};
