//! The admin console: `psql` to a database of a reserved name.
//!
//! Its accounts are in a file of their own and prove themselves by SCRAM; nobody of the directory
//! gets in, whatever the state of the directory, the role store and the databases is.
//! A login takes this branch right after the startup packet, and its session stays on the login
//! thread; what it orders is obeyed on the control thread, as the control socket's orders are.

mod answer;
mod places;
mod session;
mod show;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use postern_core::audit::{ClosedReason, Record, Source};
use postern_core::console::Rights;
use postern_core::credential::ClusterKey;
use postern_core::principal::{EntryId, Principal};
use postern_core::scram::Decoys;
use postern_core::wire::startup::{Replication, Startup};

use self::places::{Place, Places};
use self::session::{Session, Traffic};
pub(crate) use self::show::{shown, text};
use crate::ask::{Asked, scram};
use crate::config::Admin;
use crate::directory::LocalError;
use crate::directory::local::LocalFile;
use crate::error::{ClientError, Denied, LoginError};
use crate::gate::{CurrentPlane, Gate};
use crate::login::Visit;
use crate::negotiate::Encrypted;
use crate::operators::Operator;
use crate::stream::Stream;

/// What records call the console where other sessions have the address of their backend.
const CONSOLE: &str = "console";

/// The console of this process.
pub(crate) struct Console {
    /// The reserved name.
    database: String,
    accounts: LocalFile,
    decoys: Decoys,
    places: Arc<Places>,
}

/// An account, as it was when it logged in.
struct Account {
    name: String,
    id: EntryId,
    /// Another one for another password.
    version: Option<String>,
}

/// Evidence that an account of the console has proved who it is, and has a place.
#[must_use = "who has entered has to be served"]
pub(crate) struct Entered {
    account: Account,
    server_final: Vec<u8>,
    place: Place,
}

/// Evidence that its session is on record as opened.
#[must_use = "a session that is on record as opened has to be served"]
pub(crate) struct Opened(Entered);

impl Console {
    /// The console that is configured. The sessions of the one before hold on to their places.
    ///
    /// # Errors
    ///
    /// The file of accounts cannot be used.
    pub(crate) fn new(
        config: &Admin,
        cluster_key: &ClusterKey,
        before: Option<&Self>,
    ) -> Result<Self, LocalError> {
        let places = before.map(|it| it.places.clone());
        Ok(Self {
            database: config.database.clone(),
            accounts: LocalFile::new(&config.accounts_file)?,
            decoys: Decoys::new(cluster_key.console_decoy_key()),
            places: places.unwrap_or_default(),
        })
    }

    /// Whether a startup packet asks for the console.
    pub(crate) fn is_asked_for(&self, startup: &Startup) -> bool {
        startup.database() == self.database
    }

    /// The reserved name.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// How many sessions it has.
    pub(crate) fn sessions(&self) -> usize {
        self.places.taken()
    }

    /// Has the client prove who it is, without showing its password. A name that nobody has takes
    /// the same way.
    ///
    /// # Errors
    ///
    /// The client's answers are not of the exchange, or the file of accounts cannot be used.
    pub(crate) async fn ask(
        &self,
        gate: &Gate,
        client: &mut Stream,
        startup: &Startup,
        _encrypted: Encrypted,
    ) -> Result<Asked, LoginError> {
        if startup.replication()? != Replication::No {
            return Err(ClientError::ParameterDenied("replication".to_owned()).into());
        }
        let challenge = || self.accounts.challenge(startup.user(), &self.decoys);
        scram(gate, client, challenge).await
    }

    /// Looks at the proof.
    ///
    /// # Errors
    ///
    /// It is wrong, nobody has the name, the account is disabled or has no right, or there are too
    /// many sessions.
    pub(crate) async fn enter(
        &self,
        gate: &Gate,
        visit: &Visit,
        asked: Asked,
    ) -> Result<Entered, LoginError> {
        let client = visit.client.ip();
        let proven = gate.authenticator.prove_to(&self.accounts, asked, client);
        let (principal, server_final) = proven?;
        let record = Record::Authenticated {
            principal: principal.id.to_string(),
            dn: principal.dn.clone(),
            name: principal.name.clone(),
            source: Source::Console,
            groups: u64::try_from(principal.groups.len()).unwrap_or(u64::MAX),
            roles: 0,
        };
        gate.record(visit.id, &record).await?;
        if rights_of(&principal).is_empty() {
            return Err(LoginError::Denied(Denied::NoRight));
        }
        let place = self.places.take(&principal.id);
        Ok(Entered {
            account: Account {
                name: principal.name,
                id: principal.id,
                version: principal.version,
            },
            server_final,
            place: place.map_err(LoginError::Full)?,
        })
    }

    /// What an account may do by the file as it is now; nothing when it is gone or disabled, has
    /// another password, or the file cannot be used.
    fn rights_now(&self, account: &Account) -> Option<Rights> {
        let now = self.accounts.look_up_entry(&account.id).ok()?;
        let rights = rights_of(&now);
        (now.version == account.version && !rights.is_empty()).then_some(rights)
    }
}

/// The groups of an account that are rights.
fn rights_of(principal: &Principal) -> Rights {
    Rights::named(principal.groups.iter().map(|it| it.name.as_str()))
}

/// Puts a session on record, before the client learns that it is in.
///
/// # Errors
///
/// The audit file cannot be written: the session is not opened.
pub(crate) async fn open(
    gate: &Gate,
    visit: &Visit,
    entered: Entered,
) -> Result<Opened, LoginError> {
    let record = Record::Opened {
        role: entered.account.name.clone(),
        database: console(gate),
        backend: CONSOLE.to_owned(),
        backend_pid: None,
        application_name: visit.application_name.clone(),
    };
    gate.record(visit.id, &record).await?;
    Ok(Opened(entered))
}

/// Serves a session to its end, and puts that on record.
///
/// A reload does not end it: what it shows is of the newest configuration.
pub(crate) async fn serve(
    current: Arc<CurrentPlane>,
    client: Stream,
    visit: &Visit,
    opened: Opened,
) {
    let Entered {
        account,
        server_final,
        place,
    } = opened.0;
    let begun = Instant::now();
    let operator = Operator {
        name: account.name.clone(),
        from: visit.client.to_string(),
        session: visit.id.to_string(),
    };
    tracing::info!(session = %visit.id, client = %visit.client, account = account.name,
        "a session of the admin console has begun");
    let mut session = Session {
        current: current.clone(),
        client,
        account,
        operator,
        statements: HashMap::new(),
        portals: HashMap::new(),
        is_in_transaction: false,
        is_skipping: false,
        out: Vec::new(),
        traffic: Traffic::default(),
    };
    let reason = session.run(&server_final).await;
    let traffic = session.traffic;
    // Who asks right afterwards finds the place free.
    drop(place);
    record_end(&current.gate(), visit, reason, (traffic, begun));
    tracing::info!(session = %visit.id, reason = reason.label(),
        "a session of the admin console has ended");
    session.client.close().await;
}

fn console(gate: &Gate) -> String {
    let console = gate.console.as_ref();
    console.map_or_else(String::new, |it| it.database.clone())
}

fn record_end(
    gate: &Gate,
    visit: &Visit,
    reason: ClosedReason,
    (traffic, begun): (Traffic, Instant),
) {
    let record = Record::Closed {
        reason,
        bytes_to_client: traffic.sent_bytes,
        bytes_to_backend: traffic.received_bytes,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    if let Err(error) = gate.audit.write_detached(&visit.id.to_string(), record) {
        tracing::error!(session = %visit.id, %error, "the end of a session is not on record");
    }
}
