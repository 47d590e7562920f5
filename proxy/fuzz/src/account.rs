//! Whether an account may log in, and until when, by the values of its entry.

use std::time::Duration;

use postern_core::directory::account::{ACTIVE_DIRECTORY_STATE, AccountRefusal, OPENLDAP_STATE};
use postern_core::directory::entry::Entry;

use crate::pieces::Pieces;

/// The end of the password, which the server judges: it is told, and refuses nobody.
const PASSWORD_END: &str = "msDS-UserPasswordExpiryTimeComputed";
/// What is another after the password was changed, the first one first.
const VERSIONS: [&str; 3] = ["pwdLastSet", "entryCSN", "modifyTimestamp"];
/// The days before each month, in a year of 365.
const DAYS_BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
/// The first Sunday midnight of 1970, in hours.
const SUNDAY: u64 = 72;
/// The last second of file times, in the year 30828, as Unix time.
const SECONDS_MAX: u64 = 910_692_730_085;
/// The shortest time there is.
const INSTANT: Duration = Duration::from_nanos(1);
/// In seconds.
const WEEK: u64 = 604_800;
/// What is longer is no value by itself.
const VALUE_BYTES_MAX: usize = 32;
/// The times that are tried beside the one that comes.
const TIMES: [u64; 4] = [0, 1_700_000_000, 253_402_300_799, SECONDS_MAX];

/// One value of any attribute; or a time in seconds, the end of the password and a value of each
/// other attribute, a line each, and the hours of the week.
pub fn account(data: &[u8]) {
    if data.len() <= VALUE_BYTES_MAX {
        check_value(data);
    }
    if data.contains(&b'\n') {
        check_entry(data);
    }
}

fn check_value(value: &[u8]) {
    for attribute in attributes() {
        check_flag(attribute, value);
    }
    check_file_time(value);
    check_generalized_time(value);
    check_hours(value);
}

fn check_entry(lines: &[u8]) {
    let mut input = Pieces(lines);
    let now = input.text().parse().unwrap_or_default();
    let now = at(SECONDS_MAX.min(now));
    let password_end = input.line();
    let mut entry = Entry::new("");
    for attribute in attributes().filter(|it| ![PASSWORD_END, "logonHours"].contains(it)) {
        entry = with_line(entry, attribute, input.line());
    }
    let entry = with_line(entry, "logonHours", input.0);
    check_end(&entry, now);
    check_password_end(&entry, password_end, now);
    check_first(&entry, now);
    check_version(&entry);
}

fn attributes() -> impl Iterator<Item = &'static str> {
    ACTIVE_DIRECTORY_STATE.into_iter().chain(OPENLDAP_STATE)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn one(attribute: &str, value: &[u8]) -> Entry {
    Entry::new("").with(attribute, [value])
}

/// An empty line is no value.
fn with_line(entry: Entry, attribute: &str, line: &[u8]) -> Entry {
    match line {
        [] => entry,
        line => entry.with(attribute, [line]),
    }
}

/// Nothing refuses at any time, and no end is told.
fn check_silent(entry: &Entry) {
    for time in TIMES.map(at) {
        assert_eq!(entry.refusal(time), None, "{entry:?}");
        assert_eq!(entry.refused_from(time), None, "{entry:?}");
    }
}

/// What does not depend on the time is said at any time, and what cannot be read says nothing.
fn check_flag(attribute: &str, value: &[u8]) {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let is_true = text.eq_ignore_ascii_case("true");
    let computed: i64 = text.parse().unwrap_or_default();
    let refusal = match attribute {
        "userAccountControl" => {
            let control: u32 = text.parse().unwrap_or_default();
            (control & 2 != 0).then_some(AccountRefusal::Disabled)
        }
        "msDS-User-Account-Control-Computed" if computed & 0x10 != 0 => {
            Some(AccountRefusal::Locked)
        }
        "msDS-User-Account-Control-Computed" => {
            (computed & 0x80_0000 != 0).then_some(AccountRefusal::PasswordExpired)
        }
        "nsAccountLock" => is_true.then_some(AccountRefusal::Disabled),
        "pwdReset" => is_true.then_some(AccountRefusal::PasswordMustChange),
        "pwdAccountLockedTime" => text
            .starts_with("000001010000")
            .then_some(AccountRefusal::Locked),
        // Those that tell of times, and what is only told to compare.
        "accountExpires" | PASSWORD_END | "logonHours" | "pwdStartTime" | "pwdEndTime" => return,
        _ => None,
    };
    let entry = one(attribute, value);
    for time in TIMES.map(at) {
        assert_eq!(entry.refusal(time), refusal, "{entry:?}");
        assert_eq!(entry.refused_from(time), None, "{entry:?}");
    }
}

