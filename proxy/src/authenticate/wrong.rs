//! Who has tried how many wrong passwords.

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
            addresses: Budgets::new(address),
        }
    }

    /// Counts a password that is about to be tried; none when there were too many.
    pub(super) fn take(&self, person: String, address: IpAddr) -> Option<Try> {
        let (address, now) = (counted_as(address), self.now());
        if !self.addresses.take(&address, now) {
            return None;
        }
        if !self.people.take(&person, now) {
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
        self.addresses.change(&tried.address, Budget::give_back);
    }

    /// The directory did not. Only a wrong password counts against an account; an unknown name
    /// counts against the address.
    pub(super) fn was_refused(&self, tried: &Try, error: &DirectoryError) {
        let is_wrong = matches!(error, DirectoryError::WrongPassword);
        let is_guess = is_wrong || matches!(error, DirectoryError::UnknownLogin);
        if !is_wrong {
            self.people.change(&tried.person, Budget::give_back);
        }
        if !is_guess {
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

    use super::*;

    fn wrong() -> Wrong {
        let limit = |tries_max| Limit {
            tries_max,
            window: Duration::from_secs(900),
        };
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
        for _ in 0..4 {
            assert!(guess(&wrong, "alice", 2, &DirectoryError::UnknownLogin));
        }
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
