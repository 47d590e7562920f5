//! Programs that make the image, all of them at the same time of day.

use std::process::Command;
use std::sync::LazyLock;

use postern_tests::process::run;

use crate::root;

/// What tools take for the present, <https://reproducible-builds.org/specs/source-date-epoch/>.
const VARIABLE: &str = "SOURCE_DATE_EPOCH";
/// What mke2fs took for it before its version 1.47.1.
const OF_MKE2FS: &str = "E2FSPROGS_FAKE_TIME";
/// The time of an archive of the sources, which has no history: the first of January 2026.
const WITHOUT_HISTORY: &str = "1767225600";

/// The time of the commit, unless the environment names another.
static TIME: LazyLock<String> = LazyLock::new(|| {
    let given = std::env::var(VARIABLE).ok();
    let of_commit = || {
        let mut git = Command::new("git");
        git.args(["log", "-1", "--format=%ct"])
            .current_dir(root().ok()?);
        Some(run(&mut git).ok()?.trim().to_owned())
    };
    given
        .or_else(of_commit)
        .unwrap_or_else(|| WITHOUT_HISTORY.to_owned())
});

/// A program whose present is the time of the sources.
pub(super) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env(VARIABLE, TIME.as_str())
        .env(OF_MKE2FS, TIME.as_str());
    command
}