/// A file time ends an account to the second; 0, the largest, what is negative and what is no
/// number never do.
fn check_file_time(value: &[u8]) {
    let entry = one("accountExpires", value);
    let ticks: i64 = std::str::from_utf8(value)
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    if ticks <= 0 || ticks == i64::MAX {
        return check_silent(&entry);
    }
    // What was before 1970 counts as its first second.
    let since_1601 = ticks.unsigned_abs() / 10_000_000;
    let end = at(since_1601.saturating_sub(11_644_473_600));
    assert!(end <= at(SECONDS_MAX));
    assert_eq!(entry.refusal(end), Some(AccountRefusal::AccountExpired));
    if !end.is_zero() {
        assert_eq!(entry.refused_from(Duration::ZERO), Some(end));
    }
    check_end(&entry, Duration::ZERO);
}

/// The same time ends one account and begins another, and one that cannot be read does neither.
fn check_generalized_time(value: &[u8]) {
    let (ending, beginning) = (one("pwdEndTime", value), one("pwdStartTime", value));
    let end = match ending.refusal(Duration::ZERO) {
        Some(_) => Some(Duration::ZERO),
        None => ending.refused_from(Duration::ZERO),
    };
    for time in TIMES.map(at) {
        let is_over = end.is_some_and(|end| end <= time);
        let is_ahead = end.is_some_and(|end| end > time);
        let expired = is_over.then_some(AccountRefusal::AccountExpired);
        assert_eq!(ending.refusal(time), expired, "{ending:?}");
        let not_yet = is_ahead.then_some(AccountRefusal::NotNow);
        assert_eq!(beginning.refusal(time), not_yet, "{beginning:?}");
        assert_eq!(beginning.refused_from(time), None, "{beginning:?}");
    }
    if let Some(end) = end {
        // Years have four digits.
        assert!(
            value.ends_with(b"Z") && end <= at(253_402_300_799),
            "{ending:?}"
        );
        assert_eq!(beginning.refusal(end), None);
        let before = end.checked_sub(INSTANT).map(|time| beginning.refusal(time));
        assert!(before.is_none_or(|it| it == Some(AccountRefusal::NotNow)));
    }
    if let Some(seconds) = seconds_of(value) {
        assert_eq!(end, Some(at(seconds)), "{ending:?}");
    }
    check_end(&ending, Duration::ZERO);
}

