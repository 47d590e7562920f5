//! Whoever takes access away does not overtake the login that is just giving it.

use postern_core::mapping::RoleName;

use super::world::{LIMIT, Outcome, PROVISIONER, World, entry, on_each_version};
use crate::role_store::connect::Connection;
use crate::role_store::hold::Whom;
use crate::role_store::{Deprovision, Deprovisioned, RoleStoreError};

/// Begins a first login and leaves it before its commit.
async fn first_login(world: &World, role: &str) -> Result<Connection, RoleStoreError> {
    let mut provisioner = world.admin.clone();
    provisioner.user(PROVISIONER);
    let connection = world.connector.connect(&provisioner).await?;
    let login = format!(
        "begin; select postern.apply_login('{role}', '{}', '{role}', 'cn={role}', \
         '{{readers}}', 'SCRAM-SHA-256$4096:c2FsdA==$' || repeat('A', 43) || '=:' \
         || repeat('A', 43) || '=', 'create', false, 'session')",
        entry(role)
    );
    let begun = connection.batch_execute(&login).await;
    begun.map_err(|error| RoleStoreError::from_call(&error, "test", 0))?;
    Ok(connection)
}

/// Commits a login as soon as somebody waits for it.
async fn commit_when_waited_for(world: &World, login: Connection) -> Outcome {
    let waiting = "select count(*) > 0 from pg_locks where locktype = 'advisory' and not granted";
    let eyes = world.connector.connect(&world.admin).await?;
    let seen = async {
        while !eyes.query_one(waiting, &[]).await?.get::<_, bool>(0) {}
        Ok::<_, tokio_postgres::Error>(())
    };
    tokio::time::timeout(LIMIT, seen).await??;
    Ok(login.batch_execute("commit").await?)
}

async fn has_no_login(world: &World, role: &str) -> Outcome {
    let login = world.store.managed_login(&entry(role)).await?;
    let login = login.ok_or("no role")?;
    assert!(!login.can_login, "{login:?}");
    Ok(())
}

#[test]
fn a_hold_waits_for_the_first_login_that_is_under_way() -> Outcome {
    on_each_version(
        "a_hold_waits_for_the_first_login_that_is_under_way",
        async |world| {
            for (role, by_name) in [("ann", false), ("bob", true)] {
                let login = first_login(world, role).await?;
                let (id, name) = (entry(role), RoleName::new(role)?);
                let whom = match by_name {
                    true => Whom {
                        role: Some(&name),
                        entry: None,
                    },
                    false => Whom {
                        entry: Some(&id),
                        role: None,
                    },
                };
                let held = world.store.hold(whom, None, "", "olga");
                let (held, committed) = tokio::join!(held, commit_when_waited_for(world, login));
                committed?;
                let held = held?;
                assert_eq!(held.entry.as_ref(), Some(&id));
                assert_eq!(held.role.as_deref(), Some(role));
                has_no_login(world, role).await?;
            }
            Ok(())
        },
    )
}

#[test]
fn a_revocation_waits_for_the_first_login_that_is_under_way() -> Outcome {
    on_each_version(
        "a_revocation_waits_for_the_first_login_that_is_under_way",
        async |world| {
            let login = first_login(world, "ann").await?;
            let id = entry("ann");
            let revoked = world.store.deprovision(&id, Deprovision::Keep, "s", "left");
            let (revoked, committed) = tokio::join!(revoked, commit_when_waited_for(world, login));
            committed?;
            let revoked = revoked?;
            assert!(matches!(revoked, Deprovisioned::Kept { .. }), "{revoked:?}");
            has_no_login(world, "ann").await
        },
    )
}
