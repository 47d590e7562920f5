//! One change: made, and watched until nothing is left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::administrator::Administrator;
use super::audit::Audit;
use super::looker::Looker;
use super::site::{IDLER, LEAVER, OTHERS, SESSIONS, Site};
use super::visits::{Visits, answers, too_late};
use crate::limits::{
    ANSWER_TIMEOUT, LOGIN_TIMEOUT, LOOK_INTERVAL, REVOCATION_LIMIT, REVOCATION_LOGINS_AT_ONCE,
};
use crate::load::client::Client;
use crate::load::door::{Door, Wire};
use crate::load::random::Random;

/// What is in the last message to a client whose access is revoked.
const GOODBYE: &str = "because access was revoked";
/// The longest last message that is looked at, in bytes.
const GOODBYE_BYTES_MAX: usize = 4_096;

/// Who is there all the while.
pub(super) struct Crowd<'a> {
    site: &'a Site,
    administrator: Administrator<'a>,
    looker: Looker,
    others: Vec<Client>,
    audit: Audit,
}

/// What one change came to; times without a name of their own are from the directory's answer.
#[derive(Debug)]
pub(super) struct Trial {
    /// The change itself.
    pub(super) change: Duration,
    /// Until Postern heard of it.
    pub(super) hearing: Duration,
    /// From there to the last backend gone, as Postern has it on record.
    pub(super) from_hearing: Duration,
    /// To the last backend gone, as the database says.
    pub(super) gone: Duration,
    /// To the first client's last message.
    pub(super) told: Duration,
    /// To the end of the last client's connection.
    pub(super) closed: Duration,
    /// One look at the backends.
    pub(super) look: Duration,
    /// Where it was heard of.
    pub(super) heard: String,
    /// How the logins beside were answered.
    pub(super) answers: BTreeMap<String, u64>,
    /// Logins that were accepted though they began after the loss was on record.
    pub(super) too_late: u64,
}

impl<'a> Crowd<'a> {
    pub(super) async fn gather(site: &'a Site) -> Result<Self> {
        Ok(Self {
            administrator: Administrator::come(&site.place).await?,
            looker: Looker::come(&site.looker, LEAVER).await?,
            others: open(&site.stayer, OTHERS).await?,
            audit: Audit::new(site.postern.audit_file()),
            site,
        })
    }

    /// How long the database takes to end as many sessions of its own, without a proxy.
    pub(super) async fn floor(&self) -> Result<Duration> {
        let mut looker = Looker::come(&self.site.looker, IDLER).await?;
        let sessions = open(&self.site.idler, SESSIONS).await?;
        let took = timeout(ANSWER_TIMEOUT, looker.end_all()).await;
        drop(sessions);
        took.context("the database does not end its sessions")?
    }

    /// Opens the sessions, takes the group away, watches, and gives it back.
    ///
    /// # Errors
    /// Also if a client is told something else, the role may log in afterwards, or a session of
    /// somebody else has ended.
    pub(super) async fn trial(&mut self, number: u64, phase: Duration) -> Result<Trial> {
        let sessions = open(&self.site.leaver, SESSIONS).await?;
        let backends = self.looker.look().await?;
        ensure!(
            backends == SESSIONS,
            "{backends} backends and not {SESSIONS}"
        );
        let visits = Visits::begin(&self.site.leaver);
        sleep(phase.mul_f64(Random::new(number).share())).await;
        self.audit.skip()?;
        let mut clients = JoinSet::new();
        for session in sessions {
            clients.spawn_local(watch(session.into_wire()));
        }
        let change = self.administrator.take_away().await?;
        let watched = async {
            let (gone, ends) = tokio::try_join!(self.looker.until_gone(), ends_of(clients))?;
            let last = gone.max(ends.closed);
            let later = self.looker.while_visited(&visits, last).await?;
            anyhow::Ok((later.unwrap_or(gone), ends))
        };
        let watched = timeout(REVOCATION_LIMIT, watched).await;
        let (gone, ends) = watched.context("something is left for too long")??;
        let visits = visits.end().await?;
        let loss = self.audit.loss().await?;
        self.looker.ensure_no_login(LEAVER).await?;
        for other in &mut self.others {
            let answer = other.query("select 1").await;
            answer.context("a session of somebody else has ended")?;
        }
        self.administrator.give_back().await?;
        let recorded = change.answered + loss.recorded_after(change.answered_time);
        let after = |moment: Instant| moment.saturating_duration_since(change.answered);
        Ok(Trial {
            change: change.answered - change.asked,
            hearing: loss.heard_after(change.answered_time),
            from_hearing: loss.took,
            gone: after(gone),
            told: after(ends.told),
            closed: after(ends.closed),
            look: self.looker.cost()?,
            heard: loss.heard,
            too_late: too_late(&visits, recorded)?,
            answers: answers(&visits),
        })
    }
}

/// What the clients have seen.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// The first last message.
    told: Instant,
    /// The last end of a connection.
    closed: Instant,
}

async fn ends_of(mut clients: JoinSet<Result<Ends>>) -> Result<Ends> {
    let mut all: Option<Ends> = None;
    while let Some(ends) = clients.join_next().await {
        let ends = ends.context("a client")??;
        all = Some(all.map_or(ends, |it| Ends {
            told: it.told.min(ends.told),
            closed: it.closed.max(ends.closed),
        }));
    }
    all.context("there is no client")
}

/// Waits for the last message and for the end.
async fn watch(mut wire: Wire) -> Result<Ends> {
    let mut said = Vec::new();
    let mut told = None;
    while said.len() < GOODBYE_BYTES_MAX {
        // A connection that is reset has ended, too; what came before counts.
        let count = wire.read_buf(&mut said).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        told.get_or_insert_with(Instant::now);
    }
    let closed = Instant::now();
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains(GOODBYE), "a client was told {said:?}");
    let told = told.context("a client was told nothing")?;
    Ok(Ends { told, closed })
}

/// Opens sessions, some at once.
async fn open(door: &Door, count: usize) -> Result<Vec<Client>> {
    // The first one is refused until the group is back everywhere.
    let mut all = vec![come_in(door).await?];
    let mut tasks = JoinSet::new();
    for part in 0..REVOCATION_LOGINS_AT_ONCE {
        let (door, mine) = (door.clone(), (1 + part..count));
        let mine = mine.step_by(REVOCATION_LOGINS_AT_ONCE);
        tasks.spawn_local(async move {
            let mut clients = Vec::new();
            for _ in mine {
                clients.push(come_in(&door).await?);
            }
            anyhow::Ok(clients)
        });
    }
    while let Some(clients) = tasks.join_next().await {
        all.extend(clients.context("a login")??);
    }
    Ok(all)
}

/// Logs in, again if the answer rests on what the directory said before.
async fn come_in(door: &Door) -> Result<Client> {
    let start = Instant::now();
    loop {
        let refusal = match Client::try_log_in(door).await? {
            Ok(client) => return Ok(client),
            Err(refusal) => refusal,
        };
        if start.elapsed() > LOGIN_TIMEOUT {
            bail!("{}: {}", refusal.sqlstate, refusal.message);
        }
        sleep(LOOK_INTERVAL).await;
    }
}
