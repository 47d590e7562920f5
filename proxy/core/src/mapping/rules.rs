//! The rules that select groups and name their roles.

use std::collections::{BTreeMap, HashSet};

use regex::Regex;

use super::{RoleName, RoleNameError};
use crate::principal::Group;
use crate::wire::startup::Replication;

/// The rules, in order; the first that matches a group decides.
#[derive(Debug, Clone, Default)]
pub struct GroupRules(Vec<GroupRule>);

impl GroupRules {
    /// Rules in their order. With none, no group counts and nobody gets in.
    pub fn new(rules: Vec<GroupRule>) -> Self {
        Self(rules)
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[GroupRule] {
        &self.0
    }

    /// What these groups are worth, and whether they open `database`.
    ///
    /// Memberships are the same in every database of a PostgreSQL cluster, so `roles` holds every
    /// mapped group; the `databases` of a rule only decide whether its groups open this one.
    /// A group that does not get a role opens nothing, and the first matching rule decides even
    /// when it names an impossible role: no later rule is asked.
    pub fn grants(&self, groups: &[Group], database: &str) -> Grants {
        let mut roles: BTreeMap<RoleName, Vec<Group>> = BTreeMap::new();
        let mut dropped = Vec::new();
        let (mut opens_database, mut is_strict, mut may_replicate) = (false, false, false);
        for group in groups {
            let folded = group.name.to_ascii_lowercase();
            let matched = self
                .0
                .iter()
                .find_map(|rule| Some((rule, rule.role_of(&group.name, &folded)?)));
            let why = match matched {
                Some((rule, Ok(role))) => {
                    opens_database |= rule.opens(database);
                    is_strict |= rule.strict;
                    may_replicate |= rule.replication;
                    roles.entry(role).or_default().push(group.clone());
                    continue;
                }
                Some((_, Err(why))) => DroppedWhy::RoleName(why),
                None => DroppedWhy::NoRule,
            };
            dropped.push(Dropped {
                group: group.clone(),
                why,
            });
        }
        let roles = roles
            .into_iter()
            .map(|(role, groups)| Grant { role, groups })
            .collect();
        Grants {
            roles,
            dropped,
            opens_database,
            is_strict,
            may_replicate,
        }
    }

    /// True when some groups open replication connections.
    pub fn open_replication(&self) -> bool {
        self.0.iter().any(|rule| rule.replication)
    }
}

/// What a principal's groups are worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// The roles to be a member of, sorted and unique.
    pub roles: Vec<Grant>,
    /// The groups that count for nothing, in the order given, each with the reason.
    pub dropped: Vec<Dropped>,
    /// True when at least one group with a role may use the database.
    pub opens_database: bool,
    /// True when at least one group with a role is of a strict rule: its members are let in only
    /// while the directory can be asked.
    pub is_strict: bool,
    /// True when at least one group with a role opens replication connections.
    pub may_replicate: bool,
}

impl Grants {
    /// Whether a session of this kind is open to the principal. One for physical replication is in
    /// no database, and carries all of them.
    pub fn open(&self, replication: Replication) -> bool {
        match replication {
            Replication::No => self.opens_database,
            Replication::Logical => self.opens_database && self.may_replicate,
            Replication::Physical => self.may_replicate,
        }
    }
}

/// A role, and the groups that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The role to be a member of.
    pub role: RoleName,
    /// The groups that became this role, in the order given; at least one.
    pub groups: Vec<Group>,
}

/// A group that counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The group.
    pub group: Group,
    /// Why it was left out.
    pub why: DroppedWhy,
}

/// Why a group was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DroppedWhy {
    /// No rule matches its name.
    #[error("no rule matches")]
    NoRule,
    /// A rule matches, and the role that it names cannot be.
    #[error("{0}")]
    RoleName(#[from] RoleNameError),
}

/// Which groups a rule is about.
///
/// Directories compare names without case, so [`Matcher::Prefix`] and [`Matcher::Names`] do so for
/// ASCII letters.
/// That is about the decision only: the role gets the name in the directory's own spelling.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// Names that begin with this text; `$1` of a template is what follows it.
    Prefix(String),
    /// Exactly these names.
    Names(Vec<String>),
    /// Names that this expression matches as a whole, with case unless it says `(?i)`.
    Regex(Regex),
}

/// One rule.
#[derive(Debug, Clone)]
pub struct GroupRule {
    matcher: Matcher,
    role: Option<String>,
    databases: Vec<String>,
    strict: bool,
    replication: bool,
    test: Test,
    template: Vec<Piece>,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupRuleError {
    /// An empty prefix, list or name in a list: it would match everything or nothing.
    #[error("the rule has an empty prefix, list or name; to accept every group use the regex '.*'")]
    EmptyMatcher,
    /// The expression does not compile when it is anchored to the whole name.
    #[error("the regular expression cannot be used: {0}")]
    Regex(String),
    /// The template has no text.
    #[error("the role template is empty")]
    EmptyTemplate,
    /// A `$` that is not `$0`, `$1`, `${1}`, `${name}` or `$$`.
    #[error("the role template has a '$' without a capture; write '$$' for a dollar sign")]
    LoneDollar,
    /// The template refers to something that the matcher does not capture.
    #[error("the role template refers to ${{{0}}}, which the matcher does not capture")]
    UnknownCapture(String),
    /// A database without a name.
    #[error("the rule has a database with an empty name")]
    EmptyDatabase,
}

impl GroupRule {
    /// A rule: which groups, which role they become, and which databases they open.
    ///
    /// In the template `$0` is the group's whole name, `$1` and so on (or `${1}`, `${name}`) are
    /// the captures of a regular expression, `$1` of a prefix is what follows it, and `$$` is a
    /// dollar sign; a capture that took no part is empty.
    /// Without a template the role has the group's name.
    /// With no databases listed the groups open all of them.
    ///
    /// # Errors
    ///
    /// What makes the rule impossible to follow.
    pub fn new(
        matcher: Matcher,
        role: Option<String>,
        databases: Vec<String>,
    ) -> Result<Self, GroupRuleError> {
        if databases.iter().any(String::is_empty) {
            return Err(GroupRuleError::EmptyDatabase);
        }
        let test = Test::new(&matcher)?;
        let template = match &role {
            Some(role) => template(role, &test)?,
            None => vec![Piece::Capture(0)],
        };
        Ok(Self {
            matcher,
            role,
            databases,
            strict: false,
            replication: false,
            test,
            template,
        })
    }

