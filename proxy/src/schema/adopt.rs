//! Handing an existing role over to Postern: what `postern adopt` does.

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use tokio_postgres::types::Type;

use super::{SchemaError, at};
use crate::role_store::connect::Connector;

/// Connects as an administrator and makes a role that exists the role of a directory entry, with
/// everything that it owns and may do; its next login sets its secret. Nothing happens if it is
/// that already.
///
/// `admin` says who and where; its database is the one with the schema. That has to be a
/// superuser, or the one who has run `init-sql`, and since PostgreSQL 16 somebody with the role's
/// ADMIN OPTION: the provisioner may not adopt anything.
///
/// # Errors
///
/// [`SchemaError::Connect`], and [`SchemaError::Database`] with the words of the schema's routine
/// when a rule forbids it: a superuser, the role of somebody else, a group's role.
pub(crate) async fn connect_and_adopt(
    connector: &Connector,
    admin: &tokio_postgres::Config,
    role: &RoleName,
    entry: &EntryId,
) -> Result<(), SchemaError> {
    let client = connector.connect(admin).await?;
    client
        .query_typed(
            "SELECT postern.adopt_role($1, $2)",
            &[(&role.as_str(), Type::TEXT), (&entry.as_str(), Type::TEXT)],
        )
        .await
        .map(drop)
        .map_err(at("adopt the role"))
}
