//! One after the other, for each of many things.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Mutex as Turn;

/// Whose turn it is, by what it is about.
pub(crate) struct Turns<K>(Mutex<HashMap<K, Weak<Turn<()>>>>);

impl<K: Hash + Eq + Clone> Turns<K> {
    /// Nobody has a turn.
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// What has to be locked to have the turn for `key`, on any thread. It is forgotten when the
    /// last one who asked for it has gone.
    pub(crate) fn of(&self, key: &K) -> Arc<Turn<()>> {
        // The map is consistent between two statements, so a panic elsewhere does not spoil it.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        // As many as there are to be kept are looked at for each that is added.
        if turns.len() >= turns.capacity() {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_turn_for_a_thing_and_another_for_another() {
        let turns = Turns::new();
        let first = turns.of(&"a");
        assert!(Arc::ptr_eq(&first, &turns.of(&"a")));
        assert!(!Arc::ptr_eq(&first, &turns.of(&"b")));
        let held = first.try_lock();
        assert!(held.is_ok());
        assert!(turns.of(&"a").try_lock().is_err());
    }

    #[test]
    fn turns_that_nobody_has_are_not_kept() {
        let turns = Turns::new();
        for number in 0..10_000 {
            drop(turns.of(&number));
        }
        let kept = turns.0.lock().map(|it| it.len()).unwrap_or_default();
        assert!(kept < 100, "{kept}");
    }
}
