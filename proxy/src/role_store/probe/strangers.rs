//! The row of `postern check` about backends that were not reached through this proxy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use postern_core::perimeter::{Plan, Prefix};
use tokio_postgres::Client;

use super::super::pool::Access;
use crate::check::Probe;
use crate::limits::STRANGERS_NAMED_MAX;

const LEG: &str = "perimeter";
const WHAT: &str = "backends of strangers";

const MAY_SEE: &str = "SELECT COALESCE(pg_has_role(session_user, 'pg_read_all_stats', 'USAGE'), \
    false) OR (SELECT rolsuper FROM pg_roles WHERE rolname = session_user), \
    host(inet_client_addr())";

const LOOK: &str = "SELECT host(a.client_addr), COALESCE(a.usename::text, ''), count(*) \
    FROM pg_stat_activity a \
    WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' \
    AND a.client_addr IS DISTINCT FROM inet_client_addr() \
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2";

/// Backends whose client is neither this proxy nor an allowed source. The answer is waited for as
/// long as that of any call.
pub(super) async fn probe(access: &Access, client: &Client, plan: &Plan) -> Probe {
    match access.answer(look(client)).await {
        Ok(seen) => judge(seen, plan),
        Err(error) => unknown(error.to_string()),
    }
}

/// That it cannot be said.
pub(super) fn unknown(why: String) -> Probe {
    Probe::warning(LEG, WHAT, format!("not known: {why}"), "")
}

/// What can be seen of the backends.
#[derive(Debug)]
enum Seen {
    /// Nothing of whose they are.
    Forbidden,
    /// The role store is reached by a unix socket: this proxy has no address.
    NoAddress,
    /// Address (none for a unix socket), role and number.
    Backends(Vec<(Option<String>, String, i64)>),
}

async fn look(client: &Client) -> Result<Seen, tokio_postgres::Error> {
    let row = client.query_one(MAY_SEE, &[]).await?;
    let (may_see, own): (bool, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    if !may_see {
        return Ok(Seen::Forbidden);
    }
    if own.is_none() {
        return Ok(Seen::NoAddress);
    }
    let rows = client.query(LOOK, &[]).await?;
    let backends = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    Ok(Seen::Backends(backends.collect::<Result<_, _>>()?))
}

fn judge(seen: Seen, plan: &Plan) -> Probe {
    let backends = match seen {
        // Nobody has to let it look: a warning that is always there warns of nothing.
        Seen::Forbidden => {
            let detail = "not looked at: for that, grant pg_read_all_stats to the role of \
                          role_store.user";
            return Probe::ok(LEG, WHAT, detail);
        }
        Seen::NoAddress => {
            let detail = "not looked at: the role store is reached by a unix socket, so that this \
                          proxy's address is not known there";
            return Probe::ok(LEG, WHAT, detail);
        }
        Seen::Backends(backends) => backends,
    };
    let mut strangers: BTreeMap<String, i64> = BTreeMap::new();
    for (address, role, count) in backends {
        if address.as_deref().is_some_and(|it| is_allowed(it, plan)) {
            continue;
        }
        let from = address.unwrap_or_else(|| "a unix socket".to_owned());
        *strangers.entry(format!("{role} from {from}")).or_default() += count;
    }
    if strangers.is_empty() {
        return Probe::ok(LEG, WHAT, "none");
    }
    let named = strangers.iter().take(STRANGERS_NAMED_MAX);
    let named: Vec<String> = named
        .map(|(who, count)| format!("{who} ({count})"))
        .collect();
    let more = match strangers.len().saturating_sub(STRANGERS_NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let why = format!("not reached through this proxy: {}{more}", named.join(", "));
    let cure = "end them with pg_terminate_backend, and close their way: pg_hba.conf, the policy";
    Probe::warning(LEG, WHAT, why, cure)
}

/// Whether an address is one of the allowed sources: another proxy.
fn is_allowed(address: &str, plan: &Plan) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let single = Prefix::single(address.to_canonical());
    plan.allowed
        .iter()
        .any(|(prefix, _)| prefix.contains(single))
}

#[cfg(test)]
mod tests {
    use postern_core::perimeter::Place;
    use postern_ebpf::abi::Allowed;

    use super::*;
    use crate::check::Outcome;

    fn plan() -> Plan {
        let allowed = Allowed {
            interfaces: 1,
            rule: 0,
            reserved: 0,
        };
        let prefix = Prefix::parse("10.10.0.0/28");
        Plan {
            place: Place::Gateway,
            interfaces: Vec::new(),
            protected: Vec::new(),
            allowed: prefix.into_iter().map(|it| (it, allowed)).collect(),
        }
    }

    fn why(seen: Seen) -> String {
        match judge(seen, &plan()).outcome {
            Outcome::Ok { detail } => detail,
            Outcome::Warning { why, .. } | Outcome::Failed { why, .. } => why,
        }
    }

    #[test]
    fn backends_of_allowed_sources_are_no_strangers() {
        let backend = |address: Option<&str>| (address.map(str::to_owned), "ann".to_owned(), 2);
        assert_eq!(
            why(Seen::Backends(vec![backend(Some("10.10.0.5"))])),
            "none"
        );
        let seen = Seen::Backends(vec![backend(Some("10.9.0.5")), backend(None)]);
        let expect = "not reached through this proxy: ann from 10.9.0.5 (2), ann from a unix \
                      socket (2)";
        assert_eq!(why(seen), expect);
    }

    #[test]
    fn what_cannot_be_seen_is_neither_called_empty_nor_a_warning_for_ever() {
        for (seen, because) in [
            (Seen::Forbidden, "pg_read_all_stats"),
            (Seen::NoAddress, "unix socket"),
        ] {
            let outcome = judge(seen, &plan()).outcome;
            let is_so =
                |detail: &str| detail.starts_with("not looked at: ") && detail.contains(because);
            assert!(
                matches!(&outcome, Outcome::Ok { detail } if is_so(detail)),
                "{outcome:?}"
            );
        }
    }
}
