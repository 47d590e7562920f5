//! What other proxies and operators change in the role store, told by the database itself:
//! <https://www.postgresql.org/docs/current/sql-notify.html>.
//!
//! Every notification comes with the commit of what it tells, and in the order of the commits.
//! It is a hint and no evidence: whoever is connected to the database may send one, and whoever
//! takes access away, or gives it, on one looks into the role store first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_core::principal::EntryId;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_postgres::Notification;

use super::connect::Connection;
use super::error::RoleStoreError;
use super::pool::Access;
use super::settings::instance;
use super::{RoleStore, random};
use crate::limits::{
    STORE_NOTICES_WAITING_MAX, STORE_PROBE_INTERVAL, STORE_RETRY_BASE, STORE_RETRY_MAX,
};

/// The channel, as `sql/functions/notify_change.sql` has it.
const CHANNEL: &str = "postern";

/// What is heard of the role store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreNotice {
    /// Somebody's access was changed.
    Changed(StoreChange),
    /// From here on everything is told, and something may have been missed before: everybody has
    /// to be compared. At the start, after every pause, and when there was too much at once.
    Missed {
        /// How that came.
        why: &'static str,
    },
    /// Nothing is told for the moment; it is tried again.
    Lost {
        /// What happened, in words.
        error: String,
    },
}

/// A change of somebody's access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreChange {
    /// What was done.
    pub(crate) what: What,
    /// To whom; none for a hold on the name of a role that nobody has.
    pub(crate) entry: Option<EntryId>,
    /// The role; none for a hold on an entry that has none yet.
    pub(crate) role: Option<String>,
    /// The operator who did it, or the [`instance`] of the proxy.
    pub(crate) by: String,
}

/// What was done to somebody's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// LOGIN or memberships were taken away altogether.
    Revoke,
    /// Memberships were granted or taken away.
    Change,
    /// An operator holds the person.
    Hold,
    /// An operator has released the person.
    Release,
    /// The role was dropped.
    Drop,
}

impl RoleStore {
    /// Listens on a connection of its own until the receiver goes, and makes it again whenever it
    /// is lost. A connection that is dead without saying so is noticed after
    /// [`STORE_PROBE_INTERVAL`] and the time that a call may take.
    pub(crate) fn listen(
        &self,
        notices: mpsc::Sender<StoreNotice>,
    ) -> impl Future<Output = ()> + Send + use<> {
        follow(self.pool.access().clone(), notices)
    }
}

impl StoreChange {
    /// Whether it was this process that did it.
    pub(crate) fn is_own(&self) -> bool {
        self.by == instance()
    }

    /// Reads a payload; none for what no routine of the schema sends.
    fn parse(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload {
            what: What,
            entry: Option<String>,
            role: Option<String>,
            by: String,
        }
        let payload: Payload = serde_json::from_str(payload).ok()?;
        Some(Self {
            what: payload.what,
            entry: payload.entry.map(EntryId::new),
            role: payload.role,
            by: payload.by,
        })
    }
}

/// Listens, and begins again, until the receiver goes.
async fn follow(access: Access, notices: mpsc::Sender<StoreNotice>) {
    let mut tries = 0;
    loop {
        let error = tokio::select! {
            () = notices.closed() => return,
            error = hear(&access, &notices, &mut tries) => error.to_string(),
        };
        tracing::debug!(%error, tries, "not listening to the role store");
        let lost = notices.send(StoreNotice::Lost { error });
        let pause = async {
            // When the receiver goes, the other branch ends this.
            let _ = lost.await;
            tokio::time::sleep(delay(tries, random())).await;
        };
        tokio::select! {
            () = notices.closed() => return,
            () = pause => tries = tries.saturating_add(1),
        }
    }
}

