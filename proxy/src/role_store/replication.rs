//! The attribute REPLICATION, where group rules open replication connections.

use postern_core::principal::EntryId;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::error::RoleStoreError;
use super::step::{Action, Step, steps};
use super::{RoleStore, describe};
use crate::check::Probe;

const CHANGE: &str = "SELECT c.action, c.target, c.note \
    FROM postern.change_replication($1, $2, $3) c";

/// Whether `set_replication` may do what it is for (`sql/people/set_replication.sql`).
const LOOK: &str = "SELECT current_setting('server_version_num')::integer >= 160000, \
    EXISTS (SELECT FROM pg_proc f JOIN pg_roles o ON o.oid = f.proowner \
     WHERE f.pronamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'postern') \
       AND f.proname = 'set_replication' AND (o.rolsuper OR o.rolreplication \
       AND current_setting('server_version_num')::integer >= 160000))";

impl RoleStore {
    /// Makes the attribute of a person's role match the group rules. Nothing is asked where no
    /// rule opens replication, so that the attribute is then an administrator's matter.
    pub(super) async fn change_replication(
        &self,
        entry: &EntryId,
        wanted: bool,
        session: &str,
    ) -> Result<Vec<Step>, RoleStoreError> {
        if !self.replicates {
            return Ok(Vec::new());
        }
        let entry = entry.as_str();
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&entry, Type::TEXT),
            (&wanted, Type::BOOL),
            (&session, Type::TEXT),
        ];
        let steps = steps(&self.call(CHANGE, &parameters).await?)?;
        for step in &steps {
            if step.action == Action::SkipReplication {
                tracing::warn!(
                    role = step.target,
                    note = step.note,
                    "REPLICATION is left as it is"
                );
            }
        }
        Ok(steps)
    }
}

/// The row of `postern check`.
pub(super) async fn probe(client: &Client) -> Probe {
    const WHAT: &str = "REPLICATION for people";
    let row = match client.query_one(LOOK, &[]).await {
        Ok(row) => row,
        Err(error) => {
            let cure = "see the server's log".to_owned();
            return Probe::failed("role store", WHAT, describe(&error), cure);
        }
    };
    let (is_16, may): (bool, bool) = (row.get(0), row.get(1));
    if may {
        return Probe::ok("role store", WHAT, "given and taken away by group rules");
    }
    let statement = match is_16 {
        true => "ALTER ROLE postern_people REPLICATION",
        false => "ALTER FUNCTION postern.set_replication(text, boolean) OWNER TO a superuser",
    };
    let why = "PostgreSQL does not let Postern give it, and a group rule opens replication";
    let cure = format!("as a superuser, once: {statement}");
    Probe::failed("role store", WHAT, why, cure)
}
