//! What has to be done, decided from what is there.

use std::num::NonZeroU32;

use postern_core::mapping::RoleName;
use postern_core::scram::Verifier;
use ring::rand::SecureRandom as _;

use super::found::{Found, Role, join};
use super::manifest::FILES;
use super::{Install, OWNER, PEOPLE, SERVER_VERSIONS, SchemaError, Step, VERSION};

/// The iterations of the verifier of the provisioner's own password: PostgreSQL's default.
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(4_096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// What is pinned for every session of the provisioner, so that not even a server that logs
/// everything writes a verifier down, and since which version the setting exists: a module that
/// is loaded minds a setting that it does not know, one that is not loaded minds nothing.
/// Terse leaves out the context of an error, which quotes the statement that was cut short.
const SETTINGS: [(&str, &str, i32); 6] = [
    ("log_error_verbosity", "terse", 0),
    ("log_parameter_max_length", "0", 0),
    ("log_parameter_max_length_on_error", "0", 0),
    ("auto_explain.log_parameter_max_length", "0", 160_000),
    ("pg_stat_statements.track_utility", "off", 0),
    ("pgaudit.log_parameter", "off", 0),
];

/// A step with the SQL that is really executed.
pub(super) struct Task {
    pub(super) step: Step,
    pub(super) sql: String,
}

impl Task {
    fn new(what: impl Into<String>, sql: impl Into<String>) -> Self {
        let sql = sql.into();
        Self {
            step: Step {
                what: what.into(),
                sql: sql.clone(),
            },
            sql,
        }
    }
}

/// What has to be done. Reads nothing.
pub(super) fn plan(found: &Found, order: &Install<'_>) -> Result<Vec<Task>, SchemaError> {
    check(found, order.provisioner)?;
    let mut tasks = Vec::new();
    plan_role(found, OWNER, found.owner, &mut tasks);
    plan_role(found, PEOPLE, found.people, &mut tasks);
    if !found.owner_may_signal {
        tasks.push(Task::new(
            "let the owner end the sessions of revoked people",
            format!("GRANT pg_signal_backend TO {OWNER}"),
        ));
    }
    plan_provisioner(found, order, &mut tasks)?;
    plan_schema(found, order.provisioner, &mut tasks);
    if !found.admin_is_superuser && !tasks.is_empty() {
        for role in [OWNER, PEOPLE] {
            tasks.push(Task::new(
                format!("stop being a member of {role}"),
                format!("REVOKE {role} FROM {}", quote_identifier(&found.admin)),
            ));
        }
    }
    Ok(tasks)
}

/// One of Postern's own roles: it can create roles, and nobody can log in as it.
fn plan_role(found: &Found, name: &str, role: Option<Role>, tasks: &mut Vec<Task>) {
    match role {
        None => {
            tasks.push(Task::new(
                format!("create {name}"),
                format!("CREATE ROLE {name} NOLOGIN CREATEROLE INHERIT"),
            ));
            // A managed service has no superuser: its administrator becomes a member for the
            // while, here and, when the role was there before, already for looking.
            if !found.admin_is_superuser {
                tasks.push(Task::new(
                    format!("act as {name}"),
                    join(name, &found.admin),
                ));
            }
        }
        Some(role) if role.login || !role.create_role => tasks.push(Task::new(
            format!("correct {name}"),
            format!("ALTER ROLE {name} NOLOGIN CREATEROLE INHERIT"),
        )),
        Some(_) => {}
    }
}

/// Refuses what would make the result less than it claims to be.
fn check(found: &Found, provisioner: &RoleName) -> Result<(), SchemaError> {
    let taken = |what: String, cure: &str| SchemaError::Taken {
        what,
        cure: cure.to_owned(),
    };
    if !SERVER_VERSIONS.contains(&found.server_version) {
        return Err(SchemaError::ServerVersion(found.server_version));
    }
    if !found.admin_is_superuser && !found.admin_may_create_roles {
        return Err(SchemaError::NotAdministrator {
            user: found.admin.clone(),
        });
    }
    if let Some((version, _)) = found.installed
        && version > VERSION
    {
        return Err(SchemaError::Newer { found: version });
    }
    for (name, role) in [(OWNER, found.owner), (PEOPLE, found.people)] {
        if role.is_some_and(|role| role.superuser) {
            return Err(taken(
                format!("role {name} is a superuser"),
                &format!("take SUPERUSER away from it: ALTER ROLE {name} NOSUPERUSER"),
            ));
        }
    }
    if let Some(role) = found.provisioner
        && (role.superuser || role.create_role)
    {
        return Err(taken(
            format!("role {provisioner} is a superuser or has CREATEROLE"),
            "name another provisioner in role_store.user: one that can do nothing else",
        ));
    }
    match found.schema_owner.as_deref() {
        Some(owner) if owner != OWNER => Err(taken(
            format!("schema postern exists and belongs to {owner}"),
            "rename or drop it",
        )),
        _ => Ok(()),
    }
}

fn plan_provisioner(
    found: &Found,
    order: &Install<'_>,
    tasks: &mut Vec<Task>,
) -> Result<(), SchemaError> {
    let name = quote_identifier(order.provisioner.as_str());
    if let Some((what, verb)) = password_task(found, order, &name) {
        let mut salt = [0_u8; 16];
        ring::rand::SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| SchemaError::Random)?;
        let verifier = Verifier::from_password(order.password.expose(), &salt, ITERATIONS);
        tasks.push(Task {
            step: Step {
                what: what.to_owned(),
                sql: format!("{verb} PASSWORD '(secret)'"),
            },
            // A verifier has no quote and no backslash: base64, digits, `$`, `:` and dashes.
            sql: format!("{verb} PASSWORD '{verifier}'"),
        });
    }
    if !found.provisioner_may_connect {
        // PUBLIC usually has CONNECT; somebody may take it away.
        let database = quote_identifier(&found.database);
        tasks.push(Task::new(
            "let the provisioner connect",
            format!("GRANT CONNECT ON DATABASE {database} TO {name}"),
        ));
    }
    // Only a superuser may pin these for somebody else.
    for (key, value, since) in SETTINGS {
        let pinned = format!("{key}={value}");
        if found.admin_is_superuser
            && found.server_version >= since
            && !found.provisioner_settings.contains(&pinned)
        {
            tasks.push(Task::new(
                "keep verifiers out of the server's log",
                format!("ALTER ROLE {name} SET {key} = '{value}'"),
            ));
        }
    }
    Ok(())
}

