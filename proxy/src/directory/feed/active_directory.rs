//! Active Directory's way: change notification as the push, and DirSync for what it says.
//!
//! A notification is only the bell: it comes for every change, a login included, it tells no
//! deletions to an ordinary account, and nothing of what happened before it was asked for.
//! What has changed is what DirSync says then, from where it was left.

use std::future::Future;
use std::time::Duration;

use ldap3::Scope;
use ldap3::controls::RawControl;
use postern_core::directory::dirsync::DIRSYNC;
use postern_core::directory::entry::Entry;
use tokio::time::{Instant, sleep_until, timeout};

use super::dirsync::{DirSync, tell};
use super::offer::{Offer, is_within};
use super::outlet::Outlet;
use super::place::Place;
use super::session::Shortfall;
use super::{FeedSource, NO_PLACE};
use crate::config::{FeedChoice, Ldap};
use crate::directory::connection::live::{Answer, LiveSearch};
use crate::directory::connection::{Connection, Query};
use crate::directory::error::DirectoryError;
use crate::directory::ldap::people_base;
use crate::limits::{
    FEED_DIRSYNC_INTERVAL, FEED_DIRSYNC_SPACING, FEED_PROBE_TIMEOUT, FEED_REFRESH_TIMEOUT,
};

/// The control of a search that goes on (MS-ADTS, 3.1.1.3.4.1.9).
pub(super) const NOTIFICATION: &str = "1.2.840.113556.1.4.528";
/// The control that lets entries come that are deleted (MS-ADTS, 3.1.1.3.4.1.14).
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

/// What the search is called in errors.
const ASKED: &str = "change notification";
/// Where deleted entries are, whatever it is called (MS-ADTS, 6.1.1.4): `<WKGUID=...,root>`.
const DELETED_OBJECTS: &str = "18E2EA80684F11D2B9AA00C04F79F805";
/// How to see deletions.
const GRANT: &str = "let the service principal list and read CN=Deleted Objects of the domain: \
                     dsacls \"CN=Deleted Objects,DC=...\" /takeownership, and then \
                     /G DOMAIN\\PRINCIPAL:LCRP";

/// A followed naming context.
pub(super) struct ActiveDirectory {
    push: Option<LiveSearch>,
    dirsync: Option<DirSync>,
    id_attribute: String,
    /// How often everybody is compared, where not everything is told.
    compared_every: Option<Duration>,
}

impl ActiveDirectory {
    /// Begins where the feed was; `None` when the server offers or allows neither way. What is
    /// missing is added to `shortfalls`.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the server cannot be talked to any more.
    pub(super) async fn open(
        connection: &Connection,
        (config, offer): (&Ldap, &Offer),
        (place, outlet): (&mut Place, &mut Outlet),
        shortfalls: &mut Vec<Shortfall>,
    ) -> Result<Option<Self>, DirectoryError> {
        let root = offer.context_of(people_base(config));
        let push = if config.feed != FeedChoice::DirSync && offer.has(NOTIFICATION) {
            open_push(connection, root, shortfalls).await?
        } else {
            None
        };
        let dirsync = if offer.has(DIRSYNC) {
            let opening = DirSync::open(connection, config, root, (place, &mut *outlet));
            open_dirsync(connection, opening, shortfalls).await?
        } else {
            None
        };
        if dirsync.is_none() {
            if push.is_none() {
                return Ok(None);
            }
            outlet.gap(NO_PLACE);
        }
        let elsewhere = !is_within(&config.group_base_dn, root);
        if elsewhere {
            let why = "changes of groups are not told: they are in another naming context";
            let cure = "set directory.group_base_dn to a base in the domain of directory.base_dn";
            shortfalls.push(Shortfall::new(why, cure));
        }
        let seen = dirsync.is_some() && sees_deletions(connection, root).await?;
        if dirsync.is_some() && !seen {
            let why = "deletions are not told: the service principal may not see them";
            shortfalls.push(Shortfall::new(why, GRANT));
        }
        let compared = elsewhere || !seen;
        Ok(Some(Self {
            push,
            dirsync,
            id_attribute: config.id_attribute.clone(),
            compared_every: compared.then_some(config.poll_interval),
        }))
    }

    /// What it is.
    pub(super) fn source(&self) -> FeedSource {
        match self.push {
            Some(_) => FeedSource::Notification,
            None => FeedSource::DirSync,
        }
    }

