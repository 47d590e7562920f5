//! Whether every worker of the process answers, for the watchdog of the service manager.
//!
//! In rounds: each worker is asked, and the service manager is told that the process is alive when
//! all have answered. A worker that hangs is named in the log, and the manager ends the process
//! when its time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::interval;

use crate::audit::AuditLog;
use crate::gate::CurrentPlane;
use crate::limits::{LATE_AFTER, PULSE_INTERVAL};
use crate::supervisor::{Supervisor, Tell};

/// The login threads, each with the last round that it has answered.
#[derive(Debug)]
pub(crate) struct Pulse {
    round: watch::Sender<u64>,
    threads: Vec<Arc<AtomicU64>>,
}

/// How one login thread answers.
#[derive(Debug)]
pub(crate) struct Beat {
    round: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl Beat {
    /// Answers for as long as it is asked; it runs on the thread whose life it proves.
    pub(crate) async fn go_on(mut self) {
        while self.round.changed().await.is_ok() {
            let round = *self.round.borrow_and_update();
            self.answered.store(round, Ordering::Release);
        }
    }
}

impl Pulse {
    /// Nobody is asked yet.
    pub(crate) fn new() -> Self {
        Self {
            round: watch::channel(0).0,
            threads: Vec::new(),
        }
    }

    /// One more login thread, and what it answers with.
    pub(crate) fn beat(&mut self) -> Beat {
        let answered = Arc::new(AtomicU64::new(0));
        self.threads.push(answered.clone());
        Beat {
            round: self.round.subscribe(),
            answered,
        }
    }

    /// Asks until the process ends or has handed over, when its login threads end. On the control
    /// thread, which it proves alive by itself.
    pub(crate) async fn watch(self, current: Arc<CurrentPlane>, supervisor: Arc<Supervisor>) {
        let limit = supervisor.watchdog().unwrap_or(PULSE_INTERVAL * 4);
        // Twice in the manager's time would do; a round that has just missed one is made up for.
        let mut ticks = interval(limit / 4);
        let mut asked: Option<Round> = None;
        loop {
            ticks.tick().await;
            if current.gate().has_handed_over() {
                return;
            }
            match asked.take() {
                Some(mut round) if !self.late(&round).is_empty() => {
                    self.complain(&mut round, limit);
                    asked = Some(round);
                }
                Some(_) => {
                    supervisor.tell(&[Tell::Alive]);
                    asked = Some(self.ask(&current));
                }
                None => asked = Some(self.ask(&current)),
            }
        }
    }

    fn ask(&self, current: &CurrentPlane) -> Round {
        let gate = current.gate();
        self.round.send_modify(|round| *round += 1);
        let spliced = Arc::new(AtomicUsize::new(0));
        let count = spliced.clone();
        let splice_threads = gate.ring.ask_obeyed(move || {
            count.fetch_add(1, Ordering::Release);
        });
        Round {
            number: *self.round.borrow(),
            begun: Instant::now(),
            splice_threads,
            spliced,
            audit_round: gate.audit.ask_alive(),
            audit: gate.audit.clone(),
            is_told: false,
        }
    }

    /// Who has not answered.
    fn late(&self, round: &Round) -> Vec<String> {
        let threads = self.threads.iter().enumerate();
        let late = threads.filter(|(_, it)| it.load(Ordering::Acquire) < round.number);
        let mut late: Vec<String> = late.map(|(number, _)| format!("login-{number}")).collect();
        if round.spliced.load(Ordering::Acquire) < round.splice_threads {
            late.push("splice".to_owned());
        }
        if !round.audit.is_alive(round.audit_round) {
            late.push("audit".to_owned());
        }
        late
    }

    fn complain(&self, round: &mut Round, limit: Duration) {
        if round.begun.elapsed() < limit.min(LATE_AFTER) || round.is_told {
            return;
        }
        round.is_told = true;
        let late = self.late(round).join(", ");
        tracing::error!(late, "workers do not answer");
    }
}

/// What was asked last.
struct Round {
    number: u64,
    begun: Instant,
    splice_threads: usize,
    spliced: Arc<AtomicUsize>,
    audit_round: u64,
    audit: Arc<AuditLog>,
    is_told: bool,
}

#[cfg(test)]
mod tests {
    use postern_core::secret::Secret;

    use super::*;

    #[tokio::test]
    async fn a_login_thread_that_does_not_answer_is_named() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("audit.jsonl");
        let audit = Arc::new(
            AuditLog::open(&path, &Secret::new([7; 32]), 1).map_err(std::io::Error::other)?,
        );
        let mut pulse = Pulse::new();
        let (answers, hangs) = (pulse.beat(), pulse.beat());
        drop(tokio::spawn(answers.go_on()));
        pulse.round.send_modify(|round| *round += 1);
        let round = Round {
            number: 1,
            begun: Instant::now(),
            splice_threads: 0,
            spliced: Arc::default(),
            audit_round: audit.ask_alive(),
            audit,
            is_told: false,
        };
        while pulse.late(&round) != ["login-1"] {
            tokio::task::yield_now().await;
        }
        drop(hangs);
        Ok(())
    }
}
