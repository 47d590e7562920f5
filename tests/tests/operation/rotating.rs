//! The audit file closed, and the next one begun.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::postern::records_of;
use postern_tests::process::{run, run_any};
use postern_tests::world::{CHANGE_LIMIT, outcome_of};
use postern_tests::{Postern, World, wait_until};

/// How often the file is closed before the process is killed over it.
const ROTATIONS_BEFORE_KILL: usize = 3;
/// How often the process is killed.
const KILLS: usize = 5;

/// The exit code of `postern audit verify` for files in their order, and what it says.
fn verify(postern: &Postern, files: &[&Path]) -> Result<(i32, String)> {
    let mut command = postern.command(&["audit", "verify"])?;
    outcome_of(command.arg("--file").args(files))
}

fn rotate(postern: &Postern) -> Result<String> {
    run(&mut postern.command(&["audit", "rotate"])?)
}

pub(crate) fn a_closed_file_and_the_next_are_one_log(world: &World) -> Result<()> {
    let person = world.person("turning", &[HR_GROUP])?;
    world.psql(&person).query("select 1")?;
    let said = rotate(&world.postern)?;
    world.psql(&person).query("select 1")?;
    let mut files = world.postern.audit_files()?;
    let (now, closed) = (files.pop().context("none")?, files.pop().context("none")?);
    ensure!(said.contains(&closed.display().to_string()), "{said}");

    let records = records_of(&closed)?;
    // The end of the first session may be on record at any place after its beginning.
    let [.., ended] = records.as_slice() else {
        anyhow::bail!("{records:?}");
    };
    let ordered = records.iter().rfind(|it| it["event"] == "ordered");
    let ordered = ordered.context("it is not on record")?;
    ensure!(ordered["order"] == "rotate" && ordered["from"] == "control socket");
    ensure!(ended["event"] == "file_ended", "{ended}");
    let hash = ended["hash"].as_str().context("no hash")?;
    ensure!(said.contains(hash), "{said}");
    let records = records_of(&now)?;
    let [begun, ..] = records.as_slice() else {
        anyhow::bail!("{records:?}");
    };
    let order_ended = records.iter().find(|it| it["event"] == "order_ended");
    let order_ended = order_ended.context("what came of it is not on record")?;
    ensure!(
        begun["prev"] == hash && begun["after"] == ended["file"],
        "{begun}"
    );
    ensure!(order_ended["outcome"] == "done", "{order_ended}");

    files.extend([closed.clone(), now.clone()]);
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let (code, said) = verify(&world.postern, &all)?;
    ensure!(
        code == 0 && said.contains("no record is missing between"),
        "{said}"
    );
    let (code, said) = verify(&world.postern, &[&now])?;
    let name = closed.file_name().context("no name")?.to_string_lossy();
    ensure!(
        code == 0 && said.contains(&format!("goes on from {name}")),
        "{said}"
    );
    // Without its last record, or with the order of the files turned round.
    let text = fs::read_to_string(&closed)?;
    let end = text.trim_end().rfind('\n').context("one line")?;
    let shorter = world.scratch.path().join("shorter.jsonl");
    fs::write(&shorter, text.get(..=end).unwrap_or_default())?;
    for files in [[shorter.as_path(), &now], [&now, &closed]] {
        let (code, said) = verify(&world.postern, &files)?;
        let broken = format!("the audit file {} is broken: line 1", files[1].display());
        ensure!(code != 0 && said.contains(&broken), "{said}");
    }
    Ok(())
}

pub(crate) fn a_file_that_is_taken_away_is_on_record(world: &World) -> Result<()> {
    let file = "audit.jsonl.000000000042";
    let said = ["audit", "taken", file, "--to", "the safe"];
    run(&mut world.postern.command(&said)?)?;
    let records = world.postern.audit()?;
    let ordered = records
        .iter()
        .rfind(|it| it["order"] == "audit_taken" && it["event"] == "ordered");
    let ordered = ordered.context("it is not on record")?;
    ensure!(
        ordered["subject"] == file && ordered["detail"] == "to the safe",
        "{ordered}"
    );
    world.postern.stop()?;
    let (code, _) = outcome_of(&mut world.postern.command(&said)?)?;
    world.postern.start_again()?;
    ensure!(code != 0, "nobody has put it on record");
    Ok(())
}

pub(crate) fn a_process_killed_while_it_rotates_loses_no_record(world: &World) -> Result<()> {
    for _ in 0..KILLS {
        let before = world.plain.audit_files()?.len();
        std::thread::scope(|scope| -> Result<()> {
            let rotating = scope.spawn(|| -> Result<()> {
                // Until it does not answer any more.
                while run_any(&mut world.plain.command(&["audit", "rotate"])?)?
                    .status
                    .success()
                {}
                Ok(())
            });
            let waited = wait_until("files are closed", CHANGE_LIMIT, || {
                Ok(world.plain.audit_files()?.len() >= before + ROTATIONS_BEFORE_KILL)
            });
            world.plain.kill()?;
            rotating
                .join()
                .map_err(|_| anyhow::anyhow!("it panicked"))??;
            waited
        })?;
        world.plain.start_again()?;
        let files = world.plain.audit_files()?;
        let all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let (code, said) = verify(&world.plain, &all)?;
        ensure!(code == 0, "{said}");
    }
    Ok(())
}
