//! `postern check`: what works, what does not, and what to do about it.
//!
//! Each leg is tried by the module that owns it and reported as a [`Probe`]; this module tries
//! what belongs to none of them, and prints the table.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;

mod descriptors;
mod kernel;
mod perimeter;
mod server;
mod table;
mod tls;

pub(crate) use tls::certificate_outcome;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Probe {
    /// The leg or part that it belongs to: `directory`, `role store`, `kernel`.
    pub(crate) leg: String,
    /// What was tried, with the server or file.
    pub(crate) what: String,
    /// What came of it.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It works.
    Ok {
        /// What was seen.
        detail: String,
    },
    /// It works, but the operator should know something.
    Warning {
        /// What that is.
        why: String,
        /// What to do, if anything is to be done.
        cure: String,
    },
    /// It does not work; the program would not either.
    Failed {
        /// What is wrong.
        why: String,
        /// What to do.
        cure: String,
    },
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// One JSON object: `{"ok": bool, "probes": [...]}`.
    Json,
}

/// Reads the configuration, tries everything, prints the result on standard output.
///
/// `remote` tries the directory and the role store, whose modules own these conversations.
/// The exit code is 0 when nothing failed, warnings or not, and 1 otherwise.
pub(crate) fn run(
    path: &Path,
    format: Format,
    remote: impl FnOnce(&Config) -> Vec<Probe>,
) -> ExitCode {
    let probes = match Config::read(path) {
        Ok(config) => all(path, &config, remote),
        Err(errors) => {
            let mut probes: Vec<Probe> = errors
                .problems()
                .iter()
                .map(|problem| refused(path, problem))
                .collect();
            probes.extend(kernel::probes(None));
            probes
        }
    };
    print(&probes, format)
}

/// Prints what was tried; the exit code is 0 when nothing failed, and 1 otherwise.
pub(crate) fn print(probes: &[Probe], format: Format) -> ExitCode {
    let text = match format {
        Format::Table => table::text(probes),
        Format::Json => json(probes),
    };
    // A reader that closed the pipe has seen enough; the exit code still tells the result.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if failed(probes) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Format {
    /// That of a command with `--json`, or without.
    pub(crate) const fn of(json: bool) -> Self {
        match json {
            true => Self::Json,
            false => Self::Table,
        }
    }
}

impl Probe {
    /// Something that works.
    pub(crate) fn ok(
        leg: impl Into<String>,
        what: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Self::new(leg, what, Outcome::Ok { detail })
    }

    /// Something that works, but that the operator should know about.
    pub(crate) fn warning(
        leg: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (why, cure) = (why.into(), cure.into());
        Self::new(leg, what, Outcome::Warning { why, cure })
    }

    /// Something that does not work.
    pub(crate) fn failed(
        leg: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (why, cure) = (why.into(), cure.into());
        Self::new(leg, what, Outcome::Failed { why, cure })
    }

    /// With an outcome that is already known.
    pub(crate) fn new(leg: impl Into<String>, what: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            leg: leg.into(),
            what: what.into(),
            outcome,
        }
    }
}

/// The number of probes that failed.
pub(crate) fn failed(probes: &[Probe]) -> usize {
    let failed = |probe: &&Probe| matches!(probe.outcome, Outcome::Failed { .. });
    probes.iter().filter(failed).count()
}

fn all(path: &Path, config: &Config, remote: impl FnOnce(&Config) -> Vec<Probe>) -> Vec<Probe> {
    let leg = "configuration";
    let mut probes = vec![Probe::ok(leg, path.display().to_string(), "valid")];
    for warning in &config.warnings {
        let (what, why) = warning.split_once(": ").unwrap_or((warning, ""));
        probes.push(Probe::warning(leg, what, why, ""));
    }
    probes.extend(kernel::probes(Some(config)));
    probes.extend(config.perimeter.iter().flat_map(perimeter::probes));
    probes.extend(tls::listener(&config.listen));
    probes.extend(audit_folder(config));
    probes.extend(server::look("role store", &config.role_store.endpoint).probes);
    probes.extend(remote(config));
    for backend in &config.backends {
        let endpoint = &backend.endpoint;
        let leg = format!("backend {}:{}", endpoint.host, endpoint.port);
        let seen = server::look(&leg, endpoint);
        probes.extend(seen.probes);
        if !config.service_accounts.is_empty() {
            let certificate = seen.certificate.as_deref();
            probes.extend(certificate.map(|it| tls::service_binding(&leg, it, &config.listen)));
        }
    }
    probes
}

fn refused(path: &Path, problem: &crate::config::Problem) -> Probe {
    let place = match problem.line {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    };
    let what = if problem.key.is_empty() {
        place.clone()
    } else {
        problem.key.clone()
    };
    let given = problem.given.as_ref();
    let given = given.map(|given| format!(" (given: {given})"));
    let why = format!("{place}: {}{}", problem.why, given.unwrap_or_default());
    let cure = problem.valid.as_ref();
    let cure = cure.map(|valid| format!("valid: {valid}"));
    Probe::failed("configuration", what, why, cure.unwrap_or_default())
}

/// Whether the audit file can be made or appended to, without doing it.
fn audit_folder(config: &Config) -> Option<Probe> {
    use nix::unistd::{AccessFlags, access};
    let file = &config.audit.file;
    let what = file.display().to_string();
    let target = if file.exists() {
        Some(file.as_path())
    } else {
        file.parent()
    };
    let target = target?;
    Some(match access(target, AccessFlags::W_OK) {
        Ok(()) => Probe::ok("audit", what, "can be written"),
        Err(errno) => {
            let why = format!("{}: {}", target.display(), errno.desc());
            let cure = "make the folder, owned by the user that runs Postern: new logins are \
                        refused while the audit file cannot be written";
            Probe::failed("audit", what, why, cure)
        }
    })
}

fn json(probes: &[Probe]) -> String {
    #[derive(serde::Serialize)]
    struct Report<'a> {
        ok: bool,
        failed: usize,
        probes: &'a [Probe],
    }
    let failed = failed(probes);
    let report = Report {
        ok: failed == 0,
        failed,
        probes,
    };
    // Strings and numbers always have a JSON form.
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_names_the_outcome_of_each_probe() -> Result<(), serde_json::Error> {
        let probes = [
            Probe::ok("kernel", "io_uring", "works"),
            Probe::failed("directory", "bind", "refused", "look at the password"),
        ];
        let report: serde_json::Value = serde_json::from_str(&json(&probes))?;
        let expect = serde_json::json!({
            "ok": false,
            "failed": 1,
            "probes": [
                {"leg": "kernel", "what": "io_uring", "outcome": "ok", "detail": "works"},
                {
                    "leg": "directory",
                    "what": "bind",
                    "outcome": "failed",
                    "why": "refused",
                    "cure": "look at the password"
                }
            ]
        });
        assert_eq!(report, expect);
        Ok(())
    }

    #[test]
    fn warnings_do_not_fail_the_check() {
        let warning = Probe::warning("kernel", "memlock", "low", "raise it");
        assert_eq!(failed(&[warning]), 0);
    }
}
