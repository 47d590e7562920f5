//! The straight line of a login, from the first packet to the splice.
//!
//! ```text
//! negotiate ▸ startup ▸ authenticate ▸ authorize ▸ sync ▸ dial and log in ▸ open ▸ splice
//! ```
//!
//! Each step takes the evidence of the step before by value and returns its own, so that none can
//! be left out.
//! Authorization and sync come before the dial: a client that is refused costs the database
//! nothing.

mod again;
mod dial;
mod refusal;
mod service;

use std::cell::OnceCell;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use postern_core::audit::Record;
use postern_core::login_name::LoginName;
use postern_core::secret::Secret;
use postern_core::wire::backend;
use postern_core::wire::startup::{Replication, Startup};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;

use self::again::{look_again, renew};
use self::dial::dial_and_log_in;
pub(crate) use self::refusal::turn_away;
use self::refusal::{refuse, stopped};
use crate::admin;
use crate::arrivals;
use crate::ask::{Answer, ask};
use crate::authenticate::{Authenticated, Recalled};
use crate::authorize::{Authorized, authorize};
use crate::backend::BackendError;
use crate::cancel::{cancel, cancel_without_place};
use crate::error::{ClientError, Denied, Full, LoginError};
use crate::gate::{CurrentPlane, Gate, Plane};
use crate::limits::{FIRST_TURN_WAIT, HANDSHAKE_TIMEOUT, OUTDATED_MAX};
use crate::negotiate::{Arrival, introduce, negotiate};
use crate::open::{Arrived, Entrant, enter, open};
use crate::phases::{Phase, Phases};
use crate::revocation::end_at_login;
use crate::service::{admit, role_named};
use crate::session::{KeptOut, SessionId, Share};
use crate::splice::splice;
use crate::stream::Stream;
use crate::sync::Synced;

/// One connection on its way to a session.
pub(crate) struct Visit {
    /// Its identifier in every record.
    pub(crate) id: SessionId,
    /// The client's address: the peer's, or the one that a trusted proxy names.
    pub(crate) client: SocketAddr,
    /// When it was accepted.
    pub(crate) accepted: Instant,
    /// Its place among all that have no session yet, or among those that are told that there are
    /// too many; held until it has reached the splice or ended.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    /// Its place among those of its address; none yet where a proxy has to name that.
    pub(crate) arrival: Option<arrivals::Arrival>,
    /// The login name as it was typed, once it is known.
    login: Option<String>,
    /// What the client calls itself, once it is known.
    pub(crate) application_name: Option<String>,
    /// The TLS version and cipher suite, once they are known; none in clear text.
    pub(crate) tls: Option<String>,
    /// When the answer came, also one that is no password; a refusal is told a fixed time after it.
    asked: Option<Instant>,
    /// How long its phases took.
    pub(crate) phases: Phases,
    /// Its place among those that memory cannot answer, once it needs one.
    cold: OnceCell<OwnedSemaphorePermit>,
    /// Whether it had such a place.
    was_cold: bool,
}

impl Visit {
    /// A connection of which nothing is known yet.
    pub(crate) fn new(id: SessionId, client: SocketAddr) -> Self {
        Self {
            id,
            client,
            accepted: Instant::now(),
            place: None,
            phases: Phases::begin(),
            arrival: None,
            login: None,
            application_name: None,
            tls: None,
            asked: None,
            cold: OnceCell::new(),
            was_cold: false,
        }
    }

    /// Takes a place among the logins that memory cannot answer: who asks somebody may have to
    /// wait, and must not hold all the places of those who need not ask.
    fn go_cold(&self, gate: &Gate) -> Result<(), Full> {
        if self.cold.get().is_none() {
            let permit = gate.permits.cold_logins.clone().try_acquire_owned();
            let permit = permit.map_err(|_| Full::ColdLogins)?;
            self.cold.get_or_init(|| permit);
        }
        Ok(())
    }

    /// Takes a place among those of its address, now that it is known. Where there is none, it
    /// goes to those that are turned away: an address that has all its places must not hold those
    /// of others by being told so.
    fn enter(&mut self, gate: &Gate) -> Result<(), Full> {
        match gate.arrivals.enter(self.client.ip()) {
            Ok(arrival) => {
                self.arrival = Some(arrival);
                Ok(())
            }
            Err(full) => {
                let turned_away = gate.permits.turned_away.clone();
                self.place = turned_away.try_acquire_owned().ok();
                Err(full)
            }
        }
    }

    /// Gives back its places among those that are on their way.
    fn leave_places(&mut self) {
        drop((self.place.take(), self.arrival.take()));
    }

