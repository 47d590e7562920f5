//! How often something may happen within a window of time, counted for each address or person.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_core::lockout::{Budget, Limit};

use crate::limits::{BUDGETS_MAX, BUDGETS_SWEEP_INTERVAL};
use crate::session::Most;

/// The budgets of one kind.
pub(crate) struct Budgets<K> {
    limit: Limit,
    counted: Mutex<Counted<K>>,
}

struct Counted<K> {
    by_key: HashMap<K, Budget>,
    /// When those that count no more were last looked for.
    swept: Option<Duration>,
}

impl<K: Hash + Eq + Clone> Budgets<K> {
    /// Nothing has happened yet.
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            counted: Mutex::new(Counted {
                by_key: HashMap::new(),
                swept: None,
            }),
        }
    }

    /// Counts one more, at a time since the process began; false when there were too many.
    pub(crate) fn take(&self, key: &K, now: Duration) -> bool {
        let mut counted = self.counted();
        if let Some(budget) = counted.by_key.get_mut(key) {
            return budget.take(&self.limit, now);
        }
        if counted.by_key.len() >= BUDGETS_MAX && counted.is_sweep_due(now) {
            counted.swept = Some(now);
            counted.by_key.retain(|_, it| !it.is_idle(&self.limit, now));
        }
        // Whoever fills the map is not to be the one who is not counted.
        if counted.by_key.len() >= BUDGETS_MAX {
            return false;
        }
        let budget = counted.by_key.entry(key.clone()).or_default();
        budget.take(&self.limit, now)
    }

    /// Whether one more could be counted for one, without counting it.
    pub(crate) fn has_room(&self, key: &K, now: Duration) -> bool {
        let counted = self.counted();
        let budget = counted.by_key.get(key);
        budget.is_none_or(|it| it.has_room(&self.limit, now))
    }

    /// Whoever has done it most often of late, at a time since the process began.
    pub(crate) fn most(&self, now: Duration) -> Option<Most>
    where
        K: Ord + ToString,
    {
        let counted = self.counted();
        let counts = counted.by_key.iter();
        Most::of(counts.map(|(key, it)| (key, it.count(&self.limit, now))))
    }

    /// Changes what has been counted for one.
    pub(crate) fn change(&self, key: &K, change: impl FnOnce(&mut Budget)) {
        if let Some(budget) = self.counted().by_key.get_mut(key) {
            change(budget);
        }
    }

    /// It is consistent between two statements, so a panic elsewhere does not spoil it.
    fn counted(&self) -> MutexGuard<'_, Counted<K>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Counted<K> {
    /// Everybody waits while all of them are looked at, so that strangers must not make it happen
    /// as often as they come.
    fn is_sweep_due(&self, now: Duration) -> bool {
        let since = self.swept.map(|at| now.saturating_sub(at));
        since.is_none_or(|it| it >= BUDGETS_SWEEP_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_is_looked_through_once_a_second_and_serves_those_in_it() {
        let ms = Duration::from_millis;
        let budgets = Budgets::new(Limit {
            tries_max: 2,
            window: ms(500),
        });
        for key in 0..BUDGETS_MAX {
            assert!(budgets.take(&key, ms(0)));
        }
        let stranger = BUDGETS_MAX;
        assert!(!budgets.take(&stranger, ms(0)), "all of them count");
        assert!(budgets.has_room(&1, ms(400)) && budgets.take(&1, ms(400)));
        assert!(!budgets.has_room(&1, ms(400)) && !budgets.take(&1, ms(400)));
        assert!(
            !budgets.take(&stranger, ms(999)),
            "it was just looked through"
        );
        assert!(budgets.take(&1, ms(999)));
        assert!(budgets.take(&stranger, ms(1_000)));
        assert_eq!(budgets.counted().by_key.len(), 2);
    }
}
