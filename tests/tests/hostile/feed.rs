//! A directory that means ill by what it tells of its changes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_DATABASE;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, World, wait_until};

use crate::SLACK;
use crate::backend::attempt;
use crate::directory::{GROWTH_KIB_MAX, somebody};
use crate::ldap::{Directory, Feed, Says, control, element, entry, result, to_it};
use crate::meter::resident_kib;

/// Content synchronization, and the control of its entries (RFC 4533, 2.2 and 2.3).
const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
const SYNC_STATE: &[u8] = b"1.3.6.1.4.1.4203.1.9.1.2";

/// An intermediate response that says that the refresh is done (RFC 4533, 2.5).
const REFRESHED: &[u8] = b"\x79\x1e\x80\x181.3.6.1.4.1.4203.1.9.1.4\x81\x02\xa1\x00";

/// Active Directory's DirSync (MS-ADTS, 3.1.1.3.4.1.3).
const DIRSYNC: &str = "1.2.840.113556.1.4.841";

/// DirSync is not asked again sooner.
const SPACING: Duration = Duration::from_millis(200);

/// Lines of the log within seconds: some for each connection and login, but none for each change.
const LINES_MAX: usize = 300;

/// The entry with this name was added, with so many empty values that it does not take long until
/// there are too many.
fn added(dn: &[u8]) -> Vec<u8> {
    let values = element(0x31, &element(4, b"").repeat(100));
    let values = element(0x30, &[element(4, b"cn"), values].concat());
    let state = [b"\x0a\x01\x01", element(4, &[7; 16]).as_slice()].concat();
    let state = control(SYNC_STATE, &element(0x30, &state));
    to_it(&[entry(dn, &values), state].concat()).repeat(10)
}

/// The end of an answer to DirSync that says that there is more.
fn more() -> Vec<u8> {
    let value = [b"\x02\x01\x01\x02\x01\0", element(4, b"cookie").as_slice()].concat();
    let value = control(DIRSYNC.as_bytes(), &element(0x30, &value));
    to_it(&[result(0x65, 0), value].concat())
}

/// Runs a claim about the Postern that follows this directory.
fn following(world: &World, claim: impl FnOnce(&Directory) -> Result<()>) -> Result<()> {
    let directory = Directory::start()?;
    let change = |config: &mut ConfigFile| {
        directory.configure(config);
        config.set("directory", "feed", "auto");
    };
    world.with_plain_config(change, || claim(&directory))
}

pub(crate) fn a_feed_without_end_holds_up_no_login_and_hides_no_loss(world: &World) -> Result<()> {
    let refreshed = || to_it(REFRESHED);
    let rows = [
        ("a refresh", Says::Forever(added(b"cn=more,dc=x"))),
        ("changes", Says::Then(refreshed(), added(b"cn=more,dc=x"))),
        ("entries without names", Says::Then(refreshed(), added(b""))),
    ];
    following(world, |directory| {
        for (number, (what, says)) in rows.into_iter().enumerate() {
            let control = SYNC_REQUEST;
            directory.tells(Feed { control, says });
            world.plain.restart_with(|_| ())?;
            hold(world, directory, number).with_context(|| format!("{what} without end"))?;
        }
        Ok(())
    })
}

fn hold(world: &World, directory: &Directory, number: usize) -> Result<()> {
    let pid = world.plain.pid()?;
    // Since its start.
    let log = || {
        let log = world.plain.log()?;
        anyhow::Ok(
            log.rsplit(": listening ")
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let leaves = somebody(&format!("leaves{number}"));
    let stays = somebody(&format!("stays{number}"));
    directory.knows(&[&leaves.login, &stays.login]);
    wait_until("the feed is asked for", CHANGE_LIMIT, || {
        Ok(directory.feed_count() > 0)
    })?;
    let before = resident_kib(pid)?;
    let (login, password) = (&leaves.login, &leaves.password);
    let mut live = RawClient::logged_in(world.plain.port(), login, HR_DATABASE, password)?;
    for _ in 0..5 {
        let (told, taken) = attempt(world, &stays)?;
        ensure!(told.is_empty() && taken < SLACK, "{told:?} after {taken:?}");
    }
    directory.knows(&[&stays.login]);
    let told = live.read()?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    let (told, _) = attempt(world, &leaves)?;
    ensure!(told == "28P01", "{told:?}");
    let (told, taken) = attempt(world, &stays)?;
    ensure!(told.is_empty() && taken < SLACK, "{told:?} after {taken:?}");
    // More than it may say.
    wait_until("its connection is closed", CHANGE_LIMIT, || {
        Ok(log()?.contains("the connection to the directory is closed"))
    })?;
    let growth = resident_kib(pid)?.saturating_sub(before);
    ensure!(growth < GROWTH_KIB_MAX, "{growth} KiB more");
    let lines = log()?.lines().count();
    ensure!(lines < LINES_MAX, "{lines} lines in the log");
    ensure!(world.plain.pid()? == pid && world.plain.is_running()?);
    Ok(())
}

pub(crate) fn a_feed_that_always_has_more_is_asked_five_times_a_second(
    world: &World,
) -> Result<()> {
    const ASKED: u32 = 10;
    let person = somebody("unmoved");
    following(world, |directory| {
        directory.knows(&[&person.login]);
        directory.tells(Feed {
            control: DIRSYNC,
            says: Says::Once([to_it(&entry(b"", b"")), more()].concat()),
        });
        world.plain.restart_with(|_| ())?;
        let asked = |times: u32| {
            let times = usize::try_from(times)?;
            wait_until("it is asked for more", CHANGE_LIMIT, || {
                Ok(directory.feed_count() >= times)
            })
        };
        asked(1)?;
        let begun = Instant::now();
        let (told, taken) = attempt(world, &person)?;
        ensure!(told.is_empty() && taken < SLACK, "{told:?} after {taken:?}");
        asked(ASKED)?;
        let taken = begun.elapsed();
        // It may have been asked once more before the clock was looked at.
        ensure!(taken > SPACING * (ASKED - 2), "{ASKED} times in {taken:?}");
        Ok(())
    })
}