/// What sets the provisioner's password, if it has to be set.
fn password_task(found: &Found, order: &Install<'_>, name: &str) -> Option<(&'static str, String)> {
    let Some(role) = found.provisioner else {
        return Some((
            "create the provisioner",
            format!("CREATE ROLE {name} LOGIN NOINHERIT"),
        ));
    };
    let right = found
        .provisioner_verifier
        .as_deref()
        .and_then(|text| text.parse::<Verifier>().ok())
        .is_some_and(|verifier| verifier.check(order.password.expose()));
    // Only a superuser sees the verifier; others would set the same password every time.
    if role.login && (right || !found.admin_is_superuser) {
        return None;
    }
    Some((
        "set the provisioner's password",
        format!("ALTER ROLE {name} LOGIN"),
    ))
}

/// The one routine that an administrator may hand over to a superuser, who alone can replace it
/// then.
const SET_REPLICATION: &str = "people/set_replication.sql";

fn plan_schema(found: &Found, provisioner: &RoleName, tasks: &mut Vec<Task>) {
    let digest = digest(provisioner);
    if found
        .installed
        .as_ref()
        .is_some_and(|(_, installed)| *installed == digest)
    {
        return;
    }
    let provisioner = quote_identifier(provisioner.as_str());
    if found.schema_owner.is_none() {
        tasks.push(Task::new(
            "create the schema",
            format!("CREATE SCHEMA postern AUTHORIZATION {OWNER}"),
        ));
    }
    tasks.push(Task::new(
        "act as the owner",
        format!("SET LOCAL ROLE {OWNER}"),
    ));
    tasks.push(Task::new(
        "let the provisioner and the creator of people in",
        format!(
            "GRANT USAGE ON SCHEMA postern TO {provisioner}; \
             GRANT USAGE, CREATE ON SCHEMA postern TO {PEOPLE}"
        ),
    ));
    for file in FILES {
        let mut sql = file
            .sql
            .trim_end()
            .replace(":\"provisioner\"", &provisioner);
        if file.path == SET_REPLICATION && found.replication_is_handed_over {
            if !found.admin_is_superuser {
                continue;
            }
            sql = format!("RESET ROLE;\n{sql}\nSET LOCAL ROLE {OWNER};");
        } else if file.path.starts_with("people/") {
            sql = format!("SET LOCAL ROLE {PEOPLE};\n{sql}\nSET LOCAL ROLE {OWNER};");
        }
        tasks.push(Task::new(format!("install {}", file.path), sql));
    }
    if !found.admin_is_superuser {
        // A superuser may call everything anyhow.
        let admin = quote_identifier(&found.admin);
        tasks.push(Task::new(
            "let the administrator adopt roles",
            format!(
                "GRANT USAGE ON SCHEMA postern TO {admin}; GRANT EXECUTE ON FUNCTION \
                 postern.adopt_group(text), postern.record_group(text), \
                 postern.adopt_role(text, text), postern.record_role(text, text) TO {admin}"
            ),
        ));
    }
    tasks.push(Task::new(
        "record the version",
        format!(
            "INSERT INTO postern.schema_version (version, digest) VALUES ({VERSION}, '{digest}')"
        ),
    ));
    tasks.push(Task::new("act as the administrator again", "RESET ROLE"));
}

/// SHA-256 of everything that [`plan_schema`] installs, in hex.
fn digest(provisioner: &RoleName) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&VERSION.to_be_bytes());
    context.update(provisioner.as_str().as_bytes());
    for file in FILES {
        context.update(&[0]);
        context.update(file.path.as_bytes());
        context.update(&[0]);
        context.update(file.sql.as_bytes());
    }
    context
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An SQL identifier in quotes,
/// <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
