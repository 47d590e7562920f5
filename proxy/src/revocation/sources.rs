//! Where changes are heard of, as the newest configuration names it.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, spawn_local};

use super::Watch;
use super::file::FileWatch;
use super::order::Renewed;
use crate::directory::feed::{Feed, Notice};
use crate::gate::Plane;
use crate::role_store::StoreNotice;

/// The feed of the directory, and the connection that listens to the role store.
pub(super) struct Sources {
    told: Sender<Notice>,
    heard: Sender<StoreNotice>,
    feed: Option<AbortHandle>,
    store: Option<AbortHandle>,
}

impl Sources {
    /// None is listened to yet.
    pub(super) fn new(told: Sender<Notice>, heard: Sender<StoreNotice>) -> Self {
        Self {
            told,
            heard,
            feed: None,
            store: None,
        }
    }

    /// Follows a directory, in the place of the one before.
    pub(super) fn follow(&mut self, feed: Feed) {
        self.unfollow();
        let following = spawn_local(feed.follow(self.told.clone()));
        self.feed = Some(following.abort_handle());
    }

    /// Listens to the role store of a plane, in the place of the one before.
    pub(super) fn listen(&mut self, plane: &Arc<Plane>) {
        let listening = spawn_local(plane.role_store.listen(self.heard.clone()));
        if let Some(before) = self.store.replace(listening.abort_handle()) {
            before.abort();
        }
    }

    fn unfollow(&mut self) {
        if let Some(before) = self.feed.take() {
            before.abort();
        }
    }
}

impl Watch {
    /// Goes on with another configuration. What it means for everybody who is in is seen by
    /// comparing them.
    pub(super) fn renew(&mut self, renewed: Renewed, sources: &mut Sources) {
        let Renewed {
            plane,
            feed,
            has_other_store,
            has_other_file,
        } = renewed;
        match feed {
            Some(Some(feed)) => sources.follow(feed),
            Some(None) => {
                sources.unfollow();
                plane.gate.health.follows_none();
            }
            None => {}
        }
        if has_other_store {
            sources.listen(&plane);
        }
        if has_other_file {
            let local = plane.gate.config.local.as_ref();
            self.file = local.map(|it| FileWatch::new(it.file.clone()));
        }
        self.plane = plane;
        self.away_since = None;
        self.compare_soon();
    }
}
