//! What has to be done, decided from what is there.

use std::num::NonZeroU32;

use postern_core::mapping::RoleName;
use postern_core::scram::Verifier;
use ring::rand::SecureRandom as _;

use super::found::{Found, join};
use super::manifest::FILES;
use super::{Install, OWNER, SERVER_VERSIONS, SchemaError, Step, VERSION};

/// The iterations of the verifier of the provisioner's own password: PostgreSQL's default.
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(4_096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// What is pinned for every session of the provisioner, so that not even a server that logs
/// everything writes a verifier down. Modules that are not loaded do not mind.
const SETTINGS: [(&str, &str); 5] = [
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("auto_explain.log_parameter_max_length", "0"),
    ("pg_stat_statements.track_utility", "off"),
    ("pgaudit.log_parameter", "off"),
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
    match found.owner {
        None => {
            tasks.push(Task::new(
                "create the owner of the schema",
                format!("CREATE ROLE {OWNER} NOLOGIN CREATEROLE INHERIT"),
            ));
            // A managed service has no superuser: its administrator becomes a member for the
            // while, here and, when the owner was there before, already for looking.
            if !found.admin_is_superuser {
                tasks.push(Task::new("act as the owner", join(&found.admin)));
            }
        }
        Some(role) if role.login || !role.create_role => tasks.push(Task::new(
            "correct the owner of the schema",
            format!("ALTER ROLE {OWNER} NOLOGIN CREATEROLE INHERIT"),
        )),
        Some(_) => {}
    }
    if !found.owner_may_signal {
        tasks.push(Task::new(
            "let the owner end the sessions of revoked people",
            format!("GRANT pg_signal_backend TO {OWNER}"),
        ));
    }
    plan_provisioner(found, order, &mut tasks)?;
    plan_schema(found, order.provisioner, &mut tasks);
    if !found.admin_is_superuser && !tasks.is_empty() {
        tasks.push(Task::new(
            "stop being a member of the owner",
            format!("REVOKE {OWNER} FROM {}", quote_identifier(&found.admin)),
        ));
    }
    Ok(tasks)
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
    if found.owner.is_some_and(|role| role.superuser) {
        return Err(taken(
            format!("role {OWNER} is a superuser"),
            "take SUPERUSER away from it: ALTER ROLE postern_owner NOSUPERUSER",
        ));
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
    for (key, value) in SETTINGS.iter().filter(|_| found.admin_is_superuser) {
        if !found
            .provisioner_settings
            .contains(&format!("{key}={value}"))
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
        "let the provisioner in",
        format!("GRANT USAGE ON SCHEMA postern TO {provisioner}"),
    ));
    for file in FILES {
        let sql = file.sql.replace(":\"provisioner\"", &provisioner);
        tasks.push(Task::new(format!("install {}", file.path), sql.trim_end()));
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
