//! Tests of closing a file and going on in another.

use std::fs;

use super::super::rotate::Names;
use super::*;

/// The files of a log in a folder, in their order: the closed ones, then the one at the path.
fn files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut closed: Vec<PathBuf> = entries.map(|it| it.unwrap().path()).collect();
    closed.retain(|it| *it != path(folder));
    closed.sort();
    closed.push(path(folder));
    closed
}

/// The numbers of each file, if the log is whole over all of them from its first record on.
fn numbers(folder: &tempfile::TempDir) -> Vec<(u64, u64)> {
    let (whole, outcome) = verify_files(&files(folder), &key());
    outcome.unwrap();
    assert!(whole.iter().all(|it| it.summary.unchecked_before.is_none()));
    whole.iter().map(|it| it.summary.seq.unwrap()).collect()
}

#[tokio::test]
async fn the_chain_goes_on_in_the_next_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    log.write("s", &refused("one")).await.unwrap();
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(path(&folder), mode).unwrap();
    let rotated = log.rotate().await.unwrap();
    assert_eq!(rotated.file, folder.path().join("audit.jsonl.000000000002"));
    log.write("s", &refused("two")).await.unwrap();
    let again = log.rotate().await.unwrap();
    assert_eq!(again.file, folder.path().join("audit.jsonl.000000000005"));
    log.write("s", &refused("three")).await.unwrap();
    drop(log);
    assert_eq!(numbers(&folder), [(1, 2), (3, 5), (6, 7)]);

    let text = |file: &Path| fs::read_to_string(file).unwrap();
    let last = text(&rotated.file).lines().last().unwrap().to_owned();
    assert!(last.contains("\"event\":\"file_ended\",\"file\":\"audit.jsonl.000000000002\""));
    assert!(
        last.contains(&rotated.last.1) && rotated.last.0 == 2,
        "{rotated:?}"
    );
    let first = text(&again.file).lines().next().unwrap().to_owned();
    assert!(first.contains("\"event\":\"file_begun\",\"after\":\"audit.jsonl.000000000002\""));
    assert!(first.contains(&format!("\"prev\":\"{}\"", rotated.last.1)));
    let metadata = fs::metadata(path(&folder)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    // And over a restart.
    let log = open(&path(&folder)).unwrap();
    assert_eq!(log.resumed().seq, 8);
}

#[test]
fn no_record_is_lost_or_doubled_while_files_change() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..200 {
                    let session = format!("s-{thread}-{n}");
                    log.write_blocking(&session, &closed(n)).unwrap();
                    log.write_detached(&session, closed(n)).ok();
                }
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            for _ in 0..8 {
                log.rotate().await.unwrap();
            }
        });
    });
    drop(log);
    assert_eq!(numbers(&folder).len(), 9);
    let texts = files(&folder)
        .into_iter()
        .map(|it| fs::read_to_string(it).unwrap());
    let all: String = texts.collect();
    for thread in 0..4 {
        for n in 0..200 {
            let session = format!("\"s-{thread}-{n}\"");
            assert!(all.contains(&session), "{session}");
        }
    }
}

/// A log of one record whose process dies while it closes the file, after so many of the steps.
fn died_after(steps: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut opened = file::open(&path, &key()).unwrap();
    let mut line = opened.chain.seal(0, "s", &refused("one"));
    let names = Names::of(&path, opened.chain.position().seq);
    let name = names.closed_name();
    let ended = Record::FileEnded { file: name.clone() };
    line += &opened.chain.seal(0, OF_THE_PROCESS, &ended);
    opened.file.write_all(line.as_bytes()).unwrap();
    let begun = Record::FileBegun { after: name };
    let first = opened.chain.seal(0, OF_THE_PROCESS, &begun);
    if steps > 1 {
        names.make_next(&opened.file, &first).unwrap();
    }
    match steps {
        0..=2 => {}
        3 => fs::hard_link(&path, &names.closed).unwrap(),
        _ => names.change(&path).unwrap(),
    }
    folder
}

#[test]
fn a_process_that_dies_between_two_steps_leaves_a_whole_log() {
    for steps in 1..=4 {
        let folder = died_after(steps);
        let log = open(&path(&folder)).unwrap();
        log.write_blocking("s", &refused("two")).unwrap();
        drop(log);
        let expected: &[_] = match steps {
            4 => &[(1, 2), (3, 4)],
            _ => &[(1, 3)],
        };
        assert_eq!(numbers(&folder), expected, "after step {steps}");
    }
}

#[tokio::test]
async fn a_file_of_that_name_is_left_alone_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    log.write("s", &refused("one")).await.unwrap();
    let taken = folder.path().join("audit.jsonl.000000000002");
    fs::write(&taken, "precious").unwrap();
    let error = log.rotate().await.unwrap_err().to_string();
    assert!(
        error.contains("000000000002 already; move it away"),
        "{error}"
    );
    log.write("s", &refused("two")).await.unwrap();
    log.rotate().await.unwrap();
    assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");
    fs::remove_file(&taken).unwrap();
    drop(log);
    assert_eq!(numbers(&folder), [(1, 3), (4, 4)]);
}

#[tokio::test]
async fn only_the_process_that_writes_the_file_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let own = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    log.go_on_in(&own.path().join("own.jsonl")).await.unwrap();
    let successor = open(&path(&folder)).unwrap();
    let error = log.rotate().await.unwrap_err().to_string();
    assert!(error.contains("another process writes it"), "{error}");
    successor.write("s", &refused("one")).await.unwrap();
    successor.rotate().await.unwrap();
    drop((log, successor));
    assert_eq!(numbers(&folder), [(1, 2), (3, 3)]);
}

#[tokio::test]
async fn a_path_that_is_a_link_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("audit.jsonl");
    fs::write(path(&folder), "").unwrap();
    std::os::unix::fs::symlink(path(&folder), &link).unwrap();
    let log = open(&link).unwrap();
    log.rotate().await.unwrap();
    drop(log);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(numbers(&folder), [(1, 1), (2, 2)]);
}

#[tokio::test]
async fn what_is_no_file_is_not_closed() {
    let log = AuditLog::open(Path::new("/dev/null"), &key(), 2).unwrap();
    let error = log.rotate().await.unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn names_of_closed_files_sort_as_their_numbers() {
    let name = |last| Names::of(Path::new("audit.jsonl"), last).closed_name();
    assert!(name(9) < name(10) && name(99_999) < name(100_000));
    assert_eq!(name(123), "audit.jsonl.000000000123");
}
