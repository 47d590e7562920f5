//! What the direct route does in the same round: open loops run at a share of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::{Extent, Point, Recorder};
use crate::load::clients::{Clients, Question};
use crate::load::door::{Door, Tickets};
use crate::load::run;
use crate::route::Encryption;
use crate::stage::Stage;

/// The rate of a closed loop on the direct route, measured once a round and point.
#[derive(Debug, Default)]
pub(super) struct DirectRate(Mutex<Option<(Key, f64)>>);

/// What a rate is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    round: usize,
    point: String,
    encryption: Encryption,
}

impl DirectRate {
    /// Answers a second of so many clients.
    ///
    /// # Errors
    /// If they get none.
    pub(super) fn get(
        &self,
        stage: &Stage,
        point: &Point,
        clients: u32,
        recorder: &Recorder<'_>,
    ) -> Result<f64> {
        let key = Key {
            round: recorder.round,
            point: point.name.clone(),
            encryption: point.encryption,
        };
        // A thread that panicked meanwhile left a rate or none, both whole.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rate)) = kept.as_ref().filter(|(it, _)| *it == key) {
            return Ok(*rate);
        }
        let duration = match stage.extent() {
            Extent::Quick => Duration::from_millis(700),
            Extent::Full => Duration::from_secs(3),
        };
        let route = stage.route("direct")?;
        let door = Door::new(route, point.encryption, Tickets::Forgotten)?;
        let rate = run(LIMIT + duration, async {
            let mut clients = Clients::connect(&door, clients, &read_of_one_row()).await?;
            Ok(clients.closed_loop(duration).await?.rate_per_s)
        })?;
        *kept = Some((key, rate));
        Ok(rate)
    }
}

/// How long logging in and everything else beside a load may take.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

/// What `pgbench -S` asks. The rows are those of its smallest scale here, 10.
pub(super) fn read_of_one_row() -> Question {
    Question {
        sql: "select abalance from pgbench_accounts where aid = $1".to_owned(),
        parameter_max: 1_000_000,
    }
}