/// Listens on one connection until that ends, and returns why. `tries` is how often a connection
/// has been tried in vain before.
async fn hear(
    access: &Access,
    notices: &mpsc::Sender<StoreNotice>,
    tries: &mut u32,
) -> RoleStoreError {
    let (sender, mut waiting) = mpsc::channel(STORE_NOTICES_WAITING_MAX);
    let overflow = Arc::new(AtomicBool::new(false));
    let connected = open(access, sender, overflow.clone()).await;
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => return error,
    };
    let mut next = Some(match *tries {
        0 => "listening has begun",
        _ => "nothing was heard for a while",
    });
    *tries = 1;
    loop {
        if let Some(why) = next.take() {
            // An error means that the receiver has gone, which the caller sees as well.
            let _ = notices.send(StoreNotice::Missed { why }).await;
        }
        match tokio::time::timeout(STORE_PROBE_INTERVAL, waiting.recv()).await {
            Ok(Some(change)) => {
                // As above.
                let _ = notices.send(StoreNotice::Changed(change)).await;
            }
            Ok(None) => {
                return RoleStoreError::Unreachable {
                    host: access.place().to_owned(),
                    why: "the connection that listens has ended".to_owned(),
                };
            }
            Err(_) => {
                if let Err(error) = access.answer(connection.simple_query("SELECT 1")).await {
                    return error;
                }
            }
        }
        if overflow.swap(false, Ordering::Relaxed) {
            next = Some("there were too many changes at once");
        }
    }
}

/// A connection whose notifications go where they are waited for.
async fn open(
    access: &Access,
    sender: mpsc::Sender<StoreChange>,
    overflow: Arc<AtomicBool>,
) -> Result<Connection, RoleStoreError> {
    let hear = move |notification: Notification| {
        if notification.channel() != CHANNEL {
            return;
        }
        let Some(change) = StoreChange::parse(notification.payload()) else {
            let pid = notification.process_id();
            tracing::debug!(pid, "a notification that is not the schema's was ignored");
            return;
        };
        // It must not wait here, or the server would have to keep what comes next; and a flood
        // would make its queue full. An error otherwise means that nobody listens any more.
        if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(change) {
            overflow.store(true, Ordering::Relaxed);
        }
    };
    let connection = access.connect(Some(Arc::new(hear))).await?;
    let listen = format!("LISTEN {CHANNEL}");
    access.answer(connection.batch_execute(&listen)).await?;
    Ok(connection)
}

/// How long to wait before the next try, after `tries` in vain: half of the span at least.
fn delay(tries: u32, random: u8) -> Duration {
    let span = STORE_RETRY_BASE.saturating_mul(1 << tries.min(16));
    let half = span.min(STORE_RETRY_MAX) / 2;
    half + half * u32::from(random) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_the_schema_is_understood_and_no_other() {
        let text = r#"{"by": "olga", "what": "hold", "role": null, "entry": "guid:1"}"#;
        let change = StoreChange::parse(text);
        let wanted = StoreChange {
            what: What::Hold,
            entry: Some(EntryId::new("guid:1")),
            role: None,
            by: "olga".to_owned(),
        };
        assert_eq!(change, Some(wanted));
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"what": "hold", "role": null, "entry": "guid:1"}"#,
            r#"{"what": "crown", "role": null, "entry": null, "by": "x"}"#,
            r#"{"what": "hold", "role": 1, "entry": null, "by": "x"}"#,
        ] {
            assert_eq!(StoreChange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_this_process_did_is_told_apart() {
        let change = |by: &str| StoreChange {
            what: What::Revoke,
            entry: None,
            role: None,
            by: by.to_owned(),
        };
        assert!(change(instance()).is_own());
        assert!(!change("olga").is_own());
    }

    #[test]
    fn the_pauses_grow_to_a_limit_and_are_never_nothing() {
        let longest: Vec<_> = (0..40).map(|tries| delay(tries, 255)).collect();
        assert!(longest.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(longest.last(), Some(&STORE_RETRY_MAX));
        assert!((0..40).all(|tries| delay(tries, 0) >= STORE_RETRY_BASE / 2));
    }
}
