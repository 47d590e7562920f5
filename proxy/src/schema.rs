//! Installs and upgrades the `postern` schema: what `postern init-sql` does.
//!
//! The schema belongs to `postern_owner`, a role that nobody can log in as and that may create
//! roles without being a superuser. The provisioner, whose password the proxies hold, may call
//! the schema's routines and nothing else, so that a stolen password cannot make or grant an
//! arbitrary role.
//!
//! Everything happens in one transaction. What has to be done is read from the catalogs first and
//! is data ([`Step`]), so that the dry run prints exactly what a real run would execute.

mod manifest;

use std::num::NonZeroU32;

use postern_core::mapping::RoleName;
use postern_core::scram::Verifier;
use postern_core::secret::Secret;
use ring::rand::SecureRandom as _;
use tokio_postgres::{Client, Transaction};

use crate::role_store::connect::{ConnectError, Connector};
use crate::role_store::describe;

pub(crate) use manifest::{FILES, File};

/// The version of the schema that this program installs and works with.
/// It is raised with every change of a table or of a routine's parameters.
pub(crate) const VERSION: i32 = 1;

/// The role that owns the schema.
pub(crate) const OWNER: &str = "postern_owner";

/// The PostgreSQL versions that the schema is written for, as `server_version_num`.
pub(crate) const SERVER_VERSIONS: std::ops::Range<i32> = 130_000..190_000;

/// The iterations of the verifier of the provisioner's own password: PostgreSQL's default.
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(4_096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// What to install.
#[expect(missing_debug_implementations, reason = "holds a password")]
pub(crate) struct Install<'a> {
    /// The role that the proxies log in as. It is created if it is missing.
    pub(crate) provisioner: &'a RoleName,
    /// Its password. PostgreSQL gets it as a SCRAM verifier, and only if it is not already it.
    pub(crate) password: &'a Secret<Vec<u8>>,
    /// Only say what would be done.
    pub(crate) dry_run: bool,
}

/// One thing that was done, or that would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What, in a few words.
    pub(crate) what: String,
    /// The SQL, secrets masked, without a semicolon at the end.
    pub(crate) sql: String,
}

