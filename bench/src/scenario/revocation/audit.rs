//! What Postern has on record of a loss.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::limits::{ANSWER_TIMEOUT, LOOK_INTERVAL};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// The audit file, from where it was read last.
#[derive(Debug)]
pub(super) struct Audit {
    file: PathBuf,
    read: u64,
}

/// One loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// Where it was heard of: `feed`.
    pub(super) heard: String,
    /// When, to a millisecond, since midnight.
    detected_ms: u64,
    /// When it was on record: by then new logins are refused.
    recorded_ms: u64,
    /// From then until the last backend had gone.
    pub(super) took: Duration,
}

impl Audit {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, read: 0 }
    }

    /// Leaves out what has been written so far.
    pub(super) fn skip(&mut self) -> Result<()> {
        self.read = std::fs::metadata(&self.file)?.len();
        Ok(())
    }

    /// The loss since, once it is on record that it has been made good.
    pub(super) async fn loss(&mut self) -> Result<Loss> {
        let start = Instant::now();
        loop {
            if let Some(loss) = find(&self.rest()?)? {
                self.skip()?;
                return Ok(loss);
            }
            ensure!(
                start.elapsed() < ANSWER_TIMEOUT,
                "no loss of access is on record"
            );
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn rest(&self) -> Result<String> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Loss {
    /// How long after a moment it was heard of; nothing when it was before.
    pub(super) fn heard_after(&self, moment: SystemTime) -> Duration {
        later(self.detected_ms, moment)
    }

    /// How long after a moment it was on record, at the latest.
    pub(super) fn recorded_after(&self, moment: SystemTime) -> Duration {
        // What the record leaves off is less than a millisecond.
        later(self.recorded_ms, moment) + Duration::from_millis(1)
    }
}

/// How long after a moment it was so many milliseconds past midnight; nothing when it was before.
fn later(ms_of_day: u64, moment: SystemTime) -> Duration {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let moment_ms = u64::try_from(since.as_millis()).unwrap_or_default() % DAY_MS;
    let later = (ms_of_day + DAY_MS - moment_ms) % DAY_MS;
    // Half a day later is rather before.
    let later = Some(later).filter(|it| *it < DAY_MS / 2);
    Duration::from_millis(later.unwrap_or_default())
}

/// The first loss, and the longest time that anybody took for it: a login beside may have found it
/// as well.
fn find(text: &str) -> Result<Option<Loss>> {
    let whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    let (mut lost, mut took) = (None, None);
    for line in whole {
        // Most records are those of logins.
        if !line.contains("\"access_") {
            continue;
        }
        let record: Value = serde_json::from_str(line).context("the audit file")?;
        match record["event"].as_str() {
            Some("access_lost") => {
                lost.get_or_insert(record);
            }
            Some("access_ended") => {
                let left = record["backends_left"].as_u64();
                ensure!(left == Some(0), "{left:?} backends are left: {line}");
                took = took.max(record["took_ms"].as_u64());
            }
            _ => {}
        }
    }
    let Some((lost, took_ms)) = lost.zip(took) else {
        return Ok(None);
    };
    let ms = |key: &str| {
        let time = lost[key].as_str().unwrap_or_default();
        ms_of_day(time).with_context(|| format!("{key} of {lost}"))
    };
    Ok(Some(Loss {
        heard: lost["heard"].as_str().unwrap_or_default().to_owned(),
        detected_ms: ms("detected_at")?,
        recorded_ms: ms("at")?,
        took: Duration::from_millis(took_ms),
    }))
}

/// The milliseconds since midnight of `2026-01-02T03:04:05.678Z` (RFC 3339).
fn ms_of_day(time: &str) -> Option<u64> {
    let (_, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let (clock, ms) = clock.split_once('.')?;
    let mut parts = clock.split(':').map(|it| it.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let seconds = (next()? * 60 + next()?) * 60 + next()?;
    let ms = (ms.len() == 3).then(|| ms.parse::<u64>().ok()).flatten()?;
    Some(seconds * 1_000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = concat!(
        r#"{"at":"2026-01-02T00:00:01.260Z","event":"access_lost","heard":"feed","#,
        r#""detected_at":"2026-01-02T00:00:01.250Z"}"#
    );
    const ENDED: &str = r#"{"event":"access_ended","backends_left":0,"took_ms":17}"#;

    #[test]
    fn a_loss_is_found_once_both_records_are_whole() -> Result<()> {
        assert_eq!(find(&format!("{LOST}\n{ENDED}"))?, None);
        let found = find(&format!("{{\"event\":\"opened\"}}\n{LOST}\n{ENDED}\n"))?;
        let loss = Loss {
            heard: "feed".to_owned(),
            detected_ms: 1_250,
            recorded_ms: 1_260,
            took: Duration::from_millis(17),
        };
        assert_eq!(found, Some(loss));
        let left = ENDED.replace(":0", ":3");
        assert!(find(&format!("{LOST}\n{left}\n")).is_err());
        Ok(())
    }

    #[test]
    fn what_was_heard_of_after_midnight_may_have_happened_before() -> Result<()> {
        let loss = find(&format!("{LOST}\n{ENDED}\n"))?.context("a loss")?;
        let midnight = UNIX_EPOCH + Duration::from_millis(DAY_MS * 20_000);
        for (moment, after_ms) in [
            (midnight + Duration::from_secs(1), 250),
            (midnight - Duration::from_secs(1), 2_250),
            (midnight + Duration::from_secs(2), 0),
        ] {
            assert_eq!(loss.heard_after(moment), Duration::from_millis(after_ms));
        }
        let recorded = loss.recorded_after(midnight + Duration::from_secs(1));
        assert_eq!(recorded, Duration::from_millis(261));
        Ok(())
    }
}
