//! One connection that is followed: which source it uses, and that the server is still there.

use std::time::Duration;

use postern_core::directory::dirsync::DIRSYNC;
use tokio::time::{sleep, timeout};

use super::FeedSource;
use super::active_directory::{ActiveDirectory, NOTIFICATION};
use super::offer::Offer;
use super::outlet::Outlet;
use super::place::Place;
use super::syncrepl::Syncrepl;
use crate::config::{FeedChoice, Ldap};
use crate::directory::connection::Connection;
use crate::directory::error::DirectoryError;
use crate::limits::{FEED_POLL_AGE_MAX, FEED_PROBE_INTERVAL, FEED_PROBE_TIMEOUT};
use postern_core::directory::sync_message::SYNC_REQUEST;

/// Why everybody is compared where changes are not told.
const NOT_TOLD: &str = "the directory tells no changes";

/// How to make OpenLDAP tell changes.
const PROVIDER: &str = "in OpenLDAP, load the overlay syncprov for the database of \
                        directory.base_dn, and let the service principal read all of it, \
                        contextCSN included";

/// A source in use.
pub(super) enum Session {
    Syncrepl(Syncrepl),
    ActiveDirectory(Box<ActiveDirectory>),
    /// At this interval.
    Poll(Duration),
}

/// What was found when a session was opened.
pub(in crate::directory) struct Seen {
    /// The best source that there is.
    pub(in crate::directory) source: FeedSource,
    /// Why it is not a better one, or not as good as it could be.
    pub(in crate::directory) shortfalls: Vec<Shortfall>,
}

/// What a source cannot do, or why it cannot be used.
pub(in crate::directory) struct Shortfall {
    pub(in crate::directory) why: String,
    /// What the operator can do.
    pub(in crate::directory) cure: &'static str,
}

impl Shortfall {
    pub(super) fn new(why: impl Into<String>, cure: &'static str) -> Self {
        let why = why.into();
        Self { why, cure }
    }
}

impl Session {
    /// Opens the best source that the configuration, the server and its rules allow.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the server cannot be talked to; a refusal leads to the next source.
    pub(super) async fn open(
        connection: &Connection,
        config: &Ldap,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Result<(Self, Seen), DirectoryError> {
        tokio::select! {
            error = answers(connection) => Err(error),
            opened = Self::choose(connection, config, place, outlet) => opened,
        }
    }

    async fn choose(
        connection: &Connection,
        config: &Ldap,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Result<(Self, Seen), DirectoryError> {
        let offer = Offer::read(connection).await?;
        let mut shortfalls = Vec::new();
        let wanted = |offered, choices: &[FeedChoice]| {
            choices.contains(&config.feed) || offered && config.feed == FeedChoice::Auto
        };
        if wanted(offer.has(SYNC_REQUEST), &[FeedChoice::Syncrepl]) {
            let place = (&mut *place, &mut *outlet);
            match Syncrepl::open(connection, config, &offer, place).await {
                Ok(session) => {
                    let source = FeedSource::Syncrepl;
                    return Ok((Self::Syncrepl(session), Seen { source, shortfalls }));
                }
                Err(error) if error.is_transport() => return Err(error),
                Err(error) => {
                    let why = format!("no syncrepl: {error}");
                    shortfalls.push(Shortfall::new(why, PROVIDER));
                }
            }
        }
        let choices = [FeedChoice::Notification, FeedChoice::DirSync];
        if wanted(offer.has(NOTIFICATION) || offer.has(DIRSYNC), &choices) {
            let place = (&mut *place, &mut *outlet);
            let asked = (config, &offer);
            let opened = ActiveDirectory::open(connection, asked, place, &mut shortfalls).await?;
            if let Some(session) = opened {
                let source = session.source();
                let session = Self::ActiveDirectory(Box::new(session));
                return Ok((session, Seen { source, shortfalls }));
            }
        }
        if shortfalls.is_empty() && config.feed != FeedChoice::Poll {
            shortfalls.push(Shortfall::new(
                "the server offers no way to tell them",
                PROVIDER,
            ));
        }
        outlet.gap(NOT_TOLD);
        let source = FeedSource::Poll;
        Ok((
            Self::Poll(config.poll_interval),
            Seen { source, shortfalls },
        ))
    }

    /// Follows until that ends, and says why it did; `None` when it is time to look whether there
    /// is a better source.
    pub(super) async fn run(
        &mut self,
        connection: &Connection,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Option<DirectoryError> {
        tokio::select! {
            error = answers(connection) => Some(error),
            ended = self.listen(connection, place, outlet) => ended,
        }
    }

    async fn listen(
        &mut self,
        connection: &Connection,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Option<DirectoryError> {
        match self {
            Self::Syncrepl(session) => Some(session.listen(place, outlet).await),
            Self::ActiveDirectory(session) => Some(session.listen(connection, place, outlet).await),
            Self::Poll(interval) => {
                // That the time is over is what ends it.
                let _ = timeout(FEED_POLL_AGE_MAX, poll(*interval, outlet)).await;
                None
            }
        }
    }
}

/// Asks the server every now and then whether it is there; returns when it is not. A firewall or
/// a stopped process ends nothing by itself.
async fn answers(connection: &Connection) -> DirectoryError {
    loop {
        sleep(FEED_PROBE_INTERVAL).await;
        if let Err(error) = connection.ping(FEED_PROBE_TIMEOUT).await {
            return error;
        }
    }
}

/// Compares everybody every now and then, for ever.
async fn poll(interval: Duration, outlet: &mut Outlet) {
    loop {
        tokio::select! {
            () = outlet.flush() => {}
            () = sleep(interval) => outlet.gap(NOT_TOLD),
        }
    }
}
