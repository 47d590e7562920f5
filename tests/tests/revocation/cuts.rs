//! What is changed while Postern cannot see it is found when it can again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_GROUP};
use postern_tests::{ConfigFile, Postern, RawClient, wait_until};

use crate::directory::take_out;
use crate::relay::Relay;
use crate::site::{SEEN_LIMIT, Site, expect_revoked_within, refusal, session_of};
use crate::{Test, claims};

pub(crate) const TESTS: &[Test] = claims![
    a_change_on_a_connection_that_is_cut_silently_is_found,
    changes_while_the_directory_is_cut_off_are_found_when_it_is_back,
    a_change_after_a_directory_has_hung_is_heard_of,
    a_change_while_the_directory_did_not_run_is_found,
    a_change_while_postern_did_not_run_is_found_without_a_login,
    a_change_while_the_database_did_not_run_is_made_when_it_is_back,
];

/// These run with OpenLDAP only: what they are about does not depend on the directory.
pub(crate) const OF_ONE: &[Test] = claims![only
    sessions_outlive_the_directory_for_as_long_as_configured_and_end_or_stay,
    a_lost_feed_alone_ends_nobody,
];

/// A change while the feed was cut is true everywhere this long after it could be heard of.
const CUT_LIMIT: Duration = Duration::from_secs(60);

/// The same after a restart of the directory.
const RESTART_LIMIT: Duration = Duration::from_secs(30);

/// By this a client asks OpenLDAP to be told of changes (RFC 4533, 2.2).
const SYNC_REQUEST: &[u8] = b"1.3.6.1.4.1.4203.1.9.1.1";

/// The shortest that sessions may be made to outlive the directory, in seconds.
const AWAY_S: i32 = 30;

/// What Postern says when it does not follow the directory any more.
const LOST: &str = "the directory's changes are not followed";

/// What it says each time that the database is not there to be told.
const UNSTORED: &str = "the role store does not have what the directory says";

/// What it says when it follows it.
const FOLLOWS: &str = "the directory's changes are followed";

fn count(postern: &Postern, text: &str) -> Result<usize> {
    Ok(postern.log()?.matches(text).count())
}

/// Runs a claim with a relay before the directory.
fn with_relay(site: &Site, claim: impl FnOnce(&Relay) -> Result<()>) -> Result<()> {
    let relay = Relay::start(site.directory.address())?;
    let url = vec![relay.url()];
    let before = count(&site.told, FOLLOWS)?;
    let change = |config: &mut ConfigFile| {
        config.set("directory", "urls", url);
    };
    site.with_config(&site.told, change, || {
        wait_until("it follows the directory", SEEN_LIMIT, || {
            Ok(count(&site.told, FOLLOWS)? > before)
        })?;
        claim(&relay)
    })
}

fn wait_until_lost(site: &Site, before: usize) -> Result<()> {
    wait_until("the feed is known to be lost", CUT_LIMIT, || {
        Ok(count(&site.told, LOST)? > before)
    })
}

fn a_change_on_a_connection_that_is_cut_silently_is_found(site: &Site) -> Result<()> {
    with_relay(site, |relay| {
        let person = site.person("severed", &[HR_GROUP])?;
        let mut live = site.session(&person)?;
        relay.cut_open_connections();
        take_out(&*site.directory, HR_GROUP, "severed")?;
        expect_revoked_within(&mut live, CUT_LIMIT)?;
        site.expect_nothing_left("severed")
    })
}

fn changes_while_the_directory_is_cut_off_are_found_when_it_is_back(site: &Site) -> Result<()> {
    with_relay(site, |relay| {
        let names = ["unseated", "unlisted", "unwanted", "unmoved"];
        let mut sessions = Vec::new();
        for name in names {
            sessions.push(site.session(&site.person(name, &[HR_GROUP])?)?);
        }
        let before = count(&site.told, LOST)?;
        relay.cut();
        take_out(&*site.directory, HR_GROUP, "unseated")?;
        site.directory.remove_person("unlisted")?;
        site.directory.disable("unwanted")?;
        wait_until_lost(site, before)?;
        for session in &mut sessions {
            ensure!(session.query("select 1")? == "1", "ended without evidence");
        }
        relay.mend();
        let mended = Instant::now();
        for (name, session) in names.iter().zip(&mut sessions).take(3) {
            expect_revoked_within(session, CUT_LIMIT)?;
            site.expect_nothing_left(name)?;
        }
        ensure!(mended.elapsed() < CUT_LIMIT, "{:?}", mended.elapsed());
        ensure!(expect_alive(&mut sessions)? == "1");
        Ok(())
    })
}

