//! The directory asked once more within one login.

use std::sync::Arc;
use std::time::Instant;

use postern_core::wire::startup::Startup;

use super::{Visit, authenticate, authorized};
use crate::authenticate::Authenticated;
use crate::authorize::Authorized;
use crate::error::LoginError;
use crate::gate::Plane;

/// The password was right; what the person may do is looked up anew, without another bind.
pub(super) async fn look_again(
    plane: &Plane,
    outdated: Authorized,
) -> Result<Authenticated, LoginError> {
    let outdated = outdated.into_authenticated();
    let asked_at = Instant::now();
    let found = plane
        .directories
        .look_up_entry(&outdated.principal().id)
        .await;
    let person = found.map_err(|error| LoginError::Directory(Arc::new(error)))?;
    Ok(outdated.seen_again(person.principal, asked_at))
}

/// Asks the directory, when memory answered for it before: what is about to be set anew must not
/// be what another proxy has just taken away.
pub(super) async fn renew(
    plane: &Plane,
    stale: Authorized,
    startup: &Startup,
    visit: &Visit,
) -> Result<Authorized, LoginError> {
    if !stale.authenticated().is_from_memory() {
        return Ok(stale);
    }
    let Some(password) = stale.authenticated().password().cloned() else {
        return Ok(stale);
    };
    plane.gate.authenticator.forget(startup.user());
    let authenticated = authenticate(plane, startup, password, visit).await?;
    authorized(plane, authenticated, startup, visit).await
}
