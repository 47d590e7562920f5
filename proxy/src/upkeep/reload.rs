//! Another configuration for the running process: the whole of it, or nothing.
//!
//! Everything that the new one needs is made first, for every thread, from files that are read
//! once more; then the threads' planes are replaced. Sessions and logins under way go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Answer, Parts, put_on_record};
use crate::arrivals::Arrivals;
use crate::authenticate::Authenticator;
use crate::config::{Change, Config, Directory};
use crate::directory::feed::Feed;
use crate::gate::{Gate, Plane};
use crate::limits::CHANGES_SHOWN_MAX;
use crate::operators::Operator;
use crate::rates::Rates;
use crate::revocation::Renewed;
use crate::run::{RunError, assemble, say_warnings};
use crate::supervisor::Tell;
use crate::sync::Synchronizer;

/// A configuration that is ready to be put in the place of the one before.
struct Prepared {
    login: Vec<Plane>,
    control: Arc<Plane>,
    renewed: Renewed,
    lines: Vec<String>,
}

/// Reloads, on the control thread.
pub(super) async fn reload(parts: &Parts, by: &Operator) -> Answer {
    parts.supervisor.tell(&[Tell::Reloading]);
    let answer = replace(parts, by).await;
    let gate = parts.control.gate();
    if gate.has_handed_over() {
        // Only the other process orders it then, which has just read the file.
        gate.has_say.store(answer.is_ok(), Ordering::Release);
    }
    if let Some(process) = gate.before.get()
        && (answer.is_ok() || gate.has_handed_over())
    {
        // It takes over what it can, even where this one between the two could not.
        process.have_reloaded();
    }
    let status = match &answer {
        Ok(_) => "The configuration was reloaded".to_owned(),
        Err(why) => {
            tracing::error!(by = by.name, why, "the configuration was not reloaded");
            let first = why.lines().next().unwrap_or_default();
            format!("The last reload was refused: {first}")
        }
    };
    parts.supervisor.tell(&[Tell::Ready, Tell::Status(&status)]);
    answer
}

async fn replace(parts: &Parts, by: &Operator) -> Answer {
    let before = parts.control.gate();
    let prepared = match prepare(parts, &before) {
        Ok(prepared) => prepared,
        Err(why) => {
            // It is refused whether or not that can be put on record.
            drop(put_on_record(&before, ("reload", by), &format!("refused: {why}")).await);
            return Err(why);
        }
    };
    let Prepared {
        login,
        control,
        renewed,
        lines,
    } = prepared;
    put_on_record(&before, ("reload", by), &lines.join("; ")).await?;
    before
        .newest
        .store(control.gate.generation, Ordering::Release);
    for (current, plane) in parts.login.iter().zip(login) {
        current.replace(Arc::new(plane));
    }
    let shares_max = control.gate.config.limits.shares;
    before.sessions.limit_shares(shares_max);
    parts.control.replace(control);
    before.orders.renew(renewed).await;
    say_warnings(&parts.control.gate().config);
    tracing::info!(
        by = by.name,
        changes = lines.join("; "),
        "the configuration was reloaded"
    );
    Ok(lines)
}

fn prepare(parts: &Parts, before: &Gate) -> Result<Prepared, String> {
    let config = Config::read(&parts.config_file).map_err(|errors| errors.to_string())?;
    let changes = before.config.values.changes(&config.values);
    let refused: Vec<String> = changes.iter().filter_map(Change::refusal).collect();
    if !refused.is_empty() {
        return Err(refused.join("\n"));
    }
    let failed = |error: RunError| error.to_string();
    let gate = Arc::new(renewed(before, config, &changes).map_err(failed)?);
    let login = parts.login.iter().map(|_| assemble::plane(&gate));
    let login = login.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let control = Arc::new(assemble::plane(&gate).map_err(failed)?);
    let is_followed_anew = touches(&changes, &["directory"]);
    let feed = match (&gate.config.directory, is_followed_anew) {
        (Directory::Ldap(ldap), true) => Some(Feed::new(ldap).map_err(|error| error.to_string())?),
        (Directory::Ldap(_) | Directory::Local, _) => None,
    };
    Ok(Prepared {
        renewed: Renewed {
            plane: control.clone(),
            feed: is_followed_anew.then_some(feed),
            has_other_store: touches(&changes, &["role_store"]),
            has_other_file: touches(&changes, &["local"]),
        },
        login,
        control,
        lines: told(&changes),
    })
}

/// The next gate: what rests on something that has changed is made anew, and everything else goes
/// on. Who is remembered is forgotten with the directory that said it.
fn renewed(before: &Gate, config: Config, changes: &[Change]) -> Result<Gate, RunError> {
    let limits = |names: &[&str]| {
        let is_one = |it: &Change| names.iter().any(|name| it.key == format!("limits.{name}"));
        changes.iter().any(is_one)
    };
    let mut next = before.clone();
    next.generation += 1;
    if touches(changes, &["listen"]) {
        next.identity = assemble::identity(&config)?;
    }
    next.targets = assemble::targets(&config)?;
    if touches(changes, &["directory", "local", "cache", "lockout"])
        || limits(&["directory_calls_max"])
    {
        let after = Authenticator::new(&config).counting_on(&before.authenticator);
        next.authenticator = Arc::new(match touches(changes, &["lockout"]) {
            true => after,
            false => after.with_tries_of(&before.authenticator),
        });
    }
    if touches(changes, &["credential", "role_store", "groups"]) {
        let key = assemble::cluster_key(&config)?;
        let after = Synchronizer::new(key, &config).counting_on(&before.synchronizer);
        next.synchronizer = Arc::new(after);
    }
    if touches(changes, &["cluster"]) {
        next.peers = assemble::peers(&config, &assemble::cluster_key(&config)?)?;
    }
    if limits(&["logins_max", "cold_logins_max"]) {
        let limits = &config.limits;
        let after = (limits.logins_max, limits.cold_logins_max);
        next.permits = Arc::new(before.permits.renewed(after.0, after.1));
    }
    if limits(&["connections_per_address_max"]) {
        next.arrivals = Arrivals::new(config.limits.connections_per_address_max);
    }
    if limits(&["logins_per_address_and_minute_max"]) {
        next.rates = Arc::new(Rates::new(config.limits.logins_per_minute_max));
    }
    if touches(changes, &["admin"]) {
        let key = assemble::cluster_key(&config)?;
        next.console = assemble::console(&config, &key, before.console.as_deref())?;
    }
    next.config = Arc::new(config);
    Ok(next)
}

fn touches(changes: &[Change], tables: &[&str]) -> bool {
    changes.iter().any(|it| it.is_of(tables))
}

fn told(changes: &[Change]) -> Vec<String> {
    if changes.is_empty() {
        return vec!["nothing has changed".to_owned()];
    }
    let shown = changes.iter().take(CHANGES_SHOWN_MAX);
    let mut lines: Vec<String> = shown.map(ToString::to_string).collect();
    if changes.len() > lines.len() {
        lines.push(format!("and {} more", changes.len() - lines.len()));
    }
    lines
}
