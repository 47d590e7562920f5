//! What each call does, and refuses.

use std::time::Duration;

use postern_core::mapping::RoleName;

use super::world::{LIMIT, Outcome, PROVISIONER, entry, on_each_version};
use crate::role_store::deprovision::{Deprovision, Deprovisioned};
use crate::role_store::hold::Whom;
use crate::role_store::{Action, Refusal, RoleStoreError};
use crate::schema::SchemaError;
use crate::schema::adopt::connect_and_adopt;

#[test]
fn a_hold_keeps_a_person_out_until_it_is_released() -> Outcome {
    on_each_version(
        "a_hold_keeps_a_person_out_until_it_is_released",
        async |world| {
            let store = &world.store;
            world.log_in("ann", &["readers"]).await?;
            let (ann, role) = (entry("ann"), RoleName::new("ann")?);
            let whom = Whom {
                role: Some(&role),
                ..Whom::default()
            };
            let hour = Duration::from_secs(3_600);
            let held = store.hold(whom, Some(hour), "lost", "olga").await?;
            assert_eq!(held.entry.as_ref(), Some(&ann));
            assert_eq!(held.role.as_deref(), Some("ann"));
            let left = held.until.ok_or("no end")?.elapsed().err();
            let left = left.ok_or("it has ended")?.duration();
            assert!(left <= hour && left > hour / 2, "{left:?}");
            let holds = store.holds().await?;
            assert_eq!(holds.len(), 1);
            assert_eq!((&*holds[0].reason, &*holds[0].placed_by), ("lost", "olga"));
            assert_eq!(holds[0].held, held);
            assert!(holds[0].placed_at.elapsed()? < hour);
            let login = store.managed_login(&ann).await?.ok_or("no role")?;
            assert!(login.held && !login.can_login, "{login:?}");
            let refused = world.log_in("ann", &["readers"]).await.err();
            assert!(
                matches!(
                    refused,
                    Some(RoleStoreError::Refused {
                        refusal: Refusal::Held,
                        ..
                    })
                ),
                "{refused:?}"
            );
            assert!(store.release(whom, "otto").await?);
            assert!(!store.release(whom, "otto").await?);
            let steps = world.log_in("ann", &["readers"]).await?;
            assert_eq!(steps.steps()[0].action, Action::EnableRole);

            let far = entry("far");
            let whom = Whom {
                entry: Some(&far),
                role: None,
            };
            let held = store.hold(whom, None, "", "olga").await?;
            assert_eq!((held.role, held.until), (None, None));
            assert!(world.log_in("far", &["readers"]).await.is_err());
            Ok(())
        },
    )
}

#[test]
fn memberships_change_without_a_login() -> Outcome {
    on_each_version("memberships_change_without_a_login", async |world| {
        world.log_in("ann", &["old", "both"]).await?;
        let wanted = [RoleName::new("both")?, RoleName::new("new")?];
        let change = world.change("ann", &wanted).await?;
        let changes = change.changes();
        let is_there = |change: &str| changes.iter().any(|it| it.starts_with(change));
        assert!(
            is_there("grant new") && is_there("revoke old"),
            "{changes:?}"
        );
        assert_eq!(world.change("ann", &wanted).await?.steps, []);
        assert_eq!(world.change("nobody", &wanted).await?.steps, []);
        assert_eq!(world.log_in("ann", &["both", "new"]).await?.steps(), []);
        let refused = world.change("ann", &[]).await.err();
        assert!(
            matches!(
                refused,
                Some(RoleStoreError::Refused {
                    refusal: Refusal::NoGroup,
                    ..
                })
            ),
            "{refused:?}"
        );
        Ok(())
    })
}