    fn leave_cold(&mut self) {
        self.was_cold = self.cold.take().is_some();
    }

    /// Counts how long it took since the password came.
    fn has_come_in(&self, gate: &Gate) {
        let durations = match self.was_cold {
            true => &gate.cold_logins,
            false => &gate.warm_logins,
        };
        if let Some(asked) = self.asked {
            durations.took(asked.elapsed());
        }
        gate.phases.took(&self.phases);
    }
}

/// Serves one connection to its end, or to the splice.
///
/// A login sees one configuration from the door to its end; what outlives it asks for the newest.
pub(crate) async fn serve(
    (current, mut plane): (Arc<CurrentPlane>, Arc<Plane>),
    mut client: Stream,
    mut visit: Visit,
) {
    let is_late = visit.accepted.elapsed() > FIRST_TURN_WAIT;
    if is_late && plane.gate.permits.is_crowded() {
        return turn_away(plane, client, visit, Full::Turns).await;
    }
    let stopped = stopped(plane.gate.stopping.subscribe(), client.writing());
    let outcome = tokio::select! {
        biased;
        outcome = line((&current, &mut plane), &mut client, &mut visit) => outcome,
        () = stopped => Err(LoginError::ShuttingDown),
    };
    visit.leave_cold();
    // From here on a stop waits: what is on record as opened is handed over.
    let error = match outcome {
        Ok(End::Session(arrived)) => match Box::pin(open(&plane.gate, *arrived, &visit)).await {
            Ok(opened) => {
                visit.has_come_in(&plane.gate);
                return splice(&plane.gate, client, opened, &visit);
            }
            Err(error) => error,
        },
        Ok(End::Console(entered)) => match admin::open(&plane.gate, &visit, *entered).await {
            Ok(opened) => {
                // It may stay for hours, and is neither on its way nor of this configuration.
                drop(plane);
                visit.leave_places();
                return Box::pin(admin::serve(current, client, &visit, opened)).await;
            }
            Err(error) => error,
        },
        Ok(End::Cancelled) => return client.close().await,
        Err(error) => error,
    };
    refuse(&plane, client, &visit, &error).await;
}

/// Where the line ends.
enum End {
    /// In a session with a backend.
    Session(Box<Arrived>),
    /// In the admin console.
    Console(Box<admin::Entered>),
    /// With a cancel request, which has been passed on.
    Cancelled,
}

/// The line itself. Who has waited goes on under the newest configuration.
async fn line(
    (current, plane): (&CurrentPlane, &mut Arc<Plane>),
    client: &mut Stream,
    visit: &mut Visit,
) -> Result<End, LoginError> {
    let gate = &plane.gate;
    let patience = gate.config.limits.login_timeout;
    let deadline = visit.accepted + patience;

    let early = visit.accepted + patience.min(HANDSHAKE_TIMEOUT);
    if visit.arrival.is_none() {
        visit.client = within(early, introduce(client, visit.client)).await?;
        if let Err(full) = visit.enter(gate) {
            let cancelled = cancel_without_place(gate, client, visit.client.ip(), full).await;
            return cancelled.map(|()| End::Cancelled).map_err(LoginError::Full);
        }
    }
    let listen_tls = gate.config.listen.tls;
    let tls = gate.identity.as_ref().map(|it| &it.config);
    let arrival = within(early, negotiate(client, tls, listen_tls)).await?;
    let (startup, encrypted) = match arrival {
        Arrival::Login(startup, encrypted) => (startup, encrypted),
        Arrival::Cancel(request) => {
            Box::pin(cancel(gate, request, visit.client.ip())).await;
            return Ok(End::Cancelled);
        }
    };
    visit.phases.end(Phase::Tls);
    visit.login = Some(startup.user().to_owned());
    visit.application_name = startup.application_name();
    visit.tls = client.encryption();
    attempted(plane, visit, &startup).await?;

    within(deadline, accept_startup(plane, client, &startup)).await?;
    if let Some(console) = gate.console.as_ref().filter(|it| it.is_asked_for(&startup)) {
        let asked = within(deadline, console.ask(gate, client, &startup, encrypted)).await;
        visit.asked = Some(Instant::now());
        let entered = Box::pin(console.enter(gate, visit, asked?)).await?;
        return Ok(End::Console(Box::new(entered)));
    }
    let (user, from) = (startup.user(), visit.client.ip());
    // Who is too fast is to hold no place among those who wait.
    gate.rates.begin(from).map_err(LoginError::Full)?;
    let waited = gate.door.pass(from).await?;
    if !waited.is_zero() {
        *plane = current.get();
    }
    let (plane, gate, deadline) = (&**plane, &plane.gate, deadline + waited);
    if let Some(admitted) = admit(&gate.config, user, from, client.is_encrypted())? {
        let startup = &startup;
        let wish = service::Wish { startup, deadline };
        let line = service::line(plane, client, visit, admitted, wish);
        return Ok(End::Session(Box::new(Box::pin(line).await?)));
    }
    let answer = within(deadline, ask(plane, client, startup.user(), encrypted)).await;
    visit.asked = Some(Instant::now());
    visit.phases.end(Phase::Ask);
    // What comes now needs far more memory, which those who only wait must not cost.
    let person = Box::pin(person(plane, visit, &startup, answer?));
    Ok(End::Session(Box::new(person.await?)))
}

