//! The backend's part of a login: what it is sent, and what is done when it refuses the role.

use postern_core::audit::Record;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::startup::Startup;
use tokio::time::timeout;

use super::again::renew;
use super::{Visit, sync};
use crate::backend::{BackendError, BackendReady, log_in};
use crate::error::LoginError;
use crate::gate::Plane;
use crate::sync::Synced;

/// The SQLSTATE with which a server refuses a role that may not log in.
const INVALID_AUTHORIZATION: &str = Sqlstate::INVALID_AUTHORIZATION.as_str();

/// The backend; and once more after a forced sync, when it does not take the role's secret.
pub(super) async fn dial_and_log_in(
    plane: &Plane,
    synced: Synced,
    startup: &Startup,
    visit: &Visit,
) -> Result<(Synced, BackendReady), LoginError> {
    match backend_login(plane, &synced, startup, visit).await {
        Ok(ready) => return Ok((synced, ready)),
        Err(BackendError::SecretRefused) => {}
        // The role may have been disabled since, through another proxy that heard of it first.
        Err(BackendError::Refused { sqlstate, .. })
            if sqlstate == INVALID_AUTHORIZATION && synced.is_from_memory() => {}
        Err(error) => return Err(LoginError::Backend(error)),
    }
    let role = synced.authorized().role().clone();
    tracing::warn!(session = %visit.id, %role, "the backend does not take the role as it was left");
    let backend = plane
        .gate
        .target_of(synced.authorized().database())
        .map(|it| it.host());
    let backend = backend.unwrap_or_default();
    plane
        .gate
        .record(
            visit.id,
            &Record::SecretForced {
                role: role.to_string(),
                backend,
            },
        )
        .await?;
    let authorized = renew(plane, synced.into_authorized(), startup, visit).await?;
    let synced = sync(plane, authorized, visit, true).await?;
    let ready = backend_login(plane, &synced, startup, visit).await;
    let ready = ready.map_err(LoginError::Backend)?;
    Ok((synced, ready))
}

async fn backend_login(
    plane: &Plane,
    synced: &Synced,
    startup: &Startup,
    visit: &Visit,
) -> Result<BackendReady, BackendError> {
    let gate = &plane.gate;
    let authorized = synced.authorized();
    let database = authorized.database();
    let unserved = || BackendError::NotServed {
        database: database.to_owned(),
    };
    let target = gate.target_of(database).ok_or_else(unserved)?;
    let packet = match target.config.client_address {
        true => startup.clone().with_client_address(visit.client),
        false => startup.clone(),
    };
    let packet = packet
        .with_user_database(authorized.role().as_str(), database)
        .map_err(|_| BackendError::StartupTooLong)?;
    let secret = || gate.synchronizer.secret(authorized);
    let login = log_in(target, &packet, synced.credential(), secret);
    let patience = target.config.endpoint.connect_timeout;
    let timed_out = |_| BackendError::TimedOut {
        host: target.host(),
    };
    timeout(patience, login).await.map_err(timed_out)?
}
