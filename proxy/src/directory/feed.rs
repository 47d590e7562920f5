//! The feed: what the directory tells of its changes, as they happen.
//!
//! It says which entries changed, never what they are now: whoever listens reads them anew.
//! Whenever a change may have been missed it says so, and everybody has to be compared.

mod active_directory;
mod dirsync;
mod offer;
mod outlet;
mod place;
mod session;
mod syncrepl;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::principal::EntryId;
use tokio::sync::mpsc::{self, Sender};

pub(super) use self::offer::is_within;
use self::outlet::Outlet;
use self::place::Place;
pub(super) use self::session::Seen;
use self::session::Session;
use super::connection::Connection;
use super::error::DirectoryError;
use super::servers::Servers;
use crate::config::{FeedChoice, Ldap};
use crate::limits::{FEED_RETRY_MAX, FEED_RETRY_MIN};
use crate::random;

/// Why everybody has to be compared when there is no place to go on from.
const NO_PLACE: &str = "the feed starts where the directory is now";

/// What a feed says of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// An entry was added, changed, moved or renamed. It may be a person's, a group's or any other.
    Changed {
        /// The entry.
        id: EntryId,
        /// Its distinguished name after the change.
        dn: String,
    },
    /// An entry is gone, or out of what may be seen.
    Gone {
        /// The entry.
        id: EntryId,
        /// Its last distinguished name, where the server tells it.
        dn: Option<String>,
    },
    /// Something may have been missed: everybody has to be compared. At the start too.
    Gap {
        /// The reason, for the log.
        why: String,
    },
    /// It follows: whatever happens from now on is told.
    Following {
        /// How.
        source: FeedSource,
        /// The server's URL.
        server: String,
    },
    /// It does not follow any more, and tries again.
    Lost {
        /// The reason, for the log.
        error: String,
    },
}

/// How a feed hears of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedSource {
    /// Content synchronization (RFC 4533).
    Syncrepl,
    /// Active Directory's change notification (MS-ADTS, 3.1.1.3.4.1.9).
    Notification,
    /// Active Directory's DirSync, asked every few seconds (MS-ADTS, 3.1.1.3.4.1.3).
    DirSync,
    /// Nothing is told: everybody is compared at an interval.
    Poll,
}

impl fmt::Display for FeedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syncrepl => "syncrepl",
            Self::Notification => "change notification",
            Self::DirSync => "DirSync",
            Self::Poll => "poll",
        })
    }
}

/// A feed of one directory.
pub(crate) struct Feed {
    config: Ldap,
    servers: Servers,
}

/// How an attempt to follow a server ended.
struct Ended {
    /// For how long it had followed; zero if it had not begun to.
    followed_for: Duration,
    error: DirectoryError,
}

impl Feed {
    /// The feed of the directory of `config`; no connection is made yet.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up, or the service principal's password cannot be read.
    pub(crate) fn new(config: &Ldap) -> Result<Self, DirectoryError> {
        Ok(Self {
            config: config.clone(),
            servers: Servers::new(config)?,
        })
    }

    /// Follows the directory until the receiver goes; reconnects by itself, to the next server
    /// first, with growing pauses. Where `directory.feed` is `off`, it says nothing.
    ///
    /// Changes that the receiver has no room for become one [`Notice::Gap`].
    pub(crate) async fn follow(self, notices: Sender<Notice>) {
        let mut outlet = Outlet::new(notices.clone());
        tokio::select! {
            () = notices.closed() => {}
            () = self.run(&mut outlet), if self.config.feed != FeedChoice::Off => {}
        }
    }

    async fn run(&self, outlet: &mut Outlet) {
        let mut place = Place::default();
        let mut pause = FEED_RETRY_MIN;
        loop {
            for index in self.servers.order() {
                let ended = self.follow_server(index, &mut place, outlet).await;
                self.servers.failed(index, &ended.error);
                outlet.state(Notice::Lost {
                    error: ended.error.to_string(),
                });
                if ended.followed_for > FEED_RETRY_MAX {
                    pause = FEED_RETRY_MIN;
                }
                if !ended.followed_for.is_zero() {
                    // From the first again: which server is asked last has changed.
                    break;
                }
            }
            tokio::select! {
                () = outlet.flush() => {}
                () = tokio::time::sleep(jitter(pause)) => {}
            }
            pause = (pause * 2).min(FEED_RETRY_MAX);
        }
    }

    /// Follows one server for as long as that goes well.
    async fn follow_server(&self, index: usize, place: &mut Place, outlet: &mut Outlet) -> Ended {
        let mut since = None;
        let ended = |since: Option<Instant>, error| Ended {
            followed_for: since.map_or(Duration::ZERO, |since| since.elapsed()),
            error,
        };
        let connection = match self.servers.open_service(index).await {
            Ok(connection) => connection,
            Err(error) => return ended(since, error),
        };
        let server = Arc::clone(connection.server());
        place.at_server(&server);
        loop {
            let opened = Session::open(&connection, &self.config, place, outlet).await;
            let (mut session, seen) = match opened {
                Ok(opened) => opened,
                Err(error) => return ended(since, error),
            };
            for shortfall in &seen.shortfalls {
                tracing::warn!(
                    %server,
                    source = %seen.source,
                    why = %shortfall.why,
                    "the feed falls short"
                );
            }
            since.get_or_insert_with(Instant::now);
            outlet.state(Notice::Following {
                source: seen.source,
                server: server.to_string(),
            });
            if let Some(error) = session.run(&connection, place, outlet).await {
                drop(session);
                connection.close();
                return ended(since, error);
            }
        }
    }
}

/// Tries what a feed would do on this connection, for `check`; nothing is told.
///
/// # Errors
///
/// [`DirectoryError`] when the server cannot be talked to.
pub(super) async fn seen(connection: &Connection, config: &Ldap) -> Result<Seen, DirectoryError> {
    let (nobody, _) = mpsc::channel(1);
    let (mut place, mut outlet) = (Place::default(), Outlet::new(nobody));
    let (_, seen) = Session::open(connection, config, &mut place, &mut outlet).await?;
    Ok(seen)
}

/// From half of `pause` to all of it, so that proxies do not come back all at once.
fn jitter(pause: Duration) -> Duration {
    let [random] = random::bytes();
    pause.mul_f64(0.5 + f64::from(random) / 512.0)
}

#[cfg(test)]
mod tests;
