//! How often something may happen within a window of time, counted for each address or person.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_core::lockout::{Budget, Limit};

use crate::limits::BUDGETS_MAX;

/// The budgets of one kind.
pub(crate) struct Budgets<K> {
    limit: Limit,
    by_key: Mutex<HashMap<K, Budget>>,
}

impl<K: Hash + Eq + Clone> Budgets<K> {
    /// Nothing has happened yet.
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            by_key: Mutex::default(),
        }
    }

    /// Counts one more, at a time since the process began; false when there were too many.
    pub(crate) fn take(&self, key: &K, now: Duration) -> bool {
        let mut budgets = self.by_key();
        if budgets.len() >= BUDGETS_MAX {
            budgets.retain(|_, it| !it.is_idle(&self.limit, now));
        }
        if let Some(budget) = budgets.get_mut(key) {
            return budget.take(&self.limit, now);
        }
        // Whoever fills the map is not to be the one who is not counted.
        if budgets.len() >= BUDGETS_MAX {
            return false;
        }
        budgets
            .entry(key.clone())
            .or_default()
            .take(&self.limit, now)
    }

    /// Changes what has been counted for one.
    pub(crate) fn change(&self, key: &K, change: impl FnOnce(&mut Budget)) {
        if let Some(budget) = self.by_key().get_mut(key) {
            change(budget);
        }
    }

    /// It is consistent between two statements, so a panic elsewhere does not spoil it.
    fn by_key(&self) -> MutexGuard<'_, HashMap<K, Budget>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
