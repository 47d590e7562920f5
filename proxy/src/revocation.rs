//! Access kept in step with the directory between logins.
//!
//! The feed says which entries changed, the role store what other proxies and operators did.
//! Neither is evidence: whoever may be concerned is looked up anew, and what the directory says
//! then is made true, for the role and for the live sessions.
//! Whenever something may have been missed, everybody is compared.

mod cause;
mod comparing;
mod ending;
mod file;
mod halting;
mod known;
mod operator;
mod order;
mod person;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use postern_core::principal::EntryId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

pub(crate) use self::cause::{Cause, Heard};
use self::comparing::Pace;
pub(crate) use self::ending::end_at_login;
use self::file::FileWatch;
pub(crate) use self::operator::{Command, Said};
pub(crate) use self::order::{Order, Orders, Renewed};
use self::person::{Outcome, settle};
use self::sources::Sources;
use crate::config::{AwayPolicy, Directory};
use crate::directory::feed::{Feed, Notice};
use crate::gate::Plane;
use crate::health::Hearing;
use crate::limits::{
    COMPARE_INTERVAL, COMPARE_PAUSE, FEED_NOTICES_MAX, PEOPLE_AT_ONCE_MAX, SETTLE_RETRY,
    STORE_NOTICES_MAX,
};
use crate::role_store::{RoleStoreError, StoreNotice, What};
use crate::run::RunError;
use crate::service::{entry_named, outlives_directory};

/// The watch over everybody's access.
struct Watch {
    plane: Arc<Plane>,
    /// People to be looked at, and why.
    due: BTreeMap<EntryId, Cause>,
    /// People who are looked at when nobody is due, one after the other from the last one on.
    later: BTreeMap<EntryId, Cause>,
    last: Option<EntryId>,
    /// People who could not be looked at, and are again after a pause.
    postponed: BTreeMap<EntryId, Cause>,
    /// The role store has not been heard of since it was lost.
    is_store_lost: bool,
    /// The managed logins could not be listed, and are to be after a pause.
    is_list_postponed: bool,
    retry_at: Option<Instant>,
    /// People who are being looked at.
    running: BTreeSet<EntryId>,
    tasks: JoinSet<Done>,
    /// When everybody is compared.
    pace: Pace,
    /// Whose account ends before everybody is compared the next time, and when.
    ending: BTreeMap<Instant, BTreeSet<EntryId>>,
    /// The file of local accounts, if there is one.
    file: Option<FileWatch>,
    /// Since when the directory has been out of reach.
    away_since: Option<Instant>,
}

/// What a task has done.
enum Done {
    /// It has looked at a person.
    Person(EntryId, Cause, Outcome),
    /// An entry that nobody knew was looked at: whether everybody has to be compared, or one.
    Entry(Option<EntryId>, bool),
    /// An operator's command has been answered.
    Command,
    /// The managed logins that may log in were listed.
    Managed(Result<Vec<EntryId>, RoleStoreError>),
}

/// Watches for as long as the process runs. It has to run in a [`tokio::task::LocalSet`].
///
/// # Errors
///
/// The feed cannot be set up as configured; nothing has been watched then.
pub(crate) async fn watch(
    plane: Arc<Plane>,
    mut orders: mpsc::Receiver<Order>,
) -> Result<(), RunError> {
    let (told, mut notices) = mpsc::channel(FEED_NOTICES_MAX);
    let (heard, mut store_notices) = mpsc::channel(STORE_NOTICES_MAX);
    let mut sources = Sources::new(told, heard);
    if let Directory::Ldap(ldap) = &plane.gate.config.directory {
        sources.follow(Feed::new(ldap)?);
    }
    sources.listen(&plane);
    let local = plane.gate.config.local.as_ref();
    let mut watch = Watch {
        file: local.map(|it| FileWatch::new(it.file.clone())),
        plane,
        due: BTreeMap::new(),
        later: BTreeMap::new(),
        last: None,
        postponed: BTreeMap::new(),
        is_store_lost: false,
        is_list_postponed: false,
        retry_at: None,
        running: BTreeSet::new(),
        tasks: JoinSet::new(),
        pace: Pace::new(Instant::now()),
        ending: BTreeMap::new(),
        away_since: None,
    };
    loop {
        watch.start_due();
        watch.end_comparison();
        let unsettled = watch.due.len() + watch.running.len() + watch.postponed.len();
        watch.plane.gate.orders.leave_unsettled(unsettled);
        let next = watch.next_time();
        tokio::select! {
            Some(notice) = notices.recv() => watch.hear(notice),
            Some(notice) = store_notices.recv() => watch.hear_store(notice),
            Some(order) = orders.recv() => watch.take(order, &mut sources),
            Some(done) = watch.tasks.join_next() => watch.finish(done),
            () = sleep_until(next.into()) => watch.tick(),
        }
    }
}

