//! `postern upgrade`: another process in the place of the running one.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postern_tests::cast::{GROUP_PREFIX, HR_DATABASE, HR_GROUP};
use postern_tests::needs::is_full;
use postern_tests::postern::binary;
use postern_tests::process::run;
use postern_tests::world::{CHANGE_LIMIT, Someone, outcome_of};
use postern_tests::{RawClient, Successor, World, wait_until};

use crate::reload::{last_ended, reload};

/// How many logins meet how many reloads and upgrades each, in full and as a sample.
const FULL: (usize, usize) = (10_000, 10);
const SAMPLE: (usize, usize) = (300, 2);

/// Those who log in at the same time.
const CLIENTS: usize = 8;

pub(crate) fn another_process_takes_over_and_sessions_end_in_their_own_time(
    world: &World,
) -> Result<()> {
    let person = world.person("spanning", &[HR_GROUP])?;
    let first = world.plain.pid()?;
    let mut session = world.raw(&person)?;
    let successor = Successor::upgrade(&world.plain)?;
    let outcome = (|| {
        ensure!(session.query("select 1")? == "1");
        let mut next = world.raw(&person)?;
        ensure!(next.query("select 2")? == "2");
        let sessions = run(&mut world.plain.command(&["sessions", "--json"])?)?;
        let sessions: serde_json::Value = serde_json::from_str(&sessions)?;
        ensure!(sessions.as_array().map(Vec::len) == Some(1), "{sessions}");
        ensure!(
            world.plain.is_running()?,
            "the old process has left its session"
        );
        // The old one has sessions, and the file is the new one's to close.
        run(&mut world.plain.command(&["audit", "rotate"])?)?;
        drop(session);
        wait_until("the old process ends", CHANGE_LIMIT, || {
            Ok(!world.plain.is_running()?)
        })?;
        ensure!(next.query("select 3")? == "3");
        let mut own = world.plain.audit_file().into_os_string();
        own.push(format!(".draining-{first}"));
        let mut verify = world.plain.command(&["audit", "verify"])?;
        run(verify.arg("--file").arg(&own))?;
        let text = fs::read_to_string(&own)?;
        ensure!(text.contains("\"event\":\"closed\""), "{text}");
        ensure!(text.contains("\"event\":\"stopped\""), "{text}");
        Ok(())
    })();
    successor.leave(&world.plain)?;
    outcome?;
    let mut verify = world.plain.command(&["audit", "verify"])?;
    run(verify.arg("--file").args(world.plain.audit_files()?)).map(drop)
}

pub(crate) fn a_process_without_sessions_answers_before_it_ends(world: &World) -> Result<()> {
    let mut successors = Vec::new();
    let mut upgrade = || Successor::upgrade(&world.plain).map(|it| successors.push(it));
    let upgraded = (0..5).try_for_each(|_| upgrade());
    for successor in successors.iter().rev() {
        successor.end()?;
    }
    world.plain.stop()?;
    world.plain.start_again()?;
    upgraded
}

