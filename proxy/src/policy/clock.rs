//! The time of the machine, as people there read it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Unix time in milliseconds as RFC 3339, in the machine's time zone.
pub(super) fn local(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let Ok(at) = jiff::Timestamp::from_millisecond(ms) else {
        return format!("{unix_ms} ms after 1970");
    };
    let at = at.to_zoned(jiff::tz::TimeZone::system());
    at.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// Turns times since the boot into Unix time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    /// Unix time at the boot.
    at: Duration,
}

impl Boot {
    /// As of now: the clock may have been set since the last call.
    pub(super) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        let (unix, since) = (unix.unwrap_or_default(), since.unwrap_or_default());
        Self {
            at: unix.saturating_sub(since),
        }
    }

    /// Unix time in milliseconds of a time since the boot in nanoseconds.
    pub(super) fn unix_ms(self, since_ns: u64) -> u64 {
        let at = self.at.saturating_add(Duration::from_nanos(since_ns));
        u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_since_the_boot_is_unix_time_after_it() {
        let boot = Boot {
            at: Duration::from_secs(1_000),
        };
        assert_eq!(boot.unix_ms(1_500_000_000), 1_001_500);
        assert!(Boot::now().unix_ms(0) > 0);
    }

    #[test]
    fn a_time_has_its_offset_from_universal_time() {
        let text = local(1_700_000_000_123);
        assert!(
            text.contains(".123") && text.len() == "2023-11-14T22:13:20.123+00:00".len(),
            "{text}"
        );
    }
}
