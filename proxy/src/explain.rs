//! `postern explain-login NAME`: what a login would find and do.
//!
//! No password is needed and nothing is changed: the directory is searched, the rules are applied,
//! the role store is asked for its plan, and the running process for its memory.

use std::sync::Arc;

use postern_core::login_name::LoginName;
use postern_core::mapping::{Grants, RoleName, person_role};
use postern_core::principal::Principal;
use postern_core::wire::startup::Replication;
use serde::Serialize;

use crate::config::{Config, CredentialMode};
use crate::control::{self, CacheAnswer, Question};
use crate::directory::Directories;
use crate::printable::printable;
use crate::role_store::{Action, RoleStore, Wish};
use crate::service;
use crate::sync::Synchronizer;

/// What a login would find and do.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    login: String,
    verdict: Verdict,
    entry: Option<Entry>,
    groups: Vec<Group>,
    role: Option<String>,
    replication: Option<Replicating>,
    plan: Vec<Step>,
    cache: Cached,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    WouldBeAdmitted { role: String, database: String },
    WouldBeRefused { why: String },
}

/// Whether replication connections would be let in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Replicating {
    /// Those for physical replication, which are in no database; and those for logical
    /// replication in the database where `in_database` is true.
    Allowed { in_database: bool },
    /// No group rule opens them for anybody.
    NobodyMay,
    /// None of the groups that count opens them.
    NoGroup,
}

#[derive(Debug, Serialize)]
struct Entry {
    dn: String,
    id: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct Group {
    name: String,
    reached: String,
    becomes: Option<String>,
    left_out: Option<String>,
}

#[derive(Debug, Serialize)]
struct Step {
    action: String,
    target: String,
    note: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cached {
    Remembered(CacheAnswer),
    NotRemembered,
    Unknown { why: String },
}

/// Finds out.
pub(crate) async fn explain(
    config: &Config,
    synchronizer: &Synchronizer,
    login: &str,
    database: Option<&str>,
) -> Explanation {
    let mut explanation = Explanation {
        login: login.to_owned(),
        verdict: Verdict::WouldBeRefused { why: String::new() },
        entry: None,
        groups: Vec::new(),
        role: None,
        replication: None,
        plan: Vec::new(),
        cache: cached(config, login),
    };
    let found = find_out(config, synchronizer, login, database, &mut explanation).await;
    explanation.verdict = match found {
        Ok((role, database)) => Verdict::WouldBeAdmitted {
            role: role.to_string(),
            database,
        },
        Err(why) => Verdict::WouldBeRefused { why },
    };
    explanation
}

/// The steps of a login in their order, up to the first that would refuse it.
async fn find_out(
    config: &Config,
    synchronizer: &Synchronizer,
    login: &str,
    database: Option<&str>,
    explanation: &mut Explanation,
) -> Result<(RoleName, String), String> {
    if service::role_named(config, login).is_some() {
        return Err(
            "it is a service account, which the database itself authenticates, from the networks \
             of its [[service_account]]"
                .to_owned(),
        );
    }
    let name = LoginName::parse(login, &config.domains).map_err(|error| error.to_string())?;
    let directories = Directories::new(config).map_err(|error| error.to_string())?;
    let principal = directories
        .look_up(&name)
        .await
        .map_err(|error| error.to_string())?;
    explanation.entry = Some(Entry {
        dn: principal.dn.clone(),
        id: principal.id.to_string(),
        name: principal.name.clone(),
    });
    let role = person_role(&principal.name, config.groups.lowercase_roles)
        .map_err(|error| error.to_string())?;
    explanation.role = Some(role.to_string());
    let database = database.map_or_else(|| role.to_string(), str::to_owned);
    let grants = config.groups.rules.grants(&principal.groups, &database);
    explanation.groups = groups(&grants);
    explanation.replication = Some(replicating(config, &grants));
    if grants.roles.is_empty() {
        return Err(format!("none of {} groups counts", principal.groups.len()));
    }
    let wish = wish(config, synchronizer, &principal, &role, &grants);
    let store = Arc::new(RoleStore::new(config).map_err(|error| error.to_string())?);
    let plan = store.plan(&wish).await.map_err(|error| error.to_string())?;
    let mirrored = config.credential.mode == CredentialMode::Mirror;
    for step in plan {
        let step = Step {
            action: step.action.as_str().to_owned(),
            target: step.target,
            note: match mirrored && step.action == Action::SetSecret {
                true => "only if the password is another than at the last login".to_owned(),
                false => step.note,
            },
        };
        explanation.plan.push(step);
    }
    let refusal = explanation
        .plan
        .iter()
        .find(|step| step.action == Action::Refuse.as_str());
    if let Some(step) = refusal {
        return Err(format!("{}: {}", step.target, step.note));
    }
    if !grants.opens_database {
        return Err(format!("no group opens the database {database}"));
    }
    Ok((role, database))
}

fn wish(
    config: &Config,
    synchronizer: &Synchronizer,
    principal: &Principal,
    role: &RoleName,
    grants: &Grants,
) -> Wish {
    Wish {
        session: "explain-login".to_owned(),
        role: role.clone(),
        directory_id: principal.id.clone(),
        login: principal.name.clone(),
        dn: principal.dn.clone(),
        groups: grants
            .roles
            .iter()
            .map(|grant| grant.role.clone())
            .collect(),
        replication: grants.may_replicate,
        verifier: synchronizer.derived_verifier(role),
        missing: config.groups.missing,
        force_secret: false,
    }
}

fn groups(grants: &Grants) -> Vec<Group> {
    let kept = grants.roles.iter().flat_map(|grant| {
        grant.groups.iter().map(|group| Group {
            name: group.name.clone(),
            reached: reached(group),
            becomes: Some(grant.role.to_string()),
            left_out: None,
        })
    });
    let dropped = grants.dropped.iter().map(|dropped| Group {
        name: dropped.group.name.clone(),
        reached: reached(&dropped.group),
        becomes: None,
        left_out: Some(dropped.why.to_string()),
    });
    kept.chain(dropped).collect()
}

fn replicating(config: &Config, grants: &Grants) -> Replicating {
    match config.groups.rules.open_replication() {
        false => Replicating::NobodyMay,
        true if grants.open(Replication::Physical) => Replicating::Allowed {
            in_database: grants.open(Replication::Logical),
        },
        true => Replicating::NoGroup,
    }
}

fn reached(group: &postern_core::principal::Group) -> String {
    match (group.direct, group.path.as_slice()) {
        (true, _) => "direct".to_owned(),
        (false, []) => "nested".to_owned(),
        (false, path) => format!("through {}", path.join(" ▸ ")),
    }
}

/// The running process is asked; it need not run.
fn cached(config: &Config, login: &str) -> Cached {
    let socket = config.control.place();
    let question = Question::Cache {
        login: login.to_owned(),
    };
    match control::ask::<Option<CacheAnswer>>(socket, &question) {
        Ok(Some(answer)) => Cached::Remembered(answer),
        Ok(None) => Cached::NotRemembered,
        Err(error) => Cached::Unknown {
            why: format!("{}: {error}", socket.display()),
        },
    }
}

impl Explanation {
    /// True when the login would be admitted, given the right password.
    pub(crate) fn admits(&self) -> bool {
        matches!(self.verdict, Verdict::WouldBeAdmitted { .. })
    }

