//! The end of the process, in order.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use postern_core::audit::Record;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};
use postern_ring::Ring;

use super::logins::LoginThread;
use crate::audit::OF_THE_PROCESS;
use crate::gate::Gate;
use crate::limits::{AUDIT_CLOSE_TIMEOUT, LOGIN_THREADS_STOP_TIMEOUT, STOP_POLL, STOP_TIMEOUT};

/// No new logins; live sessions are told and ended; then the threads are joined.
pub(super) fn stop(gate: &Arc<Gate>, ring: Ring, login_threads: Vec<LoginThread>) {
    gate.stopping.send_replace(true);
    let goodbye = error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::ADMIN_SHUTDOWN,
        message: "terminating connection because the proxy is shutting down",
        detail: None,
        hint: None,
    });
    gate.ring.end_all(&goodbye);
    // A login thread ends with its accept loops and the logins under way.
    let handles = login_threads.into_iter().map(|thread| thread.handle);
    join_until(Instant::now() + LOGIN_THREADS_STOP_TIMEOUT, handles);
    // A login that was through just then has opened a session that was not told yet.
    gate.ring.end_all(&goodbye);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while gate.sessions.count() > 0 && Instant::now() < deadline {
        thread::park_timeout(STOP_POLL);
    }
    ring.stop();
    end_audit(gate);
}

/// Writes the last record, in a thread of its own, because a disk that hangs must not keep the
/// process from ending.
fn end_audit(gate: &Arc<Gate>) {
    let of_thread = gate.clone();
    let thread = thread::Builder::new()
        .name("audit-end".to_owned())
        .spawn(move || last_record(&of_thread));
    match thread {
        Ok(handle) => {
            let deadline = Instant::now() + AUDIT_CLOSE_TIMEOUT;
            join_until(deadline, std::iter::once(handle));
        }
        // No thread can be had, so it is done here.
        Err(_) => last_record(gate),
    }
}

fn last_record(gate: &Gate) {
    let last = gate.audit.write_blocking(OF_THE_PROCESS, &Record::Stopped);
    if let Err(error) = last.and_then(|()| gate.audit.close()) {
        tracing::error!(%error, "the last audit records could not be written");
    }
}

/// Joins the threads that end by themselves until then. One that does not is left behind: it ends
/// with the process, which must not wait for it.
fn join_until(deadline: Instant, handles: impl Iterator<Item = JoinHandle<()>>) {
    for handle in handles {
        while !handle.is_finished() && Instant::now() < deadline {
            thread::park_timeout(STOP_POLL);
        }
        if !handle.is_finished() {
            let name = handle.thread().name().unwrap_or_default();
            tracing::error!(name, "a thread did not end in time and is left behind");
        } else if handle.join().is_err() {
            tracing::error!("a thread ended by a defect of Postern");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_does_not_end_is_left_behind() {
        let (finish, finished) = mpsc::channel::<()>();
        let hanging = thread::spawn(move || finished.recv().unwrap_or_default());
        let (told, ended) = mpsc::channel();
        let quick = thread::spawn(move || told.send(()).unwrap_or_default());
        let handles = [hanging, quick].into_iter();
        let begun = Instant::now();
        join_until(begun + Duration::from_millis(20), handles);
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(ended.recv(), Ok(()));
        drop(finish);
    }
}
