//! The keys of `[groups]` and `[[group_rule]]`.

use super::{MISSING, key, names};
use crate::config::schema::{Absent, Form, Item, Kind, Table};

/// `[groups]`.
pub(super) static GROUPS: Table = Table {
    name: "groups",
    form: Form::One,
    doc: &["What becomes of the groups that the rules keep."],
    keys: &[
        key(
            "lowercase_roles",
            Kind::Boolean,
            Absent::Default("false"),
            &[
                "Whether the role name of a person is lower-cased.",
                "Otherwise it is spelled as the directory spells it.",
            ],
        ),
        key(
            "missing",
            Kind::Choice(&names(&MISSING)),
            Absent::Default(r#""create""#),
            &[
                "What happens to a group whose role does not exist in the database.",
                "`create` makes the role, NOLOGIN and without rights; grant to it.",
                "`skip` leaves the group out; a login with no group left is refused.",
                "`refuse` refuses the login.",
            ],
        ),
    ],
};

/// `[[group_rule]]`.
pub(super) static GROUP_RULE: Table = Table {
    name: "group_rule",
    form: Form::Many,
    doc: &[
        "Which groups count, and which roles they become.",
        "The first rule that matches a group decides; a group that no rule matches is ignored.",
        "Each rule has exactly one of `prefix`, `names` and `regex`.",
    ],
    keys: &[
        key(
            "prefix",
            Kind::Text,
            Absent::RequiredWhen("neither `names` nor `regex` is given"),
            &["Groups whose name starts with this text, without regard to case."],
        ),
        key(
            "names",
            Kind::List(Item::Text),
            Absent::Unset {
                meaning: "The rule has a `prefix` or a `regex`.",
                example: r#"["hr-data", "finance-data"]"#,
            },
            &["Exactly these groups, without regard to case."],
        ),
        key(
            "regex",
            Kind::Text,
            Absent::Unset {
                meaning: "The rule has a `prefix` or `names`.",
                example: "'db-(ro|rw)-(.+)'",
            },
            &["Groups whose whole name matches this regular expression."],
        ),
        key(
            "role",
            Kind::Text,
            Absent::Unset {
                meaning: "The role is named as the group.",
                example: r#""$2_$1""#,
            },
            &[
                "The name of the role that a group becomes.",
                "`$0` is the group's name, `$1` or `${name}` what a `regex` captured.",
                "`$1` of a `prefix` is what follows it, and `$$` is a dollar sign.",
            ],
        ),
        key(
            "databases",
            Kind::List(Item::Text),
            Absent::Unset {
                meaning: "The groups open every database.",
                example: r#"["payroll"]"#,
            },
            &[
                "The databases that these groups open.",
                "A login to a database that none of the person's groups opens is refused.",
                "It does not limit what the role may do elsewhere, because role memberships hold \
                 in the whole server.",
            ],
        ),
        key(
            "strict",
            Kind::Boolean,
            Absent::Default("false"),
            &[
                "Whether members of these groups are refused as soon as the directory cannot be \
                 reached.",
                "The others are let in from memory for `cache.stale_s`.",
            ],
        ),
        key(
            "replication",
            Kind::Boolean,
            Absent::Default("false"),
            &[
                "Whether members of these groups may open replication connections, physical \
                 (`pg_basebackup`, `pg_receivewal`) and logical (`pg_recvlogical`).",
                "Such a connection can read every database of the server, whatever `databases` \
                 says.",
                "Their roles get the attribute REPLICATION, which PostgreSQL lets Postern give \
                 after an administrator has said so once; `postern check` names the statement.",
                "A physical one goes to the backend that serves the database `replication`, unless \
                 the client names another.",
            ],
        ),
    ],
};
