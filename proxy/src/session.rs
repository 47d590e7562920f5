//! The live sessions: who they are, which backend they have, and how to cancel their queries.

mod shares;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postern_core::limits::CANCEL_KEY_BYTES;
use postern_core::mapping::RoleName;
use postern_core::principal::{EntryId, Principal};
use postern_core::wire::startup::Replication;

use self::shares::Shares;
pub(crate) use self::shares::{Most, Share, ShareFull};
use crate::backend::Target;
use crate::config::SharesMax;
use crate::door::Door;
use crate::limits::FENCE_LIFE;
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
    /// The person behind it, with the groups that the directory named when they logged in.
    pub(crate) principal: Arc<Principal>,
    /// The roles that it was let in with, and those that it was given since.
    pub(crate) granted: Arc<[RoleName]>,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// The database.
    pub(crate) database: String,
    /// Whether it is for replication.
    pub(crate) replication: Replication,
    /// The backend, as it was configured when the session was opened.
    pub(crate) target: Arc<Target>,
    /// The address of it that was dialled.
    pub(crate) backend: SocketAddr,
    /// How its queries are cancelled; a server may have given no key, and then the client has
    /// none either.
    pub(crate) cancel: Option<CancelKeys>,
    /// What the client calls itself.
    pub(crate) application_name: Option<String>,
    /// The TLS version and cipher suite of the client leg; none in clear text.
    pub(crate) client_tls: Option<String>,
    /// When it was opened.
    pub(crate) opened: Instant,
    /// Why it is being ended, if it is by Postern: for its record; and its last message.
    pub(crate) ending: Option<(Ending, Arc<[u8]>)>,
}

/// Why Postern ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The person lost their access, or a part of it.
    Revoked,
    /// An operator said so.
    Ended,
}

impl LiveSession {
    /// The directory's identifier of the person.
    pub(crate) fn entry(&self) -> &EntryId {
        &self.principal.id
    }
}

/// What cancels a session's queries.
///
/// The client's key is Postern's own, as long as the client's protocol wants it and whatever the
/// backend has. The process number is the backend's, because clients compare it with what the
/// database says of them (`pg_stat_activity`, notifications).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CancelKeys {
    /// What the client was given.
    pub(crate) client: CancelKey,
    /// What the backend gave.
    pub(crate) backend: CancelKey,
}

impl CancelKeys {
    /// A new key for the client, of so many bytes, beside the one that the backend gave.
    pub(crate) fn issue(backend: CancelKey, bytes: usize) -> Self {
        let random: [u8; CANCEL_KEY_BYTES] = random::bytes();
        let key = random.get(..bytes).unwrap_or(&random).to_vec();
        let client = CancelKey {
            pid: backend.pid,
            key,
        };
        Self { client, backend }
    }
}

/// A process number, and the key that came with it in a BackendKeyData.
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

/// How the query of a session is cancelled.
#[derive(Debug)]
pub(crate) struct Cancellation {
    /// The backend.
    pub(crate) target: Arc<Target>,
    /// The address of it that was dialled.
    pub(crate) address: SocketAddr,
    /// The backend's own key.
    pub(crate) key: CancelKey,
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
    shares: Shares,
    shares_max: SharesMax,
    /// What the directory has said last of people whose access was looked at between logins.
    fences: HashMap<EntryId, Fence>,
    fences_swept: Option<Instant>,
}

/// What a person may have, by the directory's last word between logins. A login that rests on an
/// older one, and would have more, is not let in.
struct Fence {
    asked_at: Instant,
    granted: Arc<[RoleName]>,
}

impl Fence {
    fn keeps_out(&self, asked_at: Instant, granted: &[RoleName]) -> bool {
        asked_at <= self.asked_at && !granted.iter().all(|role| self.granted.contains(role))
    }
}

/// Why a login that has come through is not entered among the live sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptOut {
    /// The person has lost something since the directory was asked.
    Lost,
    /// Since the login passed the door, no more sessions begin.
    Draining,
}

/// A place for one session, given back when it is dropped.
pub(crate) struct Place {
    sessions: Arc<Sessions>,
    share: Option<Share>,
}

impl Place {
    /// Says for whom it is, once that is known; it takes a share of what each of them may have.
    ///
    /// # Errors
    ///
    /// [`ShareFull`]: there are too many sessions for one of them.
    pub(crate) fn share(&mut self, share: Share) -> Result<(), ShareFull> {
        let mut live = self.sessions.live();
        if let Some(before) = self.share.take() {
            live.shares.give_back(&before);
        }
        let max = live.shares_max;
        live.shares.take(&share, &max)?;
        drop(live);
        self.share = Some(share);
        Ok(())
    }
}

