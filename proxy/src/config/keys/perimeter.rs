//! The keys of `[perimeter]` and of its rules.

use postern_core::perimeter::Place;
use postern_ebpf::abi::Mode;

use super::{key, names};
use crate::config::schema::{Absent, FileUse, Form, Item, Kind, Table};

/// `perimeter.place`.
pub(in crate::config) const PLACE: [(&str, Place); 3] = [
    ("gateway", Place::Gateway),
    ("database-host", Place::DatabaseHost),
    ("proxy-host", Place::ProxyHost),
];
/// `perimeter.mode`.
pub(in crate::config) const MODE: [(&str, Mode); 2] =
    [("enforce", Mode::Enforce), ("monitor", Mode::Monitor)];

/// `[perimeter]`.
pub(super) static PERIMETER: Table = Table {
    name: "perimeter",
    form: Form::Optional,
    doc: &[
        "What the kernel does so that only the proxy reaches the databases.",
        "`postern policy load` puts it in force, and it stays when every process of Postern has \
         gone.",
    ],
    keys: &[
        key(
            "place",
            Kind::Choice(&names(&PLACE)),
            Absent::Required,
            &[
                "What this machine is.",
                "`gateway` routes between the subnets: programs at both sides of its interfaces.",
                "`database-host` is the database's own machine: programs where packets come in.",
                "`proxy-host` is the proxy's machine: programs in the root of its cgroups, so \
                 that no other process reaches what is protected, not even one of root.",
            ],
        ),
        key(
            "mode",
            Kind::Choice(&names(&MODE)),
            Absent::Default(r#""enforce""#),
            &[
                "`enforce` drops what the policy refuses.",
                "`monitor` counts and reports it, and drops nothing.",
            ],
        ),
        key(
            "interfaces",
            Kind::List(Item::Text),
            Absent::Default("[]"),
            &[
                "The interfaces where programs stand, on a gateway and a database's host.",
                "The policy is refused while one of them is missing.",
            ],
        ),
        key(
            "await_interfaces",
            Kind::List(Item::Text),
            Absent::Default("[]"),
            &[
                "Interfaces that may come later.",
                "Until `postern policy watch` or the next load has seen them, nothing that is \
                 protected is reached through them.",
            ],
        ),
        key(
            "pins",
            Kind::File(FileUse::Append),
            Absent::Default(r#""/sys/fs/bpf/postern""#),
            &["The folder on bpffs that holds the policy; it is made when it is missing."],
        ),
        key(
            "cgroup_root",
            Kind::File(FileUse::Append),
            Absent::Unset {
                meaning: "The mount point of cgroup2.",
                example: r#""/sys/fs/cgroup""#,
            },
            &["Where the hooks of a proxy's host are: they hold for all cgroups below."],
        ),
        key(
            "cgroup",
            Kind::Text,
            Absent::Unset {
                meaning: "`/postern.slice`.",
                example: r#""/postern.slice""#,
            },
            &[
                "The proxy's cgroup, below `cgroup_root`; it is made when it is missing.",
                "It must outlive the service, as the slice of a unit does.",
            ],
        ),
        key(
            "default_drop",
            Kind::Boolean,
            Absent::Default("true"),
            &[
                "Whether nftables keeps the prefixes shut until the policy is in force, and \
                 afterwards wherever it does not stand.",
                "It needs the `nft` program.",
            ],
        ),
        key(
            "state_file",
            Kind::File(FileUse::Append),
            Absent::Default(r#""/run/postern-policy/state.json""#),
            &[
                "Where `postern policy watch` leaves what the kernel says, every 5 seconds.",
                "The proxy has no capability to ask the kernel itself; `postern health` and \
                 `postern check` read it here.",
                "Its folder is made when it is missing, and must be writable for root only.",
            ],
        ),
        key(
            "audit_file",
            Kind::File(FileUse::Append),
            Absent::Unset {
                meaning: "Denials are not recorded.",
                example: r#""/var/log/postern-policy/perimeter.jsonl""#,
            },
            &[
                "Where `postern policy watch` records denials, as a chain that shows edits.",
                "It is a file of its own because each chain has one writer; \
                 `postern audit verify --file` checks it.",
                "Its folder belongs to root, as the watch's own does, `/var/log/postern-policy`: \
                 the watch has no capability that would let it write into the proxy's.",
                "The key is that of `credential.cluster_key_file`, which the watch reads as well.",
            ],
        ),
    ],
};

/// `[[perimeter.protect]]`.
pub(super) static PROTECT: Table = Table {
    name: "perimeter.protect",
    form: Form::Several,
    doc: &["What is protected."],
    keys: &[
        key(
            "prefixes",
            Kind::List(Item::Text),
            Absent::Required,
            &["Prefixes, for example `10.20.0.0/24` and `fd00:20::/64`."],
        ),
        key(
            "ports",
            Kind::List(Item::Port),
            Absent::Default("[]"),
            &[
                "The protected ports, at most 8.",
                "Without any, all ports and protocols are protected.",
            ],
        ),
    ],
};

/// `[[perimeter.allow]]`.
pub(super) static ALLOW: Table = Table {
    name: "perimeter.allow",
    form: Form::Several,
    doc: &[
        "Who may reach what is protected.",
        "A proxy's host has none: there, the proxy's cgroup is what is allowed.",
    ],
    keys: &[
        key(
            "sources",
            Kind::List(Item::Text),
            Absent::Required,
            &["Prefixes of source addresses, for example `10.10.0.5/32`."],
        ),
        key(
            "interfaces",
            Kind::List(Item::Text),
            Absent::Required,
            &[
                "The interfaces on which these sources arrive.",
                "The same address on another interface is forged, and dropped.",
            ],
        ),
    ],
};
