//! What an operator may order: keeping people out, ending sessions, comparing everybody.

use std::time::Duration;

use postern_core::audit::{LostReason, OrderOutcome, rfc3339};
use postern_core::login_name::LoginName;
use postern_core::mapping::{RoleName, person_role};
use postern_core::principal::EntryId;
use serde::{Deserialize, Serialize};

use super::cause::{Cause, Heard, Loss};
use super::ending::{Leaver, end_access};
use super::halting;
use super::person::{Outcome, settle};
use crate::audit::{AuditLog, Rotated};
use crate::clock::unix_ms;
use crate::gate::Plane;
use crate::operators::{Operator, OrderError};
use crate::role_store::{ManagedLogin, RoleStoreError, Whom};
use crate::service;
use crate::session::LiveSession;
use crate::upkeep::ANOTHER_SERVES;

/// An order, and who gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Keep a person out, and end what they have open.
    Revoke {
        /// The login name or the role.
        name: String,
        /// For how long, in seconds; until it is undone if not given.
        for_s: Option<u64>,
        /// Why.
        reason: String,
    },
    /// Let a person in again.
    Restore {
        /// The login name or the role.
        name: String,
    },
    /// End one session.
    Kill {
        /// Its identifier, as `postern sessions` shows it.
        session: String,
        /// Why.
        reason: String,
    },
    /// End all sessions of a role.
    KillRole {
        /// The role.
        role: String,
        /// Why.
        reason: String,
    },
    /// Let no more sessions begin.
    Drain {
        /// After this time, in seconds, those that are left are ended; never if not given.
        within_s: Option<u64>,
    },
    /// Let logins wait.
    Pause,
    /// End a drain or a pause.
    Resume,
    /// Close the audit file, and go on in a new one.
    Rotate,
    /// Put on record that a closed audit file is taken away. Whoever says so does that.
    Taken {
        /// The file.
        file: String,
        /// Where it is kept.
        to: String,
    },
    /// Compare every managed role with the directory.
    Reconcile {
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Put on record that an administrator hands a role over to a person. The command itself does
    /// that, as the administrator.
    Adopt {
        /// The role.
        role: String,
        /// The person's login name.
        name: String,
    },
    /// Who is kept out.
    Holds,
}

/// As a comparison names it.
const ATTRIBUTE: &str = "the attribute REPLICATION";

/// What was done, a line each; or why it was not.
pub(crate) type Answer = Result<Vec<String>, OrderError>;

/// Does what an operator says, after it is on record, and puts on record what came of it.
pub(super) async fn obey(plane: &Plane, command: Command, by: &Operator) -> Answer {
    if plane.gate.has_handed_over() {
        // It was on its way when the other process took over, of whose sessions it is.
        return Err(OrderError::NotNow(ANOTHER_SERVES.to_owned()));
    }
    let Some(Said {
        order,
        subject,
        detail,
    }) = command.said()
    else {
        return carry_out(plane, command, by).await;
    };
    by.orders(&plane.gate, order, (&subject, &detail)).await?;
    let answer = carry_out(plane, command, by).await;
    let (outcome, detail) = match &answer {
        Ok(lines) => (OrderOutcome::Done, lines.join("; ")),
        Err(why) => (OrderOutcome::Failed, why.to_string()),
    };
    by.ended(&plane.gate, order, outcome, detail).await;
    answer
}

async fn carry_out(plane: &Plane, command: Command, by: &Operator) -> Answer {
    let (gate, name) = (&plane.gate, by.name.as_str());
    match command {
        Command::Revoke {
            name: whom,
            for_s,
            reason,
        } => revoke(plane, &whom, (for_s, &reason), name).await,
        Command::Restore { name: whom } => restore(plane, &whom, name).await,
        Command::Kill { session, reason } => halting::kill(gate, &session, (name, &reason)),
        Command::KillRole { role, reason } => halting::kill_role(gate, &role, (name, &reason)),
        Command::Reconcile { dry_run } => reconcile(plane, dry_run).await,
        Command::Drain { within_s } => halting::drain(gate, within_s.map(Duration::from_secs)),
        Command::Pause => halting::pause(gate),
        Command::Resume => halting::resume(gate),
        Command::Rotate => rotate(&gate.audit).await,
        Command::Adopt { .. } | Command::Taken { .. } => Ok(Vec::new()),
        Command::Holds => holds(plane).await,
    }
}

