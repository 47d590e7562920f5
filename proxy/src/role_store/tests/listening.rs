//! What is heard of the changes of others.

use postern_core::mapping::RoleName;
use postern_tests::needs;
use tokio::sync::mpsc;

use super::world::{LIMIT, Outcome, entry, on_each_version, on_newest_version};
use crate::role_store::deprovision::Deprovision;
use crate::role_store::hold::Whom;
use crate::role_store::listen::{StoreNotice, What};
use crate::role_store::settings::instance;

/// The next notice, in good time.
async fn next(heard: &mut mpsc::Receiver<StoreNotice>) -> Result<StoreNotice, String> {
    let next = tokio::time::timeout(LIMIT, heard.recv()).await;
    next.map_err(|_| "nothing was heard")?
        .ok_or_else(|| "nobody listens any more".to_owned())
}

#[test]
fn every_change_is_told_in_its_order_and_a_restart_as_well() -> Outcome {
    on_each_version(
        "every_change_is_told_in_its_order_and_a_restart_as_well",
        async |world| {
            let store = &world.store;
            let (sender, mut heard) = mpsc::channel(1);
            let listening = tokio::spawn(store.listen(sender));
            let first = next(&mut heard).await?;
            assert!(matches!(first, StoreNotice::Missed { .. }), "{first:?}");

            let ann = entry("ann");
            let whom = Whom {
                entry: Some(&ann),
                role: None,
            };
            world.log_in("ann", &["readers"]).await?;
            world.log_in("ann", &["readers"]).await?;
            world
                .postgres
                .sql("notify postern, 'anything'; notify other, '{}'")?;
            world.change("ann", &[RoleName::new("writers")?]).await?;
            store.hold(whom, None, "why", "olga").await?;
            store
                .deprovision(&ann, Deprovision::Keep, "s", "held")
                .await?;
            store.release(whom, "otto").await?;
            let drop = Deprovision::DropIfUnused;
            store.deprovision(&ann, drop, "s", "deleted").await?;
            let wanted = [
                (What::Change, instance()),
                (What::Change, instance()),
                (What::Revoke, instance()),
                (What::Hold, "olga"),
                (What::Revoke, instance()),
                (What::Release, "otto"),
                (What::Drop, instance()),
            ];
            for (what, by) in wanted {
                let notice = next(&mut heard).await?;
                let StoreNotice::Changed(change) = notice else {
                    return Err(format!("{notice:?} instead of {what:?}").into());
                };
                assert_eq!((change.what, change.by.as_str()), (what, by));
                assert_eq!(change.is_own(), by == instance());
                assert_eq!(change.entry.as_ref(), Some(&ann));
                assert_eq!(change.role.as_deref(), Some("ann"));
            }

            world.postgres.restart()?;
            let lost = next(&mut heard).await?;
            assert!(matches!(lost, StoreNotice::Lost { .. }), "{lost:?}");
            while matches!(next(&mut heard).await?, StoreNotice::Lost { .. }) {}
            world.log_in("bob", &["readers"]).await?;
            let change = next(&mut heard).await?;
            assert!(matches!(change, StoreNotice::Changed(_)), "{change:?}");

            drop_and_end(heard, listening).await
        },
    )
}

/// Listening ends with its receiver, and so does its connection.
async fn drop_and_end(
    heard: mpsc::Receiver<StoreNotice>,
    listening: tokio::task::JoinHandle<()>,
) -> Outcome {
    drop(heard);
    tokio::time::timeout(LIMIT, listening).await??;
    Ok(())
}

#[test]
fn a_flood_of_notifications_counts_as_something_missed() -> Outcome {
    on_each_version(
        "a_flood_of_notifications_counts_as_something_missed",
        async |world| {
            let (sender, mut heard) = mpsc::channel(1);
            let listening = tokio::spawn(world.store.listen(sender));
            let first = next(&mut heard).await?;
            assert!(matches!(first, StoreNotice::Missed { .. }), "{first:?}");
            world.postgres.sql(
                "select count(pg_notify('postern', format( \
                 '{\"what\": \"change\", \"entry\": null, \"role\": \"%s\", \"by\": \"x\"}', n))) \
                 from generate_series(1, 5000) n",
            )?;
            let mut changes = 0;
            while matches!(next(&mut heard).await?, StoreNotice::Changed(_)) {
                changes += 1;
            }
            assert!(changes < 5_000, "{changes}");
            drop_and_end(heard, listening).await
        },
    )
}

/// A process that is stopped where it is, until this is dropped.
struct Stopped(String);

impl Stopped {
    fn new(pid: String) -> std::io::Result<Self> {
        signal("-STOP", &pid)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A process that has gone needs none.
        let _ = signal("-CONT", &self.0);
    }
}

fn signal(name: &str, pid: &str) -> std::io::Result<()> {
    let kill = std::process::Command::new("kill")
        .args([name, pid])
        .status();
    kill.map(drop)
}

#[test]
fn a_server_that_falls_silent_while_it_is_listened_to_is_noticed() -> Outcome {
    // The wait is the same with every version.
    on_newest_version(
        "a_server_that_falls_silent_while_it_is_listened_to_is_noticed",
        async |world| {
            let (sender, mut heard) = mpsc::channel(1);
            let listening = tokio::spawn(world.store.listen(sender));
            let first = next(&mut heard).await?;
            assert!(matches!(first, StoreNotice::Missed { .. }), "{first:?}");
            let pid = world
                .postgres
                .sql("select pid from pg_stat_activity where query = 'LISTEN postern'")?;
            let stopped = Stopped::new(pid)?;
            let lost = next(&mut heard).await?;
            assert!(matches!(lost, StoreNotice::Lost { .. }), "{lost:?}");
            let again = next(&mut heard).await?;
            assert!(matches!(again, StoreNotice::Missed { .. }), "{again:?}");
            drop(stopped);
            drop_and_end(heard, listening).await
        },
    )
}

/// Since PostgreSQL 17 the queue may be made small enough for a test to fill it.
#[test]
fn a_full_queue_of_notifications_does_not_stop_a_revocation() -> Outcome {
    const NAME: &str = "a_full_queue_of_notifications_does_not_stop_a_revocation";
    on_newest_version(NAME, async |world| {
        if world.postgres.major() < 17 {
            needs::skip(NAME, "PostgreSQL 17 is not installed");
            return Ok(());
        }
        world.log_in("ann", &["readers"]).await?;
        world
            .postgres
            .sql("alter system set max_notify_queue_pages = 64")?;
        world.postgres.restart()?;
        // Somebody who listens, and whose transaction keeps the queue from being emptied.
        let idle = world.connector.connect(&world.admin).await?;
        idle.batch_execute("listen postern").await?;
        idle.batch_execute("begin; select 1").await?;
        let fill = "select pg_notify('postern', repeat('x', 7900))";
        while world.postgres.superuser("postgres").run(fill)?.ok {}
        world
            .store
            .deprovision(&entry("ann"), Deprovision::Keep, "s", "left")
            .await?;
        let login = world.store.managed_login(&entry("ann")).await?;
        let login = login.ok_or("no role")?;
        assert!(!login.can_login && login.groups.is_empty(), "{login:?}");
        Ok(())
    })
}