    /// Tells changes until that ends, and says why it did.
    pub(super) async fn listen(
        &mut self,
        connection: &Connection,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> DirectoryError {
        let compared_every = self.compared_every.unwrap_or_default();
        let mut compare_at = Instant::now() + compared_every;
        let mut asked_at = Instant::now();
        let mut ask_at = asked_at + FEED_DIRSYNC_INTERVAL;
        loop {
            tokio::select! {
                () = outlet.flush() => {}
                answer = pushed(&mut self.push) => {
                    match (answer, &self.dirsync) {
                        (Ok(_), Some(_)) => ask_at = ask_at.min(asked_at + FEED_DIRSYNC_SPACING),
                        (Ok(entry), None) => tell(&entry, &self.id_attribute, outlet),
                        (Err(error), _) => return error,
                    }
                }
                () = sleep_until(ask_at), if self.dirsync.is_some() => {
                    if let Some(dirsync) = &self.dirsync {
                        let telling = dirsync.tell(connection, place, outlet);
                        if let Err(error) = in_time(connection, telling).await {
                            return error;
                        }
                    }
                    asked_at = Instant::now();
                    ask_at = asked_at + FEED_DIRSYNC_INTERVAL;
                }
                () = sleep_until(compare_at), if self.compared_every.is_some() => {
                    outlet.gap("not every change is told");
                    compare_at = Instant::now() + compared_every;
                }
            }
        }
    }
}

/// Asks for notification of every change below `root`.
async fn open_push(
    connection: &Connection,
    root: &str,
    shortfalls: &mut Vec<Shortfall>,
) -> Result<Option<LiveSearch>, DirectoryError> {
    let query = Query {
        base: root,
        scope: Scope::Subtree,
        // The only filter that is allowed.
        filter: "(objectClass=*)",
        attributes: &["objectGUID", "isDeleted"],
        matched_values: None,
    };
    let controls = vec![control(NOTIFICATION), control(SHOW_DELETED)];
    let mut search = connection.live_search(&query, controls).await?;
    // Consent is silent, and a refusal is sent before the answer to the next question.
    connection.ping(FEED_PROBE_TIMEOUT).await?;
    match timeout(Duration::ZERO, search.next()).await {
        Ok(Ok(Answer::Done(done))) => {
            let why = format!("no push: {}", search.ended(ASKED, &done));
            let cure = "see how many notifications others have asked for";
            shortfalls.push(Shortfall::new(why, cure));
            Ok(None)
        }
        Ok(Err(error)) => Err(error),
        // What has changed in this moment is before the place where the feed begins.
        Ok(Ok(Answer::Entry(..) | Answer::Intermediate(..))) | Err(_) => Ok(Some(search)),
    }
}

async fn open_dirsync(
    connection: &Connection,
    opening: impl Future<Output = Result<DirSync, DirectoryError>>,
    shortfalls: &mut Vec<Shortfall>,
) -> Result<Option<DirSync>, DirectoryError> {
    match in_time(connection, opening).await {
        Ok(dirsync) => Ok(Some(dirsync)),
        Err(error) if error.is_transport() => Err(error),
        Err(error) => {
            let why = format!("no DirSync, so that deletions are not told: {error}");
            let cure = "see the directory server's log";
            shortfalls.push(Shortfall::new(why, cure));
            Ok(None)
        }
    }
}

/// Whether the principal may read what becomes of a deleted entry. The container itself can be
/// found by everybody, without its attributes.
async fn sees_deletions(connection: &Connection, root: &str) -> Result<bool, DirectoryError> {
    let base = format!("<WKGUID={DELETED_OBJECTS},{root}>");
    let query = Query {
        base: &base,
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes: &["objectGUID"],
        matched_values: None,
    };
    let mut search = connection
        .live_search(&query, vec![control(SHOW_DELETED)])
        .await?;
    let mut seen = false;
    let reading = async {
        loop {
            match search.next().await? {
                Answer::Entry(entry, _) => seen |= entry.id("objectGUID").is_ok(),
                Answer::Intermediate(..) => {}
                // A refusal means the same as nothing.
                Answer::Done(_) => return Ok(()),
            }
        }
    };
    in_time(connection, reading).await?;
    Ok(seen)
}

/// A control without a value that must be obeyed.
fn control(name: &str) -> RawControl {
    RawControl {
        ctype: name.to_owned(),
        crit: true,
        val: None,
    }
}

/// The next entry that has changed.
async fn pushed(push: &mut Option<LiveSearch>) -> Result<Entry, DirectoryError> {
    let Some(search) = push else {
        return std::future::pending().await;
    };
    loop {
        match search.next().await? {
            Answer::Entry(entry, _) => return Ok(entry),
            Answer::Intermediate(..) => {}
            Answer::Done(done) => return Err(search.ended(ASKED, &done)),
        }
    }
}

async fn in_time<T>(
    connection: &Connection,
    work: impl Future<Output = Result<T, DirectoryError>>,
) -> Result<T, DirectoryError> {
    let after = FEED_REFRESH_TIMEOUT;
    let done = timeout(after, work).await;
    done.unwrap_or_else(|_elapsed| Err(connection.timed_out("DirSync", after)))
}
