//! Every table and key of the configuration file, declared once.

use super::schema::{Absent, FileUse, Form, Item, Key, Kind, Table};
use super::{
    AuthMethod, CredentialMode, Exchange, LdapFlavor, ListenTls, LocalOrder, MissingGroup,
    NestedStrategy, SslMode,
};

mod admin;
mod cluster;
mod directory;
mod groups;
mod limits;
mod lockout;
mod perimeter;
mod revocation;
mod servers;
mod service;

/// The tables, in the order of the documentation.
pub(super) const TABLES: &[&Table] = &[
    &LISTEN,
    &directory::DIRECTORY,
    &LOCAL,
    &service::SERVICE_ACCOUNT,
    &groups::GROUPS,
    &groups::GROUP_RULE,
    &servers::ROLE_STORE,
    &servers::BACKEND,
    &CREDENTIAL,
    &cluster::CLUSTER,
    &CACHE,
    &lockout::LOCKOUT,
    &revocation::REVOCATION,
    &AUDIT,
    &CONTROL,
    &admin::ADMIN,
    &METRICS,
    &limits::LIMITS,
    &perimeter::PERIMETER,
    &perimeter::PROTECT,
    &perimeter::ALLOW,
];

/// `listen.tls`.
pub(super) const LISTEN_TLS: [(&str, ListenTls); 2] = [
    ("require", ListenTls::Require),
    ("allow-plaintext", ListenTls::AllowPlaintext),
];
/// `directory.kind`; true for `ldap`.
pub(super) const DIRECTORY_KIND: [(&str, bool); 2] = [("ldap", true), ("local", false)];
/// `directory.flavor`.
pub(super) const FLAVOR: [(&str, LdapFlavor); 2] = [
    ("active-directory", LdapFlavor::ActiveDirectory),
    ("openldap", LdapFlavor::OpenLdap),
];
/// `directory.bind`; true for `search`.
pub(super) const BIND: [(&str, bool); 2] = [("search", true), ("template", false)];
/// `directory.nested_strategy`.
pub(super) const NESTED_STRATEGY: [(&str, NestedStrategy); 2] = [
    ("in-chain", NestedStrategy::InChain),
    ("walk", NestedStrategy::Walk),
];
/// `local.order`.
pub(super) const LOCAL_ORDER: [(&str, LocalOrder); 2] =
    [("first", LocalOrder::First), ("last", LocalOrder::Last)];
/// `local.exchange`.
pub(super) const EXCHANGE: [(&str, Exchange); 2] = [
    ("scram-sha-256", Exchange::ScramSha256),
    ("password", Exchange::Password),
];
/// `groups.missing`.
pub(super) const MISSING: [(&str, MissingGroup); 3] = [
    ("create", MissingGroup::Create),
    ("skip", MissingGroup::Skip),
    ("refuse", MissingGroup::Refuse),
];
/// `sslmode`.
pub(super) const SSLMODE: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];
/// `backend.auth_methods`.
pub(super) const AUTH_METHODS: [(&str, AuthMethod); 4] = [
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("md5", AuthMethod::Md5),
    ("cleartext", AuthMethod::Cleartext),
    ("trust", AuthMethod::Trust),
];
/// `credential.mode`.
pub(super) const CREDENTIAL_MODE: [(&str, CredentialMode); 2] = [
    ("derived", CredentialMode::Derived),
    ("mirror", CredentialMode::Mirror),
];

pub(super) use directory::FEED;
pub(super) use perimeter::{MODE, PLACE};
pub(super) use revocation::{AFTER_DIRECTORY_AWAY, DEPROVISION, LOST_GROUP};

/// The first halves of a list of choices.
pub(super) const fn names<T: Copy, const N: usize>(
    choices: &[(&'static str, T); N],
) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        // Both have N elements; this runs in the compiler, which refuses an index out of bounds.
        names[index] = choices[index].0;
        index += 1;
    }
    names
}

/// A declaration on one line.
pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    absent: Absent,
    doc: &'static [&'static str],
) -> Key {
    Key {
        name,
        kind,
        absent,
        doc,
    }
}

