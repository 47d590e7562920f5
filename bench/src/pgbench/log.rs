//! The log of pgbench: every transaction, with its end and how long it took.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

/// The longest latency that is told from a longer one, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;

/// A transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transaction {
    /// When it ended, in seconds since 1970.
    end_s: f64,
    /// How long it took, in microseconds.
    latency_us: u64,
}

/// The half of all transactions that is in the middle.
#[derive(Debug)]
pub(super) struct Middle {
    /// When the last one before it ended, in seconds since 1970.
    pub(super) from_s: f64,
    /// When its last one ended.
    pub(super) to_s: f64,
    /// How many they are.
    pub(super) transactions: f64,
    /// How long they took, in microseconds.
    pub(super) latencies: Histogram<u64>,
}

/// Reads the logs of all threads.
///
/// # Errors
/// If one cannot be read or has a line of another form.
pub(super) fn read(folder: &Path) -> Result<Vec<Transaction>> {
    let mut transactions = Vec::new();
    for entry in fs::read_dir(folder)? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let transaction = parse(line);
            let transaction = transaction.with_context(|| format!("pgbench's log has {line:?}"));
            transactions.push(transaction?);
        }
    }
    Ok(transactions)
}

/// Reads a line: client, its count of transactions, latency in microseconds, script, and the end
/// in seconds and microseconds, <https://www.postgresql.org/docs/current/pgbench.html>.
fn parse(line: &str) -> Option<Transaction> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, _, latency, _, seconds, microseconds, ..] = fields.as_slice() else {
        return None;
    };
    Some(Transaction {
        end_s: seconds.parse::<f64>().ok()? + microseconds.parse::<f64>().ok()? / 1e6,
        latency_us: latency.parse().ok()?,
    })
}

impl Middle {
    /// Takes the middle out of a run.
    ///
    /// # Errors
    /// If it has too few transactions.
    pub(super) fn of(mut transactions: Vec<Transaction>) -> Result<Self> {
        transactions.sort_by(|one, other| one.end_s.total_cmp(&other.end_s));
        let quarter = transactions.len() / 4;
        let middle = quarter..transactions.len() - quarter;
        let before = quarter.checked_sub(1).and_then(|it| transactions.get(it));
        let middle = transactions.get(middle).unwrap_or_default();
        let (Some(before), Some(last)) = (before, middle.last()) else {
            bail!("{} transactions are too few", transactions.len());
        };
        let mut latencies = Histogram::new_with_max(LATENCY_MAX_US, 3)?;
        for transaction in middle {
            latencies.saturating_record(transaction.latency_us);
        }
        Ok(Self {
            from_s: before.end_s,
            to_s: last.end_s,
            transactions: f64::from(u32::try_from(middle.len())?),
            latencies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_has_the_transactions_of_all_threads_but_the_first_and_last_quarter() -> Result<()>
    {
        let folder = postern_tests::Scratch::new()?;
        for (name, text) in [
            (
                "log.17",
                "0 1 9000 0 1000 0\n0 2 100 0 1003 500000\n0 3 9000 0 1009 0 0\n",
            ),
            ("log.17.1", "1 1 300 0 1002 0\n"),
        ] {
            fs::write(folder.path().join(name), text)?;
        }
        let middle = Middle::of(read(folder.path())?)?;
        assert_eq!((middle.from_s, middle.to_s), (1_000.0, 1_003.5));
        assert_eq!(middle.transactions, 2.0);
        assert_eq!(middle.latencies.max(), 300);
        Ok(())
    }

    #[test]
    fn too_few_transactions_and_other_lines_are_errors() -> Result<()> {
        assert!(Middle::of(Vec::new()).is_err());
        let folder = postern_tests::Scratch::new()?;
        fs::write(folder.path().join("log.17"), "0 1 failed 0 1000 0\n")?;
        assert!(read(folder.path()).is_err());
        Ok(())
    }
}
