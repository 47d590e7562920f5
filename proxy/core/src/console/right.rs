//! What an account of the console may do.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To see: sessions, configuration, state.
    Show,
    /// To end sessions.
    Kill,
    /// To keep a person out.
    Revoke,
    /// To let a person in again.
    Restore,
    /// To have the configuration read again.
    Reload,
    /// To let no more sessions begin.
    Drain,
    /// To let logins wait.
    Pause,
    /// To end a drain or a pause.
    Resume,
    /// To close the audit file and have the next one begun.
    Rotate,
}

use Right::{Drain, Kill, Pause, Reload, Restore, Resume, Revoke, Rotate, Show};

/// Rights that go together, under one name.
pub const BUNDLES: [(&str, &[Right]); 4] = [
    ("viewer", &[Show]),
    ("helpdesk", &[Show, Kill, Revoke, Restore]),
    (
        "operator",
        &[Show, Kill, Reload, Drain, Pause, Resume, Rotate],
    ),
    ("admin", &Right::ALL),
];

impl Right {
    /// Every one, in order.
    pub const ALL: [Self; 9] = [
        Show, Kill, Revoke, Restore, Reload, Drain, Pause, Resume, Rotate,
    ];

    /// Its name in the file of accounts and in refusals.
    pub const fn label(self) -> &'static str {
        match self {
            Show => "show",
            Kill => "kill",
            Revoke => "revoke",
            Restore => "restore",
            Reload => "reload",
            Drain => "drain",
            Pause => "pause",
            Resume => "resume",
            Rotate => "rotate",
        }
    }
}

/// What one account may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(BTreeSet<Right>);

impl Rights {
    /// The rights of these names, each of which is a right or a bundle; other names give none.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let given = names.into_iter().flat_map(rights_of);
        Self(given.copied().collect())
    }

    /// Whether a name is that of a right or of a bundle.
    pub fn is_name(name: &str) -> bool {
        !rights_of(name).is_empty()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a right is among them.
    pub fn has(&self, right: Right) -> bool {
        self.0.contains(&right)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.0.iter().map(|it| it.label()).collect();
        f.write_str(&labels.join(", "))
    }
}

fn rights_of(name: &str) -> &'static [Right] {
    let bundle = BUNDLES.iter().find(|(bundle, _)| *bundle == name);
    if let Some((_, rights)) = bundle {
        return rights;
    }
    let single = Right::ALL.iter().position(|it| it.label() == name);
    single
        .and_then(|at| Right::ALL.get(at..=at))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_right_or_those_of_its_bundle_and_no_other() {
        let viewer = Rights::named(["viewer", "everybody", "SHOW"]);
        assert_eq!(viewer.to_string(), "show");
        assert!(viewer.has(Show) && !viewer.has(Kill));
        assert!(Rights::named(["everybody", ""]).is_empty());
        let both = Rights::named(["helpdesk", "drain"]);
        assert_eq!(both.to_string(), "show, kill, revoke, restore, drain");
        assert_eq!(Rights::named(["admin"]).0.len(), Right::ALL.len());
    }

    #[test]
    fn no_bundle_has_the_name_of_a_right() {
        for (bundle, _) in BUNDLES {
            assert!(Right::ALL.iter().all(|it| it.label() != bundle));
            assert!(Rights::is_name(bundle));
        }
        assert!(!Rights::is_name("root"));
    }
}
