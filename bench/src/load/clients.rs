//! Clients that all do the same: in a closed loop each asks again when it is answered, in an open
//! loop when the next request arrives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::limits::ANSWER_TIMEOUT;
use crate::load::client::{Client, Statement};
use crate::load::door::Door;
use crate::load::float;
use crate::load::latency::Latencies;
use crate::load::open_loop::{Arrivals, Outcome, Plan, Window, serve};
use crate::load::random::Random;

/// What each client asks, prepared, with a random number as its parameter.
#[derive(Debug, Clone)]
pub struct Question {
    /// The SQL with `$1`.
    pub sql: String,
    /// The parameter is from 1 to this.
    pub parameter_max: u64,
}

/// Sessions that have prepared their question.
#[derive(Debug)]
pub struct Clients(Vec<Session>);

#[derive(Debug)]
struct Session {
    client: Client,
    statement: Statement,
    parameter_max: u64,
    random: Random,
}

/// What a closed loop came to.
#[derive(Debug, Clone)]
pub struct Closed {
    /// Answers a second, of all clients together.
    pub rate_per_s: f64,
    /// How long each took.
    pub latencies: Latencies,
}

impl Clients {
    /// Logs in, one after the other.
    ///
    /// # Errors
    /// If one is refused, or the question is not understood.
    pub async fn connect(door: &Door, count: u32, question: &Question) -> Result<Self> {
        let mut sessions = Vec::new();
        for index in 0..count {
            let mut client = Client::log_in(door).await?;
            let mut session = Session {
                statement: client.prepare(&question.sql).await?,
                client,
                parameter_max: question.parameter_max,
                random: Random::new(u64::from(index)),
            };
            session.ask().await?;
            sessions.push(session);
        }
        Ok(Self(sessions))
    }

    /// Every client asks again as soon as it is answered.
    ///
    /// # Errors
    /// If one gets an error or no answer.
    pub async fn closed_loop(&mut self, duration: Duration) -> Result<Closed> {
        ensure!(!self.0.is_empty(), "there is no client");
        let start = Instant::now();
        let end = start + duration;
        let mut tasks = JoinSet::new();
        for mut session in self.0.drain(..) {
            tasks.spawn_local(async move {
                let mut latencies = Latencies::new()?;
                let mut before = Instant::now();
                while before < end {
                    let answer = timeout_at((end + ANSWER_TIMEOUT).into(), session.ask()).await;
                    answer.context("no answer")??;
                    let after = Instant::now();
                    latencies.record(after - before);
                    before = after;
                }
                anyhow::Ok((session, latencies))
            });
        }
        let mut all = Latencies::new()?;
        while let Some(task) = tasks.join_next().await {
            let (session, latencies) = task.context("a client")??;
            all.add(&latencies)?;
            self.0.push(session);
        }
        Ok(Closed {
            rate_per_s: float(all.count()) / start.elapsed().as_secs_f64(),
            latencies: all,
        })
    }

    /// Every client asks when its requests arrive. One that is not answered in time is left out
    /// afterwards.
    ///
    /// # Errors
    /// If one gets an error, or the plan is none.
    pub async fn open_loop(&mut self, plan: Plan) -> Result<Outcome> {
        ensure!(!self.0.is_empty(), "there is no client");
        let count = u32::try_from(self.0.len())?;
        let window = Window {
            start: Instant::now(),
            duration: plan.duration,
        };
        let mut tasks = JoinSet::new();
        for (index, mut session) in (0_u32..).zip(self.0.drain(..)) {
            let arrivals = Arrivals::of_client(plan, index, count)?;
            tasks.spawn_local(async move {
                let mut outcome = Outcome::new()?;
                let work = async || session.ask().await;
                let in_time = serve(arrivals, window, &mut outcome, work).await?;
                anyhow::Ok((in_time.then_some(session), outcome))
            });
        }
        let mut all = Outcome::new()?;
        while let Some(task) = tasks.join_next().await {
            let (session, outcome) = task.context("a client")??;
            all.add(&outcome)?;
            self.0.extend(session);
        }
        Ok(all)
    }
}

impl Session {
    async fn ask(&mut self) -> Result<()> {
        let parameter = 1 + self.random.below(self.parameter_max);
        self.statement.set(parameter);
        let answer = self.client.execute(&self.statement).await?;
        ensure!(answer.rows == 1, "{} rows, and not one", answer.rows);
        Ok(())
    }
}
