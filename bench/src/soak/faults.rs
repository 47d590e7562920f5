//! What goes wrong now and then: each of it is undone, and everybody must get in again.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::{sleep, sleep_until};

use super::site::Site;
use super::tally::{Fault, Tally};
use crate::limits::{LOOK_INTERVAL, SOAK_FAULT, SOAK_RECOVERY};
use crate::progress::Progress;

/// What can go wrong. The process itself stays as it is: its own end would begin the time anew.
#[derive(Debug, Clone, Copy)]
enum Kind {
    DirectoryStopped,
    DatabaseRestarted,
    DirectoryHung,
    SessionsEnded,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::DirectoryStopped,
        Self::DatabaseRestarted,
        Self::DirectoryHung,
        Self::SessionsEnded,
    ];

    const fn what(self) -> &'static str {
        match self {
            Self::DirectoryStopped => "the directory stopped",
            Self::DatabaseRestarted => "the database restarted",
            Self::DirectoryHung => "the directory hung",
            Self::SessionsEnded => "every session ended by the database",
        }
    }
}

/// Makes them.
pub(super) struct Faults<'a> {
    site: &'a Rc<Site>,
    tally: &'a Tally,
    progress: &'a Progress,
}

impl<'a> Faults<'a> {
    pub(super) const fn new(site: &'a Rc<Site>, tally: &'a Tally, progress: &'a Progress) -> Self {
        Self {
            site,
            tally,
            progress,
        }
    }

    /// Every kind once, each so long after the one before.
    pub(super) async fn each_once(&self, every: Duration) -> Result<()> {
        for kind in Kind::ALL {
            self.after(every, kind).await?;
        }
        Ok(())
    }

    /// One kind after the other without an end.
    pub(super) async fn now_and_then(&self, every: Duration) -> Result<()> {
        loop {
            self.each_once(every).await?;
        }
    }

    async fn after(&self, every: Duration, kind: Kind) -> Result<()> {
        // The first half without a fault, so that none is under way when the time begins or ends.
        let next = tokio::time::Instant::now() + every;
        sleep(every / 2).await;
        self.tally.begin_fault();
        self.make(kind).await.with_context(|| kind.what())?;
        let recovery_s = self.recover().await.with_context(|| kind.what())?;
        self.progress
            .say(&format!("{}; recovered in {recovery_s:.1} s", kind.what()));
        self.tally.end_fault(Fault {
            what: kind.what(),
            recovery_s,
        });
        sleep_until(next).await;
        Ok(())
    }

    async fn make(&self, kind: Kind) -> Result<()> {
        match kind {
            Kind::DirectoryStopped => {
                self.site.aside(|it| it.directory.stop()).await?;
                sleep(SOAK_FAULT).await;
                self.site.aside(|it| it.directory.start_again()).await
            }
            Kind::DirectoryHung => {
                self.site.aside(|it| it.directory.pause()).await?;
                sleep(SOAK_FAULT).await;
                self.site.aside(|it| it.directory.resume()).await
            }
            Kind::DatabaseRestarted => {
                self.site.aside(|it| it.postgres.stop()).await?;
                sleep(SOAK_FAULT).await;
                self.site.aside(|it| it.postgres.start_again()).await
            }
            Kind::SessionsEnded => self.site.aside(|it| it.end_sessions()).await,
        }
    }

    /// Tries until a login that asks the directory and one that does not succeed, and says how
    /// many seconds that took.
    async fn recover(&self) -> Result<f64> {
        let start = Instant::now();
        loop {
            let cold = self.site.log_in(&self.site.next_cold()).await;
            let Err(error) = cold.and(self.site.log_in(self.site.warm()).await) else {
                return Ok(start.elapsed().as_secs_f64());
            };
            if start.elapsed() > SOAK_RECOVERY {
                return Err(error.context("nobody gets in again"));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}