/// The Unix time of 14 digits and a Z, for the days that every month has.
fn seconds_of(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    if digits.len() != 14 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let field = |from: usize, to: usize| digits.get(from..to)?.parse::<u64>().ok();
    let (year @ 1_970..=9_998, month @ 1..=12, day @ 1..=28) =
        (field(0, 4)?, field(4, 6)?, field(6, 8)?)
    else {
        return None;
    };
    let (hour @ 0..=23, minute @ 0..=59, second @ 0..=59) =
        (field(8, 10)?, field(10, 12)?, field(12, 14)?)
    else {
        return None;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let leaps_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let before_month = DAYS_BEFORE_MONTH.get(usize::try_from(month).ok()? - 1)?;
    let days = (year - 1_970) * 365 + leaps_before(year) - leaps_before(1_970)
        + before_month
        + u64::from(is_leap && month > 2)
        + day
        - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Each hour of the week has its bit, from Sunday midnight on; hours that are not 21 bytes say
/// nothing.
fn check_hours(value: &[u8]) {
    let entry = one("logonHours", value);
    if value.len() != 21 {
        return check_silent(&entry);
    }
    let bits = value
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
    for (hour, bit) in (SUNDAY..).zip(bits) {
        let first = at(hour * 3_600);
        for time in [first, first + Duration::from_secs(3_599)] {
            let refusal = (bit == 0).then_some(AccountRefusal::NotNow);
            assert_eq!(entry.refusal(time), refusal, "{hour} of {entry:?}");
        }
        // Once a day: the end of hours is looked for in a whole week.
        if hour % 24 == 0 {
            check_end(&entry, first);
        }
    }
}

/// Who may log in is refused from the end that is told on, and not before; without an end, never.
/// What time does not lift, it does not lift.
fn check_end(entry: &Entry, now: Duration) {
    let end = entry.refused_from(now);
    assert!(end.is_none_or(|end| end > now && end <= at(SECONDS_MAX + WEEK)));
    let later = || TIMES.map(at).into_iter().filter(|time| *time >= now);
    match (entry.refusal(now), end) {
        (None, Some(end)) => {
            let before = end - INSTANT;
            assert_eq!(entry.refusal(before), None, "{entry:?}");
            assert_eq!(entry.refused_from(before), Some(end), "{entry:?}");
            let refusal = entry.refusal(end);
            let is_of_time = matches!(
                refusal,
                Some(AccountRefusal::AccountExpired | AccountRefusal::NotNow)
            );
            assert!(is_of_time, "{refusal:?} of {entry:?}");
        }
        (None, None) => assert!(
            later().all(|time| entry.refusal(time).is_none()),
            "{entry:?}"
        ),
        // The beginning may come, or another hour.
        (Some(AccountRefusal::NotNow), _) => {}
        (Some(AccountRefusal::NoPassword | AccountRefusal::Other { .. }), _) => {
            panic!("only a bind says so");
        }
        (Some(refusal @ (AccountRefusal::Disabled | AccountRefusal::AccountExpired)), _) => {
            assert!(later().all(|time| entry.refusal(time).as_ref() == Some(&refusal)));
        }
        (Some(_), _) => {
            // The account's own end may become the reason.
            assert!(later().all(|time| {
                let refusal = entry.refusal(time);
                refusal.is_some() && refusal != Some(AccountRefusal::NotNow)
            }));
        }
    }
}

/// The end of the password counts as the account's own would, and refuses nobody by itself.
fn check_password_end(entry: &Entry, value: &[u8], now: Duration) {
    let both = entry.clone().with(PASSWORD_END, [value]);
    assert_eq!(both.refusal(now), entry.refusal(now));
    let password = one("accountExpires", value).refused_from(now);
    let first = entry.refused_from(now).into_iter().chain(password).min();
    assert_eq!(both.refused_from(now), first, "{both:?}");
}

/// Of an attribute that comes twice the first counts, and text that is none is passed over.
fn check_first(entry: &Entry, now: Duration) {
    let mut after = entry.clone();
    let mut passed_over = Entry::new("");
    for attribute in attributes() {
        let values = entry.values(attribute);
        if !values.is_empty() {
            after = after.with(attribute.to_uppercase(), [attribute]);
        }
        let odd = (attribute != "logonHours").then(|| vec![0xff]);
        passed_over = passed_over.with(attribute, odd.into_iter().chain(values.to_vec()));
    }
    for other in [after, passed_over] {
        assert_eq!(other.refusal(now), entry.refusal(now), "{other:?}");
        assert_eq!(
            other.refused_from(now),
            entry.refused_from(now),
            "{other:?}"
        );
        assert_eq!(other.version(), entry.version(), "{other:?}");
    }
}

/// The version is a text that came, whole.
fn check_version(entry: &Entry) {
    let came = VERSIONS.iter().find_map(|it| entry.texts(it).next());
    assert_eq!(entry.version().as_deref(), came);
}
