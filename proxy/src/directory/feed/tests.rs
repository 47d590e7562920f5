//! The feed against real servers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod openldap;
mod samba;
mod scripted;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use postern_core::principal::EntryId;

use super::{Feed, FeedSource, Notice};
use crate::config::{Directory, Ldap};
use crate::directory::tests::run;
use crate::directory::{Directories, DirectoryError, Person};

/// How long a notice may take on a busy machine: Samba's own wait of 5 s, and a server that is
/// found to be gone after 20 s, included.
const LIMIT: Duration = Duration::from_secs(45);

/// What the directory says of an entry now.
fn look_up(config: &Ldap, id: &EntryId) -> Result<Person, DirectoryError> {
    let directory = Directory::Ldap(Box::new(config.clone()));
    let directories = Directories::of(&directory, None).unwrap();
    run(directories.look_up_entry(id))
}

/// A feed that runs in a thread of its own, and what it said.
struct Listener {
    heard: Receiver<Notice>,
    /// All of it, for messages.
    log: Vec<Notice>,
}

impl Listener {
    fn start(config: &Ldap) -> Self {
        let feed = Feed::new(config).unwrap();
        let (told, heard) = mpsc::channel();
        thread::spawn(move || {
            run(async move {
                let (sender, mut receiver) = tokio::sync::mpsc::channel(1_024);
                let pass_on = async {
                    while let Some(notice) = receiver.recv().await {
                        if told.send(notice).is_err() {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = feed.follow(sender) => {}
                    () = pass_on => {}
                }
            });
        });
        let log = Vec::new();
        Self { heard, log }
    }

    /// Starts it, and waits until it follows.
    fn following(config: &Ldap) -> (Self, FeedSource) {
        let mut listener = Self::start(config);
        let source = listener.wait_following();
        (listener, source)
    }

    /// The next notice that `wanted` makes something of; those before it are passed over.
    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&Notice) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let notice = match self.heard.recv_timeout(left) {
                Ok(notice) => notice,
                Err(RecvTimeoutError::Timeout) => panic!("not heard: {what}; {:#?}", self.log),
                Err(RecvTimeoutError::Disconnected) => panic!("the feed ended; {:#?}", self.log),
            };
            let found = wanted(&notice);
            self.log.push(notice);
            if let Some(found) = found {
                return found;
            }
        }
    }

    fn wait_changed(&mut self, what: &str, id: &EntryId) -> String {
        self.wait(what, |notice| {
            if let Notice::Changed { id: told, dn } = notice
                && told == id
            {
                return Some(dn.clone());
            }
            None
        })
    }

    fn wait_gone(&mut self, what: &str, id: &EntryId) {
        self.wait(what, |notice| {
            matches!(notice, Notice::Gone { id: told, .. } if told == id).then_some(())
        });
    }

    fn wait_gap(&mut self) -> String {
        self.wait("a gap", |notice| match notice {
            Notice::Gap { why } => Some(why.clone()),
            Notice::Changed { .. }
            | Notice::Gone { .. }
            | Notice::Following { .. }
            | Notice::Lost { .. } => None,
        })
    }

    fn wait_lost(&mut self) -> String {
        self.wait("that it is lost", |notice| match notice {
            Notice::Lost { error } => Some(error.clone()),
            Notice::Changed { .. }
            | Notice::Gone { .. }
            | Notice::Following { .. }
            | Notice::Gap { .. } => None,
        })
    }

    fn wait_following(&mut self) -> FeedSource {
        self.wait("that it follows", |notice| match notice {
            Notice::Following { source, .. } => Some(*source),
            Notice::Changed { .. }
            | Notice::Gone { .. }
            | Notice::Gap { .. }
            | Notice::Lost { .. } => None,
        })
    }

    /// How many of the notices so far are of this kind.
    fn count(&self, wanted: impl Fn(&Notice) -> bool) -> usize {
        self.log.iter().filter(|notice| wanted(notice)).count()
    }

    fn gaps(&self) -> usize {
        self.count(|notice| matches!(notice, Notice::Gap { .. }))
    }
}
