//! Logins beside a change.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::limits::REVOCATION_VISIT_PAUSE;
use crate::load::client::Client;
use crate::load::door::Door;

/// The answer to a login that is none of PostgreSQL's.
const ACCEPTED: &str = "accepted";
/// As above.
const BROKEN_OFF: &str = "broken off";

/// Logins of the same person, one after the other.
pub(super) struct Visits {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    is_over: Cell<bool>,
    visits: RefCell<Vec<Visit>>,
}

/// One login.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    began: Instant,
    answer: String,
}

impl Visits {
    pub(super) fn begin(door: &Door) -> Self {
        let (shared, door) = (Rc::new(Shared::default()), door.clone());
        let task = spawn_local(shared.clone().visit(door));
        Self { shared, task }
    }

    /// How many have been answered that began after a moment.
    pub(super) fn begun_after(&self, moment: Instant) -> usize {
        let visits = self.shared.visits.borrow();
        visits.iter().filter(|it| it.began > moment).count()
    }

    /// Ends them once the last is answered.
    pub(super) async fn end(self) -> Result<Vec<Visit>> {
        self.shared.is_over.set(true);
        self.task.await.context("the logins beside")?;
        Ok(self.shared.visits.take())
    }
}

impl Shared {
    async fn visit(self: Rc<Self>, door: Door) {
        // The last one who was let in stays: nobody may be forgotten who came at the last moment.
        let mut guest = None;
        while !self.is_over.get() {
            let began = Instant::now();
            let answer = match Client::try_log_in(&door).await {
                Ok(Ok(client)) => {
                    guest = Some(client);
                    ACCEPTED.to_owned()
                }
                Ok(Err(refusal)) => refusal.sqlstate,
                Err(_) => BROKEN_OFF.to_owned(),
            };
            self.visits.borrow_mut().push(Visit { began, answer });
            sleep(REVOCATION_VISIT_PAUSE).await;
        }
        drop(guest);
    }
}

/// How many were answered how: `accepted`, or by an SQLSTATE.
pub(super) fn answers(visits: &[Visit]) -> BTreeMap<String, u64> {
    let mut answers = BTreeMap::new();
    for visit in visits {
        *answers.entry(visit.answer.clone()).or_default() += 1;
    }
    answers
}

/// The logins that were accepted though they began after a moment.
pub(super) fn too_late(visits: &[Visit], moment: Instant) -> Result<u64> {
    let late = visits.iter().filter(|it| it.began > moment);
    Ok(u64::try_from(
        late.filter(|it| it.answer == ACCEPTED).count(),
    )?)
}