/// Why the schema could not be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    /// The server cannot be reached, or does not let the administrator in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The schema is not written for this server.
    #[error("PostgreSQL 13 to 18 is needed, and this is version {0}")]
    ServerVersion(i32),
    /// The database has a newer schema than this program.
    #[error("the installed schema has version {found}, newer than this program's {VERSION}")]
    Newer {
        /// The installed version.
        found: i32,
    },
    /// The schema's name, or a role's, is taken by something that Postern did not make.
    #[error("{what}; {cure}")]
    Taken {
        /// What is in the way.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// The administrator may not do what is needed.
    #[error("{user} is neither a superuser nor a role with CREATEROLE")]
    NotAdministrator {
        /// Who was logged in.
        user: String,
    },
    /// The provisioner's password cannot be turned into a verifier.
    #[error("no random numbers from the system")]
    Random,
    /// A statement failed.
    #[error("{step}: {}", describe(.source))]
    Database {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
}

/// Connects as an administrator and installs or upgrades the schema; see [`install`].
///
/// `admin` says who and where; its database is where the schema goes.
///
/// # Errors
///
/// [`SchemaError::Connect`], and what [`install`] returns.
pub(crate) async fn connect_and_install(
    connector: &Connector,
    admin: &tokio_postgres::Config,
    order: &Install<'_>,
) -> Result<Vec<Step>, SchemaError> {
    let mut client = connector.connect(admin).await?;
    install(&mut client, order).await
}

/// Installs or upgrades the schema and returns what was done, which is nothing the second time.
///
/// # Errors
///
/// A [`SchemaError`]; then nothing was done.
pub(crate) async fn install(
    client: &mut Client,
    order: &Install<'_>,
) -> Result<Vec<Step>, SchemaError> {
    let transaction = client.transaction().await.map_err(at("begin"))?;
    // A second installer waits for the first and then finds nothing to do.
    transaction
        .batch_execute(
            "SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL lock_timeout = '10s'; \
             SELECT pg_advisory_xact_lock(1886352500, 0)",
        )
        .await
        .map_err(at("lock"))?;
    let found = Found::read(&transaction, order.provisioner).await?;
    let work = plan(&found, order)?;
    if !order.dry_run {
        for task in &work {
            transaction
                .batch_execute(&task.sql)
                .await
                .map_err(at(&task.step.what))?;
        }
    }
    transaction.commit().await.map_err(at("commit"))?;
    Ok(work.into_iter().map(|task| task.step).collect())
}

/// A step with the SQL that is really executed.
struct Task {
    step: Step,
    sql: String,
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

/// What is there already.
struct Found {
    server_version: i32,
    database: String,
    admin: String,
    admin_is_superuser: bool,
    admin_may_create_roles: bool,
    owner: Option<Role>,
    owner_may_signal: bool,
    provisioner: Option<Role>,
    provisioner_verifier: Option<String>,
    provisioner_may_connect: bool,
    schema_owner: Option<String>,
    installed: Option<(i32, String)>,
}

/// The attributes of a role that matter here.
#[derive(Clone, Copy)]
struct Role {
    login: bool,
    superuser: bool,
    create_role: bool,
}

impl Found {
    async fn read(t: &Transaction<'_>, provisioner: &RoleName) -> Result<Self, SchemaError> {
        let row = t
            .query_one(
                "SELECT current_setting('server_version_num')::integer, current_database()::text, \
                 current_user::text, r.rolsuper, r.rolcreaterole, \
                 (SELECT n.nspowner::regrole::text FROM pg_namespace n \
                  WHERE n.nspname = 'postern'), \
                 to_regclass('postern.schema_version') IS NOT NULL, \
                 EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = 'pg_signal_backend'::regrole \
                  AND m.member = (SELECT o.oid FROM pg_roles o WHERE o.rolname = $1)) \
                 FROM pg_roles r WHERE r.rolname = current_user",
                &[&OWNER],
            )
            .await
            .map_err(at("look at the server"))?;
        let admin_is_superuser = row.get(3);
        let installed = if row.get(6) {
            t.query_opt(
                "SELECT version, digest FROM postern.schema_version ORDER BY id DESC LIMIT 1",
                &[],
            )
            .await
            .map_err(at("read the installed version"))?
            .map(|row| (row.get(0), row.get(1)))
        } else {
            None
        };
        let name = provisioner.as_str();
        let role = role(t, name).await?;
        Ok(Self {
            server_version: row.get(0),
            database: row.get(1),
            admin: row.get(2),
            admin_is_superuser,
            admin_may_create_roles: row.get(4),
            owner: self::role(t, OWNER).await?,
            owner_may_signal: row.get(7),
            provisioner: role,
            provisioner_verifier: match role {
                Some(_) if admin_is_superuser => t
                    .query_one(
                        "SELECT rolpassword FROM pg_authid WHERE rolname = $1",
                        &[&name],
                    )
                    .await
                    .map_err(at("read the provisioner's verifier"))?
                    .get(0),
                _ => None,
            },
            provisioner_may_connect: match role {
                Some(_) => t
                    .query_one(
                        "SELECT has_database_privilege($1, current_database(), 'CONNECT')",
                        &[&name],
                    )
                    .await
                    .map_err(at("look at the provisioner's privileges"))?
                    .get(0),
                None => false,
            },
            schema_owner: row.get(5),
            installed,
        })
    }
}

async fn role(t: &Transaction<'_>, name: &str) -> Result<Option<Role>, SchemaError> {
    let row = t
        .query_opt(
            "SELECT rolcanlogin, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = $1",
            &[&name],
        )
        .await
        .map_err(at("look at the roles"))?;
    Ok(row.map(|row| Role {
        login: row.get(0),
        superuser: row.get(1),
        create_role: row.get(2),
    }))
}

/// What has to be done. Reads nothing.
fn plan(found: &Found, order: &Install<'_>) -> Result<Vec<Task>, SchemaError> {
    check(found, order.provisioner)?;
    let mut tasks = Vec::new();
    match found.owner {
        None => tasks.push(Task::new(
            "create the owner of the schema",
            format!("CREATE ROLE {OWNER} NOLOGIN CREATEROLE INHERIT"),
        )),
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
    let (what, verb) = match found.provisioner {
        None => (
            "create the provisioner",
            format!("CREATE ROLE {name} LOGIN NOINHERIT"),
        ),
        // Only a superuser sees the verifier; others would set the same password every time.
        Some(_) if !found.admin_is_superuser => return plan_connect(found, &name, tasks),
        Some(role) => {
            let right = found
                .provisioner_verifier
                .as_deref()
                .and_then(|text| text.parse::<Verifier>().ok())
                .is_some_and(|verifier| verifier.check(order.password.expose()));
            if right && role.login {
                return plan_connect(found, &name, tasks);
            }
            (
                "set the provisioner's password",
                format!("ALTER ROLE {name} LOGIN"),
            )
        }
    };
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
    plan_connect(found, &name, tasks)
}

/// PUBLIC usually has CONNECT; where it was taken away, the provisioner needs its own.
fn plan_connect(
    found: &Found,
    provisioner: &str,
    tasks: &mut Vec<Task>,
) -> Result<(), SchemaError> {
    if found.provisioner.is_some() && !found.provisioner_may_connect {
        let database = quote_identifier(&found.database);
        tasks.push(Task::new(
            "let the provisioner connect",
            format!("GRANT CONNECT ON DATABASE {database} TO {provisioner}"),
        ));
    }
    Ok(())
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
    let database = quote_identifier(&found.database);
    if found.installed.is_none() {
        tasks.push(Task::new(
            "let the provisioner connect",
            format!("GRANT CONNECT ON DATABASE {database} TO {provisioner}"),
        ));
    }
    // A managed service has no superuser: its administrator becomes a member for the while.
    if !found.admin_is_superuser {
        tasks.push(Task::new(
            "act as the owner",
            format!("GRANT {OWNER} TO {}", quote_identifier(&found.admin)),
        ));
    }
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
    if !found.admin_is_superuser {
        tasks.push(Task::new(
            "stop being a member of the owner",
            format!("REVOKE {OWNER} FROM {}", quote_identifier(&found.admin)),
        ));
    }
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
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn at(step: &str) -> impl FnOnce(tokio_postgres::Error) -> SchemaError {
    let step = step.to_owned();
    move |source| SchemaError::Database { step, source }
}