fn expect_alive(sessions: &mut [RawClient]) -> Result<String> {
    sessions
        .last_mut()
        .map_or(Ok(String::new()), |it| it.query("select 1"))
}

fn a_change_after_a_directory_has_hung_is_heard_of(site: &Site) -> Result<()> {
    let person = site.person("patient", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    let before = count(&site.told, LOST)?;
    site.directory.pause()?;
    let lost = wait_until_lost(site, before);
    let alive = live.query("select 1");
    site.directory.resume()?;
    lost?;
    ensure!(alive? == "1", "ended without evidence");
    take_out(&*site.directory, HR_GROUP, "patient")?;
    expect_revoked_within(&mut live, RESTART_LIMIT)?;
    site.expect_nothing_left("patient")
}

fn a_change_while_the_directory_did_not_run_is_found(site: &Site) -> Result<()> {
    let person = site.person("sleeper", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    let other = site.person("dreamer", &[HR_GROUP])?;
    let mut others = site.session(&other)?;
    site.directory.stop()?;
    let changed = site.directory.remove_member_offline(HR_GROUP, "sleeper");
    let alive = live.query("select 1");
    site.directory.start_again()?;
    changed?;
    ensure!(alive? == "1", "ended without evidence");
    expect_revoked_within(&mut live, RESTART_LIMIT)?;
    site.expect_nothing_left("sleeper")?;
    ensure!(others.query("select 1")? == "1");
    Ok(())
}

fn a_change_while_postern_did_not_run_is_found_without_a_login(site: &Site) -> Result<()> {
    let person = site.person("unaware", &[HR_GROUP, FINANCE_GROUP])?;
    let another = site.person("absent", &[HR_GROUP])?;
    drop(site.session(&person)?);
    drop(site.session(&another)?);
    site.told.stop()?;
    take_out(&*site.directory, FINANCE_GROUP, "unaware")?;
    site.directory.remove_person("absent")?;
    site.told.start_again()?;
    wait_until("the membership is revoked", RESTART_LIMIT, || {
        Ok(site.memberships("unaware")? == HR_GROUP)
    })?;
    site.expect_nothing_left("absent")
}

fn a_change_while_the_database_did_not_run_is_made_when_it_is_back(site: &Site) -> Result<()> {
    let person = site.person("unstored", &[HR_GROUP])?;
    drop(site.session(&person)?);
    let before = count(&site.told, UNSTORED)?;
    site.postgres.stop()?;
    let changed = take_out(&*site.directory, HR_GROUP, "unstored");
    let heard = wait_until("the change is heard of", SEEN_LIMIT, || {
        let records = site.told.audit()?;
        let mut lost = records.iter().filter(|it| it["event"] == "access_lost");
        Ok(lost.any(|it| it["name"] == "unstored"))
    });
    let tried = wait_until("it was tried several times", SEEN_LIMIT, || {
        Ok(count(&site.told, UNSTORED)? >= before + 3)
    });
    site.postgres.start_again()?;
    changed.and(heard).and(tried)?;
    site.expect_nothing_left("unstored")?;
    ensure!(refusal(&site.told, &person)?.is_some(), "it came in again");
    wait_until("the end is on record", SEEN_LIMIT, || {
        let records = site.records(&site.told, "unstored")?;
        Ok(records.iter().any(|it| it["event"] == "access_ended"))
    })?;
    // However often it was tried.
    let records = site.records(&site.told, "unstored")?;
    let lost = records.iter().filter(|it| it["event"] == "access_lost");
    ensure!(lost.count() == 1, "{records:#?}");
    Ok(())
}

fn sessions_outlive_the_directory_for_as_long_as_configured_and_end_or_stay(
    site: &Site,
) -> Result<()> {
    let keeps = |config: &mut ConfigFile| {
        config.set("revocation", "directory_away_s", AWAY_S);
        config.set("revocation", "after_directory_away", "keep");
        config.set("directory", "feed", "auto");
    };
    let ends = |config: &mut ConfigFile| {
        config.set("revocation", "directory_away_s", AWAY_S);
    };
    site.with_config(&site.told, ends, || {
        site.with_untold(|| {
            site.with_config(&site.untold, keeps, || {
                let outcome = while_away(site);
                site.directory.start_again()?;
                let (person, mut kept) = outcome?;
                ensure!(kept.query("select 1")? == "1");
                // Nothing was taken away but the sessions.
                wait_until("the person is in again", RESTART_LIMIT, || {
                    Ok(session_of(&site.told, &person).is_ok())
                })
            })
        })
    })
}

fn a_lost_feed_alone_ends_nobody(site: &Site) -> Result<()> {
    let relay = Relay::start(site.directory.plain_address())?;
    relay.forbid(Some(SYNC_REQUEST));
    let url = vec![relay.plain_url()];
    let change = |config: &mut ConfigFile| {
        config
            .set("directory", "urls", url)
            .set("directory", "allow_plaintext", true)
            .set("revocation", "directory_away_s", AWAY_S);
    };
    site.with_config(&site.told, change, || {
        // The process of before has ended, and says no more that it follows anybody.
        let follows = count(&site.told, FOLLOWS)?;
        let before = count(&site.told, LOST)?;
        let person = site.person("unheard", &[HR_GROUP])?;
        let mut live = site.session(&person)?;
        wait_until_lost(site, before)?;
        let lost = Instant::now();
        let away = Duration::from_secs(AWAY_S.unsigned_abs().into());
        // It is lost again each time that it is asked for, and look-ups are answered.
        let tries = count(&site.told, LOST)? + 3;
        wait_until("it has had its time", away + CUT_LIMIT, || {
            ensure!(live.query("select 1")? == "1", "ended without evidence");
            let is_over = lost.elapsed() > away + Duration::from_secs(5);
            Ok(is_over && count(&site.told, LOST)? >= tries)
        })?;
        ensure!(
            count(&site.told, FOLLOWS)? == follows,
            "the feed was not cut"
        );
        let another = site.person("unheard-too", &[HR_GROUP])?;
        ensure!(session_of(&site.told, &another)?.query("select 1")? == "1");
        relay.forbid(None);
        wait_until("it follows the directory", CUT_LIMIT, || {
            Ok(count(&site.told, FOLLOWS)? > follows)
        })?;
        take_out(&*site.directory, HR_GROUP, "unheard")?;
        expect_revoked_within(&mut live, CUT_LIMIT)?;
        site.expect_nothing_left("unheard")
    })
}

/// Stops the directory until sessions have ended, and returns one that has not.
fn while_away(site: &Site) -> Result<(postern_tests::Someone, RawClient)> {
    let person = site.person("castaway", &[HR_GROUP])?;
    let mut ends = site.session(&person)?;
    let mut stays = session_of(&site.untold, &person)?;
    let stopped = Instant::now();
    site.directory.stop()?;
    let away = Duration::from_secs(AWAY_S.unsigned_abs().into());
    let detail = expect_revoked_within(&mut ends, away + SEEN_LIMIT)?;
    ensure!(stopped.elapsed() >= away, "after {:?}", stopped.elapsed());
    ensure!(detail.contains("out of reach for too long"), "{detail}");
    ensure!(site.may_log_in("castaway")? == "t");
    let records = site.records(&site.told, "castaway")?;
    let mut lost = records.iter().filter(|it| it["event"] == "access_lost");
    ensure!(
        lost.any(|it| it["reason"] == "directory_away"),
        "{records:#?}"
    );
    wait_until("the other one has had its time", SEEN_LIMIT, || {
        ensure!(stays.query("select 1")? == "1");
        Ok(stopped.elapsed() > away + Duration::from_secs(5))
    })?;
    Ok((person, stays))
}
