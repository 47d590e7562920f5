//! OpenLDAP's way: content synchronization, refresh and persist (RFC 4533).
//!
//! The whole directory is never read. The place to start from is the newest change that the
//! server knows, which it keeps as `contextCSN` of the naming context; where that may not be read,
//! the first refresh sends every entry's identifier once, and none is kept.
//! When the refresh after a reconnect names what is left instead of what is gone, it is not
//! compared with a list of everything, which would have to be kept: it is a gap.

use ldap3::Scope;
use ldap3::controls::RawControl;
use postern_core::directory::entry::Entry;
use postern_core::directory::sync_message::{
    InfoKind, SYNC_INFO, SYNC_REQUEST, SYNC_STATE, State, SyncState, request, sync_info, sync_state,
};
use tokio::time::timeout;

use super::offer::{Offer, bases};
use super::outlet::Outlet;
use super::place::Place;
use super::{NO_PLACE, Notice};
use crate::config::Ldap;
use crate::directory::connection::live::{Answer, LiveSearch};
use crate::directory::connection::{Connection, Query};
use crate::directory::error::DirectoryError;
use crate::limits::FEED_REFRESH_TIMEOUT;

/// What the search is called in errors.
const SYNC: &str = "content synchronization";

/// The synchronization of everything that is watched, over one connection.
pub(super) struct Syncrepl {
    watched: Vec<Watched>,
}

/// The synchronization of one base.
struct Watched {
    base: String,
    search: LiveSearch,
    /// The attribute that identifies people, when it is not the one that the server tells.
    id_attribute: Option<String>,
    phase: Phase,
}

/// What the server is telling.
enum Phase {
    /// What has happened since the place that it was given.
    CatchUp,
    /// Everything there is, for want of a place; with the last cookie. Nothing of it is told.
    Everything(Option<Vec<u8>>),
    /// What happens.
    Persist,
}

impl Syncrepl {
    /// Goes on at the last place that is known, and waits until the server has caught up.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the server refuses, or cannot be talked to any more.
    pub(super) async fn open(
        connection: &Connection,
        config: &Ldap,
        offer: &Offer,
        (place, outlet): (&mut Place, &mut Outlet),
    ) -> Result<Self, DirectoryError> {
        let opening = async {
            let mut watched = Vec::new();
            for base in bases(config) {
                let context = offer.context_of(base);
                let place = (&mut *place, &mut *outlet);
                watched.push(Watched::open(connection, config, (base, context), place).await?);
            }
            Ok(Self { watched })
        };
        let after = FEED_REFRESH_TIMEOUT;
        let opened = timeout(after, opening).await;
        opened.unwrap_or_else(|_elapsed| Err(connection.timed_out(SYNC, after)))
    }

    /// Tells changes until that ends, and says why it did.
    pub(super) async fn listen(
        &mut self,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> DirectoryError {
        loop {
            tokio::select! {
                () = outlet.flush() => {}
                (watched, answer) = next(&mut self.watched) => {
                    let heard = answer.and_then(|answer| watched.hear(answer, place, outlet));
                    if let Err(error) = heard {
                        return error;
                    }
                }
            }
        }
    }
}

/// The next answer of whichever search has one; there are never more than two.
async fn next(watched: &mut [Watched]) -> (&mut Watched, Result<Answer, DirectoryError>) {
    match watched {
        [] => std::future::pending().await,
        [one] => {
            let answer = one.search.next().await;
            (one, answer)
        }
        [one, other, ..] => tokio::select! {
            answer = one.search.next() => (one, answer),
            answer = other.search.next() => (other, answer),
        },
    }
}

impl Watched {
    /// Opens the synchronization from the best place that the server accepts.
    async fn open(
        connection: &Connection,
        config: &Ldap,
        (base, context): (&str, &str),
        (place, outlet): (&mut Place, &mut Outlet),
    ) -> Result<Self, DirectoryError> {
        if let Some(cookie) = place.cookie(base).map(<[u8]>::to_owned) {
            let phase = (Phase::CatchUp, Some(cookie));
            match Self::refreshed(connection, config, (base, phase), place, outlet).await {
                Err(error @ DirectoryError::Refused { .. }) if !error.is_transport() => {
                    tracing::info!(%error, "the directory cannot tell what happened meanwhile");
                    place.forget(base);
                }
                opened => return opened,
            }
        }
        if let Some(cookie) = newest_change(connection, context).await? {
            // In this order: what changes while everybody is compared is told afterwards.
            place.advance(base, &cookie);
            outlet.gap(NO_PLACE);
            let phase = (Phase::CatchUp, Some(cookie));
            match Self::refreshed(connection, config, (base, phase), place, outlet).await {
                Err(error @ DirectoryError::Refused { .. }) if !error.is_transport() => {
                    tracing::info!(%error, "the directory does not begin at its newest change");
                    place.forget(base);
                }
                opened => return opened,
            }
        }
        let phase = (Phase::Everything(None), None);
        Self::refreshed(connection, config, (base, phase), place, outlet).await
    }