/// Somebody whose role is made to match what a directory says.
async fn person(
    plane: &Plane,
    visit: &Visit,
    startup: &Startup,
    answer: Answer,
) -> Result<Arrived, LoginError> {
    let gate = &plane.gate;
    // Places are for those who have sent a password: idle connections have a bound of their own.
    let mut place = gate
        .sessions
        .reserve()
        .ok_or(LoginError::Full(Full::Sessions))?;
    let permit = gate.permits.logins.try_acquire();
    let _permit = permit.map_err(|_| LoginError::Full(Full::Logins))?;

    let (authenticated, server_final) = match answer {
        Answer::Password(password) => {
            let authenticated = authenticate(plane, startup, password, visit).await?;
            (authenticated, None)
        }
        Answer::Scram(asked) => {
            let (authenticated, said) =
                gate.authenticator
                    .prove(&plane.directories, *asked, visit.client.ip())?;
            (authenticated, Some(said))
        }
    };
    visit.phases.end(Phase::Authenticate);
    let mut authorized = authorized(plane, authenticated, startup, visit).await?;
    visit.phases.end(Phase::Authorize);
    for _ in 0..OUTDATED_MAX {
        if authorized.is_outdated(&gate.sessions) {
            let now = look_again(plane, authorized).await?;
            authorized = self::authorized(plane, now, startup, visit).await?;
            visit.phases.end(Phase::Authorize);
        }
        let share = Share::new(authorized.role(), visit.client.ip(), authorized.database());
        place.share(share)?;
        let synced = synced(plane, authorized, startup, visit).await?;
        visit.phases.end(Phase::Sync);
        let (synced, ready) = dial_and_log_in(plane, synced, startup, visit).await?;
        let dialled = (Phase::Dial, ready.dialled_in());
        visit.phases.end_after(dialled, Phase::BackendLogin);
        let entrant = Entrant::person(&synced);
        match enter(gate, visit, &entrant, &ready) {
            Ok(()) => {
                return Ok(Arrived {
                    entrant,
                    ready,
                    place,
                    server_final,
                });
            }
            Err(kept @ KeptOut::Draining) => return Err(kept.into()),
            Err(KeptOut::Lost) => {}
        }
        authorized = synced.into_authorized();
        // This very login may have given back what was taken away meanwhile.
        gate.orders
            .look_at(&authorized.authenticated().principal().id);
    }
    Err(KeptOut::Lost.into())
}

/// A role that matches, by memory or by the role store.
async fn synced(
    plane: &Plane,
    authorized: Authorized,
    startup: &Startup,
    visit: &Visit,
) -> Result<Synced, LoginError> {
    let synchronizer = &plane.gate.synchronizer;
    match synchronizer.recall(authorized) {
        Ok(synced) => Ok(synced),
        Err(authorized) if synchronizer.may_sync(&authorized) => {
            sync(plane, *authorized, visit, false).await
        }
        Err(authorized) => {
            // Memory may log in; only the directory may change a role.
            let authorized = renew(plane, *authorized, startup, visit).await?;
            sync(plane, authorized, visit, false).await
        }
    }
}

/// The audit record comes before anything is asked or answered.
async fn attempted(plane: &Plane, visit: &Visit, startup: &Startup) -> Result<(), LoginError> {
    let record = Record::Attempted {
        client: visit.client.to_string(),
        user: startup.user().to_owned(),
        database: startup.database().to_owned(),
        tls: visit.tls.clone(),
    };
    plane.gate.record(visit.id, &record).await
}

