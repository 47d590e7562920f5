//! Whether the process may have as many file descriptors as a full house takes.

use nix::sys::resource::{Resource, getrlimit};

use super::Probe;
use crate::config::Limits;
use crate::limits::{
    CANCELS_MAX, CONNECTIONS_PER_LOGIN_MAX, CONSOLE_SESSIONS_MAX, CONTROL_ASKERS_MAX,
    DESCRIPTORS_OF_A_LEG, DESCRIPTORS_OF_A_SESSION, DESCRIPTORS_OF_A_THREAD,
    DESCRIPTORS_OF_THE_PROCESS, ENDED_CANCELS_MAX, METRICS_CLIENTS_MAX, TURNED_AWAY_MAX,
};

/// The row of `postern check`, for so many login threads.
pub(super) fn probe(limits: &Limits, threads: usize) -> Probe {
    let may = getrlimit(Resource::RLIMIT_NOFILE).map(|(_, hard)| hard);
    match may {
        Ok(may) => verdict(limits, may, needed(limits, threads)),
        Err(errno) => Probe::warning(super::kernel::LEG, WHAT, errno.desc(), ""),
    }
}

const WHAT: &str = "file descriptors";

fn verdict(limits: &Limits, may: u64, need: u64) -> Probe {
    let leg = super::kernel::LEG;
    if may >= need {
        return Probe::ok(leg, WHAT, format!("{may}; a full house takes {need}"));
    }
    let (sessions, logins) = (limits.sessions_max, limits.logins_max);
    let why = format!(
        "{may}, but limits.sessions_max = {sessions} and limits.logins_max = {logins} take up to \
         {need}: clients are told that there are too many before these limits are reached"
    );
    let cure = format!(
        "LimitNOFILE={need} of the service, or ulimit -Hn {need}, or lower limits.sessions_max or \
         limits.logins_max"
    );
    Probe::warning(leg, WHAT, why, cure)
}

/// What everything takes when each of its limits is reached at the same time.
fn needed(limits: &Limits, threads: usize) -> u64 {
    // Each has the client's leg; those that log in have that of the backend as well.
    let connections = limits.logins_max.saturating_mul(CONNECTIONS_PER_LOGIN_MAX);
    let legs = connections
        .saturating_add(TURNED_AWAY_MAX)
        .saturating_add(limits.logins_max);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let each = [
        (limits.sessions_max, DESCRIPTORS_OF_A_SESSION),
        (legs, DESCRIPTORS_OF_A_LEG),
        (CONSOLE_SESSIONS_MAX, DESCRIPTORS_OF_A_LEG),
        // One connection searches, and another one binds.
        (limits.directory_calls_max, 2),
        (CANCELS_MAX + ENDED_CANCELS_MAX, 1),
        (METRICS_CLIENTS_MAX + CONTROL_ASKERS_MAX, 1),
        (threads, DESCRIPTORS_OF_A_THREAD),
        (1, DESCRIPTORS_OF_THE_PROCESS),
    ];
    let each = each.map(|(number, of_each)| count(number).saturating_mul(of_each));
    each.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::check::Outcome;
    use crate::config::SharesMax;

    fn limits(sessions_max: usize, logins_max: usize) -> Limits {
        Limits {
            sessions_max,
            logins_max,
            shares: SharesMax::default(),
            logins_per_minute_max: None,
            cold_logins_max: 500,
            connections_per_address_max: 1_000,
            directory_calls_max: 64,
            login_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(3_600),
            splice_threads: None,
        }
    }

    #[test]
    fn a_full_house_is_counted_in_every_room() {
        // Sessions, connections without one and backends of logins, those that are told that there
        // are too many, the console, the directory, cancel requests, questions, two threads, the
        // process.
        let rooms = [
            2 * 10_000,
            2 * (8 * 1_000 + 1_000),
            2 * 1_024,
            2 * 16,
            2 * 64,
            64 + 32,
            16 + 16,
            2 * 32,
            128,
        ];
        let need: u64 = rooms.iter().sum();
        assert_eq!(needed(&limits(10_000, 1_000), 2), need);
        assert_eq!(needed(&limits(10_001, 1_000), 2), need + 2);
        assert_eq!(needed(&limits(10_000, 1_001), 2), need + 2 * 9);
        assert_eq!(needed(&limits(10_000, 1_000), 3), need + 32);
        assert_eq!(needed(&limits(usize::MAX, usize::MAX), 2), u64::MAX);
    }

    #[test]
    fn one_descriptor_too_few_is_a_warning_with_the_number() {
        let limits = limits(10, 10);
        let need = needed(&limits, 2);
        let enough = verdict(&limits, need, need).outcome;
        assert!(matches!(enough, Outcome::Ok { .. }), "{enough:?}");
        let outcome = verdict(&limits, need - 1, need).outcome;
        let number = format!("LimitNOFILE={need} ");
        let says = matches!(&outcome, Outcome::Warning { cure, .. } if cure.starts_with(&number));
        assert!(says, "{outcome:?}");
    }
}