    /// Opens the synchronization and hears all of its refresh.
    async fn refreshed(
        connection: &Connection,
        config: &Ldap,
        (base, (phase, cookie)): (&str, (Phase, Option<Vec<u8>>)),
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Result<Self, DirectoryError> {
        let told = config.id_attribute.eq_ignore_ascii_case("entryUUID");
        // RFC 4511, 4.5.1.8: the name that stands for no attributes.
        let attribute = if told { "1.1" } else { &config.id_attribute };
        let query = Query {
            base,
            scope: Scope::Subtree,
            filter: "(objectClass=*)",
            attributes: &[attribute],
            matched_values: None,
        };
        let control = RawControl {
            ctype: SYNC_REQUEST.to_owned(),
            crit: true,
            val: Some(request(cookie.as_deref())),
        };
        let mut watched = Self {
            base: base.to_owned(),
            search: connection.live_search(&query, vec![control]).await?,
            id_attribute: (!told).then(|| config.id_attribute.clone()),
            phase,
        };
        while !matches!(watched.phase, Phase::Persist) {
            let answer = watched.search.next().await?;
            watched.hear(answer, place, outlet)?;
        }
        Ok(watched)
    }

    /// Takes in one answer.
    fn hear(
        &mut self,
        answer: Answer,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Result<(), DirectoryError> {
        match answer {
            Answer::Entry(entry, controls) => {
                let state = controls.value(SYNC_STATE).and_then(sync_state);
                let malformed = || self.search.malformed("an entry without its Sync State");
                let state = state.ok_or_else(malformed)?;
                self.entry(entry, &state, outlet);
                self.cookie(state.cookie, place);
            }
            Answer::Intermediate(name, value) if name == SYNC_INFO => {
                let malformed = || self.search.malformed("a Sync Info that is none");
                let info = sync_info(&value).ok_or_else(malformed)?;
                self.info(info.kind, info.cookie, place, outlet);
            }
            // Another extension's.
            Answer::Intermediate(..) => {}
            Answer::Done(done) => return Err(self.search.ended(SYNC, &done)),
        }
        Ok(())
    }

    fn entry(&self, entry: Entry, state: &SyncState<'_>, outlet: &mut Outlet) {
        if matches!(self.phase, Phase::Everything(_)) {
            return;
        }
        let id = state.id.clone();
        match (state.state, &self.id_attribute) {
            (State::Present, _) => {}
            (State::Add | State::Modify, attribute) => {
                // A group has no such attribute, perhaps; nor does it need one.
                let own = attribute.as_ref().and_then(|name| entry.id(name).ok());
                let (id, dn) = (own.unwrap_or(id), entry.dn);
                outlet.change(Notice::Changed { id, dn });
            }
            (State::Delete, None) => {
                let dn = Some(entry.dn);
                outlet.change(Notice::Gone { id, dn });
            }
            (State::Delete, Some(_)) => outlet.gap("an entry is gone that has another identifier"),
        }
    }

    fn info(
        &mut self,
        kind: InfoKind,
        cookie: Option<&[u8]>,
        place: &mut Place,
        outlet: &mut Outlet,
    ) {
        let everything = matches!(self.phase, Phase::Everything(_));
        let mut ends = false;
        match kind {
            InfoKind::Deleted(ids) if self.id_attribute.is_none() => {
                for id in ids.into_iter().filter(|_| !everything) {
                    outlet.change(Notice::Gone { id, dn: None });
                }
            }
            InfoKind::Deleted(_) => outlet.gap("entries are gone that have other identifiers"),
            InfoKind::RefreshPresent { done } => {
                if !everything {
                    outlet.gap("the directory does not say what is gone, only what is left");
                }
                ends = done;
            }
            InfoKind::RefreshDelete { done } => ends = done,
            InfoKind::NewCookie | InfoKind::Present => {}
        }
        self.cookie(cookie, place);
        if ends && let Phase::Everything(last) = std::mem::replace(&mut self.phase, Phase::Persist)
        {
            if let Some(cookie) = last {
                place.advance(&self.base, &cookie);
            }
            outlet.gap(NO_PLACE);
        }
    }

    /// Everything up to this cookie has been told, or will be by the gap after everything.
    fn cookie(&mut self, cookie: Option<&[u8]>, place: &mut Place) {
        match (&mut self.phase, cookie) {
            (_, None) => {}
            (Phase::Everything(last), Some(cookie)) => *last = Some(cookie.to_owned()),
            (Phase::CatchUp | Phase::Persist, Some(cookie)) => place.advance(&self.base, cookie),
        }
    }
}

/// A cookie for the newest change that the server knows, in the form that OpenLDAP gives cookies;
/// `None` where it does not say: another product, or not allowed to be read.
async fn newest_change(
    connection: &Connection,
    context: &str,
) -> Result<Option<Vec<u8>>, DirectoryError> {
    let query = Query {
        base: context,
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes: &["contextCSN"],
        matched_values: None,
    };
    let entries = match connection.search_some(&query, 1).await {
        Ok(entries) => entries,
        Err(error) if error.is_transport() => return Err(error),
        // The naming context itself may not be read, as often where access is narrow.
        Err(_) => return Ok(None),
    };
    let changes: Vec<&str> = entries.iter().flat_map(|e| e.texts("contextCSN")).collect();
    Ok((!changes.is_empty()).then(|| format!("rid=000,csn={}", changes.join(";")).into_bytes()))
}
