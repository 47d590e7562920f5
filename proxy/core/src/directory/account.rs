//! Whether an account may log in, and when that changes without anybody changing the entry.
//!
//! Times are what has passed since 1970.

use std::fmt;
use std::time::Duration;

use super::entry::Entry;

/// `userAccountControl`: the account is disabled.
const UF_ACCOUNTDISABLE: u32 = 0x2;
/// `msDS-User-Account-Control-Computed`: locked out at this moment.
const UF_LOCKOUT: u32 = 0x10;
/// `msDS-User-Account-Control-Computed`: the password is expired or must be changed.
const UF_PASSWORD_EXPIRED: u32 = 0x80_0000;
/// Seconds from the epoch of Windows' file times, 1601, to Unix's.
const SECONDS_1601_TO_1970: u64 = 11_644_473_600;
/// The hours of a week, for each of which `logonHours` has a bit.
const WEEK_HOURS: u64 = 168;
/// The first hour of 1970, a Thursday, in a week that begins on Sunday.
const EPOCH_HOUR: u64 = 96;

/// The attributes that tell whether an account may log in, of Active Directory.
pub const ACTIVE_DIRECTORY_STATE: [&str; 6] = [
    "userAccountControl",
    "msDS-User-Account-Control-Computed",
    "msDS-UserPasswordExpiryTimeComputed",
    "accountExpires",
    "logonHours",
    "pwdLastSet",
];
/// The same of OpenLDAP's password policy and of 389 Directory Server.
pub const OPENLDAP_STATE: [&str; 7] = [
    "pwdAccountLockedTime",
    "pwdReset",
    "pwdStartTime",
    "pwdEndTime",
    "nsAccountLock",
    "entryCSN",
    "modifyTimestamp",
];

/// Why an account that exists may not log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountRefusal {
    /// Disabled by an administrator.
    Disabled,
    /// The account's own end date has passed.
    AccountExpired,
    /// The password's lifetime is over.
    PasswordExpired,
    /// The password must be changed first.
    PasswordMustChange,
    /// Too many wrong passwords.
    Locked,
    /// Not at this hour, or not from this machine.
    NotNow,
    /// The entry has no password, or no right to log in with one.
    NoPassword,
    /// The server refuses the bind for a reason of its own.
    Other {
        /// The result code.
        code: u32,
        /// Its diagnostic message.
        message: String,
    },
}

impl fmt::Display for AccountRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("disabled"),
            Self::AccountExpired => f.write_str("account expired"),
            Self::PasswordExpired => f.write_str("password expired"),
            Self::PasswordMustChange => f.write_str("password must be changed first"),
            Self::Locked => f.write_str("locked out"),
            Self::NotNow => f.write_str("not allowed at this hour or from this machine"),
            Self::NoPassword => f.write_str("the entry cannot log in with a password"),
            Self::Other { code, message } => write!(f, "result code {code}: {message}"),
        }
    }
}

impl Entry {
    /// What is another after the password was changed: when it was set (MS-ADA3, `pwdLastSet`),
    /// or else when anything of the entry was changed (RFC 4512, 3.4.4, and OpenLDAP's finer one).
    pub fn version(&self) -> Option<String> {
        let attributes = ["pwdLastSet", "entryCSN", "modifyTimestamp"];
        let found = attributes.iter().find_map(|it| self.text(it));
        found.map(str::to_owned)
    }

