//! The keys of `[revocation]`.

use super::{key, names, seconds};
use crate::config::schema::{Absent, Form, Kind, Table};
use crate::config::{AwayPolicy, LostGroup};
use crate::role_store::Deprovision;

/// `revocation.lost_group`.
pub(in crate::config) const LOST_GROUP: [(&str, LostGroup); 2] =
    [("end", LostGroup::End), ("keep", LostGroup::Keep)];
/// `revocation.deprovision`.
pub(in crate::config) const DEPROVISION: [(&str, Deprovision); 2] = [
    ("keep", Deprovision::Keep),
    ("drop-if-unused", Deprovision::DropIfUnused),
];
/// `revocation.after_directory_away`.
pub(in crate::config) const AFTER_DIRECTORY_AWAY: [(&str, AwayPolicy); 2] =
    [("end", AwayPolicy::End), ("keep", AwayPolicy::Keep)];

/// `[revocation]`.
pub(super) static REVOCATION: Table = Table {
    name: "revocation",
    form: Form::One,
    doc: &[
        "What becomes of access when the directory changes between logins.",
        "Whoever loses all groups, is disabled or is deleted loses everything, whatever is said \
         here.",
    ],
    keys: &[
        key(
            "lost_group",
            Kind::Choice(&names(&LOST_GROUP)),
            Absent::Default(r#""end""#),
            &[
                "What becomes of the sessions of a person who loses some groups and keeps others.",
                "`end` ends them: a membership that is revoked does not undo a `SET ROLE`.",
                "`keep` lets them go on with what is left; those whose database no group opens \
                 any more end all the same.",
            ],
        ),
        key(
            "deprovision",
            Kind::Choice(&names(&DEPROVISION)),
            Absent::Default(r#""keep""#),
            &[
                "What becomes of the role of a person who is not in the directory any more.",
                "`keep` leaves it without LOGIN and memberships, with everything that it owns.",
                "`drop-if-unused` drops it, unless it owns anything or has any privilege.",
            ],
        ),
        key(
            "directory_away_s",
            seconds(30, 604_800),
            Absent::Default("900"),
            &["How long live sessions may last while the directory cannot be reached."],
        ),
        key(
            "after_directory_away",
            Kind::Choice(&names(&AFTER_DIRECTORY_AWAY)),
            Absent::Default(r#""end""#),
            &[
                "What becomes of them then.",
                "`end` ends them: nobody knows any more whether these people may be in.",
                "`keep` lets them go on.",
            ],
        ),
    ],
};