impl Watch {
    fn hear(&mut self, notice: Notice) {
        let health = &self.plane.gate.health;
        match notice {
            Notice::Changed { id, dn } => self.changed(id, &dn, false),
            Notice::Gone { id, dn } => self.changed(id, dn.as_deref().unwrap_or_default(), true),
            Notice::Gap { why } => {
                tracing::info!(why, "everybody is compared with the directory");
                self.compare_soon();
            }
            Notice::Following { source, server } => {
                tracing::info!(%source, server, "the directory's changes are followed");
                self.away_since = None;
                health.feed(Hearing::by(format!("{source}, {server}")));
            }
            Notice::Lost { error } => {
                tracing::warn!(error, "the directory's changes are not followed");
                health.feed(Hearing::lost(error));
                self.probe();
            }
        }
    }

    /// A feed may be lost for reasons of its own. Whether the directory is out of reach is what a
    /// look at somebody says.
    fn probe(&mut self) {
        let mut people = known::people(&self.plane.gate).into_keys();
        if let Some(id) = people.find(|it| !outlives_directory(it)) {
            self.look_at(id, Cause::now(Heard::Comparison));
        }
    }

    /// An entry changed, or is gone: a person's, a group's or any other.
    fn changed(&mut self, id: EntryId, dn: &str, is_gone: bool) {
        let cause = Cause::now(Heard::Feed);
        let gate = &self.plane.gate;
        if gate.permits.has_cold_logins() {
            // A login under way may rest on what was before; it looks again.
            gate.sessions.fence(&id, cause.at, [].into());
        }
        let people = known::people(&self.plane.gate);
        if people.contains_key(&id) {
            let own_entry = true;
            return self.look_at(id, Cause { own_entry, ..cause });
        }
        let theirs = people.iter().filter(|(_, it)| known::is_in(it, dn));
        let theirs: Vec<EntryId> = theirs.map(|(id, _)| id.clone()).collect();
        if !theirs.is_empty() {
            for id in theirs {
                self.look_at(id, cause);
            }
            // Others may have gained it.
            return self.compare_soon();
        }
        // What is gone cannot be asked what it was.
        self.look_at_unknown(id, (!is_gone).then(|| dn.to_owned()));
    }

    /// Nobody here has this entry to do with: it may be a group that somebody comes into, or a
    /// person who has a role from earlier.
    fn look_at_unknown(&mut self, id: EntryId, dn: Option<String>) {
        if self.plane.gate.has_handed_over() {
            return;
        }
        if self.tasks.len() >= PEOPLE_AT_ONCE_MAX * 2 {
            return self.compare_soon();
        }
        let plane = self.plane.clone();
        self.tasks.spawn_local(async move {
            // What cannot be said may be a group.
            let is_group = match dn {
                Some(dn) => plane.directories.is_group(&dn).await.unwrap_or(true),
                None => true,
            };
            let managed = plane.role_store.managed_login(&id).await;
            let is_managed = managed.is_ok_and(|it| it.is_some_and(|it| it.can_login));
            Done::Entry(is_managed.then_some(id), is_group)
        });
    }

