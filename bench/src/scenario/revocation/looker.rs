//! Who counts the backends of a person.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::site::SESSIONS;
use super::visits::Visits;
use crate::limits::{REVOCATION_PAUSE, REVOCATION_VISITS_AFTER};
use crate::load::client::Client;
use crate::load::door::Door;

/// A session with the database itself, which counts the backends of the person.
pub(super) struct Looker {
    client: Client,
    question: String,
    took: Vec<Duration>,
}

impl Looker {
    pub(super) async fn come(door: &Door, role: &str) -> Result<Self> {
        Ok(Self {
            client: Client::log_in(door).await?,
            question: format!("select pid from pg_stat_activity where usename = '{role}'"),
            took: Vec::new(),
        })
    }

    /// How many there are.
    pub(super) async fn look(&mut self) -> Result<usize> {
        let start = Instant::now();
        let answer = self.client.query(&self.question).await?;
        self.took.push(start.elapsed());
        Ok(usize::try_from(answer.rows)?)
    }

    /// Looks until there is none, and as fast as it is answered once the first has gone.
    pub(super) async fn until_gone(&mut self) -> Result<Instant> {
        loop {
            match self.look().await? {
                0 => return Ok(Instant::now()),
                all if all >= SESSIONS => sleep(REVOCATION_PAUSE).await,
                _ => {}
            }
        }
    }

    /// Looks on until enough logins have begun after `last`; if there were backends once more, it
    /// says when they had gone.
    pub(super) async fn while_visited(
        &mut self,
        visits: &Visits,
        last: Instant,
    ) -> Result<Option<Instant>> {
        let (mut is_back, mut gone) = (false, None);
        loop {
            let is_any = self.look().await? > 0;
            if is_back && !is_any {
                gone = Some(Instant::now());
            }
            is_back = is_any;
            if !is_back && visits.begun_after(last) >= REVOCATION_VISITS_AFTER {
                return Ok(gone);
            }
            sleep(REVOCATION_PAUSE).await;
        }
    }

    /// Makes sure that the role may not log in.
    pub(super) async fn ensure_no_login(&mut self, role: &str) -> Result<()> {
        let sql = format!("select 1 from pg_roles where rolname = '{role}' and rolcanlogin");
        let answer = self.client.query(&sql).await?;
        ensure!(answer.rows == 0, "the role may log in afterwards");
        Ok(())
    }

    /// Has the database end them, and says how long it takes until there is none.
    pub(super) async fn end_all(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let sql = format!(
            "select pg_terminate_backend(pid) from ({}) it",
            self.question
        );
        self.client.query(&sql).await?;
        Ok(self.until_gone().await? - start)
    }

    /// What a look took since this was asked last: the median.
    pub(super) fn cost(&mut self) -> Result<Duration> {
        let mut took = std::mem::take(&mut self.took);
        took.sort();
        took.get(took.len() / 2).copied().context("no look")
    }
}