#[test]
fn every_managed_role_is_known_page_by_page() -> Outcome {
    on_each_version("every_managed_role_is_known_page_by_page", async |world| {
        let store = &world.store;
        for number in 0..3 {
            let groups = ["readers", "writers"];
            world.log_in(&format!("p{number}"), &groups).await?;
        }
        store
            .deprovision(&entry("p1"), Deprovision::Keep, "s", "left")
            .await?;
        let all = store.managed_logins(None).await?;
        let names: Vec<_> = all.iter().map(|it| it.role.as_str()).collect();
        assert_eq!(names, ["p0", "p1", "p2"]);
        assert!(all[0].can_login && all[0].disabled.is_none());
        assert!(!all[0].can_replicate);
        assert_eq!(all[0].groups, ["readers", "writers"]);
        assert_eq!((&*all[0].login, &*all[0].dn), ("p0", "cn=p0"));
        assert!(all[0].applied_at.elapsed()? < LIMIT);
        let disabled = all[1].disabled.as_ref().ok_or("not disabled")?;
        assert_eq!((disabled.1.as_str(), all[1].groups.len()), ("left", 0));
        let rest = store.managed_logins(Some(&all[0].entry)).await?;
        assert_eq!(rest, all[1..]);
        assert_eq!(store.managed_login(&entry("nobody")).await?, None);
        Ok(())
    })
}

#[test]
fn the_role_of_somebody_who_is_gone_is_dropped_unless_it_is_used() -> Outcome {
    on_each_version(
        "the_role_of_somebody_who_is_gone_is_dropped_unless_it_is_used",
        async |world| {
            let store = &world.store;
            for role in ["ann", "bob", "cyd"] {
                world.log_in(role, &["readers"]).await?;
            }
            // In another database than the schema's.
            world.postgres.sql("create database other")?;
            world
                .postgres
                .sql_in("other", "create schema hers authorization bob")?;
            let drop = Deprovision::DropIfUnused;
            let gone = async |role: &str, what| {
                let id = entry(role);
                store.deprovision(&id, what, "feed", "deleted").await
            };
            assert_eq!(
                gone("ann", drop).await?,
                Deprovisioned::Dropped {
                    role: "ann".to_owned()
                }
            );
            assert_eq!(gone("ann", drop).await?, Deprovisioned::NotManaged);
            assert_eq!(
                gone("bob", drop).await?,
                Deprovisioned::Kept {
                    role: "bob".to_owned(),
                    why: "kept: it has objects of its own in database other".to_owned(),
                    backends_left: 0
                }
            );
            let kept = gone("cyd", Deprovision::Keep).await?;
            assert!(matches!(kept, Deprovisioned::Kept { .. }), "{kept:?}");
            let left = "select string_agg(rolname || rolcanlogin, ' ' order by rolname) \
                from pg_roles where rolname in ('ann', 'bob', 'cyd')";
            assert_eq!(world.postgres.sql(left)?, "bobfalse cydfalse");
            Ok(())
        },
    )
}

#[test]
fn an_administrator_who_is_no_superuser_adopts_a_role_and_the_provisioner_does_not() -> Outcome {
    on_each_version(
        "an_administrator_who_is_no_superuser_adopts_a_role_and_the_provisioner_does_not",
        async |world| {
            let administrator = world.connector.connect(&world.admin).await?;
            administrator.batch_execute("create role dan login").await?;
            world.postgres.sql("create role boss superuser")?;
            let (dan, boss) = (RoleName::new("dan")?, RoleName::new("boss")?);
            let id = entry("dan");
            let mut provisioner = world.admin.clone();
            provisioner.user(PROVISIONER);
            for (who, role) in [(&provisioner, &dan), (&world.admin, &boss)] {
                let refused = connect_and_adopt(&world.connector, who, role, &id).await;
                assert!(matches!(refused, Err(SchemaError::Database { .. })));
            }
            assert!(world.log_in("dan", &["readers"]).await.is_err());
            connect_and_adopt(&world.connector, &world.admin, &dan, &id).await?;
            connect_and_adopt(&world.connector, &world.admin, &dan, &id).await?;
            world.log_in("dan", &["readers"]).await?;
            Ok(())
        },
    )
}