/// A whole number of milliseconds.
pub(super) const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Integer {
        unit: "milliseconds",
        min,
        max,
    }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Integer {
        unit: "seconds",
        min,
        max,
    }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Integer { unit: "", min, max }
}

static LISTEN: Table = Table {
    name: "listen",
    form: Form::One,
    doc: &["Where clients connect."],
    keys: &[
        key(
            "addresses",
            Kind::List(Item::Socket),
            Absent::Default(r#"["0.0.0.0:5050"]"#),
            &[
                "The sockets to listen on, each as `address:port`.",
                "Where systemd passes a socket on, as with the package and the appliance, \
                 `ListenStream=` of `postern.socket` counts instead.",
                "A port of 0 takes a free one, which the log names.",
            ],
        ),
        key(
            "tls",
            Kind::Choice(&names(&LISTEN_TLS)),
            Absent::Default(r#""require""#),
            &[
                "Whether a password may be asked for without TLS.",
                "`require` refuses a client without TLS before it sends a password.",
                "`allow-plaintext` lets passwords cross the network in clear text.",
            ],
        ),
        key(
            "tls_cert_file",
            Kind::File(FileUse::Read),
            Absent::RequiredWhen("`tls` is \"require\""),
            &["The certificate that clients see: a PEM chain, the server's own certificate first."],
        ),
        key(
            "tls_key_file",
            Kind::File(FileUse::PrivateKey),
            Absent::RequiredWhen("`tls` is \"require\""),
            &["The private key of that certificate, in PEM."],
        ),
        key(
            "denied_parameters",
            Kind::List(Item::Text),
            Absent::Default("[]"),
            &[
                "Startup parameters that a client may not send.",
                "`replication` is a matter of `group_rule.replication`.",
                "Every other parameter is forwarded to the database as the client sent it.",
            ],
        ),
        key(
            "proxy_protocol_from",
            Kind::List(Item::Text),
            Absent::Unset {
                meaning: "Nobody speaks for others: an address is that of the connection.",
                example: r#"["10.20.0.8/32", "10.20.0.9/32"]"#,
            },
            &[
                "The load balancers in front of Postern, as prefixes of addresses.",
                "Each of them must begin every connection with a header of the PROXY protocol, \
                 version 2, and is believed about the client's address.",
                "Limits by address, the audit file and the log then have the client's.",
            ],
        ),
    ],
};

static LOCAL: Table = Table {
    name: "local",
    form: Form::Optional,
    doc: &[
        "A file of accounts and groups, alone or beside the directory.",
        "It is the way in when the directory is gone, and it outlives a person's directory \
         account.",
    ],
    keys: &[
        key(
            "file",
            Kind::File(FileUse::Password),
            Absent::Required,
            &["The accounts and groups, as `postern local passwd` writes them."],
        ),
        key(
            "order",
            Kind::Choice(&names(&LOCAL_ORDER)),
            Absent::Default(r#""last""#),
            &[
                "When the file is asked, if there is a directory too.",
                "`first`: a name in the file is never asked of the directory.",
                "`last`: the file is asked for names that the directory does not know, and for \
                 all names while the directory cannot be reached.",
                "With a `domain` it has no effect.",
            ],
        ),
        key(
            "domain",
            Kind::Text,
            Absent::Unset {
                meaning: "Names of the file look like those of the directory, and `order` decides.",
                example: r#""local""#,
            },
            &[
                "What tells the accounts of the file from people of the directory: they log in as \
                 `NAME@local`, with this text for `local`.",
                "Such a name is never asked of the directory, and any other never of the file.",
            ],
        ),
        key(
            "exchange",
            Kind::Choice(&names(&EXCHANGE)),
            Absent::Unset {
                meaning: "It is `scram-sha-256`, but `password` where there is a directory and no \
                          `domain`, and with a `credential.mode` of \"mirror\".",
                example: r#""password""#,
            },
            &[
                "How an account of the file proves who it is.",
                "`scram-sha-256`: without showing its password, and bound to the TLS connection \
                 where the certificate and the client can do that; names that nobody has are \
                 challenged just the same.",
                "`password`: by its password inside TLS, as people of the directory do.",
            ],
        ),
    ],
};

static CREDENTIAL: Table = Table {
    name: "credential",
    form: Form::One,
    doc: &["How a role's password in PostgreSQL is made."],
    keys: &[
        key(
            "mode",
            Kind::Choice(&names(&CREDENTIAL_MODE)),
            Absent::Default(r#""derived""#),
            &[
                "`derived`: from the cluster key, the role and the epoch, so that nobody but the \
                 proxies can log in as the role.",
                "`mirror`: the person's own directory password, so that the role also works where \
                 the proxy is bypassed.",
            ],
        ),
        key(
            "mirror_reason",
            Kind::Text,
            Absent::Unset {
                meaning: "A `mode` of \"mirror\" is called out at every start.",
                example: r#""the reporting server logs in directly until it is moved""#,
            },
            &["Why this site needs `mode = \"mirror\"`, for whoever reads the file later."],
        ),
        key(
            "cluster_key_file",
            Kind::File(FileUse::PrivateKey),
            Absent::Required,
            &[
                "32 random bytes in hex or base64, the same on every proxy of a cluster.",
                "`openssl rand -hex 32` makes them.",
            ],
        ),
        key(
            "epoch",
            count(0, 4_294_967_295),
            Absent::Default("1"),
            &["Raise it to change the secret of every role."],
        ),
    ],
};

static CACHE: Table = Table {
    name: "cache",
    form: Form::One,
    doc: &["How long an answer of the directory is believed."],
    keys: &[
        key(
            "entries_max",
            count(1, 10_000_000),
            Absent::Default("10000"),
            &["How many people are remembered at once."],
        ),
        key(
            "recheck_s",
            seconds(1, 3_600),
            Absent::Default("60"),
            &["After this time, the next login of a person asks the directory again."],
        ),
        key(
            "dead_s",
            seconds(1, 86_400),
            Absent::Default("900"),
            &[
                "After this time, what is remembered is worth nothing.",
                "It is counted from the directory's answer, and use does not extend it.",
            ],
        ),
        key(
            "stale_s",
            seconds(0, 86_400),
            Absent::Default("90"),
            &[
                "How long what is remembered still opens the door while the directory cannot be \
                 reached.",
                "It is counted from the directory's answer; 0 refuses from the first failure.",
            ],
        ),
        key(
            "negative_s",
            seconds(0, 3_600),
            Absent::Default("60"),
            &[
                "How long a wrong password is remembered, so that a client that tries it again \
                 and again does not lock the account in the directory.",
            ],
        ),
    ],
};

static AUDIT: Table = Table {
    name: "audit",
    form: Form::One,
    doc: &["The record of every login, as a chain that shows edits."],
    keys: &[key(
        "file",
        Kind::File(FileUse::Append),
        Absent::Default(r#""/var/log/postern/audit.jsonl""#),
        &[
            "JSON lines, appended to; `postern audit verify` checks them.",
            "New logins are refused while it cannot be written.",
        ],
    )],
};

static CONTROL: Table = Table {
    name: "control",
    form: Form::One,
    doc: &["How commands on the same machine reach the running process."],
    keys: &[key(
        "socket",
        Kind::File(FileUse::Append),
        Absent::Unset {
            meaning: "`control.sock` in `$RUNTIME_DIRECTORY`, which systemd sets for a service \
                      with `RuntimeDirectory=`, and no socket where there is none; commands ask \
                      at `/run/postern/control.sock`.",
            example: r#""/run/postern/control.sock""#,
        },
        &["A unix socket that only root and the user of the process may use."],
    )],
};

static METRICS: Table = Table {
    name: "metrics",
    form: Form::One,
    doc: &["What the process tells a monitoring system."],
    keys: &[key(
        "listen",
        Kind::Text,
        Absent::Unset {
            meaning: "Nothing is told.",
            example: r#""127.0.0.1:9187""#,
        },
        &[
            "The address and port of an HTTP server: `/metrics` in OpenMetrics, `/readyz` with \
             what is not well, and `/livez`.",
            "Whoever reaches it may read it: it names no person, role or database, and is not \
             encrypted.",
        ],
    )],
};
