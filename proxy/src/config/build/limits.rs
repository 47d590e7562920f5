//! `[limits]`.

use std::time::Duration;

use super::milliseconds;
use crate::config::section::Section;
use crate::config::{Limits, SharesMax};

/// `[limits]`.
pub(in crate::config) fn limits(section: &Section) -> Option<Limits> {
    Some(Limits {
        sessions_max: section.integer("sessions_max")?,
        shares: SharesMax {
            role: section.integer("sessions_per_role_max"),
            address: section.integer("sessions_per_address_max"),
            database: section.integer("sessions_per_database_max"),
        },
        logins_per_minute_max: section.integer("logins_per_address_and_minute_max"),
        logins_max: section.integer("logins_max")?,
        cold_logins_max: section.integer("cold_logins_max")?,
        connections_per_address_max: section.integer("connections_per_address_max")?,
        directory_calls_max: section.integer("directory_calls_max")?,
        login_timeout: milliseconds(section, "login_timeout_ms")?,
        drain_timeout: Duration::from_secs(section.integer("drain_timeout_s")?),
        splice_threads: section.integer("splice_threads"),
    })
}
