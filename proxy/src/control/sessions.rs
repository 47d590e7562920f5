//! The live sessions, as `postern sessions` shows them.

use std::collections::HashMap;

use postern_ring::Traffic;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::gate::Gate;
use crate::limits::TRAFFIC_WAIT;
use crate::printable::printable;
use crate::session::{LiveSession, SessionId};

/// One live session, in the answer to [`Question::Sessions`](super::Question).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionAnswer {
    /// Its identifier, as in the audit file.
    pub(crate) session: String,
    /// The role.
    pub(crate) role: String,
    /// The directory's identifier of the person.
    pub(crate) entry: String,
    /// The roles that the person's groups became.
    pub(crate) groups: Vec<String>,
    /// The client's address.
    pub(crate) client: String,
    /// The database.
    pub(crate) database: String,
    /// The backend's address.
    pub(crate) backend: String,
    /// The backend's process number.
    pub(crate) backend_pid: Option<u32>,
    /// How long it has been open, in seconds.
    pub(crate) open_s: u64,
    /// Application bytes for the client so far; `None` while no worker has it, or none answers.
    pub(crate) bytes_to_client: Option<u64>,
    /// The same for the backend.
    pub(crate) bytes_to_backend: Option<u64>,
}

/// The live sessions, with what has flowed through them.
pub(crate) async fn live(gate: &Gate) -> Vec<SessionAnswer> {
    let traffic = traffic(gate).await;
    let answer = |(id, live): (SessionId, LiveSession)| SessionAnswer {
        session: id.to_string(),
        bytes_to_client: traffic.get(&id.number()).map(|it| it.bytes_to_client),
        bytes_to_backend: traffic.get(&id.number()).map(|it| it.bytes_to_backend),
        role: live.role.to_string(),
        entry: live.entry().to_string(),
        groups: live.granted.iter().map(ToString::to_string).collect(),
        client: live.client.to_string(),
        database: live.database,
        backend: live.backend.to_string(),
        backend_pid: live.cancel.map(|cancel| cancel.client.pid),
        open_s: live.opened.elapsed().as_secs(),
    };
    gate.sessions.list().into_iter().map(answer).collect()
}

/// What has flowed so far, as far as the workers say so in time.
async fn traffic(gate: &Gate) -> HashMap<u64, Traffic> {
    let (told, mut tellings) = mpsc::unbounded_channel();
    // Nobody listens any more when the time is over.
    let asked = gate
        .ring
        .ask_traffic(move |traffic| drop(told.send(traffic)));
    let mut all = HashMap::new();
    let gathering = async {
        for _ in 0..asked {
            let told = tellings.recv().await.unwrap_or_default();
            all.extend(told.into_iter().map(|it| (it.id, it)));
        }
    };
    // Without the figures the sessions are as interesting.
    let _in_time = timeout(TRAFFIC_WAIT, gathering).await;
    all
}

/// The sessions as a table for people.
pub(crate) fn table(sessions: &[SessionAnswer]) -> String {
    let mut rows = vec![
        [
            "session",
            "role",
            "groups",
            "database",
            "client",
            "backend",
            "pid",
            "open",
            "to client",
            "to backend",
        ]
        .map(str::to_owned),
    ];
    rows.extend(sessions.iter().map(|session| {
        [
            session.session.clone(),
            printable(&session.role),
            printable(&session.groups.join(",")),
            printable(&session.database),
            session.client.clone(),
            session.backend.clone(),
            session
                .backend_pid
                .map_or_else(String::new, |pid| pid.to_string()),
            format!("{} s", session.open_s),
            session.bytes_to_client.map_or_else(String::new, byte_count),
            session
                .bytes_to_backend
                .map_or_else(String::new, byte_count),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..10).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A number of bytes for people, with two figures or more.
pub(crate) fn byte_count(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = "B";
    let mut rest = bytes;
    for larger in units {
        if rest < 10_000 {
            break;
        }
        (rest, unit) = (rest / 1_000, larger);
    }
    format!("{rest} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_leaves_one_to_four_figures() {
        let told = [0, 9_999, 10_000, 1_234_567_890, u64::MAX].map(byte_count);
        assert_eq!(told, ["0 B", "9999 B", "10 kB", "1234 MB", "18 EB"]);
    }
}