    /// Why the account may not log in at `now`, as far as its attributes tell.
    pub fn refusal(&self, now: Duration) -> Option<AccountRefusal> {
        let control: u32 = self.number("userAccountControl").unwrap_or(0);
        // The attribute is a signed 32-bit number on the wire.
        let computed: i64 = self
            .number("msDS-User-Account-Control-Computed")
            .unwrap_or(0);
        let computed = |flag: u32| computed & i64::from(flag) != 0;
        let is_true = |attribute| {
            self.text(attribute)
                .is_some_and(|t| t.eq_ignore_ascii_case("true"))
        };
        let has_passed = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if control & UF_ACCOUNTDISABLE != 0 || is_true("nsAccountLock") {
            Some(AccountRefusal::Disabled)
        } else if has_passed(self.file_time("accountExpires"))
            || has_passed(self.generalized_time("pwdEndTime"))
        {
            Some(AccountRefusal::AccountExpired)
        } else if computed(UF_LOCKOUT)
            || self
                .text("pwdAccountLockedTime")
                .is_some_and(|t| t.starts_with("000001010000"))
        {
            // A lock of OpenLDAP that has an end is the bind's to judge: only the policy knows
            // the end. The year 0 means that an administrator must lift it.
            Some(AccountRefusal::Locked)
        } else if computed(UF_PASSWORD_EXPIRED) {
            Some(AccountRefusal::PasswordExpired)
        } else if is_true("pwdReset") {
            Some(AccountRefusal::PasswordMustChange)
        } else if self.is_outside_hours(now)
            || self
                .generalized_time("pwdStartTime")
                .is_some_and(|at| at > now)
        {
            Some(AccountRefusal::NotNow)
        } else {
            None
        }
    }

    /// When an account that may log in at `now` may not any more, by the passing of time alone:
    /// no directory tells that.
    pub fn refused_from(&self, now: Duration) -> Option<Duration> {
        let times = [
            self.file_time("accountExpires"),
            self.file_time("msDS-UserPasswordExpiryTimeComputed"),
            self.generalized_time("pwdEndTime"),
            self.end_of_hours(now),
        ];
        let ahead = times.into_iter().flatten().filter(|at| *at > now);
        ahead.min()
    }

    /// A Windows file time: 100 ns since 1601. 0 and the largest mean never.
    fn file_time(&self, attribute: &str) -> Option<Duration> {
        let ticks: i64 = self.number(attribute)?;
        if ticks == i64::MAX {
            return None;
        }
        let ticks @ 1.. = u64::try_from(ticks).ok()? else {
            return None;
        };
        let since_1970 = (ticks / 10_000_000).saturating_sub(SECONDS_1601_TO_1970);
        Some(Duration::from_secs(since_1970))
    }

    /// A time in the form in which servers keep it, `20231114221320Z` (RFC 4517, 3.3.13).
    fn generalized_time(&self, attribute: &str) -> Option<Duration> {
        let text = self.text(attribute)?.strip_suffix('Z')?;
        let (seconds, _fraction) = text.split_once('.').unwrap_or((text, ""));
        let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", seconds).ok()?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        let since_1970 = u64::try_from(time.timestamp().as_second()).ok()?;
        Some(Duration::from_secs(since_1970))
    }

    /// The bit of an hour since 1970; `None` where every hour is allowed.
    ///
    /// `logonHours` has a bit for each hour of the week from Sunday midnight, UTC, the lowest bit
    /// of a byte first (MS-SAMR, 2.2.6.5).
    fn allows(&self, hour: u64) -> Option<bool> {
        let hours: &[u8; 21] = self
            .values("logonHours")
            .first()?
            .as_slice()
            .try_into()
            .ok()?;
        let hour = (hour + EPOCH_HOUR) % WEEK_HOURS;
        let byte = hours.get(usize::try_from(hour / 8).ok()?)?;
        Some(byte >> (hour % 8) & 1 == 1)
    }

    fn is_outside_hours(&self, now: Duration) -> bool {
        self.allows(hour_of(now)) == Some(false)
    }

    /// The beginning of the next hour that is not allowed.
    fn end_of_hours(&self, now: Duration) -> Option<Duration> {
        let mut next = hour_of(now)..=hour_of(now) + WEEK_HOURS;
        let hour = next.find(|hour| self.allows(*hour) == Some(false))?;
        Some(Duration::from_secs(hour * 3_600))
    }
}