    fn hear_store(&mut self, notice: StoreNotice) {
        match notice {
            StoreNotice::Changed(change) if change.is_own() => {}
            StoreNotice::Changed(change) => {
                // Somebody who may come back asks the directory at their next login anyway, and
                // so does whoever is not in through this proxy.
                let is_loss = change.what != What::Release;
                let gate = &self.plane.gate;
                let is_ours =
                    |it: &EntryId| gate.sessions.has(it) || gate.authenticator.remembers(it);
                let program = entry_named(&gate.config, change.role.as_deref());
                let person = change.entry.filter(|it| is_loss && is_ours(it));
                for entry in person.into_iter().chain(program) {
                    self.look_at(entry, Cause::now(Heard::RoleStore));
                }
            }
            StoreNotice::Missed { why } => {
                tracing::info!(why, "everybody is compared with the role store");
                let health = &self.plane.gate.health;
                health.store(Hearing::by("listening".to_owned()));
                for id in known::people(&self.plane.gate).into_keys() {
                    self.look_at(id, Cause::now(Heard::RoleStore));
                }
                if std::mem::take(&mut self.is_store_lost) {
                    // It may be another server, which has missed what was taken away.
                    self.compare_soon();
                }
            }
            StoreNotice::Lost { error } => {
                tracing::warn!(error, "other proxies are not heard of");
                self.plane.gate.health.store(Hearing::lost(error));
                self.plane.gate.synchronizer.forget_all();
                self.is_store_lost = true;
            }
        }
    }

    fn take(&mut self, order: Order, sources: &mut Sources) {
        match order {
            Order::LookAt(entry) => self.look_at(entry, Cause::now(Heard::Login)),
            Order::CompareAll => self.compare_soon(),
            Order::Renew(renewed) => self.renew(*renewed, sources),
            Order::Command(command, by, answer) => {
                let plane = self.plane.clone();
                self.tasks.spawn_local(async move {
                    let said = operator::obey(&plane, command, &by).await;
                    // Whoever asked may have gone; what was done is on record.
                    drop(answer.send(said));
                    Done::Command
                });
            }
        }
    }

    fn look_at(&mut self, id: EntryId, cause: Cause) {
        let earlier = self.later.remove(&id);
        let cause = earlier.map_or(cause, |it| it.and(cause));
        let due = match cause.heard.may_wait() && !self.due.contains_key(&id) {
            true => &mut self.later,
            false => &mut self.due,
        };
        let due = due.entry(id).or_insert(cause);
        *due = due.and(cause);
    }

    /// Takes who is looked at next. Whoever is being looked at is so again afterwards: it may have
    /// been too early.
    fn next_due(&mut self) -> Option<(EntryId, Cause)> {
        let is_free = |it: &&EntryId| !self.running.contains(*it);
        if let Some(id) = self.due.keys().find(is_free).cloned() {
            return self.due.remove_entry(&id);
        }
        let after = match &self.last {
            Some(last) => Bound::Excluded(last.clone()),
            None => Bound::Unbounded,
        };
        let behind = self
            .later
            .range((after, Bound::Unbounded))
            .map(|(id, _)| id);
        let id = behind.chain(self.later.keys()).find(is_free).cloned()?;
        self.last = Some(id.clone());
        self.later.remove_entry(&id)
    }

