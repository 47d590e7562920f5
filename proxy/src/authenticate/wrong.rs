//! Who has tried how many wrong passwords.
//!
//! A name that nobody has runs out of tries as an account does: else a guess that is refused
//! without asking, or that is not told of an outage, would say that there is such an account.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use postern_core::lockout::{Budget, Limit};

use crate::arrivals::counted_as;
use crate::budgets::Budgets;
use crate::directory::DirectoryError;

/// The budgets of all people and addresses. They outlive the memory of people: by a reload nobody
/// gets more tries.
pub(super) struct Wrong {
    started: Instant,
    people: Budgets<String>,
    /// Names without a password that could be guessed. Anybody may make them up, so they are kept
    /// from taking the room of people.
    others: Budgets<String>,
    addresses: Budgets<IpAddr>,
}

/// A password that is being tried.
#[must_use = "what came of it has to be said"]
pub(super) struct Try {
    person: String,
    address: IpAddr,
}

impl Wrong {
    pub(super) fn new(person: Limit, address: Limit) -> Self {
        Self {
            started: Instant::now(),
            people: Budgets::new(person),
            others: Budgets::new(person),
            addresses: Budgets::new(address),
        }
    }

    /// Counts a password that is about to be tried; none when there were too many.
    pub(super) fn take(&self, person: String, address: IpAddr) -> Option<Try> {
        let (address, now) = (counted_as(address), self.now());
        if !self.addresses.take(&address, now) {
            return None;
        }
        if !self.others.has_room(&person, now) || !self.people.take(&person, now) {
            self.addresses.change(&address, Budget::give_back);
            return None;
        }
        Some(Try { person, address })
    }

    /// Counts a proof that is about to be looked at, against its address alone; false when there
    /// were too many.
    pub(super) fn take_from(&self, address: IpAddr) -> bool {
        self.addresses.take(&counted_as(address), self.now())
    }

    /// The proof was right.
    pub(super) fn was_right_from(&self, address: IpAddr) {
        let address = counted_as(address);
        self.addresses.change(&address, Budget::give_back);
    }

    /// The directory accepted it.
    pub(super) fn was_right(&self, tried: &Try) {
        self.people.change(&tried.person, Budget::clear);
        self.others.change(&tried.person, Budget::clear);
        self.addresses.change(&tried.address, Budget::give_back);
    }

