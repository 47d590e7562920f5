//! The keys of `[limits]`.

use super::{count, key, milliseconds, seconds};
use crate::config::schema::{Absent, Form, Table};

/// `[limits]`.
pub(super) static LIMITS: Table = Table {
    name: "limits",
    form: Form::One,
    doc: &["What an operator may change; other limits are constants."],
    keys: &[
        key(
            "sessions_max",
            count(1, 1_000_000),
            Absent::Default("10000"),
            &["How many sessions live at once; each takes two file descriptors."],
        ),
        key(
            "sessions_per_role_max",
            count(1, 1_000_000),
            Absent::Unset {
                meaning: "One role may have all of `sessions_max`.",
                example: "50",
            },
            &["How many sessions one role has at once; the next login is refused (53300)."],
        ),
        key(
            "sessions_per_address_max",
            count(1, 1_000_000),
            Absent::Unset {
                meaning: "One address may have all of `sessions_max`.",
                example: "200",
            },
            &[
                "How many sessions come from one address at once; the next login is refused \
                 (53300).",
                "An address of IPv6 stands for its first 64 bits.",
            ],
        ),
        key(
            "sessions_per_database_max",
            count(1, 1_000_000),
            Absent::Unset {
                meaning: "One database may have all of `sessions_max`.",
                example: "90",
            },
            &[
                "How many sessions one database has at once; the next login is refused (53300).",
                "Less than the server's `max_connections` leaves it room for others.",
            ],
        ),
        key(
            "logins_per_address_and_minute_max",
            count(1, 10_000),
            Absent::Unset {
                meaning: "Logins come as fast as they like.",
                example: "600",
            },
            &[
                "How many logins begin from one address within a minute; the next one is refused \
                 (53300) before a password is asked for.",
                "The admin console does not count; cancel requests count apart, and those above as \
                 many are dropped.",
            ],
        ),
        key(
            "logins_max",
            count(1, 100_000),
            Absent::Default("1000"),
            &["How many logins are under way at once; the next client is refused (53300)."],
        ),
        key(
            "cold_logins_max",
            count(1, 100_000),
            Absent::Default("500"),
            &[
                "How many of them ask the directory or the role store; the next is refused.",
                "The rest of `logins_max` is for people who are remembered, whoever hangs.",
            ],
        ),
        key(
            "connections_per_address_max",
            count(1, 1_000_000),
            Absent::Default("1000"),
            &[
                "How many connections from one address have no session yet; the next is refused \
                 (53300).",
                "An address of IPv6 stands for its first 64 bits, which one host has for itself.",
                "Behind a balancer that does not speak the PROXY protocol, everybody comes from \
                 its address.",
            ],
        ),
        key(
            "directory_calls_max",
            count(1, 10_000),
            Absent::Default("64"),
            &[
                "How many conversations with the directory are under way at once.",
                "A login waits 400 ms for its turn and is then refused (53300).",
            ],
        ),
        key(
            "login_timeout_ms",
            milliseconds(1_000, 600_000),
            Absent::Default("15000"),
            &["The longest time from the connection to the client's password."],
        ),
        key(
            "drain_timeout_s",
            seconds(0, 604_800),
            Absent::Default("3600"),
            &[
                "How long a process keeps its sessions after `postern upgrade` has put another \
                 one in its place; the rest of them end then.",
            ],
        ),
        key(
            "splice_threads",
            count(1, 1_024),
            Absent::Unset {
                meaning: "one a core, but for one core that is left to logins",
                example: "4",
            },
            &[
                "How many threads move the bytes of the sessions, each pinned to a core.",
                "Where clients or databases share the machine, fewer threads cost less: each one \
                 finds more to do whenever it wakes.",
            ],
        ),
    ],
};
