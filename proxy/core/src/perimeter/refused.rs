//! What is wrong with a configured policy.

use postern_ebpf::abi::{ANSWERS_MAX, INTERFACES_MAX, PORTS_MAX, PREFIXES_MAX};

use super::{Place, Prefix, PrefixError};

/// A rule of the configuration, by its kind and its position from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// One of `[[perimeter.protect]]`.
    Protect(usize),
    /// One of `[[perimeter.allow]]`.
    Allow(usize),
}

/// One thing that is wrong with a configured policy; a clause that follows the name of its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no rule that protects.
    #[error("protects nothing: there is no [[perimeter.protect]]")]
    NothingProtected,
    /// There is no rule that allows.
    #[error(
        "allows nobody, so that nothing could reach what it protects: there is no \
             [[perimeter.allow]]"
    )]
    NothingAllowed,
    /// There is no interface.
    #[error("names no interface: the programs would stand nowhere")]
    NoInterface,
    /// There are more interfaces than bits.
    #[error("name {0} interfaces; at most {INTERFACES_MAX} are possible")]
    TooManyInterfaces(usize),
    /// No interface can have this name.
    #[error("\"{0}\" cannot be the name of an interface")]
    InterfaceName(String),
    /// An interface stands twice in the lists of interfaces.
    #[error("lists {0} twice")]
    InterfaceTwice(String),
    /// An interface that must be there is not.
    #[error("there is no interface {0}; one that comes later belongs into await_interfaces")]
    MissingInterface(String),
    /// A key has no meaning at this place.
    #[error("has no meaning with place = \"{}\"", place.name())]
    NotForPlace {
        /// The place.
        place: Place,
        /// The key, below `perimeter`.
        key: &'static str,
    },
    /// A text is no prefix.
    #[error("\"{text}\" {why}")]
    Prefix {
        /// Where it stands.
        rule: Rule,
        /// The text.
        text: String,
        /// What is wrong with it.
        why: PrefixError,
    },
    /// A rule has no prefix.
    #[error("is empty: the rule says nothing")]
    NoPrefix(Rule),
    /// There are more prefixes of a kind than the maps hold.
    #[error("have {count} prefixes; at most {PREFIXES_MAX} are possible")]
    TooManyPrefixes {
        /// The last rule of the kind.
        rule: Rule,
        /// How many there are.
        count: usize,
    },
    /// A gateway has more ports than it holds answers back from.
    #[error("has rules that name {0} ports; a gateway knows at most {ANSWERS_MAX}")]
    TooManyAnswers(usize),
    /// There is no such port.
    #[error("0 is not a port")]
    PortZero(Rule),
    /// A rule has more ports than an entry holds.
    #[error("has {count} ports; at most {PORTS_MAX} are possible, and none means all")]
    TooManyPorts {
        /// The rule.
        rule: Rule,
        /// How many there are.
        count: usize,
    },
    /// A prefix is protected twice, and not alike.
    #[error("{prefix} is protected with other ports by rule {}", other + 1)]
    OtherPorts {
        /// The rule.
        rule: Rule,
        /// The prefix.
        prefix: Prefix,
        /// The position of the other rule.
        other: u32,
    },
    /// A prefix lies in another one and leaves ports of that one open.
    #[error("{inner} lies in {outer} of rule {}, whose ports it does not include", other + 1)]
    PortsLeftOut {
        /// The rule of the inner one.
        rule: Rule,
        /// The prefix.
        inner: Prefix,
        /// The one that it lies in.
        outer: Prefix,
        /// The position of that one's rule.
        other: u32,
    },
    /// A source is allowed twice, or lies in another one, on other interfaces.
    #[error("{inner} lies in {outer} of rule {}, which has other interfaces", other + 1)]
    OtherInterfaces {
        /// The rule.
        rule: Rule,
        /// The source.
        inner: Prefix,
        /// The one that it lies in, or is.
        outer: Prefix,
        /// The position of that one's rule.
        other: u32,
    },
    /// A rule names an interface that the policy does not.
    #[error("{name} is neither in interfaces nor in await_interfaces of [perimeter]")]
    UnknownInterface {
        /// The rule.
        rule: Rule,
        /// The name.
        name: String,
    },
    /// A rule allows sources that may arrive nowhere.
    #[error("is empty: its sources could arrive nowhere")]
    AllowedNowhere(Rule),
}

impl Refused {
    /// The rule that it is about, or none for the policy as a whole, and the key.
    #[must_use]
    pub const fn stands_at(&self) -> (Option<Rule>, &'static str) {
        match self {
            Self::NothingProtected | Self::NothingAllowed | Self::TooManyAnswers(_) => {
                (None, "place")
            }
            Self::NoInterface
            | Self::TooManyInterfaces(_)
            | Self::InterfaceName(_)
            | Self::InterfaceTwice(_)
            | Self::MissingInterface(_) => (None, "interfaces"),
            Self::NotForPlace { key, .. } => (None, key),
            Self::Prefix { rule, .. }
            | Self::NoPrefix(rule)
            | Self::TooManyPrefixes { rule, .. }
            | Self::OtherPorts { rule, .. }
            | Self::PortsLeftOut { rule, .. }
            | Self::OtherInterfaces { rule, .. } => (Some(*rule), rule.prefixes()),
            Self::PortZero(rule) | Self::TooManyPorts { rule, .. } => (Some(*rule), "ports"),
            Self::UnknownInterface { rule, .. } | Self::AllowedNowhere(rule) => {
                (Some(*rule), "interfaces")
            }
        }
    }
}

impl Rule {
    /// The key of its prefixes.
    const fn prefixes(self) -> &'static str {
        match self {
            Self::Protect(_) => "prefixes",
            Self::Allow(_) => "sources",
        }
    }
}
