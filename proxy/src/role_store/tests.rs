//! The calls of the role store against real servers, one of each version that is installed.

use std::num::NonZeroU32;
use std::time::Duration;

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use postern_core::scram::Verifier;
use postern_core::secret::Secret;
use postern_tests::{Certificates, Postgres, Scratch, needs};
use tokio::sync::mpsc;

use super::change::MembershipWish;
use super::connect::Connector;
use super::deprovision::{Deprovision, Deprovisioned};
use super::hold::Whom;
use super::listen::{StoreNotice, What};
use super::pool::{Access, Pool};
use super::settings::{instance, session_options};
use super::*;
use crate::config::{Endpoint, MissingGroup, SslMode};
use crate::schema::adopt::connect_and_adopt;
use crate::schema::{Install, SchemaError, connect_and_install};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const PROVISIONER: &str = "postern";
const PASSWORD: &str = "Provisioner-1234-only";
/// Has CREATEROLE and is no superuser, as on a managed service.
const ADMINISTRATOR: &str = "dba";

/// How long something that takes milliseconds may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a call of the role store may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A server with the schema, installed by an administrator who is no superuser.
struct World {
    store: RoleStore,
    postgres: Postgres,
    connector: Connector,
    admin: tokio_postgres::Config,
    _scratch: Scratch,
}

impl World {
    async fn start(major: u32) -> Result<Self, Box<dyn std::error::Error>> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start_version(&scratch, &certificates, Some(major), "")?;
        postgres.sql(&format!(
            "create role {ADMINISTRATOR} login createrole password '{PASSWORD}'; \
             grant create on database postgres to {ADMINISTRATOR} with grant option; \
             grant pg_signal_backend to {ADMINISTRATOR} with admin option"
        ))?;
        let connector = Connector::new(&Endpoint {
            host: "127.0.0.1".to_owned(),
            port: postgres.port(),
            sslmode: SslMode::VerifyCa,
            tls_ca_file: Some(postgres.ca_file().to_owned()),
            connect_timeout: LIMIT,
        })?;
        let mut pg = tokio_postgres::Config::new();
        pg.host("127.0.0.1")
            .port(postgres.port())
            .dbname("postgres")
            .password(PASSWORD);
        let mut admin = pg.clone();
        admin.user(ADMINISTRATOR);
        let order = Install {
            provisioner: &RoleName::new(PROVISIONER)?,
            password: &Secret::new(PASSWORD.as_bytes().to_vec()),
            dry_run: false,
        };
        connect_and_install(&connector, &admin, &order).await?;
        pg.user(PROVISIONER).options(session_options(CALL_LIMIT));
        let access = Access::new(connector.clone(), pg, CALL_LIMIT);
        Ok(Self {
            store: RoleStore {
                pool: Pool::new(access),
                limit: CALL_LIMIT,
            },
            postgres,
            connector,
            admin,
            _scratch: scratch,
        })
    }

    /// A login of a person who is in these groups.
    async fn log_in(&self, role: &str, groups: &[&str]) -> Result<Applied, RoleStoreError> {
        let unnamed = || RoleStoreError::UnknownAction("no role name".to_owned());
        let name = |it: &&str| RoleName::new(it).map_err(|_| unnamed());
        let iterations = NonZeroU32::new(4_096).unwrap_or(NonZeroU32::MIN);
        let wish = Wish {
            session: "session".to_owned(),
            role: name(&role)?,
            directory_id: entry(role),
            login: role.to_owned(),
            dn: format!("cn={role}"),
            groups: groups.iter().map(name).collect::<Result<_, _>>()?,
            verifier: Verifier::from_password(b"secret", &[7; 16], iterations),
            missing: MissingGroup::Create,
            force_secret: false,
        };
        self.store.apply(&wish).await
    }

    async fn change(
        &self,
        role: &str,
        groups: &[RoleName],
    ) -> Result<change::MembershipChange, RoleStoreError> {
        let wish = MembershipWish {
            entry: &entry(role),
            groups,
            missing: MissingGroup::Create,
            session: "feed",
        };
        self.store.change_memberships(&wish).await
    }
}

/// The directory entry of a person.
fn entry(role: &str) -> EntryId {
    EntryId::new(format!("guid:{role}"))
}

/// Runs a test against each version; without any, it is skipped.
fn on_each_version(name: &str, test: impl AsyncFn(&World) -> Outcome) -> Outcome {
    on_versions(name, needs::postgres_versions(), test)
}

/// Runs a test against the newest version.
fn on_newest_version(name: &str, test: impl AsyncFn(&World) -> Outcome) -> Outcome {
    on_versions(name, needs::postgres(None).into_iter().collect(), test)
}

fn on_versions(
    name: &str,
    versions: Vec<needs::PostgresVersion>,
    test: impl AsyncFn(&World) -> Outcome,
) -> Outcome {
    if versions.is_empty() {
        needs::skip(name, "PostgreSQL is not installed");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for version in versions {
        let major = version.major;
        let run = async { test(&World::start(major).await?).await };
        let outcome = runtime.block_on(run);
        outcome.map_err(|error| format!("PostgreSQL {major}: {error}"))?;
    }
    Ok(())
}

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
        assert_eq!(change.gained().collect::<Vec<_>>(), ["new"]);
        assert_eq!(change.lost().collect::<Vec<_>>(), ["old"]);
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
        store.revoke(&entry("p1"), "s", "left").await?;
        let all = store.managed_logins(None).await?;
        let names: Vec<_> = all.iter().map(|it| it.role.as_str()).collect();
        assert_eq!(names, ["p0", "p1", "p2"]);
        assert!(all[0].can_login && all[0].disabled.is_none());
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
            store.revoke(&ann, "s", "held").await?;
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