    /// The same rule, for groups whose members are let in only while the directory can be asked,
    /// or also from memory for a while.
    #[must_use]
    pub fn strict(self, strict: bool) -> Self {
        Self { strict, ..self }
    }

    /// The same rule, for groups that open replication connections, or do not.
    #[must_use]
    pub fn replication(self, replication: bool) -> Self {
        Self {
            replication,
            ..self
        }
    }

    /// Which groups the rule is about.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// The template of the role name; the group's name if none.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// The databases that the rule's groups open; empty for all.
    pub fn databases(&self) -> &[String] {
        &self.databases
    }

    fn opens(&self, database: &str) -> bool {
        self.databases.is_empty() || self.databases.iter().any(|listed| listed == database)
    }

    /// The role of a group, or none when the rule is not about it.
    fn role_of(&self, name: &str, folded: &str) -> Option<Result<RoleName, RoleNameError>> {
        let captures = match &self.test {
            Test::Prefix(prefix) => {
                folded.strip_prefix(prefix.as_str())?;
                vec![Some(name), name.get(prefix.len()..)]
            }
            Test::Names(names) => {
                names.get(folded)?;
                vec![Some(name)]
            }
            Test::Regex(regex) => {
                let captures = regex.captures(name)?;
                captures
                    .iter()
                    .map(|found| found.map(|found| found.as_str()))
                    .collect()
            }
        };
        let mut role = String::new();
        for piece in &self.template {
            role.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Capture(at) => captures.get(*at).copied().flatten().unwrap_or(""),
            });
        }
        Some(RoleName::new(&role))
    }
}

/// A matcher made ready: names folded once, the expression anchored.
#[derive(Debug, Clone)]
enum Test {
    Prefix(String),
    Names(HashSet<String>),
    Regex(Regex),
}

impl Test {
    fn new(matcher: &Matcher) -> Result<Self, GroupRuleError> {
        match matcher {
            Matcher::Prefix(prefix) if prefix.is_empty() => Err(GroupRuleError::EmptyMatcher),
            Matcher::Prefix(prefix) => Ok(Self::Prefix(prefix.to_ascii_lowercase())),
            Matcher::Names(names) if names.is_empty() || names.iter().any(String::is_empty) => {
                Err(GroupRuleError::EmptyMatcher)
            }
            Matcher::Names(names) => Ok(Self::Names(
                names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            )),
            Matcher::Regex(regex) => anchored(regex).map(Self::Regex),
        }
    }

    fn captures(&self, reference: &str) -> Option<usize> {
        let (count, named) = match self {
            Self::Prefix(_) => (2, None),
            Self::Names(_) => (1, None),
            Self::Regex(regex) => (
                regex.captures_len(),
                regex
                    .capture_names()
                    .position(|name| name == Some(reference)),
            ),
        };
        named.or_else(|| reference.parse().ok().filter(|at| *at < count))
    }
}

/// The expression, made to match whole names only.
/// Testing the length of an unanchored match would not do: `a|ab` finds only `a` in `ab`.
fn anchored(regex: &Regex) -> Result<Regex, GroupRuleError> {
    let pattern = regex.as_str();
    Regex::new(&format!(r"\A(?:{pattern})\z"))
        // A comment of the `(?x)` mode would swallow the parenthesis; it ends with its line.
        .or_else(|_| Regex::new(&format!("\\A(?:{pattern}\n)\\z")))
        .map_err(|error| GroupRuleError::Regex(error.to_string()))
}

/// A part of a role template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(usize),
}

fn template(template: &str, test: &Test) -> Result<Vec<Piece>, GroupRuleError> {
    if template.is_empty() {
        return Err(GroupRuleError::EmptyTemplate);
    }
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('$') {
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        if let Some(after) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$".to_owned()));
            rest = after;
            continue;
        }
        let (reference, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or(GroupRuleError::LoneDollar)?,
            None => {
                let digits = after
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(after.len());
                after
                    .split_at_checked(digits)
                    .ok_or(GroupRuleError::LoneDollar)?
            }
        };
        if reference.is_empty() {
            return Err(GroupRuleError::LoneDollar);
        }
        let capture = test
            .captures(reference)
            .ok_or_else(|| GroupRuleError::UnknownCapture(reference.to_owned()))?;
        pieces.push(Piece::Capture(capture));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests;
