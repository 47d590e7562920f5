//! The keys of `[lockout]`.

use super::{count, key, seconds};
use crate::config::schema::{Absent, Form, Table};

/// `[lockout]`.
pub(super) static LOCKOUT: Table = Table {
    name: "lockout",
    form: Form::One,
    doc: &[
        "How many wrong passwords the directory is asked about.",
        "The directory locks an account after some; with less than that here, nobody can lock \
         somebody else's account through Postern.",
        "Whoever is remembered is in with the right password all the same.",
    ],
    keys: &[
        key(
            "tries_per_person_max",
            count(0, 1_000),
            Absent::Default("4"),
            &[
                "Wrong passwords for one person within the window, from all addresses; the next \
                 one is refused without asking.",
                "Less than the directory's own threshold; 0 asks about all.",
                "A name that nobody has runs out of them in the same way, so that nobody can tell \
                 it from a person's.",
            ],
        ),
        key(
            "tries_per_address_max",
            count(0, 1_000_000),
            Absent::Default("100"),
            &[
                "The same for one address, for all people, unknown names included; 0 is no limit.",
                "Wrong proofs of local accounts and wrong passwords of service accounts count, \
                 too.",
                "An address of IPv6 stands for its first 64 bits, which one customer has for \
                 itself.",
            ],
        ),
        key(
            "window_s",
            seconds(1, 86_400),
            Absent::Default("1800"),
            &["The window; at least as long as that of the directory."],
        ),
    ],
};
