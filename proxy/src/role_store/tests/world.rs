//! A server with the schema, and what tests do with it.

use std::num::NonZeroU32;
use std::time::Duration;

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use postern_core::scram::Verifier;
use postern_core::secret::Secret;
use postern_tests::{Certificates, Postgres, Scratch, needs};

use crate::config::{Endpoint, MissingGroup, SslMode};
use crate::role_store::change::{MembershipChange, MembershipWish};
use crate::role_store::connect::Connector;
use crate::role_store::pool::{Access, Pool};
use crate::role_store::settings::session_options;
use crate::role_store::{Applied, RoleStore, RoleStoreError, Wish};
use crate::schema::{Install, connect_and_install};

pub(super) type Outcome = Result<(), Box<dyn std::error::Error>>;

pub(super) const PROVISIONER: &str = "postern";
pub(super) const PASSWORD: &str = "Provisioner-1234-only";
/// Has CREATEROLE and is no superuser, as on a managed service.
const ADMINISTRATOR: &str = "dba";

/// How long something that takes milliseconds may take on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// How long a call of the role store may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A server with the schema, installed by an administrator who is no superuser.
pub(super) struct World {
    pub(super) store: RoleStore,
    pub(super) postgres: Postgres,
    pub(super) connector: Connector,
    pub(super) admin: tokio_postgres::Config,
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
                replicates: false,
            },
            postgres,
            connector,
            admin,
            _scratch: scratch,
        })
    }

    /// A login of a person who is in these groups.
    pub(super) async fn log_in(
        &self,
        role: &str,
        groups: &[&str],
    ) -> Result<Applied, RoleStoreError> {
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
            replication: false,
            missing: MissingGroup::Create,
            force_secret: false,
        };
        self.store.apply(&wish).await
    }

    pub(super) async fn change(
        &self,
        role: &str,
        groups: &[RoleName],
    ) -> Result<MembershipChange, RoleStoreError> {
        let wish = MembershipWish {
            entry: &entry(role),
            groups,
            replication: false,
            missing: MissingGroup::Create,
            session: "feed",
        };
        self.store.change_memberships(&wish).await
    }
}

/// The directory entry of a person.
pub(super) fn entry(role: &str) -> EntryId {
    EntryId::new(format!("guid:{role}"))
}

/// Runs a test against each version; without any, it is skipped.
pub(super) fn on_each_version(name: &str, test: impl AsyncFn(&World) -> Outcome) -> Outcome {
    on_versions(name, needs::postgres_versions(), test)
}

/// Runs a test against the newest version.
pub(super) fn on_newest_version(name: &str, test: impl AsyncFn(&World) -> Outcome) -> Outcome {
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