    /// As a person reads it.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: &str| {
            text.push_str(&format!("{label:<13}{}\n", printable(value)));
        };
        line("login", &self.login);
        if let Some(entry) = &self.entry {
            line("entry", &entry.dn);
            line("", &entry.id);
            line("name", &entry.name);
        }
        if let Some(role) = &self.role {
            line("role", role);
        }
        let width = self
            .groups
            .iter()
            .map(|group| group.name.chars().count())
            .max()
            .unwrap_or(0);
        for (index, group) in self.groups.iter().enumerate() {
            let fate = match (&group.becomes, &group.left_out) {
                (Some(role), _) => format!("becomes {role}"),
                (None, why) => format!("left out: {}", why.as_deref().unwrap_or_default()),
            };
            let label = if index == 0 { "groups" } else { "" };
            line(
                label,
                &format!("{:<width$}  {}; {fate}", group.name, group.reached),
            );
        }
        for (index, step) in self.plan.iter().enumerate() {
            let label = if index == 0 { "plan" } else { "" };
            let note = if step.note.is_empty() {
                String::new()
            } else {
                format!("  ({})", step.note)
            };
            line(label, &format!("{} {}{note}", step.action, step.target));
        }
        if self.role.is_some() && self.plan.is_empty() {
            line("plan", "nothing to change");
        }
        if let Some(replicating) = &self.replication {
            line("replication", &replicating.to_string());
        }
        line("cache", &self.cache.to_string());
        line("verdict", &self.verdict.to_string());
        text
    }
}

impl std::fmt::Display for Cached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Remembered(answer) => {
                let freshness = match answer.fresh {
                    true => "the next login is answered from memory",
                    false => "the next login asks the directory",
                };
                write!(
                    f,
                    "password accepted {} s ago, checked {} s ago: {freshness}",
                    answer.bound_s, answer.checked_s
                )
            }
            Self::NotRemembered => {
                f.write_str("nothing remembered: the next login asks the directory")
            }
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

impl std::fmt::Display for Replicating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allowed { in_database: true } => "opened by a group, physical and logical",
            Self::Allowed { in_database: false } => {
                "opened by a group, physical; not logical, which needs the database"
            }
            Self::NobodyMay => "refused: no group rule opens it",
            Self::NoGroup => "refused: none of the groups opens it",
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WouldBeAdmitted { role, database } => {
                write!(
                    f,
                    "with the right password: admitted as {role} to the database {database}"
                )
            }
            Self::WouldBeRefused { why } => write!(f, "refused: {why}"),
        }
    }
}
