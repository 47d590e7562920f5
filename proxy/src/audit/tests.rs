//! Tests of the writer against real files.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not so"
)]

mod rotating;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

use postern_core::audit::{ClosedReason, RefusedReason, Why};

use super::*;

fn key() -> Secret<[u8; 32]> {
    Secret::new([1; 32])
}

fn refused(detail: &str) -> Record {
    Record::Refused {
        client: "192.0.2.7:40000".to_owned(),
        reason: RefusedReason::NoGroup,
        detail: detail.to_owned(),
    }
}

fn closed(duration_ms: u64) -> Record {
    Record::Closed {
        reason: ClosedReason::ClientClosed,
        bytes_to_client: 1,
        bytes_to_backend: 2,
        duration_ms,
    }
}

fn open(path: &Path) -> Result<AuditLog, AuditError> {
    AuditLog::open(path, &key(), 8)
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("audit.jsonl")
}

/// What a log of one file comes to.
fn verify_file(path: &Path, key: &Secret<[u8; 32]>) -> Result<Verified, AuditError> {
    let (mut whole, outcome) = verify_files(&[path.to_owned()], key);
    outcome.map(|()| whole.remove(0))
}

fn records(path: &Path) -> u64 {
    verify_file(path, &key()).unwrap().summary.records
}

#[test]
fn a_record_is_in_the_file_when_the_write_returns() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    for n in 1..=20 {
        log.write_blocking("s", &refused("no")).unwrap();
        assert_eq!(records(&path(&folder)), n);
    }
    let mode = std::fs::metadata(path(&folder))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_chain_goes_on_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for seq in [1, 3, 5] {
        let log = open(&path(&folder)).unwrap();
        assert_eq!(log.resumed().seq, seq);
        log.write_blocking("s", &refused("no")).unwrap();
        log.write_detached("s", closed(1)).unwrap();
        log.close().unwrap();
        assert!(matches!(
            log.write_blocking("s", &closed(1)),
            Err(AuditError::Closed)
        ));
        assert!(matches!(
            log.write_detached("s", closed(1)),
            Err(AuditError::Closed)
        ));
    }
    let verified = verify_file(&path(&folder), &key()).unwrap();
    assert_eq!(verified.summary.seq, Some((1, 6)));
    assert_eq!(verified.unfinished_bytes, 0);
}

#[test]
fn many_threads_with_their_own_runtimes_make_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    for n in 0..100 {
                        log.write(&format!("s-{thread}"), &closed(n)).await.unwrap();
                    }
                });
            });
        }
    });
    assert_eq!(records(&path(&folder)), 800);
}

#[test]
fn a_second_process_cannot_write_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    assert!(matches!(
        open(&path(&folder)),
        Err(AuditError::Locked { .. })
    ));
    drop(log);
    assert!(open(&path(&folder)).is_ok());
}

#[test]
fn an_unfinished_last_line_is_cut_off_and_counted_wherever_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let log = open(&path).unwrap();
    log.write_blocking("s", &refused("one")).unwrap();
    log.write_blocking("s", &refused("two")).unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in 1..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let kept = if end < first { 0 } else { first };
        let log = open(&path).unwrap();
        log.write_blocking("s", &refused("three")).unwrap();
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        let dropped = format!("\"dropped_bytes\":{},", end - kept);
        assert_eq!(text.contains(&dropped), end != kept, "cut at {end}");
        let expected = u64::from(kept > 0) + u64::from(end != kept) + 1;
        assert_eq!(records(&path), expected, "cut at {end}");
    }
}

#[test]
fn zeros_after_a_loss_of_power_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    log.write_blocking("s", &refused("one")).unwrap();
    drop(log);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(path(&folder))
        .unwrap();
    file.write_all(&[0; 4_096]).unwrap();
    let log = open(&path(&folder)).unwrap();
    log.close().unwrap();
    assert_eq!(records(&path(&folder)), 2);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut sealed_by_another = postern_core::audit::Chain::new(&Secret::new([2; 32]));
    let foreign_line = sealed_by_another.seal(0, "s", &Record::Stopped);
    for content in [
        "notes",
        "notes\n",
        "notes\nmore",
        "{\"a\":1}\n",
        "\n",
        &foreign_line,
    ] {
        std::fs::write(&path, content).unwrap();
        assert!(open(&path).is_err(), "{content:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn an_edited_last_line_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    log.write_blocking("s", &refused("one")).unwrap();
    drop(log);
    let text = std::fs::read_to_string(path(&folder))
        .unwrap()
        .replace("one", "two");
    std::fs::write(path(&folder), text).unwrap();
    assert!(matches!(
        open(&path(&folder)),
        Err(AuditError::Resume { .. })
    ));
    let broken = verify_file(&path(&folder), &key());
    assert!(matches!(
        broken,
        Err(AuditError::Broken {
            why: Broken {
                line: 1,
                why: Why::Edited
            },
            ..
        })
    ));
}

#[test]
fn on_a_full_disk_every_write_fails_and_none_is_lost_without_a_word() {
    let log = AuditLog::open(Path::new("/dev/full"), &key(), 2).unwrap();
    assert!(!log.is_broken());
    for _ in 0..3 {
        let error = log.write_blocking("s", &refused("no")).unwrap_err();
        assert!(
            matches!(error, AuditError::Write { .. }) && log.is_broken(),
            "{error}"
        );
    }
    log.write_detached("s", closed(1)).unwrap();
    log.write_detached("s", closed(2)).unwrap();
    // The reserve holds two; a write in between shows that failing does not empty it.
    log.write_blocking("s", &refused("no")).unwrap_err();
    assert!(matches!(
        log.write_detached("s", closed(3)),
        Err(AuditError::QueueFull)
    ));
    let error = log.close().unwrap_err().to_string();
    assert!(
        error.contains("/dev/full") && error.contains("2 records are lost"),
        "{error}"
    );
}

#[test]
fn a_disk_that_does_not_answer_is_seen_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    // Who writes into a pipe that nobody reads from waits.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let log = open(&path).unwrap();
    let limit = Duration::from_millis(20);
    assert!(!log.has_hung_for(limit));
    let mut pipe = std::fs::OpenOptions::new();
    pipe.read(true).write(true);
    pipe.custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let mut pipe = pipe.open(&path).unwrap();
    while pipe.write(&[0; 4_096]).is_ok() {}
    log.write_detached("s", closed(1)).unwrap();
    while !log.has_hung_for(limit) {
        std::thread::yield_now();
    }
    assert!(!log.is_broken() && log.is_alive(u64::MAX));
    while pipe.read(&mut [0; 4_096]).is_ok() {}
    while log.has_hung_for(limit) {
        std::thread::yield_now();
    }
}

