//! What has happened, and how much of each limit is used.

use std::sync::atomic::Ordering;

use postern_core::console::{Cell, Kind};
use tokio::sync::Semaphore;

use super::{Columns, Row};
use crate::durations::Durations;
use crate::gate::Gate;
use crate::limits::{
    CANCELS_MAX, CONNECTIONS_PER_LOGIN_MAX, CONSOLE_SESSIONS_MAX, PAUSED_LOGINS_MAX,
    SERVICE_EXCHANGES_MAX,
};
use crate::session::Most;

pub(super) const FIGURES: Columns = &[("name", Kind::Text), ("value", Kind::Integer)];

pub(super) const LIMITS: Columns = &[
    ("limit", Kind::Text),
    ("max", Kind::Integer),
    ("used", Kind::Integer),
    ("most_used_by", Kind::Text),
];

/// Since the start, but for what is live.
pub(super) fn stats(gate: &Gate) -> Vec<Row> {
    let (counts, splice) = (&gate.counts, gate.ring.stats());
    let figure = |name: &str, value: Cell| vec![Cell::text(name), value];
    let mut rows = vec![
        figure(
            "connections",
            Cell::integer(counts.connections.load(Ordering::Relaxed)),
        ),
        figure("sessions", Cell::integer(gate.sessions.count())),
        figure(
            "sessions_opened",
            Cell::integer(counts.opened.load(Ordering::Relaxed)),
        ),
        figure("logins_waiting", Cell::integer(gate.door.waiting())),
        figure("directory_calls", Cell::integer(gate.authenticator.calls())),
        figure("role_store_calls", Cell::integer(gate.synchronizer.calls())),
        figure("to_client_bytes", Cell::integer(splice.bytes_to_client)),
        figure("to_backend_bytes", Cell::integer(splice.bytes_to_backend)),
        figure("splice_pauses", Cell::integer(splice.pauses)),
    ];
    for (name, durations) in [
        ("login_from_memory", &gate.warm_logins),
        ("login_from_directory", &gate.cold_logins),
        ("revocation", &gate.lag),
    ] {
        rows.extend(summary(name, durations));
    }
    rows.push(figure(
        "logins_refused",
        Cell::integer(counts.refused.total()),
    ));
    for (reason, count) in counts.refused.by_reason() {
        let name = format!("logins_refused_{reason}");
        rows.push(figure(&name, Cell::integer(count)));
    }
    rows
}

fn summary(name: &str, durations: &Durations) -> [Row; 4] {
    let summary = durations.summary();
    let figure =
        |what: &str, value: u64| vec![Cell::Text(format!("{name}_{what}")), Cell::integer(value)];
    [
        figure("count", summary.count),
        figure("median_us", summary.p50_us),
        figure("p99_us", summary.p99_us),
        figure("slowest_us", summary.max_us),
    ]
}

/// Those of the configuration first; a limit that is not set has no maximum.
pub(super) fn limits(gate: &Gate) -> Vec<Row> {
    let (limits, permits) = (&gate.config.limits, &gate.permits);
    let [role, address, database] = gate.sessions.most();
    let connections_max = limits.logins_max.saturating_mul(CONNECTIONS_PER_LOGIN_MAX);
    let connections_max = connections_max.min(Semaphore::MAX_PERMITS);
    let console = gate.console.as_ref().map(|it| it.sessions());
    let rates_max = limits
        .logins_per_minute_max
        .map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    let mut rows = vec![
        counted(
            "limits.sessions_max",
            limits.sessions_max,
            gate.sessions.reserved(),
        ),
        shared("limits.sessions_per_role_max", limits.shares.role, role),
        shared(
            "limits.sessions_per_address_max",
            limits.shares.address,
            address,
        ),
        shared(
            "limits.sessions_per_database_max",
            limits.shares.database,
            database,
        ),
        shared(
            "limits.logins_per_address_and_minute_max",
            rates_max,
            gate.rates.most(),
        ),
        taken("limits.logins_max", limits.logins_max, &permits.logins),
        taken(
            "limits.cold_logins_max",
            limits.cold_logins_max,
            &permits.cold_logins,
        ),
        taken(
            "limits.directory_calls_max",
            limits.directory_calls_max,
            gate.authenticator.free_calls(),
        ),
        shared(
            "limits.connections_per_address_max",
            Some(limits.connections_per_address_max),
            gate.arrivals.most(),
        ),
        taken(
            "connections on their way",
            connections_max,
            &permits.connections,
        ),
        counted("paused logins", PAUSED_LOGINS_MAX, gate.door.waiting()),
        taken("cancel requests", CANCELS_MAX, &permits.cancels),
        taken(
            "exchanges of service accounts",
            SERVICE_EXCHANGES_MAX,
            &permits.service_exchanges,
        ),
    ];
    rows.extend(console.map(|used| counted("console sessions", CONSOLE_SESSIONS_MAX, used)));
    rows
}

fn taken(name: &str, max: usize, places: &Semaphore) -> Row {
    counted(name, max, max.saturating_sub(places.available_permits()))
}

fn counted(name: &str, max: usize, used: usize) -> Row {
    vec![
        Cell::text(name),
        Cell::integer(max),
        Cell::integer(used),
        Cell::Null,
    ]
}

/// A limit of which everybody has one of their own: the most that anybody uses.
fn shared(name: &str, max: Option<usize>, most: Option<Most>) -> Row {
    let used = most.as_ref().map_or(0, |it| it.count);
    vec![
        Cell::text(name),
        Cell::or_null(max, Cell::integer),
        Cell::integer(used),
        Cell::or_null(most, |it| Cell::Text(it.who)),
    ]
}