impl Sessions {
    /// No sessions yet. The identifiers start at a random number, so that those of two runs of
    /// the program do not meet in one audit file.
    pub(crate) fn new(sessions_max: usize, shares_max: SharesMax) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(u64::from_ne_bytes(random::bytes())),
            sessions_max,
            live: Mutex::new(Live {
                shares_max,
                ..Live::default()
            }),
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
            share: None,
        })
    }

    /// Enters a session that rests on what the directory was asked at a moment, before its first
    /// byte is spliced.
    ///
    /// The door is looked at under the lock, so that whoever closes it and then counts the sessions
    /// has counted all that there will be.
    ///
    /// # Errors
    ///
    /// [`KeptOut`]: the session is not entered.
    pub(crate) fn open(
        &self,
        (id, session): (SessionId, LiveSession),
        asked_at: Instant,
        door: &Door,
    ) -> Result<(), KeptOut> {
        let mut live = self.live();
        if door.is_draining() {
            return Err(KeptOut::Draining);
        }
        let fence = live.fences.get(session.entry());
        if fence.is_some_and(|fence| fence.keeps_out(asked_at, &session.granted)) {
            return Err(KeptOut::Lost);
        }
        if let Some(cancel) = &session.cancel
            && live
                .by_cancel_key
                .insert(cancel.client.clone(), id)
                .is_some()
        {
            // Two short keys happen to be the same: it cancels nothing, and never another's query.
            live.by_cancel_key.remove(&cancel.client);
        }
        live.sessions.insert(id, session);
        Ok(())
    }

    /// The directory was asked about a person at a moment, and this is what they may have: from
    /// now on no login gets more by an older answer.
    pub(crate) fn fence(&self, entry: &EntryId, asked_at: Instant, granted: Arc<[RoleName]>) {
        let mut live = self.live();
        let is_swept = live
            .fences_swept
            .is_some_and(|at| at.elapsed() < FENCE_LIFE);
        if !is_swept {
            // A login that is older than this has been timed out.
            let is_needed = |fence: &Fence| fence.asked_at.elapsed() < FENCE_LIFE;
            live.fences.retain(|_, fence| is_needed(fence));
            live.fences_swept = Some(Instant::now());
        }
        let newer = live.fences.get(entry);
        if newer.is_none_or(|fence| fence.asked_at <= asked_at) {
            live.fences
                .insert(entry.clone(), Fence { asked_at, granted });
        }
    }

    /// Whether a person has lost some of these roles since the directory was asked at a moment.
    pub(crate) fn is_fenced(
        &self,
        entry: &EntryId,
        asked_at: Instant,
        granted: &[RoleName],
    ) -> bool {
        let live = self.live();
        let fence = live.fences.get(entry);
        fence.is_some_and(|fence| fence.keeps_out(asked_at, granted))
    }

    /// Takes a session out, and returns what was known of it.
    pub(crate) fn close(&self, id: SessionId) -> Option<LiveSession> {
        let mut live = self.live();
        let session = live.sessions.remove(&id)?;
        if let Some(cancel) = &session.cancel
            && live.by_cancel_key.get(&cancel.client) == Some(&id)
        {
            live.by_cancel_key.remove(&cancel.client);
        }
        Some(session)
    }

    /// How to cancel the query of the live session whose client has this cancel key.
    pub(crate) fn to_cancel(&self, key: &CancelKey) -> Option<Cancellation> {
        let live = self.live();
        let session = live.sessions.get(live.by_cancel_key.get(key)?)?;
        Some(Cancellation {
            target: session.target.clone(),
            address: session.backend,
            key: session.cancel.as_ref()?.backend.clone(),
        })
    }

    /// Whether a person was looked at since somebody's login asked the directory.
    pub(crate) fn was_looked_at(&self, entry: &EntryId, asked_at: Instant) -> bool {
        let fenced = self.live().fences.get(entry).map(|it| it.asked_at);
        fenced.is_some_and(|at| asked_at <= at)
    }

    /// Marks the sessions that `ends` says yes to, with the last message for their clients, and
    /// returns those that were not marked before.
    pub(crate) fn end(
        &self,
        why: Ending,
        goodbye: &Arc<[u8]>,
        ends: impl Fn(SessionId, &LiveSession) -> bool,
    ) -> Vec<SessionId> {
        let mut live = self.live();
        let live = live.sessions.iter_mut();
        let ended = live.filter(|(id, it)| it.ending.is_none() && ends(**id, it));
        let marked = ended.map(|(id, session)| {
            session.ending = Some((why, goodbye.clone()));
            *id
        });
        marked.collect()
    }

    /// The last message of a session that was marked before a splice worker had it.
    pub(crate) fn goodbye_of(&self, id: SessionId) -> Option<Arc<[u8]>> {
        let live = self.live();
        let (_, goodbye) = live.sessions.get(&id)?.ending.as_ref()?;
        Some(goodbye.clone())
    }

    /// Notes what the sessions of a person were given since they were let in.
    pub(crate) fn regrant(&self, principal: &Arc<Principal>, granted: &Arc<[RoleName]>) {
        let mut live = self.live();
        let theirs = live.sessions.values_mut();
        for session in theirs.filter(|it| *it.entry() == principal.id) {
            session.principal = principal.clone();
            session.granted = granted.clone();
        }
    }

    /// Whether a person has a session.
    pub(crate) fn has(&self, entry: &EntryId) -> bool {
        self.live().sessions.values().any(|it| it.entry() == entry)
    }

    /// The sessions of a person.
    pub(crate) fn of(&self, entry: &EntryId) -> Vec<(SessionId, LiveSession)> {
        let live = self.live();
        let theirs = live.sessions.iter().filter(|(_, it)| it.entry() == entry);
        theirs.map(|(id, session)| (*id, session.clone())).collect()
    }

    /// Everybody who has a session, each once.
    pub(crate) fn people(&self) -> HashMap<EntryId, Arc<Principal>> {
        let live = self.live();
        let people = live.sessions.values();
        people
            .map(|it| (it.entry().clone(), it.principal.clone()))
            .collect()
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

    /// From now on sessions begin under these limits; those that are there go on.
    pub(crate) fn limit_shares(&self, max: SharesMax) {
        self.live().shares_max = max;
    }

    /// How many places are taken: by live sessions, and by logins under way.
    pub(crate) fn reserved(&self) -> usize {
        self.live().reserved
    }

    /// Whoever has most sessions: of roles, addresses and databases.
    pub(crate) fn most(&self) -> [Option<Most>; 3] {
        self.live().shares.most()
    }

    /// The maps stay consistent between two statements, so a panic elsewhere does not spoil them.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.sessions.live();
        live.reserved -= 1;
        if let Some(share) = self.share.take() {
            live.shares.give_back(&share);
        }
    }
}

#[cfg(test)]
mod tests;
