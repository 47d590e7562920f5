//! The card, for drivers of Rust: what is asked, and how it is printed.

use std::time::Duration;

/// How many rows are copied.
pub const ROWS: u64 = 100_000;
/// How long a notification may take.
pub const WAIT: Duration = Duration::from_secs(30);
/// How often a cancel request is repeated until the query has ended: the first may come too early.
pub const CANCEL_INTERVAL: Duration = Duration::from_secs(1);

/// Whether there is TLS, as the server sees it.
pub const TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
/// A query that would take longer than the test.
pub const SLEEP: &str = "select pg_sleep(60)";
/// Ends the session that asks for it.
pub const END: &str = "select pg_terminate_backend(pg_backend_pid())";

/// What is said of an item, or the driver's own word for what went wrong.
pub type Outcome = Result<String, Box<dyn std::error::Error>>;

/// How to connect.
#[derive(Clone)]
pub struct Way {
    /// libpq's `sslmode`.
    pub mode: &'static str,
    /// The file of the authority.
    pub authority: String,
    /// The password.
    pub password: String,
}

impl Way {
    /// Verified in full.
    pub fn full() -> Self {
        Self::with_mode("verify-full")
    }

    /// One of libpq's modes.
    pub fn with_mode(mode: &'static str) -> Self {
        Self {
            mode,
            authority: variable("PGSSLROOTCERT"),
            password: variable("PGPASSWORD"),
        }
    }

    /// Every way that the card names.
    pub fn all() -> Vec<(String, Self)> {
        let modes = [
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full",
        ];
        let modes = modes.map(|it| (format!("sslmode={it}"), Self::with_mode(it)));
        let foreign = Self {
            authority: variable("CARD_FOREIGN_CA"),
            ..Self::full()
        };
        let wrong = Self {
            password: "not-this-one".to_owned(),
            ..Self::with_mode("require")
        };
        let mut all = Vec::from(modes);
        all.push(("foreign-authority".to_owned(), foreign));
        all.push(("wrong-password".to_owned(), wrong));
        all
    }
}

/// A variable of the environment that the card's reader sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The port.
pub fn port() -> u16 {
    variable("PGPORT").parse().unwrap_or_default()
}

/// The long text.
pub fn long_text() -> String {
    "x".repeat(variable("CARD_ROW_BYTES").parse().unwrap_or_default())
}

/// What came back of it.
pub fn compare(text: &str, back: &str) -> String {
    let verdict = if text == back { "same" } else { "changed" };
    format!("{} {verdict}", back.len())
}

/// Every row as the text of COPY.
pub fn lines() -> String {
    (1..=ROWS).map(|it| format!("{it}\n")).collect()
}

/// How many numbers a text of COPY has, and what they come to.
pub fn sum(text: &str) -> Outcome {
    let numbers: Result<Vec<u64>, _> = text.lines().map(str::parse).collect();
    let numbers = numbers?;
    Ok(format!("{} {}", numbers.len(), numbers.iter().sum::<u64>()))
}

/// Prints what an item came to.
pub fn say(name: &str, outcome: Outcome) {
    let said = outcome.unwrap_or_else(|error| format!("failed {error}"));
    let words: Vec<&str> = said.split_whitespace().collect();
    println!("{name}\t{}", words.join(" "));
}
