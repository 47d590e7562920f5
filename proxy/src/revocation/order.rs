//! What others ask of the watch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use postern_core::principal::EntryId;
use tokio::sync::{mpsc, oneshot};

use super::operator::{Answer, Command};
use crate::directory::feed::Feed;
use crate::gate::Plane;
use crate::limits::ORDERS_MAX;
use crate::operators::{Operator, OrderError};

/// What is asked of the watch.
#[derive(Debug)]
pub(crate) enum Order {
    /// A login has shown that somebody's access may have changed.
    LookAt(EntryId),
    /// More was asked than there was room for.
    CompareAll,
    /// There is another configuration.
    Renew(Box<Renewed>),
    /// An operator's command, the operator, and where the answer goes.
    Command(Command, Operator, oneshot::Sender<Answer>),
}

/// What another configuration means for the watch.
pub(crate) struct Renewed {
    /// The plane to go on with.
    pub(crate) plane: Arc<Plane>,
    /// The feed to follow from now on, where it is another one; `None` in it where there is no
    /// directory any more.
    pub(crate) feed: Option<Option<Feed>>,
    /// The role store is another one.
    pub(crate) has_other_store: bool,
    /// The file of local accounts is another one.
    pub(crate) has_other_file: bool,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

/// The way to the watch, for everybody else.
#[derive(Debug)]
pub(crate) struct Orders {
    sender: mpsc::Sender<Order>,
    has_overflowed: AtomicBool,
    unsettled: AtomicUsize,
}

impl Orders {
    /// A way, and its other end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        let orders = Self {
            sender,
            has_overflowed: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
        };
        (orders, receiver)
    }

    /// Has a person looked at. It never waits: without room, everybody is compared as soon as
    /// there is some.
    pub(crate) fn look_at(&self, entry: &EntryId) {
        if self.has_overflowed.swap(false, Ordering::Relaxed)
            && self.sender.try_send(Order::CompareAll).is_err()
        {
            self.has_overflowed.store(true, Ordering::Relaxed);
        }
        if self.sender.try_send(Order::LookAt(entry.clone())).is_err() {
            self.has_overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// How many people the watch is about, or has to look at by themselves: their roles may not be
    /// as they should yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }

    /// See [`Orders::unsettled`].
    pub(super) fn leave_unsettled(&self, people: usize) {
        self.unsettled.store(people, Ordering::Release);
    }

    /// Has the watch go on with another configuration.
    pub(crate) async fn renew(&self, renewed: Renewed) {
        // There is no watch when the process is ending.
        drop(self.sender.send(Order::Renew(Box::new(renewed))).await);
    }

    /// Has an operator's command obeyed.
    ///
    /// It is obeyed on the control thread whether or not whoever ordered it waits for the answer.
    pub(crate) async fn command(&self, command: Command, by: Operator) -> Answer {
        let (sender, answer) = oneshot::channel();
        let order = Order::Command(command, by, sender);
        let ending = || OrderError::NotNow("the process is ending".to_owned());
        self.sender.send(order).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_becomes_a_comparison_of_everybody() {
        let (orders, mut receiver) = Orders::new();
        for number in 0..=ORDERS_MAX {
            orders.look_at(&EntryId::new(format!("uuid:{number}")));
        }
        for _ in 0..2 {
            assert!(matches!(receiver.try_recv(), Ok(Order::LookAt(_))));
        }
        orders.look_at(&EntryId::new("uuid:last"));
        let mut compared = false;
        while let Ok(order) = receiver.try_recv() {
            compared |= matches!(order, Order::CompareAll);
        }
        assert!(compared);
    }
}
