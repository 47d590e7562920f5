//! What the loader needs to be allowed, and what it says when it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::slice::from_ref;

use anyhow::{Result, ensure};
use postern_tests::account::Account;
use postern_tests::policy::{Policy, Said, said};
use postern_tests::process::through;

use crate::Test;
use crate::stage::Stage;

pub(crate) const TESTS: &[Test] = tests![
    three_capabilities_are_enough_for_everything,
    a_missing_capability_is_named_and_nothing_is_touched,
    with_them_the_record_of_denials_is_written_where_the_folder_is_roots,
];

/// What the loader needs, as setpriv(1) calls it.
const NEEDED: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// Runs a command of the policy with only some capabilities.
fn run_with(policy: &Policy, capabilities: &[&str], words: &[&str]) -> Result<Said> {
    let list: String = capabilities.iter().map(|it| format!(",+{it}")).collect();
    let mut setpriv = Command::new("setpriv");
    setpriv.arg("--inh-caps").arg(format!("-all{list}"));
    setpriv.arg("--bounding-set").arg(format!("-all{list}"));
    setpriv.arg("--");
    // The namespace is entered first: that takes more than the loader may.
    let command = policy.command(words)?;
    let mut words = command.get_args().map(ToOwned::to_owned);
    let mut enter = Command::new(command.get_program());
    enter.args(words.by_ref().take(2));
    let mut loader = Command::new(words.next().unwrap_or_default());
    loader.args(words);
    said(&through(enter, &through(setpriv, &loader)))
}

fn three_capabilities_are_enough_for_everything(stage: &Stage) -> Result<()> {
    for place in stage.places(|_| ())? {
        let run = |words: &[&str]| -> Result<()> {
            let said = run_with(&place.policy, &NEEDED, words)?;
            ensure!(said.code == 0, "{}: {words:?}: {said:?}", place.name);
            Ok(())
        };
        let stranger = from_ref(&place.stranger);
        stage.expect(stranger, true)?;
        for words in ["close", "load", "replace", "status"] {
            run(&[words])?;
        }
        stage.expect(stranger, false)?;
        stage.expect(&[stage.proxy()], true)?;
        run(&["unload", "--yes"])?;
        stage.expect(stranger, true)?;
    }
    Ok(())
}

fn a_missing_capability_is_named_and_nothing_is_touched(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    for missing in NEEDED {
        let others: Vec<&str> = NEEDED.into_iter().filter(|it| *it != missing).collect();
        let said = run_with(&policy, &others, &["load"])?;
        let name = format!("CAP_{}", missing.to_uppercase());
        ensure!(said.code != 0 && said.stderr.contains(&name), "{said:?}");
        ensure!(!policy.pins().exists(), "without {name} something was made");
        stage.expect(&[stage.application()], true)?;
    }
    Ok(())
}

fn with_them_the_record_of_denials_is_written_where_the_folder_is_roots(
    stage: &Stage,
) -> Result<()> {
    let [ours, theirs] =
        ["ours", "theirs"].map(|name| stage.scratch.subfolder(&format!("record-{name}")));
    let (ours, theirs) = (ours?, theirs?);
    for folder in [&ours, &theirs] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
    }
    // As `/var/log/postern` is the proxy's.
    Account::unprivileged()?.own_path(&theirs)?;
    for (folder, is_written) in [(ours, true), (theirs, false)] {
        let record = folder.join("perimeter.jsonl");
        let policy = stage.gateway(|config| {
            config.set("perimeter", "audit_file", &record);
        })?;
        policy.load()?;
        let said = run_with(&policy, &NEEDED, &["watch", "--once-idle-ms", "1"])?;
        ensure!((said.code == 0) == is_written, "{said:?}");
        ensure!(record.is_file() == is_written, "{said:?}");
        let path = record.display().to_string();
        ensure!(is_written || said.stderr.contains(&path), "{said:?}");
        policy.unload()?;
    }
    Ok(())
}
