//! The rows of `postern check` about the role store.

mod strangers;

use postern_core::perimeter::Plan;
use tokio_postgres::{Client, Row};

use super::error::RoleStoreError;
use super::pool::Pool;
use super::{RoleStore, replication};
use crate::check::Probe;
use crate::schema::{OWNER, PEOPLE, SERVER_VERSIONS, VERSION};

const LOOK: &str = "SELECT current_setting('server_version_num')::integer, \
    COALESCE((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false), \
    COALESCE((SELECT s.version FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), ''), \
    r.rolsuper, r.rolcreaterole OR r.rolreplication OR r.rolbypassrls, \
    (SELECT count(*) = 2 FROM pg_roles c WHERE c.rolname IN ($1, $2) \
     AND c.rolcreaterole AND NOT c.rolsuper AND NOT c.rolcanlogin), \
    COALESCE(pg_has_role(o.oid, 'pg_signal_backend', 'USAGE'), false), \
    (SELECT count(*) FROM pg_proc f \
     WHERE f.pronamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'postern') \
       AND f.proname IN ('version', 'plan_login', 'apply_login', 'change_memberships', \
         'disable_login', 'revoke_login', 'deprovision_login', 'hold_login', 'release_login', \
         'list_holds', 'managed_logins', 'change_replication') \
       AND has_function_privilege(f.oid, 'EXECUTE')) \
    FROM pg_roles r LEFT JOIN pg_roles o ON o.rolname = $1 WHERE r.rolname = session_user";

/// How many routines the provisioner calls; see [`LOOK`].
const ROUTINES: i64 = 12;

impl RoleStore {
    /// The backends that were not reached through this proxy or another allowed one.
    pub(crate) async fn strangers(&self, plan: &Plan) -> Probe {
        match self.pool.connect().await {
            Ok(client) => strangers::probe(self.pool.access(), &client, plan).await,
            Err(error) => strangers::unknown(error.to_string()),
        }
    }
}

/// `replicates` says whether group rules open replication connections.
pub(super) async fn probe(pool: &Pool, plan: Option<&Plan>, replicates: bool) -> Vec<Probe> {
    let client = match pool.connect().await {
        Ok(client) => client,
        Err(error) => return vec![unreachable(&error)],
    };
    let mut probes = vec![
        passed("provisioner's login", pool.place().to_owned()),
        passed("schema version", VERSION.to_string()),
    ];
    match look(&client).await {
        Ok(row) => probes.extend(judge(pool, &row)),
        Err(error) => probes.push(failed(
            "role store",
            super::describe(&error),
            "see the server's log".to_owned(),
        )),
    }
    if replicates {
        probes.push(replication::probe(&client).await);
    }
    if let Some(plan) = plan {
        probes.push(strangers::probe(pool.access(), &client, plan).await);
    }
    probes
}

async fn look(client: &Client) -> Result<Row, tokio_postgres::Error> {
    client.query_one(LOOK, &[&OWNER, &PEOPLE]).await
}

fn unreachable(error: &RoleStoreError) -> Probe {
    let (what, cure) = match error {
        RoleStoreError::SchemaVersion { .. } | RoleStoreError::NotInstalled { .. } => {
            ("schema version", "run postern init-sql")
        }
        RoleStoreError::Privilege { .. } => (
            "schema owner's privileges",
            "give postern_owner the ADMIN OPTION that the message names",
        ),
        RoleStoreError::Standby { .. } => ("role store writable", "name the primary in role_store"),
        RoleStoreError::Database { sqlstate, .. } if sqlstate.starts_with("28") => (
            "provisioner's login",
            "run postern init-sql, and look at pg_hba.conf",
        ),
        RoleStoreError::Unproven { .. } => (
            "provisioner's login",
            "set role_store.sslmode to verify-full, and scram-sha-256 in pg_hba.conf",
        ),
        RoleStoreError::Settings { .. }
        | RoleStoreError::Tls(_)
        | RoleStoreError::Unreachable { .. }
        | RoleStoreError::TimedOut { .. }
        | RoleStoreError::Refused { .. }
        | RoleStoreError::Database { .. }
        | RoleStoreError::UnknownAction(_) => (
            "role store reachable",
            "look at role_store.host, port, sslmode and tls_ca_file",
        ),
    };
    failed(what, error.to_string(), cure.to_owned())
}

fn judge(pool: &Pool, row: &Row) -> Vec<Probe> {
    let version: i32 = row.get(0);
    let (tls, protocol): (bool, String) = (row.get(1), row.get(2));
    let (superuser, powerful): (bool, bool) = (row.get(3), row.get(4));
    let routines: i64 = row.get(7);
    vec![
        judged(
            "PostgreSQL version",
            SERVER_VERSIONS.contains(&version),
            format!("{}.{}", version / 10_000, version % 10_000),
            "13 to 18 is needed",
        ),
        judged(
            "TLS to the role store",
            tls || pool.plaintext_allowed(),
            if tls {
                format!("{protocol}, {}", pool.verification())
            } else {
                "none, as sslmode allows".to_owned()
            },
            "set role_store.sslmode to verify-full",
        ),
        judged(
            "provisioner's privileges",
            !superuser && !powerful,
            if superuser {
                "a superuser".to_owned()
            } else if powerful {
                "CREATEROLE, REPLICATION or BYPASSRLS".to_owned()
            } else {
                "none of its own".to_owned()
            },
            "name a provisioner in role_store.user that can do nothing else",
        ),
        judged(
            "provisioner may call the routines",
            routines == ROUTINES,
            format!("{routines} of {ROUTINES}"),
            "run postern init-sql",
        ),
        judged(
            "roles of Postern",
            row.get(5),
            format!("{OWNER} and {PEOPLE}: CREATEROLE, NOLOGIN, not a superuser"),
            "run postern init-sql",
        ),
        judged(
            "owner may end sessions",
            row.get(6),
            "pg_signal_backend".to_owned(),
            "run postern init-sql",
        ),
    ]
}

fn judged(what: &str, is_so: bool, found: String, cure: &str) -> Probe {
    match is_so {
        true => passed(what, found),
        false => failed(what, found, cure.to_owned()),
    }
}

fn passed(what: &str, found: String) -> Probe {
    Probe::ok("role store", what, found)
}

fn failed(what: &str, found: String, cure: String) -> Probe {
    Probe::failed("role store", what, found, cure)
}
