//! Logins of strangers while the directory is stopped.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::direct_rate::{LIMIT, read_of_one_row};
use super::ldap::Directory;
use super::{Extent, Point, Recorder, Scenario, names};
use crate::limits::{LOGIN_TIMEOUT, STRANGER_PATIENCE};
use crate::load::client::Client;
use crate::load::clients::Clients;
use crate::load::door::{Door, Tickets};
use crate::load::stub::Stub;
use crate::load::{float, run};
use crate::meter::cpu_s;
use crate::route::{Encryption, Kind, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many sessions run all the while.
const RUNNING: u32 = 16;

/// Running sessions, and strangers whom only the directory could tell apart from people.
#[derive(Debug)]
pub(super) struct Storm;

impl Scenario for Storm {
    fn name(&self) -> &'static str {
        "storm"
    }

    fn shows(&self) -> &'static str {
        "what running sessions notice of thousands of logins while the directory hangs"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let of = |amount: u64, encryption| Point {
            name: format!("{amount} logins"),
            encryption,
            amount,
        };
        match extent {
            Extent::Quick => vec![of(300, Encryption::Plain)],
            Extent::Full => vec![of(2_000, Encryption::Plain), of(2_000, Encryption::Tls)],
        }
    }

    fn rounds(&self, extent: Extent) -> usize {
        match extent {
            Extent::Quick => 1,
            Extent::Full => 3,
        }
    }

    fn measures(&self, route: &Route) -> bool {
        route.kind == Kind::Postern
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let directory = Directory::start(stage, 1)?;
        let route = directory.route(route)?;
        let stub = Stub::start(stage.scratch().path())?;
        let elsewhere = stage.start_before(stage.route("direct")?, stub.port())?;
        let (encryption, plain) = (point.encryption, Encryption::Plain);
        let place = Place {
            residents: Door::new(&route, plain, Tickets::Forgotten)?,
            strangers: Door::new(&route, encryption, Tickets::Forgotten)?,
            elsewhere: Door::new(elsewhere.route(), plain, Tickets::Forgotten)?,
            directory,
            pids: route.pids.clone(),
            logins: point.amount,
            window: match stage.extent() {
                Extent::Quick => Duration::from_millis(1_500),
                Extent::Full => Duration::from_secs(5),
            },
        };
        let found = run(LIMIT + place.window * 5, place.in_turn())?;
        found.record(recorder);
        Ok(())
    }
}

/// Who is where.
struct Place {
    residents: Door,
    strangers: Door,
    elsewhere: Door,
    directory: Directory,
    pids: Vec<u32>,
    logins: u64,
    window: Duration,
}

/// What was found.
struct Found {
    alone: f64,
    storm: f64,
    elsewhere: f64,
    /// What is this machine's, and not Postern's, part in how long strangers wait.
    elsewhere_longest: Duration,
    cpu_s: f64,
    answers: Answers,
}

/// How strangers were answered: the SQLSTATE or what happened instead; how many, and how long the
/// one waited who waited longest.
type Answers = BTreeMap<String, (u64, Duration)>;

impl Place {
    /// Every load with one without before and after it.
    async fn in_turn(&self) -> Result<Found> {
        let window = self.window;
        let question = read_of_one_row();
        let mut residents = Clients::connect(&self.residents, RUNNING, &question).await?;
        residents.closed_loop(window / 2).await?;
        let mut alone = residents.closed_loop(window).await?.rate_per_s;

        self.directory.openldap.pause()?;
        let cpu = cpu_s(&self.pids)?;
        let arriving = self.arrive(&self.strangers);
        let storm = residents.closed_loop(window).await;
        let cpu = cpu_s(&self.pids)? - cpu;
        let answers = arriving.join();
        self.directory.openldap.resume()?;
        let answers = answers.map_err(|_| anyhow!("the strangers panicked"))??;
        let storm = storm.context("running sessions in the storm")?.rate_per_s;

        alone += residents.closed_loop(window).await?.rate_per_s;
        let arriving = self.arrive(&self.elsewhere);
        let elsewhere = residents.closed_loop(window).await?.rate_per_s;
        let arrived = arriving.join();
        let arrived = arrived.map_err(|_| anyhow!("the strangers panicked"))??;
        alone += residents.closed_loop(window).await?.rate_per_s;
        Ok(Found {
            alone: alone / 3.0,
            storm,
            elsewhere,
            elsewhere_longest: arrived.values().map(|it| it.1).max().unwrap_or_default(),
            cpu_s: cpu,
            answers,
        })
    }

    /// Has strangers log in, evenly over the window, on a thread of their own.
    fn arrive(&self, door: &Door) -> thread::JoinHandle<Result<Answers>> {
        // The first of the people is the one who is in already.
        let logins = 1..=self.logins;
        let doors = logins.map(|index| door.for_login(self.directory.person(index)));
        let (doors, window): (Vec<Door>, _) = (doors.collect(), self.window);
        let limit = window + STRANGER_PATIENCE + LOGIN_TIMEOUT;
        thread::spawn(move || run(limit, strangers(doors, window)))
    }
}

async fn strangers(doors: Vec<Door>, window: Duration) -> Result<Answers> {
    let start = Instant::now();
    let gap = window / u32::try_from(doors.len())?;
    let mut tasks = JoinSet::new();
    for (index, door) in (0..).zip(doors) {
        let arrival = start + gap * index;
        tasks.spawn_local(async move {
            sleep_until(arrival.into()).await;
            let login = timeout(STRANGER_PATIENCE, Client::try_log_in(&door)).await;
            let answer = match login {
                Err(_) => "no answer".to_owned(),
                Ok(Err(_)) => "connection lost".to_owned(),
                Ok(Ok(Err(refusal))) => refusal.sqlstate,
                Ok(Ok(Ok(_))) => "let in".to_owned(),
            };
            (answer, arrival.elapsed())
        });
    }
    let mut answers = Answers::new();
    while let Some(answer) = tasks.join_next().await {
        let (answer, waited) = answer.context("a stranger")?;
        let entry = answers.entry(answer).or_default();
        *entry = (entry.0 + 1, entry.1.max(waited));
    }
    Ok(answers)
}

impl Found {
    fn record(&self, recorder: &mut Recorder<'_>) {
        recorder
            .at(names::WITHOUT_STORM)
            .figure(Metric::RatePerS, self.alone);
        let mut storm = recorder.at(names::IN_STORM);
        storm.figure(Metric::RatePerS, self.storm);
        storm.figure(Metric::RouteCpuS, self.cpu_s);
        let mut elsewhere = recorder.at(names::STORM_ELSEWHERE);
        elsewhere.figure(Metric::RatePerS, self.elsewhere);
        let longest_us = self.elsewhere_longest.as_secs_f64() * 1e6;
        elsewhere.figure(Metric::LongestUs, longest_us);
        for (answer, (count, longest)) in &self.answers {
            let point = format!("answered {answer}");
            let mut recorder = recorder.at(&point);
            recorder.figure(Metric::Logins, float(*count));
            recorder.figure(Metric::LongestUs, longest.as_secs_f64() * 1e6);
        }
    }
}