    /// The directory did not, or said nothing. What it would have said to any password counts as
    /// a wrong one does, and an outage counts for nobody.
    pub(super) fn was_refused(&self, tried: &Try, error: &DirectoryError) {
        if matches!(error, DirectoryError::WrongPassword) {
            return;
        }
        self.people.change(&tried.person, Budget::give_back);
        if error.is_for_any_password() {
            // Where there is no room for more names, the directory goes on being asked about it.
            let _ = self.others.take(&tried.person, self.now());
        } else {
            self.addresses.change(&tried.address, Budget::give_back);
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use postern_core::directory::account::AccountRefusal;
    use postern_core::login_name::LoginName;

    use super::*;
    use crate::limits::BUDGETS_MAX;

    fn limit(tries_max: u32) -> Limit {
        Limit {
            tries_max,
            window: Duration::from_secs(900),
        }
    }

    fn wrong() -> Wrong {
        Wrong::new(limit(2), limit(5))
    }

    fn guess(wrong: &Wrong, person: &str, host: u8, error: &DirectoryError) -> bool {
        let address = Ipv4Addr::new(10, 0, 0, host).into();
        let tried = wrong.take(person.to_owned(), address);
        if let Some(tried) = &tried {
            wrong.was_refused(tried, error);
        }
        tried.is_some()
    }

    #[test]
    fn wrong_passwords_for_a_person_count_from_all_addresses() {
        let wrong = wrong();
        assert!(guess(&wrong, "alice", 1, &DirectoryError::WrongPassword));
        assert!(guess(&wrong, "alice", 2, &DirectoryError::WrongPassword));
        assert!(!guess(&wrong, "alice", 3, &DirectoryError::WrongPassword));
        assert!(guess(&wrong, "bob", 3, &DirectoryError::WrongPassword));
    }

    #[test]
    fn unknown_names_count_for_the_address_and_for_nobodys_account() {
        let wrong = wrong();
        for number in 0..5 {
            let name = format!("nobody-{number}");
            assert!(guess(&wrong, &name, 1, &DirectoryError::UnknownLogin));
        }
        assert!(!guess(&wrong, "alice", 1, &DirectoryError::UnknownLogin));
        assert!(wrong.people.most(wrong.now()).is_none());
    }

    #[test]
    fn another_spelling_does_not_buy_more_tries_at_a_person() {
        let wrong = wrong();
        let guess = |spelling: &str| {
            let login = LoginName::parse(spelling, &["corp.example".to_owned()]);
            let person = login.map(|it| it.person_key());
            person.is_ok_and(|it| guess(&wrong, &it, 1, &DirectoryError::WrongPassword))
        };
        assert!(guess("alice") && guess("ALICE"));
        assert!(!guess("Alice") && !guess("alice@corp.example") && guess("bob"));
    }

    #[test]
    fn a_name_that_nobody_has_runs_out_of_tries_as_an_account_does() {
        let refusals = [
            DirectoryError::WrongPassword,
            DirectoryError::UnknownLogin,
            DirectoryError::AmbiguousLogin,
            DirectoryError::AccountRefused(AccountRefusal::Locked),
            DirectoryError::AccountRefused(AccountRefusal::NoPassword),
        ];
        for refusal in refusals {
            let wrong = wrong();
            let guess = |host, error: &DirectoryError| guess(&wrong, "anybody", host, error);
            for _ in 0..9 {
                assert!(guess(1, &DirectoryError::NoSource), "an outage");
            }
            assert!(guess(1, &refusal) && guess(2, &refusal), "{refusal}");
            assert!(!guess(3, &refusal), "{refusal}");
            assert!(!guess(4, &DirectoryError::NoSource), "{refusal}");
        }
    }

    #[test]
    fn names_that_nobody_has_keep_no_person_out() {
        // The addresses have no limit here.
        let wrong = Wrong::new(limit(2), limit(0));
        for number in 0..BUDGETS_MAX {
            let name = format!("nobody-{number}");
            assert!(guess(&wrong, &name, 1, &DirectoryError::UnknownLogin));
        }
        assert!(guess(&wrong, "alice", 1, &DirectoryError::WrongPassword));
        assert!(guess(&wrong, "alice", 2, &DirectoryError::WrongPassword));
        assert!(!guess(&wrong, "alice", 3, &DirectoryError::WrongPassword));
    }

    #[test]
    fn the_64_bits_of_a_subnet_of_ipv6_have_one_budget() {
        let wrong = wrong();
        let from = |text: &str| text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let guess = |number: usize, host: &str| {
            let tried = wrong.take(format!("nobody-{number}"), from(host));
            tried.map(|it| wrong.was_refused(&it, &DirectoryError::UnknownLogin))
        };
        for number in 0..5 {
            let host = format!("2001:db8:0:7:{number}::{number}");
            assert_eq!(guess(number, &host), Some(()), "{host}");
        }
        // Passwords and proofs count together.
        assert_eq!(guess(5, "2001:db8:0:7:ffff:ffff:ffff:ffff"), None);
        assert!(!wrong.take_from(from("2001:db8:0:7::9")));
        assert!(wrong.take_from(from("2001:db8:0:8::9")));
        // An address of IPv4 is the same however it is written, and its neighbour is another.
        for _ in 0..5 {
            assert!(wrong.take_from(from("::ffff:192.0.2.1")));
        }
        assert!(!wrong.take_from(from("192.0.2.1")));
        assert!(wrong.take_from(from("192.0.2.2")));
    }

    #[test]
    fn the_right_password_clears_the_person_and_an_outage_counts_for_nobody() {
        let wrong = wrong();
        assert!(guess(&wrong, "alice", 1, &DirectoryError::WrongPassword));
        let tried = wrong.take("alice".to_owned(), Ipv4Addr::LOCALHOST.into());
        assert!(tried.is_some());
        tried.iter().for_each(|it| wrong.was_right(it));
        for _ in 0..10 {
            assert!(guess(&wrong, "alice", 2, &DirectoryError::NoSource));
        }
        assert!(guess(&wrong, "alice", 3, &DirectoryError::WrongPassword));
    }
}
