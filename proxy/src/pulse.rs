//! Whether every worker of the process answers, for the watchdog of the service manager.
//!
//! In rounds: each worker is asked, and the service manager is told that the process is alive when
//! all have answered. A worker that hangs is named in the log, and the manager ends the process
//! when its time is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::interval;

use crate::audit::AuditLog;
use crate::gate::{CurrentPlane, Gate};
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
        let mut handed_over = current.gate().handed_over.subscribe();
        tokio::select! {
            biased;
            _ = handed_over.wait_for(|handed_over| *handed_over) => {}
            never = self.rounds(&supervisor, || Others::ask(&current.gate())) => match never {},
        }
    }

    /// `ask` asks all but the login threads.
    async fn rounds(&self, supervisor: &Supervisor, ask: impl Fn() -> Others) -> Infallible {
        let limit = supervisor.watchdog().unwrap_or(PULSE_INTERVAL * 4);
        // Twice in the manager's time would do; a round that has just missed one is made up for.
        let mut ticks = interval(limit / 4);
        let mut asked: Option<Round> = None;
        loop {
            ticks.tick().await;
            match asked.take() {
                Some(mut round) if !self.late(&round).is_empty() => {
                    self.complain(&mut round, limit);
                    asked = Some(round);
                }
                Some(_) => {
                    supervisor.tell(&[Tell::Alive]);
                    asked = Some(self.begin(ask()));
                }
                None => asked = Some(self.begin(ask())),
            }
        }
    }

    fn begin(&self, others: Others) -> Round {
        self.round.send_modify(|round| *round += 1);
        Round {
            number: *self.round.borrow(),
            begun: Instant::now(),
            others,
            is_told: false,
        }
    }

    /// Who has not answered.
    fn late(&self, round: &Round) -> Vec<String> {
        let threads = self.threads.iter().enumerate();
        let late = threads.filter(|(_, it)| it.load(Ordering::Acquire) < round.number);
        let mut late: Vec<String> = late.map(|(number, _)| format!("login-{number}")).collect();
        let others = &round.others;
        if others.spliced.load(Ordering::Acquire) < others.splice_threads {
            late.push("splice".to_owned());
        }
        if !others.audit.is_alive(others.audit_round) {
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
    others: Others,
    is_told: bool,
}

/// What the splice threads and the audit writer were asked.
struct Others {
    splice_threads: usize,
    spliced: Arc<AtomicUsize>,
    audit_round: u64,
    audit: Arc<AuditLog>,
}

impl Others {
    fn ask(gate: &Gate) -> Self {
        let spliced = Arc::new(AtomicUsize::new(0));
        let count = spliced.clone();
        let splice_threads = gate.ring.ask_obeyed(move || {
            count.fetch_add(1, Ordering::Release);
        });
        Self {
            splice_threads,
            spliced,
            audit_round: gate.audit.ask_alive(),
            audit: gate.audit.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};

    use postern_core::secret::Secret;
    use tokio::time::timeout;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// How long a busy machine may take.
    const TEST_LIMIT: Duration = Duration::from_secs(20);

    fn audit(folder: &Path) -> io::Result<Arc<AuditLog>> {
        let path = folder.join("audit.jsonl");
        let log = AuditLog::open(&path, &Secret::new([7; 32]), 1);
        log.map(Arc::new).map_err(io::Error::other)
    }

    /// Splice threads of which all have answered, and an audit writer that will.
    fn well(audit: &Arc<AuditLog>) -> Others {
        Others {
            splice_threads: 2,
            spliced: Arc::new(AtomicUsize::new(2)),
            audit_round: audit.ask_alive(),
            audit: audit.clone(),
        }
    }

    #[tokio::test]
    async fn a_worker_that_does_not_answer_is_named() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let audit = audit(folder.path())?;
        let mut pulse = Pulse::new();
        let (answers, hangs) = (pulse.beat(), pulse.beat());
        drop(tokio::spawn(answers.go_on()));
        let some_spliced = Others {
            spliced: Arc::new(AtomicUsize::new(1)),
            ..well(&audit)
        };
        let never_asked = Others {
            audit_round: u64::MAX,
            ..well(&audit)
        };
        for (others, late) in [
            (well(&audit), &["login-1"][..]),
            (some_spliced, &["login-1", "splice"]),
            (never_asked, &["login-1", "audit"]),
        ] {
            let round = pulse.begin(others);
            let named = async {
                while pulse.late(&round) != late {
                    tokio::task::yield_now().await;
                }
            };
            let in_time = timeout(TEST_LIMIT, named).await.is_ok();
            assert!(in_time, "{late:?} and not {:?}", pulse.late(&round));
        }
        drop(hangs);
        Ok(())
    }

    /// A log that is read while it is written.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn has(&self, text: &str) -> bool {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).contains(text)
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            log.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn a_manager_hears_nothing_while_a_worker_hangs_and_the_log_does() -> io::Result<()> {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = subscriber.with_writer(log.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let folder = tempfile::tempdir()?;
        let audit = audit(folder.path())?;
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path)?;
        manager.set_nonblocking(true)?;
        let supervisor = Supervisor::at(&path, Some(Duration::from_millis(40)))?;
        supervisor.take_over();
        let mut pulse = Pulse::new();
        let hangs = pulse.beat();
        let watching = async { match pulse.rounds(&supervisor, || well(&audit)).await {} };
        let hearing = async {
            while !log.has("workers do not answer late=\"login-0\"") {
                tokio::task::yield_now().await;
            }
            let silence = manager.recv(&mut [0; 64]).map_err(|error| error.kind());
            assert_eq!(silence, Err(io::ErrorKind::WouldBlock));
            drop(tokio::spawn(hangs.go_on()));
            let mut said = [0; 64];
            let length = loop {
                match manager.recv(&mut said) {
                    Ok(length) => break length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(said.get(..length), Some(&b"WATCHDOG=1\n"[..]));
            Ok(())
        };
        tokio::select! {
            () = watching => Ok(()),
            heard = timeout(TEST_LIMIT, hearing) => heard?,
        }
    }
}
