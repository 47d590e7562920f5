//! The live sessions: who they are, which backend they have, and how to cancel their queries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;

use crate::random;

/// The identifier that one connection carries from its first packet to its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

impl SessionId {
    /// The number, as the splice knows it.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is known of a session that has reached the splice.
#[derive(Debug, Clone)]
pub(crate) struct LiveSession {
    /// The role that it has in the database.
    pub(crate) role: RoleName,
    /// The person behind it.
    pub(crate) entry: EntryId,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// The database.
    pub(crate) database: String,
    /// The backend server's address.
    pub(crate) backend: BackendAddress,
    /// What the client sends to have a query cancelled; a server may have given none.
    pub(crate) cancel: Option<CancelKey>,
    /// When it was opened.
    pub(crate) opened: Instant,
    /// True when it is being ended because the person lost their access.
    pub(crate) revoked: bool,
}

/// The process number and the key that a backend gave out in its BackendKeyData.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct CancelKey {
    /// The backend's process number.
    pub(crate) pid: u32,
    /// 4 to 256 bytes.
    pub(crate) key: Vec<u8>,
}

impl std::fmt::Debug for CancelKey {
    /// Leaves the key out, because whoever reads it can cancel the session's queries.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Which configured backend, and the address that was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackendAddress {
    /// The index of the backend in the configuration.
    pub(crate) index: usize,
    /// The address.
    pub(crate) address: SocketAddr,
}

/// All live sessions of the process.
pub(crate) struct Sessions {
    next: AtomicU64,
    sessions_max: usize,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    sessions: HashMap<SessionId, LiveSession>,
    by_cancel_key: HashMap<CancelKey, SessionId>,
    reserved: usize,
}

/// A place for one session, given back when it is dropped.
pub(crate) struct Place {
    sessions: Arc<Sessions>,
}

impl Sessions {
    /// No sessions yet. The identifiers start at a random number, so that those of two runs of
    /// the program do not meet in one audit file.
    pub(crate) fn new(sessions_max: usize) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(u64::from_ne_bytes(random::bytes())),
            sessions_max,
            live: Mutex::default(),
        })
    }

    /// A new identifier.
    pub(crate) fn identify(&self) -> SessionId {
        SessionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a place for a session, or says that there is none left.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Place> {
        let mut live = self.live();
        if live.reserved >= self.sessions_max {
            return None;
        }
        live.reserved += 1;
        Some(Place {
            sessions: self.clone(),
        })
    }

    /// Enters a session, before its first byte is spliced.
    pub(crate) fn open(&self, id: SessionId, session: LiveSession) {
        let mut live = self.live();
        if let Some(cancel) = &session.cancel {
            live.by_cancel_key.insert(cancel.clone(), id);
        }
        live.sessions.insert(id, session);
    }

    /// Takes a session out, and returns what was known of it.
    pub(crate) fn close(&self, id: SessionId) -> Option<LiveSession> {
        let mut live = self.live();
        let session = live.sessions.remove(&id)?;
        if let Some(cancel) = &session.cancel
            && live.by_cancel_key.get(cancel) == Some(&id)
        {
            live.by_cancel_key.remove(cancel);
        }
        Some(session)
    }

    /// The backend that gave out this cancel key to a session that is still live.
    pub(crate) fn backend_of(&self, cancel: &CancelKey) -> Option<BackendAddress> {
        let live = self.live();
        let id = live.by_cancel_key.get(cancel)?;
        Some(live.sessions.get(id)?.backend)
    }

    /// Marks the sessions of a person as revoked, and returns them.
    pub(crate) fn revoke(&self, entry: &EntryId) -> Vec<SessionId> {
        let mut live = self.live();
        let theirs = live
            .sessions
            .iter_mut()
            .filter(|(_, session)| session.entry == *entry);
        let marked = theirs.map(|(id, session)| {
            session.revoked = true;
            *id
        });
        marked.collect()
    }

    /// All live sessions, the oldest first.
    pub(crate) fn list(&self) -> Vec<(SessionId, LiveSession)> {
        let live = self.live();
        let mut sessions: Vec<_> = live
            .sessions
            .iter()
            .map(|(id, session)| (*id, session.clone()))
            .collect();
        drop(live);
        sessions.sort_by_key(|(_, session)| session.opened);
        sessions
    }

    /// How many sessions are live.
    pub(crate) fn count(&self) -> usize {
        self.live().sessions.len()
    }

    /// The maps stay consistent between two statements, so a panic elsewhere does not spoil them.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.live().reserved -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: u32) -> LiveSession {
        let address = SocketAddr::from(([127, 0, 0, 1], 5432));
        LiveSession {
            #[expect(clippy::unwrap_used, reason = "a literal that is a valid role name")]
            role: RoleName::new("testuser").unwrap(),
            entry: EntryId::new("uuid:1"),
            client: address,
            database: "hr".to_owned(),
            backend: BackendAddress { index: 0, address },
            cancel: Some(CancelKey {
                pid,
                key: vec![1, 2, 3, 4],
            }),
            opened: Instant::now(),
            revoked: false,
        }
    }

    #[test]
    fn a_cancel_key_leads_to_its_backend_until_the_session_closes() {
        let sessions = Sessions::new(2);
        let id = sessions.identify();
        sessions.open(id, session(7));
        let key = CancelKey {
            pid: 7,
            key: vec![1, 2, 3, 4],
        };
        assert!(sessions.backend_of(&key).is_some());
        let wrong = CancelKey {
            pid: 7,
            key: vec![1, 2, 3, 5],
        };
        assert_eq!(sessions.backend_of(&wrong), None);
        assert!(sessions.close(id).is_some());
        assert_eq!(sessions.backend_of(&key), None);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn no_log_can_show_a_cancel_key() {
        let key = CancelKey {
            pid: 7,
            key: vec![201, 202, 203, 204],
        };
        assert_eq!(format!("{key:?}"), "CancelKey { pid: 7, .. }");
    }

    #[test]
    fn closing_an_old_session_leaves_the_key_of_a_newer_one() {
        let sessions = Sessions::new(2);
        let (old, new) = (sessions.identify(), sessions.identify());
        sessions.open(old, session(7));
        sessions.open(new, session(7));
        sessions.close(old);
        assert!(
            sessions
                .backend_of(&CancelKey {
                    pid: 7,
                    key: vec![1, 2, 3, 4]
                })
                .is_some()
        );
    }

    #[test]
    fn no_more_places_than_the_limit_are_given_out() {
        let sessions = Sessions::new(1);
        let place = sessions.reserve();
        assert!(place.is_some());
        assert!(sessions.reserve().is_none());
        drop(place);
        assert!(sessions.reserve().is_some());
    }
}
