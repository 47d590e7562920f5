//! What a soak leaves: JSON with every sample, and a page of Markdown for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::process::{DRIFT_MAX, Drift, Sample};
use super::tally::{Counts, Fault, Work};
use crate::report::format::bytes;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// When the run began, RFC 3339, UTC.
    pub(super) began: String,
    /// The commit that was built, with `+changes` when the tree was not clean.
    pub(super) commit: String,
    /// The machine, by name.
    pub(super) machine: BTreeMap<String, String>,
    /// What was asked for, in hours.
    pub(super) hours: f64,
    /// How long it took without the warm-up, in seconds.
    pub(super) took_s: f64,
    /// From one fault to the next, in seconds.
    pub(super) fault_every_s: f64,
    /// Every fault, in order.
    pub(super) faults: Vec<Fault>,
    /// What was done how often, and what failed.
    pub(super) works: BTreeMap<Work, Counts>,
    /// The first failures outside of faults, in words.
    pub(super) examples: Vec<String>,
    /// What the process has more at the end.
    pub(super) drifts: Vec<Drift>,
    /// Why the run ended early, if it did.
    pub(super) ended_early: Option<String>,
    /// Every look at the process.
    pub(super) samples: Vec<Sample>,
}

impl Report {
    /// Whether every promise holds: the time was lived through, nothing has drifted, and nothing
    /// failed outside of faults.
    pub(super) fn holds(&self) -> bool {
        self.ended_early.is_none()
            && !self.drifts.is_empty()
            && self.drifts.iter().all(|it| it.holds)
            && self.works.values().all(|it| it.failed_outside == 0)
    }

    /// The page.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let refused = self.failed_outside(|it| it.is_login());
        let others = self.failed_outside(|it| !it.is_login());
        writeln!(text, "# Soak\n")?;
        writeln!(
            text,
            "{:.0} s of mixed load on one Postern, with {} faults, after a warm-up in which each \
             kind of fault happened once.",
            self.took_s,
            self.faults.len()
        )?;
        writeln!(text, "Begun {}, commit {}.", self.began, self.commit)?;
        let machine = self
            .machine
            .iter()
            .map(|(name, fact)| format!("{name} {fact}"));
        writeln!(text, "{}.", machine.collect::<Vec<_>>().join(", "))?;
        if let Some(why) = &self.ended_early {
            writeln!(text, "\n**It ended early: {why}.**")?;
        }
        writeln!(text, "\n| promise | found | holds |\n|---|---:|---|")?;
        writeln!(
            text,
            "| logins refused outside of faults: 0 | {refused} | {} |",
            yes(refused == 0)
        )?;
        writeln!(
            text,
            "| anything else failed outside of faults: 0 | {others} | {} |",
            yes(others == 0)
        )?;
        for drift in &self.drifts {
            let (what, share) = (drift.what, drift.share * 100.0);
            let bound = DRIFT_MAX * 100.0;
            let holds = yes(drift.holds);
            writeln!(
                text,
                "| {what}: drift of at most {bound} % | {share:+.2} % | {holds} |"
            )?;
        }
        self.write_drifts(text)?;
        self.write_load(text)
    }

    fn write_drifts(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "\n## The process\n\nMedians of the first and the last quarter of the time, of a look \
             every second.\n"
        )?;
        writeln!(
            text,
            "| figure | first quarter | last quarter | least | most |"
        )?;
        writeln!(text, "|---|---:|---:|---:|---:|")?;
        for drift in &self.drifts {
            let figure = |value: f64| match drift.what.ends_with("_bytes") {
                true => bytes(value),
                false => format!("{value:.0}"),
            };
            let (least, most) = drift.range;
            let cells = [drift.first, drift.last, least, most].map(figure);
            writeln!(text, "| {} | {} |", drift.what, cells.join(" | "))?;
        }
        Ok(())
    }

    fn write_load(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\n## The load\n")?;
        writeln!(text, "| kind | done | failed in faults | failed outside |")?;
        writeln!(text, "|---|---:|---:|---:|")?;
        for (work, counts) in &self.works {
            let Counts {
                done,
                failed_in_faults,
                failed_outside,
            } = counts;
            let name = work.name();
            writeln!(
                text,
                "| {name} | {done} | {failed_in_faults} | {failed_outside} |"
            )?;
        }
        for example in &self.examples {
            writeln!(text, "- {example}")?;
        }
        writeln!(text, "\n## The faults\n")?;
        writeln!(text, "One every {:.0} s.\n", self.fault_every_s)?;
        writeln!(
            text,
            "| fault | times | longest until logins worked again |"
        )?;
        writeln!(text, "|---|---:|---:|")?;
        let mut kinds: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
        for fault in &self.faults {
            let (times, longest) = kinds.entry(fault.what).or_default();
            *times += 1;
            *longest = longest.max(fault.recovery_s);
        }
        for (what, (times, longest)) in kinds {
            writeln!(text, "| {what} | {times} | {longest:.1} s |")?;
        }
        Ok(())
    }

    fn failed_outside(&self, of: impl Fn(&Work) -> bool) -> u64 {
        let works = self.works.iter().filter(|(work, _)| of(work));
        works.map(|(_, counts)| counts.failed_outside).sum()
    }
}

const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "**no**" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::Result;

    use super::*;
    use crate::soak::process::Series;

    fn report() -> Result<Report> {
        let series = Series::default();
        for second in 0..8 {
            series.add(Duration::from_secs(second), std::process::id())?;
        }
        let well = Counts {
            done: 10,
            failed_in_faults: 3,
            failed_outside: 0,
        };
        let mut drifts = series.drifts();
        drifts.iter_mut().for_each(|it| it.holds = true);
        Ok(Report {
            began: "2026-01-01T00:00:00Z".to_owned(),
            commit: "abc".to_owned(),
            machine: BTreeMap::new(),
            hours: 1.0,
            took_s: 3_600.0,
            fault_every_s: 300.0,
            faults: Vec::new(),
            works: [(Work::WarmLogin, well), (Work::Query, well)].into(),
            examples: Vec::new(),
            drifts,
            ended_early: None,
            samples: series.samples(),
        })
    }

    #[test]
    fn one_login_refused_outside_of_faults_breaks_the_promise() -> Result<()> {
        let mut report = report()?;
        assert!(report.holds(), "{}", report.markdown());
        assert!(!report.markdown().contains("**no**"));
        if let Some(counts) = report.works.get_mut(&Work::WarmLogin) {
            counts.failed_outside = 1;
        }
        assert!(!report.holds());
        let page = report.markdown();
        assert!(
            page.contains("| logins refused outside of faults: 0 | 1 | **no** |"),
            "{page}"
        );
        Ok(())
    }

    #[test]
    fn a_drift_an_early_end_and_no_samples_break_it_too() -> Result<()> {
        let mut drifted = report()?;
        drifted.drifts.iter_mut().for_each(|it| it.holds = false);
        let mut broken = report()?;
        broken.ended_early = Some("Postern has ended".to_owned());
        let mut blind = report()?;
        blind.drifts.clear();
        for report in [drifted, broken, blind] {
            assert!(!report.holds(), "{}", report.markdown());
        }
        Ok(())
    }
}
