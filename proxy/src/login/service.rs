//! The line of a service account: the database authenticates it, and everything else is as with
//! people.

use std::sync::Arc;
use std::time::Instant;

use postern_core::audit::{Record, Source};
use postern_core::mapping::RoleName;
use postern_core::wire::startup::{Replication, Startup};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::{Visit, within};
use crate::backend::{BackendError, Sides, Target, relay};
use crate::error::{Denied, Full, LoginError};
use crate::gate::{Gate, Plane};
use crate::limits::SERVICE_EXCHANGE_TIMEOUT;
use crate::open::{Arrived, Entrant, enter};
use crate::phases::Phase;
use crate::role_store::{Refusal, RoleStoreError};
use crate::service::Admitted;
use crate::session::{Place, Share};
use crate::stream::Stream;

/// What the database is dialled for.
pub(super) struct Wish<'a> {
    /// The startup packet of the client.
    pub(super) startup: &'a Startup,
    /// Until when the client may take.
    pub(super) deadline: Instant,
}

/// The line itself.
///
/// The database is dialled before anybody has proved anything, so this counts among the logins
/// that ask somebody, and wrong passwords count against the address.
pub(super) async fn line(
    plane: &Plane,
    client: &mut Stream,
    visit: &mut Visit,
    admitted: Admitted,
    wish: Wish<'_>,
) -> Result<Arrived, LoginError> {
    let gate = &plane.gate;
    let replication = wish.startup.replication()?;
    if replication != Replication::No && !admitted.replicates() {
        return Err(LoginError::Denied(Denied::Replication));
    }
    visit.asked = Some(Instant::now());

    let (role, database) = (admitted.role(), wish.startup.database().to_owned());
    let target = target(gate, &database)?;
    let packet = packet(target, wish.startup, role, visit)?;
    let address = visit.client.ip();
    let exchange = async {
        let turn = gate.permits.service_exchanges.acquire().await;
        let _turn = turn.map_err(|_| LoginError::Internal)?;
        // Those before have been counted by now: whoever comes at once gets no more tries.
        gate.authenticator.may_try_from(address)?;
        let sides = Sides {
            target,
            end_point: gate.end_point().filter(|_| client.is_encrypted()),
            client,
        };
        // Programs do not type.
        let limit = Instant::now() + SERVICE_EXCHANGE_TIMEOUT;
        // An exchange needs far more memory than waiting for its turn does.
        let relayed = within(limit, Box::pin(relay(sides, &packet))).await;
        if relayed.as_ref().is_err_and(is_wrong_password) {
            gate.authenticator.was_wrong_from(address);
        }
        relayed
    };
    let (relayed, server_final) = within(wish.deadline, exchange).await?;
    // Places are for those who have proved something; until then a bound of their own counts.
    let share = Share::new(role, address, &database);
    let (place, _permit) = places(gate, share)?;
    visit.go_cold(gate).map_err(LoginError::Full)?;

    let asked_at = Instant::now();
    let entrant = Entrant::service(&admitted, (database, replication), asked_at);
    let record = Record::Authenticated {
        principal: entrant.principal().id.to_string(),
        dn: entrant.principal().dn.clone(),
        name: role.to_string(),
        source: Source::Database,
        groups: 0,
        roles: 0,
    };
    gate.record(visit.id, &record).await?;
    refuse_held(plane, role.as_str()).await?;
    let patience = target.config.endpoint.connect_timeout;
    let host = target.host();
    let ready = timeout(patience, relayed.greet()).await;
    let ready = ready.map_err(|_| BackendError::TimedOut { host })??;
    let dialled = (Phase::Dial, ready.dialled_in());
    visit.phases.end_after(dialled, Phase::BackendLogin);
    enter(gate, visit, &entrant, &ready)?;
    Ok(Arrived {
        entrant,
        ready,
        place,
        server_final: Some(server_final),
    })
}

/// A place for the session, with its share, and one among the logins.
fn places(gate: &Gate, share: Share) -> Result<(Place, SemaphorePermit<'_>), LoginError> {
    let place = gate.sessions.reserve();
    let mut place = place.ok_or(LoginError::Full(Full::Sessions))?;
    place.share(share)?;
    let permit = gate.permits.logins.try_acquire();
    Ok((place, permit.map_err(|_| LoginError::Full(Full::Logins))?))
}

/// The startup packet as the database is to get it.
fn packet(
    target: &Target,
    startup: &Startup,
    role: &RoleName,
    visit: &Visit,
) -> Result<Startup, BackendError> {
    let packet = match target.config.client_address {
        true => startup.clone().with_client_address(visit.client),
        false => startup.clone(),
    };
    let packet = packet.with_user_database(role.as_str(), startup.database());
    packet.map_err(|_| BackendError::StartupTooLong)
}

fn target<'a>(gate: &'a Gate, database: &str) -> Result<&'a Arc<Target>, BackendError> {
    let unserved = || BackendError::NotServed {
        database: database.to_owned(),
    };
    gate.target_of(database).ok_or_else(unserved)
}

/// The database says so itself, and nobody else knows.
fn is_wrong_password(error: &LoginError) -> bool {
    matches!(error, LoginError::Backend(error) if error.is_wrong_password())
}

/// An operator's hold is on the name of the role; the directory's say is not asked for.
async fn refuse_held(plane: &Plane, role: &str) -> Result<(), LoginError> {
    let holds = plane.role_store.holds().await;
    let holds = holds.map_err(|error| LoginError::RoleStore(error.into()))?;
    let mut holds = holds.into_iter();
    match holds.find(|it| it.held.role.as_deref() == Some(role)) {
        None => Ok(()),
        Some(hold) => {
            let refused = RoleStoreError::Refused {
                refusal: Refusal::Held,
                why: format!("{} holds this account: {}", hold.placed_by, hold.reason),
            };
            Err(LoginError::RoleStore(refused.into()))
        }
    }
}
