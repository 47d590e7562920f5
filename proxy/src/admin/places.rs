//! The places of the console's sessions, and each account's share of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_core::principal::EntryId;

use crate::error::Full;
use crate::limits::{CONSOLE_SESSIONS_MAX, CONSOLE_SESSIONS_PER_ACCOUNT_MAX};

/// All of them.
#[derive(Default)]
pub(super) struct Places {
    /// The account of each session; they are too few for anything but a list.
    taken: Mutex<Vec<EntryId>>,
}

/// One of them, given back when it is dropped.
#[must_use = "it is taken for as long as this is held"]
pub(super) struct Place {
    places: Arc<Places>,
    account: EntryId,
}

impl Places {
    /// Takes one for a session of an account.
    ///
    /// # Errors
    ///
    /// [`Full::Console`]: there is none left; [`Full::ConsoleAccount`]: the account has its share.
    pub(super) fn take(self: &Arc<Self>, account: &EntryId) -> Result<Place, Full> {
        let mut taken = self.list();
        if taken.len() >= CONSOLE_SESSIONS_MAX {
            return Err(Full::Console);
        }
        let theirs = taken.iter().filter(|it| *it == account);
        if theirs.count() >= CONSOLE_SESSIONS_PER_ACCOUNT_MAX {
            return Err(Full::ConsoleAccount);
        }
        taken.push(account.clone());
        Ok(Place {
            places: self.clone(),
            account: account.clone(),
        })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.list().len()
    }

    /// The list is consistent between two statements, so a panic elsewhere does not spoil it.
    fn list(&self) -> MutexGuard<'_, Vec<EntryId>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.list();
        if let Some(place) = taken.iter().position(|it| *it == self.account) {
            taken.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_share_and_leaves_the_rest_to_others() {
        let places = Arc::new(Places::default());
        let account = |number: usize| EntryId::new(format!("local:{number}"));
        let share = |number| {
            let take = || places.take(&account(number));
            let theirs = (0..CONSOLE_SESSIONS_PER_ACCOUNT_MAX).map(|_| take());
            theirs.collect::<Result<Vec<_>, _>>()
        };
        let first = share(0);
        assert!(first.is_ok());
        assert_eq!(places.take(&account(0)).err(), Some(Full::ConsoleAccount));
        let accounts = CONSOLE_SESSIONS_MAX / CONSOLE_SESSIONS_PER_ACCOUNT_MAX;
        let others: Vec<_> = (1..accounts).map(share).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(places.taken(), CONSOLE_SESSIONS_MAX);
        assert_eq!(places.take(&account(99)).err(), Some(Full::Console));
        drop(first);
        assert!(places.take(&account(99)).is_ok() && places.take(&account(0)).is_ok());
        drop(others);
        assert_eq!(places.taken(), 0);
    }
}
