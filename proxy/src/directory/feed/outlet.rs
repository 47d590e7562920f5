//! The way out of the feed: it never holds up the reading of the directory.

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::Notice;

/// Where notices go. What there is no room for is kept in its shortest form: one gap stands for
/// any number of changes, and of the states of the feed only the last one matters.
pub(super) struct Outlet {
    notices: Sender<Notice>,
    state: Option<Notice>,
    gap: Option<String>,
}

impl Outlet {
    /// To this receiver.
    pub(super) fn new(notices: Sender<Notice>) -> Self {
        Self {
            notices,
            state: None,
            gap: None,
        }
    }

    /// An entry has changed or is gone.
    pub(super) fn change(&mut self, change: Notice) {
        // A gap that has still to be told covers it.
        if self.gap.is_none() && self.try_send(change).is_some() {
            self.gap = Some("more changes at once than could be taken in".to_owned());
        }
    }

    /// Something may have been missed.
    pub(super) fn gap(&mut self, why: impl Into<String>) {
        let why = why.into();
        if self.gap.is_none() && self.try_send(Notice::Gap { why: why.clone() }).is_some() {
            self.gap = Some(why);
        }
    }

    /// Whether the feed follows.
    pub(super) fn state(&mut self, state: Notice) {
        self.state = self.try_send(state);
    }

    /// Tells what there was no room for, when there is room; without such, it waits for ever.
    pub(super) async fn flush(&mut self) {
        while self.state.is_some() || self.gap.is_some() {
            let Ok(room) = self.notices.reserve().await else {
                break;
            };
            if let Some(state) = self.state.take() {
                room.send(state);
            } else if let Some(why) = self.gap.take() {
                room.send(Notice::Gap { why });
            }
        }
        std::future::pending().await
    }

    /// The notice, when there is no room for it. Without a receiver nothing matters any more.
    fn try_send(&self, notice: Notice) -> Option<Notice> {
        match self.notices.try_send(notice) {
            Ok(()) | Err(TrySendError::Closed(_)) => None,
            Err(TrySendError::Full(notice)) => Some(notice),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use postern_core::principal::EntryId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::directory::tests::run;

    fn changed(number: u32) -> Notice {
        Notice::Changed {
            id: EntryId::new(format!("uuid:{number}")),
            dn: String::new(),
        }
    }

    #[test]
    fn a_slow_reader_gets_one_gap_for_all_that_it_missed() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut outlet = Outlet::new(sender);
        for number in 0..1_000 {
            outlet.change(changed(number));
        }
        let error = "gone".to_owned();
        outlet.state(Notice::Lost {
            error: error.clone(),
        });
        run(async {
            assert_eq!(receiver.recv().await, Some(changed(0)));
            assert_eq!(receiver.recv().await, Some(changed(1)));
            let mut told = Vec::new();
            while told.len() < 2 {
                tokio::select! {
                    () = outlet.flush() => {}
                    notice = receiver.recv() => told.push(notice.unwrap()),
                }
            }
            let why = "more changes at once than could be taken in".to_owned();
            assert_eq!(told, [Notice::Lost { error }, Notice::Gap { why }]);
        });
        outlet.change(changed(7));
        assert_eq!(receiver.try_recv().ok(), Some(changed(7)));
    }
}