/// Refuses what the configuration denies, and tells a client that asks for more than Postern speaks
/// what it gets. What the backend speaks shows only later, and makes no difference to the client.
async fn accept_startup(
    plane: &Plane,
    client: &mut Stream,
    startup: &Startup,
) -> Result<(), LoginError> {
    let config = &plane.gate.config;
    if startup.replication()? != Replication::No && !config.opens_replication() {
        return Err(ClientError::ParameterDenied("replication".to_owned()).into());
    }
    for name in &config.listen.denied_parameters {
        if startup.get(name).is_some() || startup.options_may_set(name) {
            return Err(ClientError::ParameterDenied(name.clone()).into());
        }
    }
    if startup.wants_negotiation() {
        let options = startup.protocol_options();
        client
            .send(&backend::negotiate_protocol_version(
                startup.minor(),
                &options,
            ))
            .await?;
    }
    Ok(())
}

/// The directory, or what it said a short while ago.
async fn authenticate(
    plane: &Plane,
    startup: &Startup,
    password: Secret<Vec<u8>>,
    visit: &Visit,
) -> Result<Authenticated, LoginError> {
    let login = LoginName::parse(startup.user(), &plane.gate.config.domains)?;
    let authenticator = &plane.gate.authenticator;
    let question = match authenticator.recall(login, password, visit.client.ip())? {
        Recalled::Known(authenticated) => return Ok(authenticated),
        Recalled::Ask(question) => question,
    };
    match visit.go_cold(&plane.gate) {
        Ok(()) => authenticator.ask(&plane.directories, &question).await,
        Err(full) => authenticator.go_without(&question, full),
    }
}

/// Pure: which role, which memberships, which database. The record of who it is says how many
/// roles their groups become, whether or not that is enough.
async fn authorized(
    plane: &Plane,
    authenticated: Authenticated,
    startup: &Startup,
    visit: &Visit,
) -> Result<Authorized, LoginError> {
    let principal = authenticated.principal();
    let mut record = Record::Authenticated {
        principal: principal.id.to_string(),
        dn: principal.dn.clone(),
        name: principal.name.clone(),
        source: authenticated.source(),
        groups: count(principal.groups.len()),
        roles: 0,
    };
    let (entry, from_memory) = (principal.id.clone(), authenticated.is_from_memory());
    let groups = &plane.gate.config.groups;
    let decided = authorize(authenticated, startup, groups);
    if let (Ok(authorized), Record::Authenticated { roles, .. }) = (&decided, &mut record) {
        *roles = count(authorized.grants().roles.len());
    }
    plane.gate.record(visit.id, &record).await?;
    if let Ok(authorized) = &decided
        && let Some(role) = role_named(&plane.gate.config, authorized.role().as_str())
    {
        return Err(LoginError::Denied(Denied::ServiceRole(role.clone())));
    }
    if let Ok(authorized) = &decided
        && plane.gate.target_of(authorized.database()).is_none()
    {
        let database = authorized.database().to_owned();
        return Err(LoginError::Backend(BackendError::NotServed { database }));
    }
    if matches!(decided, Err(LoginError::Denied(Denied::NoGroup { .. }))) && !from_memory {
        end_at_login(plane, &entry, startup.user(), visit.id).await?;
    }
    decided
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The role store, which is asked only for a role that is not known to match.
async fn sync(
    plane: &Plane,
    authorized: Authorized,
    visit: &Visit,
    force: bool,
) -> Result<Synced, LoginError> {
    visit.go_cold(&plane.gate).map_err(LoginError::Full)?;
    let gate = &plane.gate;
    let entry = authorized.authenticated().principal().id.clone();
    let synchronizer = &gate.synchronizer;
    let synced = synchronizer.sync(&plane.role_store, authorized, visit.id, force);
    let synced = synced.await;
    if gate.is_replaced() {
        // It may have given back what a reload took away, whatever comes of this login.
        gate.orders.look_at(&entry);
    }
    let synced = synced?;
    if !synced.changes().is_empty() {
        if synced.has_revoked() {
            // Other sessions of the person may rest on what has just gone.
            let principal = synced.authorized().authenticated().principal();
            plane.gate.orders.look_at(&principal.id);
        }
        let role = synced.authorized().role().to_string();
        let record = Record::RolesChanged {
            role,
            steps: synced.changes().to_vec(),
        };
        plane.gate.record(visit.id, &record).await?;
    }
    Ok(synced)
}

/// Bounds what waits for the client.
async fn within<T>(
    deadline: Instant,
    step: impl Future<Output = Result<T, LoginError>>,
) -> Result<T, LoginError> {
    timeout_at(deadline.into(), step)
        .await
        .map_err(|_| ClientError::TimedOut)?
}
