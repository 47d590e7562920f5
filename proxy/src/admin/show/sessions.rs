//! The live sessions, whole and by their legs.

use postern_core::console::{Cell, Kind};
use postern_core::wire::startup::Replication;

use super::{Columns, Row};
use crate::control::{SessionAnswer, live_sessions};
use crate::gate::Gate;
use crate::session::{LiveSession, SessionId};

pub(super) const SESSIONS: Columns = &[
    ("session", Kind::Text),
    ("role", Kind::Text),
    ("database", Kind::Text),
    ("client", Kind::Text),
    ("backend", Kind::Text),
    ("pid", Kind::Integer),
    ("open_s", Kind::Integer),
    ("to_client_bytes", Kind::Integer),
    ("to_backend_bytes", Kind::Integer),
    ("groups", Kind::Text),
];

pub(super) const CLIENTS: Columns = &[
    ("session", Kind::Text),
    ("client", Kind::Text),
    ("role", Kind::Text),
    ("database", Kind::Text),
    ("application_name", Kind::Text),
    ("tls", Kind::Text),
    ("entry", Kind::Text),
    ("open_s", Kind::Integer),
];

pub(super) const SERVERS: Columns = &[
    ("session", Kind::Text),
    ("backend", Kind::Text),
    ("pid", Kind::Integer),
    ("role", Kind::Text),
    ("database", Kind::Text),
    ("replication", Kind::Boolean),
    ("open_s", Kind::Integer),
];

/// The oldest first.
pub(super) async fn sessions(gate: &Gate) -> Vec<Row> {
    let row = |it: SessionAnswer| {
        vec![
            Cell::Text(it.session),
            Cell::Text(it.role),
            Cell::Text(it.database),
            Cell::Text(it.client),
            Cell::Text(it.backend),
            Cell::or_null(it.backend_pid, Cell::integer),
            Cell::integer(it.open_s),
            Cell::or_null(it.bytes_to_client, Cell::integer),
            Cell::or_null(it.bytes_to_backend, Cell::integer),
            Cell::Text(it.groups.join(", ")),
        ]
    };
    live_sessions(gate).await.into_iter().map(row).collect()
}

/// The oldest first.
pub(super) fn clients(gate: &Gate) -> Vec<Row> {
    let row = |(id, it): (SessionId, LiveSession)| {
        vec![
            Cell::text(id),
            Cell::text(it.client),
            Cell::text(&it.role),
            Cell::text(&it.database),
            Cell::or_null(it.application_name.clone(), Cell::Text),
            Cell::or_null(it.client_tls.clone(), Cell::Text),
            Cell::text(it.entry()),
            Cell::integer(it.opened.elapsed().as_secs()),
        ]
    };
    gate.sessions.list().into_iter().map(row).collect()
}

/// The oldest first.
pub(super) fn servers(gate: &Gate) -> Vec<Row> {
    let row = |(id, it): (SessionId, LiveSession)| {
        vec![
            Cell::text(id),
            Cell::text(it.backend),
            Cell::or_null(it.cancel.as_ref().map(|it| it.backend.pid), Cell::integer),
            Cell::text(&it.role),
            Cell::text(&it.database),
            Cell::Boolean(it.replication != Replication::No),
            Cell::integer(it.opened.elapsed().as_secs()),
        ]
    };
    gate.sessions.list().into_iter().map(row).collect()
}