pub(crate) fn a_program_that_does_not_start_leaves_the_old_one_in_place(
    world: &World,
) -> Result<()> {
    let person = world.person("unmoved", &[HR_GROUP])?;
    // A copy, because the program of the other tests must stay.
    let program = world.scratch.path().join("postern-to-replace");
    fs::copy(binary()?, &program)?;
    world.plain.stop()?;
    world.plain.start_as(&program)?;
    let aside = program.with_extension("aside");
    fs::rename(&program, &aside)?;
    fs::write(&program, "#!/bin/sh\nexit 3\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let (code, text) = outcome_of(&mut world.plain.command(&["upgrade"])?)?;
    ensure!(code == 1 && text.contains("this process goes on"), "{text}");
    let ended = last_ended(&world.plain)?;
    ensure!(ended == ("upgrade".into(), "failed".into()), "{ended:?}");
    let mut session = world.raw(&person)?;
    ensure!(session.query("select 1")? == "1");
    // A configuration that takes a restart is one that an upgrade can take.
    fs::rename(&aside, &program)?;
    fs::write(world.plain.config_file(), "[listen]\naddresses = 7\n")?;
    let upgraded = upgrade_with_errors(world);
    world.plain.rewrite(|_| {})?;
    upgraded?;
    ensure!(session.query("select 2")? == "2");
    world.plain.stop()?;
    world.plain.start_again()
}

pub(crate) fn a_link_to_another_program_is_followed(world: &World) -> Result<()> {
    let folder = world.scratch.path();
    let (link, other) = (folder.join("postern-link"), folder.join("postern-other"));
    symlink(binary()?, &link)?;
    world.plain.stop()?;
    world.plain.start_as(&link)?;
    fs::write(&other, "#!/bin/sh\nexit 3\n")?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    fs::remove_file(&link)?;
    symlink(&other, &link)?;
    let (code, text) = outcome_of(&mut world.plain.command(&["upgrade"])?)?;
    world.plain.stop()?;
    world.plain.start_again()?;
    // The old program would have taken over.
    ensure!(code == 1 && text.contains("did not take over"), "{text}");
    Ok(())
}

pub(crate) fn a_process_stops_while_another_one_is_starting(world: &World) -> Result<()> {
    let program = world.scratch.path().join("postern-that-hangs");
    let started = program.with_extension("pid");
    fs::copy(binary()?, &program)?;
    world.plain.stop()?;
    world.plain.start_as(&program)?;
    fs::remove_file(&program)?;
    let script = format!(
        "#!/bin/sh\necho $$ > {}\nexec sleep 300\n",
        started.display()
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut upgrade = world.plain.command(&["upgrade"])?.spawn()?;
    let pid = || {
        let text = fs::read_to_string(&started).unwrap_or_default();
        text.trim().parse().map(Pid::from_raw).ok()
    };
    wait_until("it starts", CHANGE_LIMIT, || Ok(pid().is_some()))?;
    let begun = Instant::now();
    let stopped = world.plain.stop();
    let took = begun.elapsed();
    upgrade.wait()?;
    let hanging = Successor(pid().context("it has not started")?);
    let is_left = hanging.runs();
    hanging.end()?;
    world.plain.start_again()?;
    ensure!(stopped?.success(), "it did not end in order");
    ensure!(!is_left, "what was starting is left");
    // It would be waited for 30 s.
    ensure!(took < Duration::from_secs(25), "{took:?}");
    Ok(())
}

/// The command itself reads the configuration, so that the running process is asked directly.
fn upgrade_with_errors(world: &World) -> Result<()> {
    use std::io::{BufRead as _, Write as _};
    let socket = world.plain.config_file().with_file_name("control.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.write_all(b"{\"ask\":\"upkeep\",\"what\":\"upgrade\"}\n")?;
    let mut answer = String::new();
    std::io::BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer.contains("\"Err\""), "{answer}");
    Ok(())
}

pub(crate) fn a_process_that_dies_after_it_took_over_is_replaced(world: &World) -> Result<()> {
    let person = world.person("undeterred", &[HR_GROUP])?;
    let first = world.plain.pid()?;
    let mut session = world.raw(&person)?;
    let dying = Successor::upgrade(&world.plain)?;
    let successor = replaced(&dying, first)?;
    let outcome = (|| {
        // Whoever connected meanwhile has waited in the queue of the socket.
        let mut later = world.raw(&person)?;
        ensure!(later.query("select 2")? == "2");
        ensure!(session.query("select 1")? == "1");
        Ok(())
    })();
    successor.leave(&world.plain)?;
    outcome
}

/// Kills the process that took over from another one, which starts the one that is returned.
pub(crate) fn replaced(dying: &Successor, first: u32) -> Result<Successor> {
    kill(dying.0, Signal::SIGKILL)?;
    let is_next = |it: &Pid| *it != dying.0;
    wait_until("another one is started", CHANGE_LIMIT, || {
        Ok(pids_of_children(first)?.iter().any(is_next))
    })?;
    let next = pids_of_children(first)?.into_iter().find(is_next);
    Ok(Successor(next.context("it is gone")?))
}

/// The processes that any thread of a process has started.
fn pids_of_children(of: u32) -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for task in fs::read_dir(format!("/proc/{of}/task"))? {
        // A thread may end meanwhile.
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        let children = children.split_ascii_whitespace();
        pids.extend(children.filter_map(|it| it.parse().ok()).map(Pid::from_raw));
    }
    Ok(pids)
}

pub(crate) fn sessions_of_before_are_under_the_rules_of_the_next_process(
    world: &World,
) -> Result<()> {
    let person = world.person("overruled", &[HR_GROUP])?;
    let mut sessions = [world.raw(&person)?, world.raw(&person)?];
    let successor = Successor::upgrade(&world.plain)?;
    let outcome = (|| {
        ensure!(sessions[0].query("select 1")? == "1");
        // The role is in use by the first process, which therefore has to see to it.
        world.plain.rewrite(|config| {
            config.set("group_rule", "prefix", "nobody-has-this-");
        })?;
        // The first process takes orders from the other one alone.
        world.plain.signal(Signal::SIGHUP)?;
        wait_until("nothing comes of it", CHANGE_LIMIT, || {
            world
                .plain
                .log_contains("another process serves: nothing was done")
        })?;
        ensure!(sessions[0].query("select 2")? == "2");
        reload(&world.plain)?;
        for session in &mut sessions {
            let told = session.read()?;
            ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
        }
        wait_until("the role may not log in", CHANGE_LIMIT, || {
            Ok(world.may_log_in("overruled")? == "f")
        })
    })();
    world.plain.rewrite(|config| {
        config.set("group_rule", "prefix", GROUP_PREFIX);
    })?;
    successor.leave(&world.plain)?;
    outcome
}

pub(crate) fn sessions_that_stay_too_long_are_ended(world: &World) -> Result<()> {
    let person = world.person("lingering", &[HR_GROUP])?;
    world.plain.rewrite(|config| {
        config.set("limits", "drain_timeout_s", 1);
    })?;
    reload(&world.plain)?;
    let mut session = world.raw(&person)?;
    let successor = Successor::upgrade(&world.plain)?;
    let told = session.read();
    let back = successor.leave(&world.plain);
    world.plain.rewrite(|config| {
        config.unset("limits", "drain_timeout_s");
    })?;
    back?;
    let told = told?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    Ok(())
}

pub(crate) fn nobody_is_refused_while_configurations_and_processes_come_and_go(
    world: &World,
) -> Result<()> {
    let (logins, rounds) = if is_full() { FULL } else { SAMPLE };
    let mut people = Vec::new();
    for number in 0..CLIENTS {
        people.push(world.person(&format!("visitor{number}"), &[HR_GROUP])?);
    }
    let (done, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut successors: Vec<Successor> = Vec::new();
    let outcome = thread::scope(|scope| {
        let visits: Vec<_> = people
            .iter()
            .map(|person| {
                let (done, failed) = (&done, &failed);
                scope.spawn(move || {
                    let visited = visit(world, person, logins, (done, failed));
                    failed.fetch_or(visited.is_err(), Ordering::Relaxed);
                    visited
                })
            })
            .collect();
        let kept = upkeep(world, (logins, rounds), (&done, &failed), &mut successors);
        failed.fetch_or(kept.is_err(), Ordering::Relaxed);
        let mut visited = Ok(());
        for visit in visits {
            let joined = visit.join().map_err(|_| anyhow!("a client panicked"));
            visited = visited.and(joined.and_then(|it| it));
        }
        visited.and(kept)
    });
    for successor in successors.iter().rev() {
        successor.end()?;
    }
    world.plain.stop()?;
    world.plain.start_again()?;
    outcome?;
    println!("{logins} logins, {rounds} reloads, {rounds} upgrades");
    Ok(())
}

/// Logs in and out until all logins are done.
fn visit(
    world: &World,
    person: &Someone,
    logins: usize,
    (done, failed): (&AtomicUsize, &AtomicBool),
) -> Result<()> {
    while done.fetch_add(1, Ordering::Relaxed) < logins && !failed.load(Ordering::Relaxed) {
        let (login, password) = (&person.login, &person.password);
        let mut session = RawClient::logged_in(world.plain.port(), login, HR_DATABASE, password)
            .with_context(|| format!("login {}", done.load(Ordering::Relaxed)))?;
        ensure!(session.query("select 1")? == "1");
    }
    Ok(())
}

/// Reloads and upgrades, spread over the logins.
fn upkeep(
    world: &World,
    (logins, rounds): (usize, usize),
    (done, failed): (&AtomicUsize, &AtomicBool),
    successors: &mut Vec<Successor>,
) -> Result<()> {
    for round in 0..rounds {
        let due = logins * round / rounds;
        wait_until("the next round is due", CHANGE_LIMIT * 10, || {
            let is_due = done.load(Ordering::Relaxed) >= due;
            Ok(is_due || failed.load(Ordering::Relaxed))
        })?;
        if failed.load(Ordering::Relaxed) {
            break;
        }
        let timeout_ms = 20_000 + i32::try_from(round)?;
        world.plain.rewrite(|config| {
            config.set("limits", "login_timeout_ms", timeout_ms);
        })?;
        reload(&world.plain)?;
        successors.push(Successor::upgrade(&world.plain)?);
    }
    Ok(())
}