    fn start_due(&mut self) {
        // A directory that is coming back is not met by everybody at once.
        let at_once = match self.away_since {
            Some(_) => 1,
            None => PEOPLE_AT_ONCE_MAX,
        };
        while self.running.len() < at_once {
            let Some((id, cause)) = self.next_due() else {
                return;
            };
            // It may have come while an earlier look was under way, which has been postponed since.
            let cause = match self.postponed.remove(&id) {
                Some(earlier) => earlier.and(cause),
                None => cause,
            };
            self.running.insert(id.clone());
            let plane = self.plane.clone();
            self.tasks.spawn_local(async move {
                let outcome = settle(&plane, &id, cause).await;
                Done::Person(id, cause, outcome)
            });
        }
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "a look at a person ended by a defect of Postern");
                // Whose it was is not known.
                self.running.clear();
                return self.compare_soon();
            }
        };
        match done {
            Done::Person(id, mut cause, outcome) => {
                self.running.remove(&id);
                let is_local = outlives_directory(&id);
                match outcome {
                    Outcome::Settled(refused_from) => {
                        if !is_local {
                            self.away_since = None;
                        }
                        return self.expect_refusal(id, refused_from);
                    }
                    Outcome::DirectoryAway => {
                        if !is_local {
                            self.away_since.get_or_insert_with(Instant::now);
                        }
                        if cause.at.elapsed() >= self.away_limit() {
                            // It answers others, perhaps, and nothing of this person.
                            self.end_unknown(cause.at, Some(&id));
                            cause.at = Instant::now();
                        }
                    }
                    Outcome::RoleStoreAway { is_on_record } => {
                        cause.is_on_record |= is_on_record;
                    }
                }
                self.postponed.insert(id, cause);
                self.retry_soon();
            }
            Done::Entry(person, is_group) => {
                if let Some(id) = person {
                    self.look_at(id, Cause::now(Heard::Feed));
                }
                if is_group {
                    self.compare_soon();
                }
            }
            Done::Managed(Err(error)) => {
                // That it is away is told by whoever listens there.
                tracing::debug!(%error, "the role store does not say who may log in");
                self.is_list_postponed = true;
                self.retry_soon();
            }
            Done::Managed(Ok(people)) => {
                for id in people {
                    self.look_at(id, Cause::now(Heard::Comparison));
                }
            }
            Done::Command => {}
        }
    }

    fn retry_soon(&mut self) {
        self.retry_at
            .get_or_insert_with(|| Instant::now() + SETTLE_RETRY);
    }

    /// An account that ends makes no event.
    fn expect_refusal(&mut self, id: EntryId, refused_from: Option<SystemTime>) {
        let rest = refused_from.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        if let Some(rest) = rest.filter(|rest| *rest < COMPARE_INTERVAL) {
            let at = Instant::now() + rest;
            self.ending.entry(at).or_default().insert(id);
        }
    }

    fn next_time(&self) -> Instant {
        let away = self.away_since.map(|since| since + self.away_limit());
        let ending = self.ending.keys().next().copied();
        let file = self.file.as_ref().map(|it| it.at);
        let times = [Some(self.pace.next), self.retry_at, ending, file, away];
        let first = times.into_iter().flatten().min();
        first.unwrap_or(self.pace.next)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            if std::mem::take(&mut self.is_list_postponed) {
                self.list_managed();
            }
            for (id, cause) in std::mem::take(&mut self.postponed) {
                self.look_at(id, cause);
            }
        }
        while let Some(first) = self.ending.first_entry()
            && *first.key() <= now
        {
            for id in first.remove() {
                self.look_at(id, Cause::now(Heard::Timer));
            }
        }
        if self
            .file
            .as_mut()
            .is_some_and(|it| it.at <= now && it.has_changed())
        {
            self.pace.next = now;
        }
        if self.pace.next <= now {
            match self.pace.since {
                // One after the other, so that everybody has their turn.
                Some(_) => self.pace.next = now + COMPARE_PAUSE,
                None => self.compare_all(),
            }
        }
        if let Some(since) = self.away_since
            && since + self.away_limit() <= now
        {
            // Counted anew, for the sessions that are opened until then.
            self.away_since = Some(now);
            self.end_unknown(since, None);
        }
    }

    fn away_limit(&self) -> Duration {
        self.plane.gate.config.revocation.directory_away
    }

    /// Nothing has been known of everybody in the directory, or of one person, for longer than
    /// sessions may last without it.
    fn end_unknown(&mut self, since: Instant, only: Option<&EntryId>) {
        if self.plane.gate.config.revocation.after == AwayPolicy::Keep {
            return;
        }
        let (plane, only) = (self.plane.clone(), only.cloned());
        let away = since.elapsed();
        self.tasks.spawn_local(async move {
            ending::end_unknown(&plane.gate, away, only.as_ref()).await;
            Done::Command
        });
    }
}