#[test]
fn when_the_disk_has_room_again_what_waited_is_written_first() {
    let folder = tempfile::tempdir().unwrap();
    let full = file::open(Path::new("/dev/full"), &key()).unwrap();
    let queue = Arc::new(Queue::new(8, 0));
    let mut writer = Writer::new(full.file, path(&folder), full.chain, Arc::clone(&queue));
    let entry = |record| Entry {
        at_ms: 0,
        session: "s".to_owned(),
        record,
    };
    queue.push_detached(entry(closed(1))).unwrap();
    queue.push_detached(entry(closed(2))).unwrap();
    let (answer, mut receiver) = oneshot::channel();
    queue
        .push(Request {
            entry: entry(refused("no")),
            answer,
        })
        .unwrap();
    writer.step().unwrap_err();
    assert!(matches!(
        receiver.try_recv(),
        Ok(Err(AuditError::Write { .. }))
    ));
    assert!(queue.is_broken());

    let good = file::open(&path(&folder), &key()).unwrap();
    writer.replace_file(good.file);
    let (answer, mut receiver) = oneshot::channel();
    queue
        .push(Request {
            entry: entry(refused("yes")),
            answer,
        })
        .unwrap();
    writer.step().unwrap();
    assert!(matches!(receiver.try_recv(), Ok(Ok(()))) && !queue.is_broken());
    let text = std::fs::read_to_string(path(&folder)).unwrap();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|it| {
            format!(
                "{} {}{}",
                it["event"], it["duration_ms"], it["lost_records"]
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "\"recovered\" null1",
            "\"closed\" 1null",
            "\"closed\" 2null",
            "\"refused\" nullnull",
        ]
    );
    assert_eq!(records(&path(&folder)), 4);
}

#[test]
fn a_line_that_was_written_half_is_cut_off_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let opened = file::open(&path(&folder), &key()).unwrap();
    let queue = Arc::new(Queue::new(8, 0));
    let mut writer = Writer::new(opened.file, path(&folder), opened.chain, Arc::clone(&queue));
    queue
        .push_detached(Entry {
            at_ms: 0,
            session: "s".to_owned(),
            record: closed(1),
        })
        .unwrap();
    writer.step().unwrap();
    let len = std::fs::metadata(path(&folder)).unwrap().len();
    let mut other = std::fs::OpenOptions::new()
        .append(true)
        .open(path(&folder))
        .unwrap();
    other.write_all(b"{\"seq\":2,\"at").unwrap();
    let error = writer.half_written(len, 12, std::io::Error::other("full"));
    assert_eq!(error.to_string(), "full");
    queue
        .push_detached(Entry {
            at_ms: 0,
            session: "s".to_owned(),
            record: closed(2),
        })
        .unwrap();
    writer.step().unwrap();
    assert_eq!(records(&path(&folder)), 2);
}

#[test]
fn a_running_log_may_end_in_an_unfinished_line_and_a_finished_one_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&path(&folder)).unwrap();
    log.write_blocking("s", &refused("one")).unwrap();
    let mut other = std::fs::OpenOptions::new()
        .append(true)
        .open(path(&folder))
        .unwrap();
    other.write_all(b"{\"seq\":2").unwrap();
    assert_eq!(
        verify_file(&path(&folder), &key())
            .unwrap()
            .unfinished_bytes,
        8
    );
    drop(log);
    let broken = verify_file(&path(&folder), &key()).unwrap_err();
    assert!(matches!(
        broken,
        AuditError::Broken {
            why: Broken {
                line: 2,
                why: Why::Unfinished
            },
            ..
        }
    ));
}

#[tokio::test]
async fn a_log_goes_on_in_another_file_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (main, own) = (path(&folder), folder.path().join("own.jsonl"));
    let log = open(&main).unwrap();
    log.write("s", &refused("one")).await.unwrap();
    log.write_detached("s", closed(1)).unwrap();
    // Once more is no change, and no second lock.
    log.go_on_in(&own).await.unwrap();
    log.go_on_in(&own).await.unwrap();
    log.write("s", &refused("two")).await.unwrap();
    assert_eq!((records(&main), records(&own)), (2, 1));
    // It is another process's now.
    let successor = open(&main).unwrap();
    let refused_back = log.go_on_in(&main).await;
    assert!(matches!(refused_back, Err(AuditError::Locked { .. })));
    log.write("s", &refused("three")).await.unwrap();
    successor.write("s", &refused("four")).await.unwrap();
    drop(successor);
    log.go_on_in(&main).await.unwrap();
    log.write("s", &refused("five")).await.unwrap();
    assert_eq!((records(&main), records(&own)), (4, 2));
}
