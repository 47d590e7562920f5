//! What the catalogs say before anything is done.

use postern_core::mapping::RoleName;
use tokio_postgres::Transaction;

use super::plan::quote_identifier;
use super::{OWNER, PEOPLE, SchemaError, at};

/// What is there already.
pub(super) struct Found {
    pub(super) server_version: i32,
    pub(super) database: String,
    pub(super) admin: String,
    pub(super) admin_is_superuser: bool,
    pub(super) admin_may_create_roles: bool,
    pub(super) owner: Option<Role>,
    pub(super) people: Option<Role>,
    pub(super) owner_may_signal: bool,
    pub(super) provisioner: Option<Role>,
    pub(super) provisioner_verifier: Option<String>,
    pub(super) provisioner_may_connect: bool,
    pub(super) provisioner_settings: Vec<String>,
    pub(super) schema_owner: Option<String>,
    pub(super) installed: Option<(i32, String)>,
    /// Whether an administrator has handed `set_replication` over to a superuser.
    pub(super) replication_is_handed_over: bool,
}

/// The attributes of a role that matter here.
#[derive(Clone, Copy)]
pub(super) struct Role {
    pub(super) login: bool,
    pub(super) superuser: bool,
    pub(super) create_role: bool,
}

impl Found {
    pub(super) async fn read(
        t: &Transaction<'_>,
        provisioner: &RoleName,
    ) -> Result<Self, SchemaError> {
        let row = t
            .query_one(
                "SELECT current_setting('server_version_num')::integer, \
                 current_database()::text, current_user::text, r.rolsuper, r.rolcreaterole, \
                 (SELECT n.nspowner::regrole::text FROM pg_namespace n \
                  WHERE n.nspname = 'postern'), \
                 EXISTS (SELECT FROM pg_auth_members m \
                  JOIN pg_roles o ON o.oid = m.member \
                  WHERE m.roleid = 'pg_signal_backend'::regrole AND o.rolname = $1), \
                 EXISTS (SELECT FROM pg_proc f JOIN pg_roles o ON o.oid = f.proowner \
                  JOIN pg_namespace n ON n.oid = f.pronamespace \
                  WHERE n.nspname = 'postern' AND f.proname = 'set_replication' \
                  AND o.rolsuper) \
                 FROM pg_roles r WHERE r.rolname = current_user",
                &[&OWNER],
            )
            .await
            .map_err(at("look at the server"))?;
        let (admin, admin_is_superuser): (String, bool) = (row.get(2), row.get(3));
        let owner = role(t, OWNER).await?;
        let people = role(t, PEOPLE).await?;
        for name in [owner.map(|_| OWNER), people.map(|_| PEOPLE)] {
            // Without being a member, nobody but a superuser may even read the version.
            if let Some(name) = name.filter(|_| !admin_is_superuser) {
                let joined = t.batch_execute(&join(name, &admin)).await;
                joined.map_err(at("act as the owner"))?;
            }
        }
        let mut found = Self {
            server_version: row.get(0),
            database: row.get(1),
            admin,
            admin_is_superuser,
            admin_may_create_roles: row.get(4),
            owner,
            people,
            owner_may_signal: row.get(6),
            provisioner: role(t, provisioner.as_str()).await?,
            provisioner_verifier: None,
            provisioner_may_connect: false,
            provisioner_settings: Vec::new(),
            schema_owner: row.get(5),
            installed: installed(t).await?,
            replication_is_handed_over: row.get(7),
        };
        if found.provisioner.is_some() {
            found.read_provisioner(t, provisioner.as_str()).await?;
        }
        Ok(found)
    }

    async fn read_provisioner(
        &mut self,
        t: &Transaction<'_>,
        name: &str,
    ) -> Result<(), SchemaError> {
        let row = t
            .query_one(
                "SELECT has_database_privilege(r.oid, current_database(), 'CONNECT'), \
                 COALESCE((SELECT s.setconfig FROM pg_db_role_setting s \
                  WHERE s.setrole = r.oid AND s.setdatabase = 0), '{}') \
                 FROM pg_roles r WHERE r.rolname = $1",
                &[&name],
            )
            .await
            .map_err(at("look at the provisioner"))?;
        self.provisioner_may_connect = row.get(0);
        self.provisioner_settings = row.get(1);
        if self.admin_is_superuser {
            self.provisioner_verifier = t
                .query_one(
                    "SELECT rolpassword FROM pg_authid WHERE rolname = $1",
                    &[&name],
                )
                .await
                .map_err(at("read the provisioner's verifier"))?
                .get(0);
        }
        Ok(())
    }
}

/// Makes an administrator who is not a superuser a member of one of Postern's own roles.
pub(super) fn join(role: &str, admin: &str) -> String {
    format!("GRANT {role} TO {}", quote_identifier(admin))
}

/// The version and the digest of the schema that is installed.
async fn installed(t: &Transaction<'_>) -> Result<Option<(i32, String)>, SchemaError> {
    let table = t
        .query_opt(
            "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'postern' AND c.relname = 'schema_version'",
            &[],
        )
        .await
        .map_err(at("look for the schema"))?;
    if table.is_none() {
        return Ok(None);
    }
    let row = t
        .query_opt(
            "SELECT version, digest FROM postern.schema_version ORDER BY id DESC LIMIT 1",
            &[],
        )
        .await
        .map_err(at("read the installed version"))?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
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
