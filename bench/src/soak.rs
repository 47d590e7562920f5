//! A soak: hours of mixed load with faults now and then, and whether the process stays as it was.
//!
//! Memory and file descriptors are sampled all the time. What the last quarter of the time has
//! more than the first is the drift, which must be small; and nobody may be refused
//! outside of the faults. Before the time begins there is a warm-up in which each fault happens
//! once, so that the first quarter has everything that is made once and kept.

mod faults;
mod process;
mod report;
mod site;
mod tally;
mod work;

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::faults::Faults;
use self::process::Series;
use self::report::Report;
use self::site::Site;
use self::tally::Tally;
use crate::limits::{
    ANSWER_TIMEOUT, SOAK_FAULT_EVERY_MAX, SOAK_FAULT_EVERY_MIN, SOAK_HOURS_MAX, SOAK_RECOVERY,
    SOAK_SAMPLE_EVERY,
};
use crate::options::Options;
use crate::progress::Progress;
use crate::{facts, load};

/// What `--only` says to ask for it.
pub const NAME: &str = "soak";

/// How many faults there are in the time, if they do not come too often or too seldom then.
const FAULTS: u32 = 12;

/// Whether the options ask for a soak and nothing else.
#[must_use]
pub fn is_asked_for(options: &Options) -> bool {
    options.only.as_deref() == Some(NAME)
}

/// Runs, and writes the report to standard output and to the files that the options name.
///
/// # Errors
/// If a server does not start or ends by itself, or a promise is broken; what was found until
/// then is written nevertheless.
pub fn run(options: &Options) -> Result<()> {
    let lasts = length(options.hours)?;
    let began = facts::now();
    let progress = Progress::default();
    progress.say("PostgreSQL, OpenLDAP and Postern");
    let site = Rc::new(Site::start()?);
    let every = (lasts / FAULTS).clamp(SOAK_FAULT_EVERY_MIN, SOAK_FAULT_EVERY_MAX);
    let (tally, series) = (Rc::new(Tally::default()), Rc::new(Series::default()));
    let limit = lasts + (SOAK_FAULT_EVERY_MIN + SOAK_RECOVERY) * 8 + ANSWER_TIMEOUT;
    let ended = load::run(limit, async {
        let faults = Faults::new(&site, &tally, &progress);
        let load = work::begin(&site, &tally);
        progress.say("warming up");
        faults.each_once(SOAK_FAULT_EVERY_MIN).await?;
        tally.forget();
        progress.say(&format!("{} s begin", lasts.as_secs()));
        let start = Instant::now();
        tokio::select! {
            ended = faults.now_and_then(every) => ended?,
            ended = watch(&site, &series) => ended?,
            () = tokio::time::sleep(lasts) => {}
        }
        let took = start.elapsed();
        // What is under way at the end is neither done nor failed.
        drop(load);
        anyhow::Ok(took)
    });
    let report = Report {
        began,
        commit: facts::commit(),
        machine: facts::host(site.postgres())?,
        hours: options.hours,
        took_s: ended.as_ref().map_or(0.0, Duration::as_secs_f64),
        fault_every_s: every.as_secs_f64(),
        faults: tally.faults(),
        works: tally.works(),
        examples: tally.examples(),
        drifts: series.drifts(),
        samples: series.samples(),
        ended_early: ended.as_ref().err().map(|error| format!("{error:#}")),
    };
    progress.say("ending all servers");
    drop(site);
    write(&report, options)?;
    ended?;
    ensure!(report.holds(), "a promise is broken");
    Ok(())
}

/// Samples the process until it ends, which it must not.
async fn watch(site: &Site, series: &Series) -> Result<()> {
    let start = Instant::now();
    loop {
        series.add(start.elapsed(), site.pid())?;
        tokio::time::sleep(SOAK_SAMPLE_EVERY).await;
    }
}

fn length(hours: f64) -> Result<Duration> {
    if !(hours > 0.0 && hours <= SOAK_HOURS_MAX) {
        bail!("--hours: more than 0 and at most {SOAK_HOURS_MAX}");
    }
    Ok(Duration::from_secs_f64(hours * 3_600.0))
}

fn write(report: &Report, options: &Options) -> Result<()> {
    let put = |file: &Path, text: String| {
        fs::write(file, text).with_context(|| file.display().to_string())
    };
    let text = report.markdown();
    if let Some(file) = &options.json {
        put(file, serde_json::to_string(report)? + "\n")?;
    }
    if let Some(file) = &options.page {
        put(file, text.clone())?;
    }
    print!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_an_hour_is_a_length_and_nothing_is_none() {
        assert_eq!(length(0.05).ok(), Some(Duration::from_secs(180)));
        for hours in [0.0, -1.0, 1e9, f64::NAN] {
            assert!(length(hours).is_err(), "{hours}");
        }
    }
}
