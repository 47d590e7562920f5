//! The keys of `[directory]`.

use super::{BIND, DIRECTORY_KIND, FLAVOR, NESTED_STRATEGY, key, milliseconds, names, seconds};
use crate::config::FeedChoice;
use crate::config::schema::{Absent, FileUse, Form, Item, Key, Kind, Table};

/// `directory.feed`.
pub(in crate::config) const FEED: [(&str, FeedChoice); 6] = [
    ("auto", FeedChoice::Auto),
    ("syncrepl", FeedChoice::Syncrepl),
    ("notification", FeedChoice::Notification),
    ("dirsync", FeedChoice::DirSync),
    ("poll", FeedChoice::Poll),
    ("off", FeedChoice::Off),
];

const LDAP: Absent = Absent::RequiredWhen("`kind` is \"ldap\"");

/// `[directory]`.
pub(super) static DIRECTORY: Table = Table {
    name: "directory",
    form: Form::One,
    doc: &[
        "Who knows the passwords and the groups.",
        "With `kind = \"local\"`, only `kind` itself matters here.",
    ],
    keys: &[
        key(
            "kind",
            Kind::Choice(&names(&DIRECTORY_KIND)),
            Absent::Default(r#""ldap""#),
            &[
                "`ldap`: Active Directory, OpenLDAP or another LDAP server.",
                "`local`: only the file of `[local]`.",
            ],
        ),
        key(
            "flavor",
            Kind::Choice(&names(&FLAVOR)),
            LDAP,
            &[
                "Which server it is; it sets the defaults of the filters and attributes.",
                "`active-directory` includes Samba.",
                "`openldap` fits other servers that follow the RFCs too.",
            ],
        ),
        URLS,
        STARTTLS,
        ALLOW_PLAINTEXT,
        key(
            "tls_ca_file",
            Kind::File(FileUse::Read),
            Absent::Unset {
                meaning: "The certificate authorities of the system are believed.",
                example: r#""/etc/postern/directory-ca.pem""#,
            },
            &["The certificate authorities that sign the directory's certificate, in PEM."],
        ),
        key(
            "tls_verify",
            Kind::Boolean,
            Absent::Default("true"),
            &["`false` accepts any certificate, and with it anybody in between."],
        ),
        key("base_dn", Kind::Text, LDAP, &["Where people are searched."]),
        key(
            "bind",
            Kind::Choice(&names(&BIND)),
            Absent::Default(r#""search""#),
            &[
                "How a person's password is checked.",
                "`search` finds the entry as the service principal and binds as its DN.",
                "`template` binds at once by `bind_template`, then reads the entry as the service \
                 principal.",
            ],
        ),
        key(
            "bind_template",
            Kind::Text,
            Absent::Unset {
                meaning: "It is needed only when `bind` is \"template\".",
                example: r#""{login}@example.com""#,
            },
            &["A DN or `{login}@domain`; `{login}` is replaced by the escaped name."],
        ),
        key(
            "service_dn",
            Kind::Text,
            LDAP,
            &[
                "The service principal, as a DN or as `user@domain`.",
                "It reads the group membership of everybody, and needs no other right.",
            ],
        ),
        key(
            "service_password_file",
            Kind::File(FileUse::Password),
            LDAP,
            &["The file that holds its password."],
        ),
        LOGIN_FILTER,
        NAME_ATTRIBUTE,
        ID_ATTRIBUTE,
        key(
            "domains",
            Kind::List(Item::Text),
            Absent::Default("[]"),
            &[
                "What may stand in `name@domain` and `DOMAIN\\name`, without regard to case.",
                "A login with another domain is refused.",
            ],
        ),
        key(
            "group_base_dn",
            Kind::Text,
            Absent::Unset {
                meaning: "Groups are searched at `base_dn`.",
                example: r#""ou=groups,dc=example,dc=com""#,
            },
            &["Where groups are searched."],
        ),
        GROUP_CLASS_FILTER,
        key(
            "group_member_attribute",
            Kind::Text,
            Absent::Default(r#""member""#),
            &["The attribute of a group that lists the DNs of its members."],
        ),
        GROUP_NAME_ATTRIBUTE,
        key(
            "nested",
            Kind::Boolean,
            Absent::Default("true"),
            &["Whether groups of groups count."],
        ),
        NESTED,
        key(
            "connect_timeout_ms",
            milliseconds(100, 60_000),
            Absent::Default("3000"),
            &["The longest time for TCP and TLS to one server."],
        ),
        key(
            "operation_timeout_ms",
            milliseconds(100, 60_000),
            Absent::Default("5000"),
            &["The longest time for one bind or search."],
        ),
        key(
            "total_timeout_ms",
            milliseconds(100, 120_000),
            Absent::Default("8000"),
            &["The longest time for everything that one login asks the directory."],
        ),
        FEED_KEY,
        key(
            "poll_interval_s",
            seconds(5, 3_600),
            Absent::Default("30"),
            &["How often everybody is compared with the directory where changes are not told."],
        ),
    ],
};

const URLS: Key = key(
    "urls",
    Kind::List(Item::Url),
    LDAP,
    &[
        "The servers, as `ldaps://host[:port]` or `ldap://host[:port]`.",
        "The next one is tried only when the one before cannot be reached.",
    ],
);

const STARTTLS: Key = key(
    "starttls",
    Kind::Boolean,
    Absent::Default("false"),
    &["Whether a connection of `ldap://` is upgraded by StartTLS before anything else."],
);

const ALLOW_PLAINTEXT: Key = key(
    "allow_plaintext",
    Kind::Boolean,
    Absent::Default("false"),
    &["Whether `ldap://` without StartTLS, and with it passwords in clear text, is accepted."],
);

const LOGIN_FILTER: Key = key(
    "login_filter",
    Kind::Text,
    Absent::ByFlavor {
        active_directory: "\"(&(objectCategory=person)(objectClass=user)\
                           (sAMAccountName={login}))\"",
        openldap: r#""(&(objectClass=inetOrgPerson)(uid={login}))""#,
    },
    &[
        "The filter that finds a person (RFC 4515); `{login}` is replaced by the escaped name.",
        "It must find exactly one entry, or the login is refused.",
    ],
);

const NAME_ATTRIBUTE: Key = key(
    "name_attribute",
    Kind::Text,
    Absent::ByFlavor {
        active_directory: r#""sAMAccountName""#,
        openldap: r#""uid""#,
    },
    &["The attribute with the canonical name of a person, which becomes the role's name."],
);

const ID_ATTRIBUTE: Key = key(
    "id_attribute",
    Kind::Text,
    Absent::ByFlavor {
        active_directory: r#""objectGUID""#,
        openldap: r#""entryUUID""#,
    },
    &["The attribute that stays the same when a person is renamed, and is never used again."],
);

const GROUP_CLASS_FILTER: Key = key(
    "group_class_filter",
    Kind::Text,
    Absent::ByFlavor {
        active_directory: r#""(objectClass=group)""#,
        openldap: r#""(objectClass=groupOfNames)""#,
    },
    &["The filter that every group satisfies (RFC 4515)."],
);

const GROUP_NAME_ATTRIBUTE: Key = key(
    "group_name_attribute",
    Kind::Text,
    Absent::ByFlavor {
        active_directory: r#""sAMAccountName""#,
        openldap: r#""cn""#,
    },
    &[
        "The attribute that holds the name of a group.",
        "It must be unique below `group_base_dn`: in Active Directory, whoever may create groups \
         in one folder may give them the `cn` of a group in another.",
    ],
);

const NESTED: Key = key(
    "nested_strategy",
    Kind::Choice(&names(&NESTED_STRATEGY)),
    Absent::ByFlavor {
        active_directory: r#""in-chain""#,
        openldap: r#""walk""#,
    },
    &[
        "How nested groups are found.",
        "`in-chain` lets the server follow them (rule 1.2.840.113556.1.4.1941, Active Directory).",
        "`walk` asks level by level, up to 10 levels.",
    ],
);

const FEED_KEY: Key = key(
    "feed",
    Kind::Choice(&names(&FEED)),
    Absent::Default(r#""auto""#),
    &[
        "How changes of the directory are heard of, so that they reach live sessions.",
        "`auto` takes the best that the server offers and allows; `postern check` says which.",
        "`syncrepl` is content synchronization (RFC 4533, OpenLDAP).",
        "`notification` is Active Directory's change notification, with DirSync where it is \
         allowed; `dirsync` is DirSync alone.",
        "`poll` compares everybody every `poll_interval_s`, which is also what happens where the \
         server refuses what is asked for.",
        "`off` hears of nothing: a change is found at a person's next login, and when everybody is \
         compared, every 5 minutes.",
    ],
);