/// The hours since 1970.
fn hour_of(time: Duration) -> u64 {
    time.as_secs() / 3_600
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14 22:13:20, a Tuesday.
    fn now() -> Duration {
        Duration::from_secs(1_700_000_000)
    }

    fn after(seconds: u64) -> Duration {
        now() + Duration::from_secs(seconds)
    }

    #[test]
    fn account_attributes_tell_why_a_login_is_refused() {
        let refusal = |attribute, value| Entry::new("CN=a").with(attribute, [value]).refusal(now());
        assert_eq!(refusal("userAccountControl", "512"), None);
        assert_eq!(
            refusal("userAccountControl", "514"),
            Some(AccountRefusal::Disabled)
        );
        assert_eq!(
            refusal("nsAccountLock", "TRUE"),
            Some(AccountRefusal::Disabled)
        );
        assert_eq!(refusal("accountExpires", "0"), None);
        assert_eq!(refusal("accountExpires", "9223372036854775807"), None);
        // To the second, and one second later.
        let at = refusal("accountExpires", "133444736000000000");
        assert_eq!(at, Some(AccountRefusal::AccountExpired));
        assert_eq!(refusal("accountExpires", "133444736010000000"), None);
        let at = refusal("pwdEndTime", "20231114221320Z");
        assert_eq!(at, Some(AccountRefusal::AccountExpired));
        assert_eq!(refusal("pwdEndTime", "20231114221321.5Z"), None);
        assert_eq!(refusal("pwdEndTime", "soon"), None);
        let computed = "msDS-User-Account-Control-Computed";
        assert_eq!(refusal(computed, "16"), Some(AccountRefusal::Locked));
        assert_eq!(
            refusal(computed, "8388608"),
            Some(AccountRefusal::PasswordExpired)
        );
        let locked = "pwdAccountLockedTime";
        assert_eq!(
            refusal(locked, "000001010000Z"),
            Some(AccountRefusal::Locked)
        );
        assert_eq!(refusal(locked, "20231114221320Z"), None);
        assert_eq!(
            refusal("pwdReset", "TRUE"),
            Some(AccountRefusal::PasswordMustChange)
        );
        let start = "pwdStartTime";
        assert_eq!(
            refusal(start, "20231114221321Z"),
            Some(AccountRefusal::NotNow)
        );
        assert_eq!(refusal(start, "20231114221320Z"), None);
    }

    #[test]
    fn the_first_end_that_time_brings_is_told() {
        let entry = || Entry::new("CN=a");
        let expiring = || entry().with("accountExpires", ["133444736600000000"]);
        let password = "msDS-UserPasswordExpiryTimeComputed";
        assert_eq!(entry().refused_from(now()), None);
        assert_eq!(expiring().refused_from(now()), Some(after(60)));
        let sooner = expiring().with(password, ["133444736300000000"]);
        assert_eq!(sooner.refused_from(now()), Some(after(30)));
        let never = entry().with(password, ["9223372036854775807"]);
        assert_eq!(never.refused_from(now()), None);
        let ending = |time| entry().with("pwdEndTime", [time]).refused_from(now());
        assert_eq!(ending("20231114221420Z"), Some(after(60)));
        // What has passed is a refusal, and not a time to wait for.
        assert_eq!(ending("20231114221220Z"), None);
    }

    #[test]
    fn hours_of_the_week_count_from_sunday_midnight() {
        let with = |hours: Vec<u8>| Entry::new("CN=a").with("logonHours", [hours]);
        // Tuesday from 22 to 23 o'clock is the hour 70: bit 6 of byte 8.
        let mut only = vec![0; 21];
        only[8] = 1 << 6;
        let only = with(only);
        assert_eq!(only.refusal(now()), None);
        assert_eq!(only.refusal(after(3_600)), Some(AccountRefusal::NotNow));
        let ends = Duration::from_secs(1_700_002_800);
        assert_eq!(only.refused_from(now()), Some(ends));
        let always = with(vec![255; 21]);
        assert_eq!(
            (always.refusal(now()), always.refused_from(now())),
            (None, None)
        );
        let odd = with(vec![0; 20]);
        assert_eq!((odd.refusal(now()), odd.refused_from(now())), (None, None));
    }
}