/// Closes the audit file. Who ordered it is in the file that is closed, and what came of it in the
/// next one.
async fn rotate(audit: &AuditLog) -> Answer {
    let rotated = audit.rotate().await;
    let Rotated { file, last } = rotated.map_err(|error| OrderError::Failed(error.to_string()))?;
    let (file, (number, hash)) = (file.display(), last);
    Ok(vec![format!(
        "{file} is closed: its last record is {number}, hash {hash}"
    )])
}

/// The entries of all managed roles that may log in.
///
/// # Errors
///
/// The role store does not say.
pub(super) async fn may_log_in(plane: &Plane) -> Result<Vec<EntryId>, RoleStoreError> {
    let managed = managed_logins(plane).await?;
    let open = managed.into_iter().filter(|it| it.can_login);
    Ok(open.map(|it| it.entry).collect())
}

async fn managed_logins(plane: &Plane) -> Result<Vec<ManagedLogin>, RoleStoreError> {
    let mut all: Vec<ManagedLogin> = Vec::new();
    loop {
        let after = all.last().map(|it| it.entry.clone());
        let page = plane.role_store.managed_logins(after.as_ref()).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Who is meant by a name: the directory says whose entry it is, or else the role has to do.
struct Meant {
    role: RoleName,
    entry: Option<EntryId>,
}

async fn meant(plane: &Plane, name: &str) -> Result<Meant, String> {
    let config = &plane.gate.config;
    if let Some(role) = service::role_named(config, name) {
        return Ok(Meant {
            role: role.clone(),
            entry: None,
        });
    }
    let login = LoginName::parse(name, &config.domains);
    let login = login.map_err(|error| format!("{name:?}: {error}"))?;
    let lowercase = config.groups.lowercase_roles;
    let role = |name: &str| person_role(name, lowercase).map_err(|error| error.to_string());
    match plane.directories.look_up(&login).await {
        Ok(principal) => Ok(Meant {
            role: role(&principal.name)?,
            entry: Some(principal.id),
        }),
        // Gone, disabled or out of reach: the role still says whose it is.
        Err(_) => match managed_as(plane, login.name()).await? {
            Some(managed) => Ok(managed),
            None => Ok(Meant {
                role: role(login.name())?,
                entry: None,
            }),
        },
    }
}

/// The managed role of a name, in whatever case it is written: directories do not tell them apart.
async fn managed_as(plane: &Plane, name: &str) -> Result<Option<Meant>, String> {
    let managed = managed_logins(plane).await;
    let managed = managed.map_err(|error| error.to_string())?;
    let is_named = |it: &&ManagedLogin| {
        it.role.eq_ignore_ascii_case(name) || it.login.eq_ignore_ascii_case(name)
    };
    let mut named = managed.iter().filter(is_named);
    match (named.next(), named.next()) {
        (Some(one), None) => Ok(Some(Meant {
            role: RoleName::new(&one.role).map_err(|error| error.to_string())?,
            entry: Some(one.entry.clone()),
        })),
        (None, _) => Ok(None),
        (Some(one), Some(other)) => Err(format!(
            "{name} may be {} or {}: write it as it is there",
            one.role, other.role
        )),
    }
}

async fn revoke(
    plane: &Plane,
    name: &str,
    (for_s, reason): (Option<u64>, &str),
    by: &str,
) -> Answer {
    let meant = meant(plane, name).await?;
    let whom = Whom {
        entry: meant.entry.as_ref(),
        role: Some(&meant.role),
    };
    let lasts = for_s.map(Duration::from_secs);
    let held = plane.role_store.hold(whom, lasts, reason, by).await;
    let held = held.map_err(|error| error.to_string())?;
    let config = &plane.gate.config;
    let is_service = service::role_named(config, meant.role.as_str()).is_some();
    let sessions = plane.gate.sessions.list();
    let is_theirs = |it: &LiveSession| match &held.entry {
        Some(entry) => it.entry() == entry,
        None => it.role == meant.role,
    };
    let count = sessions.iter().filter(|(_, it)| is_theirs(it)).count();
    let entry = match held.entry {
        Some(entry) => Some(entry),
        None => {
            let theirs = sessions.iter().find(|(_, it)| is_theirs(it));
            let entry = theirs.map(|(_, it)| it.entry().clone());
            entry.or_else(|| is_service.then(|| service::entry_of(&meant.role)))
        }
    };
    let is_known = entry.is_some();
    if let Some(entry) = entry {
        let leaver = Leaver {
            entry: &entry,
            name: meant.role.as_str(),
            loss: Loss {
                reason: LostReason::Held,
                detail: format!("revoked by {by}: {reason}"),
            },
            cause: Cause::now(Heard::Operator),
            session: None,
        };
        end_access(plane, leaver).await.map_err(|error| {
            format!("{name} is kept out, but the role could not be stripped: {error}")
        })?;
    }
    let until = match held.until {
        Some(until) => format!("until {}", rfc3339(unix_ms(until))),
        None => format!("until postern restore {name}"),
    };
    let nobody = match is_known {
        true => "",
        false => "; nobody has had this role yet: look whether the name is right",
    };
    Ok(vec![format!(
        "{} is kept out {until}; {count} sessions were ended here{nobody}",
        meant.role
    )])
}

async fn restore(plane: &Plane, name: &str, by: &str) -> Answer {
    let meant = meant(plane, name).await?;
    let whom = Whom {
        entry: meant.entry.as_ref(),
        role: Some(&meant.role),
    };
    let released = plane.role_store.release(whom, by).await;
    match released.map_err(|error| error.to_string())? {
        true => Ok(vec![format!(
            "{} may log in again, if the directory says so",
            meant.role
        )]),
        false => Err(OrderError::Unknown(format!(
            "nobody keeps {} out",
            meant.role
        ))),
    }
}

/// Compares every managed role that may log in with the directory, and makes it true unless only
/// the plan is asked for.
async fn reconcile(plane: &Plane, dry_run: bool) -> Answer {
    let managed = managed_logins(plane).await;
    let managed = managed.map_err(|error| error.to_string())?;
    let open: Vec<ManagedLogin> = managed.into_iter().filter(|it| it.can_login).collect();
    let (mut lines, mut left, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for login in &open {
        let differences = match differences(plane, login).await {
            Ok(differences) => differences,
            Err(why) => {
                unknown.push(format!("unknown {}  {why}", login.role));
                continue;
            }
        };
        if differences.is_empty() {
            continue;
        }
        let has_attribute = differences.iter().any(|it| it.ends_with(ATTRIBUTE));
        lines.extend(differences);
        if dry_run {
            continue;
        }
        let done = settle(plane, &login.entry, Cause::now(Heard::Operator)).await;
        if !matches!(done, Outcome::Settled(_)) {
            let why = format!("{}: it could not be done; ask again", login.role);
            return Err(OrderError::Failed(why));
        }
        if has_attribute {
            left.extend(replication_left(plane, login).await?);
        }
    }
    let (compared, differ) = (open.len() - unknown.len(), lines.len());
    let count = match unknown.len() {
        0 => format!("{compared} roles compared, {differ} differences"),
        unknown => format!("{compared} roles compared, {differ} differences, {unknown} unknown"),
    };
    Ok([lines, left, unknown, vec![count]].concat())
}

/// How a managed role differs from what the directory says.
async fn differences(plane: &Plane, login: &ManagedLogin) -> Result<Vec<String>, String> {
    let role = &login.role;
    if !plane.directories.is_asked_about(&login.entry) {
        return Err("is of a source that is not configured here".to_owned());
    }
    let principal = match plane.directories.look_up_entry(&login.entry).await {
        Ok(person) => person.principal,
        Err(error) => match Loss::of(&error) {
            Some(loss) => return Ok(vec![format!("revoke  {role}  {}", loss.detail)]),
            None => return Err(format!("the directory cannot be asked: {error}")),
        },
    };
    let grants = plane.gate.config.groups.rules.grants(&principal.groups, "");
    let wanted: Vec<&str> = grants.roles.iter().map(|it| it.role.as_str()).collect();
    if wanted.is_empty() {
        return Ok(vec![format!("revoke  {role}  no group counts")]);
    }
    let lost = login
        .groups
        .iter()
        .filter(|it| !wanted.contains(&it.as_str()));
    let lost = lost.map(|it| format!("revoke  {role}  {it}"));
    let gained = wanted
        .iter()
        .filter(|it| !login.groups.iter().any(|has| has == **it));
    let gained = gained.map(|it| format!("grant   {role}  {it}"));
    let replication = replication_difference(plane, login, grants.may_replicate);
    Ok(lost.chain(gained).chain(replication).collect())
}

/// The attribute REPLICATION, which is an administrator's matter where no group rule opens
/// replication connections.
fn replication_difference(plane: &Plane, login: &ManagedLogin, wanted: bool) -> Option<String> {
    let is_ours = plane.gate.config.groups.rules.open_replication();
    let verb = match (login.can_replicate, wanted) {
        (true, false) => "revoke",
        (false, true) => "grant ",
        (true, true) | (false, false) => return None,
    };
    is_ours.then(|| format!("{verb}  {}  {ATTRIBUTE}", login.role))
}

/// What was to be changed and was not, because PostgreSQL does not let Postern.
async fn replication_left(plane: &Plane, before: &ManagedLogin) -> Result<Option<String>, String> {
    let now = plane.role_store.managed_login(&before.entry).await;
    let now = now.map_err(|error| error.to_string())?;
    let is_left = now.is_some_and(|it| it.can_login && it.can_replicate == before.can_replicate);
    Ok(is_left.then(|| {
        format!(
            "left    {}  {ATTRIBUTE}: PostgreSQL does not let Postern change it; postern check \
             says how it would",
            before.role
        )
    }))
}

async fn holds(plane: &Plane) -> Answer {
    let holds = plane.role_store.holds().await;
    let holds = holds.map_err(|error| error.to_string())?;
    let lines = holds.into_iter().map(|hold| {
        let since = |it: std::time::SystemTime| rfc3339(unix_ms(it));
        let whom = hold.held.role.unwrap_or_default();
        let until = hold.held.until.map_or_else(|| "restored".to_owned(), since);
        format!(
            "{whom}  until {until}  by {}  {}",
            hold.placed_by, hold.reason
        )
    });
    Ok(lines.collect())
}

/// What is on record of a command.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Its name.
    pub(crate) order: &'static str,
    /// What it is about.
    pub(crate) subject: String,
    /// All else.
    pub(crate) detail: String,
}

impl Command {
    /// What is on record of it; nothing of a mere question.
    pub(crate) fn said(&self) -> Option<Said> {
        let nothing = String::new;
        let (order, subject, detail) = match self {
            Self::Revoke {
                name,
                for_s,
                reason,
            } => {
                let lasts = for_s.map_or_else(String::new, |it| format!("for {it} s: "));
                ("revoke", name.clone(), format!("{lasts}{reason}"))
            }
            Self::Restore { name } => ("restore", name.clone(), nothing()),
            Self::Kill { session, reason } => ("kill", session.clone(), reason.clone()),
            Self::KillRole { role, reason } => ("kill_role", role.clone(), reason.clone()),
            Self::Adopt { role, name } => ("adopt", role.clone(), format!("for {name}")),
            Self::Drain { within_s } => {
                let detail = within_s.map_or_else(nothing, |it| format!("within {it} s"));
                ("drain", nothing(), detail)
            }
            Self::Pause => ("pause", nothing(), nothing()),
            Self::Resume => ("resume", nothing(), nothing()),
            Self::Rotate => ("rotate", nothing(), nothing()),
            Self::Taken { file, to } => ("audit_taken", file.clone(), format!("to {to}")),
            Self::Reconcile { dry_run: false } => ("reconcile", nothing(), nothing()),
            Self::Reconcile { dry_run: true } | Self::Holds => return None,
        };
        Some(Said {
            order,
            subject,
            detail,
        })
    }
}
