//! The log where standard error leads to the journal.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::mounts::program_after;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{World, needs, wait_until};

/// How often is looked whether the journal is still needed.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Something in the place of the journal, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
#[derive(Default)]
struct Journal {
    entries: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Journal {
    /// Takes what comes, at once: who writes waits for it.
    fn listen(&self, socket: &UnixDatagram) {
        let mut buffer = [0; 65_536];
        while !self.is_over.load(Ordering::Relaxed) {
            // Nothing within the interval is no error.
            let Ok(length) = socket.recv(&mut buffer) else {
                continue;
            };
            let entry = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.push(entry.into_owned());
        }
    }

    fn has_entry_with(&self, texts: &[&str]) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = entries.iter();
        entries.any(|entry| texts.iter().all(|text| entry.contains(text)))
    }
}

pub(crate) fn under_a_service_manager_the_journal_has_each_message_with_its_fields(
    world: &World,
) -> Result<()> {
    if !needs::is_root() {
        let claim = "under_a_service_manager_the_journal_has_each_message_with_its_fields";
        needs::skip(claim, "a journal of its own needs root");
        return Ok(());
    }
    let person = world.person("journaled", &[HR_GROUP])?;
    let folder = world.scratch.subfolder("journal")?;
    let socket = UnixDatagram::bind(folder.join("socket"))?;
    socket.set_read_timeout(Some(LOOK_INTERVAL))?;
    let commands = format!(
        "mount -t tmpfs none /run\n\
         mkdir /run/systemd\n\
         ln -s {} /run/systemd/journal\n\
         export JOURNAL_STREAM=$(stat --dereference --format=%d:%i /proc/self/fd/2)",
        folder.display()
    );
    let program = program_after(&commands, &world.scratch)?;
    world.plain.stop()?;
    let journal = Journal::default();
    let outcome = thread::scope(|scope| {
        scope.spawn(|| journal.listen(&socket));
        let outcome = (|| {
            world.plain.start_as(&program)?;
            drop(world.raw(&person)?);
            let entry = ["MESSAGE", "a session is open", "POSTERN_ROLE", "journaled"];
            wait_until("the login is in the journal", CHANGE_LIMIT, || {
                Ok(journal.has_entry_with(&entry))
            })
        })();
        let stopped = match world.plain.is_running() {
            Ok(true) => world.plain.stop().map(drop),
            other => other.map(drop),
        };
        journal.is_over.store(true, Ordering::Relaxed);
        outcome.and(stopped)
    });
    let is_said_twice = world.plain.log_contains("journaled")?;
    world.plain.start_again()?;
    outcome?;
    ensure!(!is_said_twice, "it is on standard error, too");
    Ok(())
}
