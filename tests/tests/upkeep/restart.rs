//! Restarts with a socket that is passed on, under load.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::needs::is_full;
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{RawClient, Someone, World, wait_until};

use crate::manager::start_with_socket;

/// How many who want in meet how many restarts, in full and as a sample.
const FULL: (usize, usize) = (10_000, 20);
const SAMPLE: (usize, usize) = (300, 3);

/// Those who want in at the same time.
const CLIENTS: usize = 8;

/// Who wanted in, and what became of them.
#[derive(Default)]
struct Visitors {
    /// All who have begun.
    begun: AtomicUsize,
    /// Who was told that the proxy shuts down.
    told: AtomicUsize,
    has_failed: AtomicBool,
}

pub(crate) fn restarts_under_load_serve_whoever_connects_or_tell_them_why(
    world: &World,
) -> Result<()> {
    let (visits, restarts) = if is_full() { FULL } else { SAMPLE };
    let mut people = Vec::new();
    for number in 0..CLIENTS {
        people.push(world.person(&format!("caller{number}"), &[HR_GROUP])?);
    }
    world.plain.stop()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, world.plain.port()))?;
    start_with_socket(world, &socket, "client")?;
    let visitors = Visitors::default();
    let outcome = thread::scope(|scope| {
        let visiting: Vec<_> = people
            .iter()
            .map(|person| scope.spawn(|| visitors.visit(world.plain.port(), person, visits)))
            .collect();
        let restarted = visitors.restart(world, &socket, (visits, restarts));
        visitors
            .has_failed
            .fetch_or(restarted.is_err(), Ordering::Relaxed);
        visiting.into_iter().fold(restarted, |outcome, visit| {
            let visited = visit.join().map_err(|_| anyhow!("a client panicked"));
            outcome.and(visited.and_then(|it| it))
        })
    });
    if world.plain.is_running()? {
        world.plain.stop()?;
    }
    drop(socket);
    world.plain.start_again()?;
    outcome?;
    let told = visitors.told.into_inner();
    println!("{visits} clients, {restarts} restarts; {told} were told that the proxy shuts down");
    Ok(())
}

impl Visitors {
    /// One after the other, until all have been in or were told.
    fn visit(&self, port: u16, person: &Someone, visits: usize) -> Result<()> {
        while self.begun.fetch_add(1, Ordering::Relaxed) < visits
            && !self.has_failed.load(Ordering::Relaxed)
        {
            match come_in(port, person) {
                Ok(None) => {}
                Ok(Some(told)) if told.field(b'C').as_deref() == Some("57P01") => {
                    self.told.fetch_add(1, Ordering::Relaxed);
                }
                other => {
                    self.has_failed.store(true, Ordering::Relaxed);
                    let told = other.with_context(|| format!("as {}", person.login))?;
                    ensure!(told.is_none(), "{} is told {told:?}", person.login);
                }
            }
        }
        Ok(())
    }

    /// Restarts, spread over the visits.
    fn restart(
        &self,
        world: &World,
        socket: &TcpListener,
        (visits, restarts): (usize, usize),
    ) -> Result<()> {
        for round in 0..restarts {
            let due = visits * round / restarts;
            let is_ended = || self.has_failed.load(Ordering::Relaxed);
            wait_until("the next restart is due", CHANGE_LIMIT * 10, || {
                Ok(is_ended() || self.begun.load(Ordering::Relaxed) > due + CLIENTS)
            })?;
            if is_ended() {
                break;
            }
            let status = world.plain.stop()?;
            ensure!(status.success(), "{status}");
            start_with_socket(world, socket, "client")?;
        }
        Ok(())
    }
}

/// Logs in and asks something; an error that the client is told is returned.
fn come_in(port: u16, person: &Someone) -> Result<Option<Message>> {
    let mut client = RawClient::connect(port)?;
    let parameters = [("user", person.login.as_str()), ("database", HR_DATABASE)];
    // Where the other side has gone, what it has said before can be read all the same.
    drop(client.startup(PROTOCOL_3_0, &parameters));
    let asked = client.read().context("instead of being asked")?;
    if asked.tag == b'E' {
        return Ok(Some(asked));
    }
    drop(client.password(person.password.as_bytes()));
    let mut messages = client.read_until_ready().context("while logging in")?;
    if !messages.iter().any(|it| it.tag == b'E') {
        drop(client.send_query("select 1"));
        messages = client.read_until_ready().context("in a session")?;
        let mut rows = messages.iter().filter(|it| it.tag == b'D');
        let is_answered = rows.any(|it| it.columns() == ["1"]);
        ensure!(is_answered || messages.iter().any(|it| it.tag == b'E'));
    }
    Ok(messages.into_iter().find(|it| it.tag == b'E'))
}
