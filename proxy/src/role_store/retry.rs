//! Which failures of a call are worth another try, and when.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::limits::{ROLE_STORE_RETRY_BASE_MS, ROLE_STORE_TRIES_MAX};

/// Whether the same call may succeed if it is made again.
///
/// Two logins, or a login and an administrator, have met: deadlock (40P01), serialization
/// failure (40001), a role or a row that both made (23505, 42710), a catalog row that both
/// changed (XX000, "tuple concurrently updated"). XX000 has no finer code, and its words are not
/// looked at, because a sync is atomic and writes only differences: repeating it a few times is
/// harmless whatever else XX000 stood for.
pub(super) fn is_retriable(code: &SqlState) -> bool {
    [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_OBJECT,
        SqlState::INTERNAL_ERROR,
    ]
    .contains(code)
}

/// How long to wait before try number `try_number + 1`, or `None` when it was the last one.
///
/// The wait doubles each time, and `random` spreads it over the whole span, so that two that met
/// once do not meet again.
pub(super) fn delay(try_number: u32, random: u8) -> Option<Duration> {
    if try_number >= ROLE_STORE_TRIES_MAX {
        return None;
    }
    let span_ms = ROLE_STORE_RETRY_BASE_MS << try_number.min(10);
    Some(Duration::from_millis(1 + span_ms * u64::from(random) / 255))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_a_race_are_retried_and_no_others() {
        for code in ["40P01", "40001", "23505", "42710", "XX000"] {
            assert!(is_retriable(&SqlState::from_code(code)), "{code}");
        }
        for code in [
            "PN001", "42501", "57014", "25006", "23503", "28P01", "XX001",
        ] {
            assert!(!is_retriable(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn the_tries_end() {
        let waits: Vec<_> = (1..).map_while(|n| delay(n, 255)).collect();
        assert_eq!(
            waits.len() + 1,
            usize::try_from(ROLE_STORE_TRIES_MAX).unwrap_or(0)
        );
        assert!(
            waits.iter().sum::<Duration>() < Duration::from_secs(3),
            "{waits:?}"
        );
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    }
}
