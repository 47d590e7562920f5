//! What a watch has found, for those who may not ask the kernel themselves.
//!
//! The proxy runs without a capability.
//! `postern policy watch` asks in its place, and leaves what it was told in a file, in one step.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::status::Status;
use crate::check::Probe;
use crate::clock::now_ms;
use crate::limits::{POLICY_FINDING_AGE_MAX, POLICY_FINDING_BYTES_MAX};

const LEG: &str = "perimeter";
const WATCH: &str = "postern policy watch, which is to run beside the policy, writes it";

/// What was found, and when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Finding {
    /// In milliseconds of Unix time.
    at_ms: u64,
    /// Whether the policy is in force and as configured.
    in_force: bool,
    /// `enforce` or `monitor`.
    mode: String,
    /// Everything that is not as configured.
    drift: Vec<String>,
    /// Packets and calls that were not to pass.
    refused: u64,
}

impl Finding {
    /// What the kernel has just said.
    pub(super) fn of(status: &Status) -> Self {
        Self {
            at_ms: now_ms(),
            in_force: status.in_force,
            mode: status.mode.to_owned(),
            drift: status.drift.iter().map(|it| it.what.clone()).collect(),
            refused: status.dropped.values().sum(),
        }
    }

    /// That it could not be found out.
    pub(super) fn unknown(why: String) -> Self {
        Self {
            at_ms: now_ms(),
            in_force: false,
            mode: String::new(),
            drift: vec![why],
            refused: 0,
        }
    }

    /// Leaves it in a file that everybody may read, in place of an earlier one. The folder is made
    /// when it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|it| !it.exists()) {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, path)
    }

    /// What a watch has left.
    ///
    /// # Errors
    ///
    /// There is nothing, or it is not a finding.
    fn read(path: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        let file = File::open(path)?;
        file.take(POLICY_FINDING_BYTES_MAX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn probes(&self, what: &str, now_ms: u64) -> Vec<Probe> {
        let age = Duration::from_millis(now_ms.saturating_sub(self.at_ms));
        if age > POLICY_FINDING_AGE_MAX {
            let why = format!("not known: last looked at {} s ago", age.as_secs());
            return vec![Probe::failed(LEG, what, why, WATCH)];
        }
        if !self.in_force {
            let drift = self.drift.iter();
            let cure = "postern policy status, on this machine, says what to do";
            return drift
                .map(|it| Probe::failed(LEG, what, it.clone(), cure))
                .collect();
        }
        if self.mode == "monitor" {
            let why = "as configured, but mode = \"monitor\" drops nothing";
            return vec![Probe::warning(LEG, what, why, "")];
        }
        let detail = format!(
            "in force, as configured {} s ago; {} refused",
            age.as_secs(),
            self.refused
        );
        vec![Probe::ok(LEG, what, detail)]
    }
}

/// What is known of the policy without asking the kernel: one row if it is in force, else one for
/// each difference.
pub(crate) fn probes(path: &Path) -> Vec<Probe> {
    let what = "policy of this machine";
    match Finding::read(path) {
        Ok(finding) => finding.probes(what, now_ms()),
        Err(error) => {
            let why = format!("not known: {}: {error}", path.display());
            vec![Probe::failed(LEG, what, why, WATCH)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    fn finding() -> Finding {
        Finding {
            at_ms: 1_000,
            in_force: true,
            mode: "enforce".to_owned(),
            drift: Vec::new(),
            refused: 3,
        }
    }

    fn failures(finding: &Finding, now_ms: u64) -> Vec<String> {
        let probes = finding.probes("policy", now_ms).into_iter();
        let failures = probes.filter_map(|it| match it.outcome {
            Outcome::Failed { why, .. } => Some(why),
            Outcome::Ok { .. } | Outcome::Warning { .. } => None,
        });
        failures.collect()
    }

    #[test]
    fn what_is_in_force_is_well_until_nobody_has_looked_for_long() {
        assert_eq!(failures(&finding(), 2_000), [""; 0]);
        let late = 1_001 + u64::try_from(POLICY_FINDING_AGE_MAX.as_millis()).unwrap_or_default();
        assert_eq!(failures(&finding(), late).len(), 1);
    }

    #[test]
    fn every_difference_is_a_failure_of_its_own() {
        let drifted = Finding {
            in_force: false,
            drift: vec!["one".to_owned(), "two".to_owned()],
            ..finding()
        };
        assert_eq!(failures(&drifted, 2_000), ["one", "two"]);
    }

    #[test]
    fn what_is_written_is_read_and_a_missing_file_is_a_failure() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("made/state.json");
        assert!(matches!(
            probes(&path).as_slice(),
            [Probe {
                outcome: Outcome::Failed { .. },
                ..
            }]
        ));
        finding().write(&path)?;
        assert_eq!(Finding::read(&path)?, finding());
        fs::write(&path, "{}")?;
        assert!(Finding::read(&path).is_err());
        Ok(())
    }
}
