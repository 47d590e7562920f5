//! Three proxies before one database, behind a balancer that knows nothing of PostgreSQL.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::cast::{self, HR_DATABASE, HR_GROUP, TESTUSER};
use postern_tests::raw::CancelKey;
use postern_tests::wait::accepts;
use postern_tests::{
    Certificates, DirectoryServer, Member, OpenLdap, Postern, Postgres, RawClient, Scratch, Server,
    World as Servers, free_port, harness, needs, wait_until,
};

/// How long a change may take to be true everywhere, on a busy machine.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

/// Clients that log in and ask, again and again.
const CLIENTS: usize = 12;

/// How many sessions they have had before a proxy is killed, and after it.
const SESSIONS: usize = 100;

fn main() -> ExitCode {
    harness::run(Servers::missing(), World::start, TESTS)
}

const TESTS: &[harness::Test<World>] = &[
    (
        "a_cancel_request_finds_its_session_whichever_proxy_it_reaches",
        a_cancel_request_finds_its_session_whichever_proxy_it_reaches,
    ),
    (
        "a_wrong_key_cancels_nothing_anywhere",
        a_wrong_key_cancels_nothing_anywhere,
    ),
    (
        "whoever_has_no_cluster_key_is_not_listened_to",
        whoever_has_no_cluster_key_is_not_listened_to,
    ),
    (
        "check_says_which_proxy_does_not_answer",
        check_says_which_proxy_does_not_answer,
    ),
    (
        "a_loss_ends_the_sessions_of_all_proxies",
        a_loss_ends_the_sessions_of_all_proxies,
    ),
    (
        "behind_a_balancer_one_may_be_killed_under_load",
        behind_a_balancer_one_may_be_killed_under_load,
    ),
];

/// A directory, a database, and three Posterns of one cluster between them.
struct World {
    posterns: Vec<Postern>,
    /// Where they ask each other.
    ports: Vec<u16>,
    directory: OpenLdap,
    postgres: Postgres,
    scratch: Scratch,
}

impl World {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start(&scratch, &certificates)?;
        let directory = OpenLdap::start(&scratch, &certificates)?;
        cast::populate(&directory)?;
        cast::make_databases(&postgres)?;
        let ports = (0..3).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let peers: Vec<_> = ports.iter().map(|it| format!("localhost:{it}")).collect();
        let mut posterns: Vec<Postern> = Vec::new();
        for port in &ports {
            let postern = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
            let first = posterns.first().unwrap_or(&postern);
            let key = first.config_file().with_file_name("cluster-key");
            postern.configure(|config| {
                directory.configure(config);
                config
                    .set("listen", "tls", "allow-plaintext")
                    .set("credential", "cluster_key_file", &key)
                    .set("cluster", "listen", format!("127.0.0.1:{port}"))
                    .set("cluster", "peers", peers.clone());
            });
            posterns.push(postern);
        }
        let first = posterns.first().context("no proxy")?;
        first.install_schema(&postgres)?;
        cast::prepare_groups(&postgres)?;
        for postern in &posterns {
            postern.start_again()?;
        }
        Ok(Self {
            posterns,
            ports,
            directory,
            postgres,
            scratch,
        })
    }

    /// A balancer of TCP before all three, and its port.
    fn balancer(&self) -> Result<Option<(Server, u16)>> {
        let Some(haproxy) = needs::program("haproxy") else {
            return Ok(None);
        };
        let port = free_port()?;
        let file = self.scratch.path().join("haproxy.cfg");
        std::fs::write(&file, self.balance(port)?)?;
        let mut command = Account::own().command(&haproxy, "KILL");
        command.args(["-db", "-f"]).arg(&file);
        let log = self.scratch.path().join("haproxy.log");
        let mut server = Server::spawn("haproxy", command, &log, Signal::SIGTERM)?;
        server.wait_ready(SEEN_LIMIT, || Ok(accepts("127.0.0.1", port)))?;
        Ok(Some((server, port)))
    }

    /// A connection that no proxy takes is offered to the next.
    fn balance(&self, port: u16) -> Result<String> {
        let mut text = format!(
            "defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    retries 3
    option redispatch 1

listen postgresql
    bind 127.0.0.1:{port}
    balance roundrobin
"
        );
        for (number, postern) in self.posterns.iter().enumerate() {
            let port = postern.port();
            writeln!(
                text,
                "    server p{number} 127.0.0.1:{port} check inter 50ms"
            )?;
        }
        Ok(text)
    }

    fn session(&self, postern: &Postern) -> Result<RawClient> {
        RawClient::logged_in(
            postern.port(),
            TESTUSER.login,
            HR_DATABASE,
            TESTUSER.password,
        )
    }

    /// A session that sleeps in the database.
    fn sleeper(&self, postern: &Postern) -> Result<(RawClient, CancelKey)> {
        let mut client = self.session(postern)?;
        let key = client.cancel_key.clone().context("no key was given")?;
        client.send_query("select pg_sleep(120)")?;
        let pid = key.pid;
        let sleeps = format!(
            "select exists (select from pg_stat_activity where pid = {pid} and state = 'active' \
             and query like '%pg_sleep%')"
        );
        wait_until("it sleeps", SEEN_LIMIT, || {
            Ok(self.postgres.sql(&sleeps)? == "t")
        })?;
        Ok((client, key))
    }
}

fn a_cancel_request_finds_its_session_whichever_proxy_it_reaches(world: &World) -> Result<()> {
    for owner in &world.posterns {
        for reached in &world.posterns {
            let (mut client, key) = world.sleeper(owner)?;
            RawClient::cancel(reached.port(), &key)?;
            let told = client.read_until_ready()?;
            let error = told.iter().find(|it| it.tag == b'E');
            let code = error.and_then(|it| it.field(b'C'));
            ensure!(code.as_deref() == Some("57014"), "{told:?}");
            ensure!(client.query("select 1")? == "1", "the session is over");
        }
    }
    Ok(())
}

fn a_wrong_key_cancels_nothing_anywhere(world: &World) -> Result<()> {
    let [first, second, ..] = world.posterns.as_slice() else {
        bail!("there are not two proxies");
    };
    let (mut client, key) = world.sleeper(first)?;
    let mut wrong = key.clone();
    for byte in &mut wrong.key {
        *byte = !*byte;
    }
    RawClient::cancel(second.port(), &wrong)?;
    let pid = key.pid;
    let state = format!("select state from pg_stat_activity where pid = {pid}");
    ensure!(world.postgres.sql(&state)? == "active", "it was cancelled");
    RawClient::cancel(second.port(), &key)?;
    client.read_until_ready().map(drop)
}

fn whoever_has_no_cluster_key_is_not_listened_to(world: &World) -> Result<()> {
    let [first, ..] = world.posterns.as_slice() else {
        bail!("there is no proxy");
    };
    let [port, ..] = world.ports.as_slice() else {
        bail!("there is no port");
    };
    let (mut client, key) = world.sleeper(first)?;
    // In the clear, and inside TLS with no key at all.
    // How it is turned away does not matter.
    drop(RawClient::cancel(*port, &key));
    let config = postern_tests::raw::client_config(first.ca_file())?;
    ensure!(RawClient::direct(*port, &config).is_err(), "it shook hands");
    let state = format!("select state from pg_stat_activity where pid = {}", key.pid);
    ensure!(world.postgres.sql(&state)? == "active", "it was cancelled");
    RawClient::cancel(first.port(), &key)?;
    client.read_until_ready().map(drop)
}

fn check_says_which_proxy_does_not_answer(world: &World) -> Result<()> {
    let [first, .., last] = world.posterns.as_slice() else {
        bail!("there are not two proxies");
    };
    let check = || {
        let output = first.command(&["check"])?.output()?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text = check()?;
    ensure!(text.matches("it has the same key").count() == 3, "{text}");
    last.stop()?;
    let text = check();
    last.start_again()?;
    let text = text?;
    ensure!(text.matches("it has the same key").count() == 2, "{text}");
    ensure!(text.contains("is it running"), "{text}");
    Ok(())
}

fn a_loss_ends_the_sessions_of_all_proxies(world: &World) -> Result<()> {
    let (login, password) = ("triple", "Secret-triple-42");
    world.directory.add_person(login, password)?;
    world
        .directory
        .add_member(HR_GROUP, Member::Person(login))?;
    let mut sessions = Vec::new();
    for postern in &world.posterns {
        let client = RawClient::logged_in(postern.port(), login, HR_DATABASE, password)?;
        sessions.push(client);
    }
    world
        .directory
        .remove_member(HR_GROUP, Member::Person(login))?;
    for mut session in sessions {
        let told = session.read()?;
        ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    }
    Ok(())
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    /// Sessions in which everything was right.
    whole: AtomicUsize,
    /// Those that broke off without a word.
    broken: AtomicUsize,
    /// Set when the clients are to stop.
    enough: AtomicBool,
}

fn behind_a_balancer_one_may_be_killed_under_load(world: &World) -> Result<()> {
    let Some((mut balancer, port)) = world.balancer()? else {
        let claim = "behind_a_balancer_one_may_be_killed_under_load";
        needs::skip(claim, "haproxy is not installed");
        return Ok(());
    };
    let [.., victim] = world.posterns.as_slice() else {
        bail!("there is no proxy");
    };
    let seen = Seen::default();
    let work = || -> Result<()> {
        while !seen.enough.load(Ordering::Relaxed) {
            match one_session(port) {
                Ok(Ok(())) => seen.whole.fetch_add(1, Ordering::Relaxed),
                Ok(Err(refused)) => bail!("refused: {refused}"),
                Err(_) => seen.broken.fetch_add(1, Ordering::Relaxed),
            };
        }
        Ok(())
    };
    let until = |count: usize| {
        wait_until("the clients have been served", 4 * SEEN_LIMIT, || {
            Ok(seen.whole.load(Ordering::Relaxed) >= count)
        })
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        let killed = until(SESSIONS).and_then(|()| victim.kill());
        let before = seen.whole.load(Ordering::Relaxed);
        let served = killed.and_then(|()| until(before + SESSIONS));
        seen.enough.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        served
    })?;
    // Each client can have been in the one that was killed, once.
    let broken = seen.broken.load(Ordering::Relaxed);
    ensure!(broken <= CLIENTS, "{broken} sessions broke");
    victim.start_again()?;
    let mut direct = world.session(victim)?;
    ensure!(direct.query("select 1")? == "1");
    balancer.stop()?;
    Ok(())
}

/// Logs in through the balancer and asks a few times; a refusal is its text.
fn one_session(port: u16) -> Result<Result<(), String>> {
    let client = RawClient::log_in(port, TESTUSER.login, HR_DATABASE, TESTUSER.password)?;
    let mut client = match client {
        Ok(client) => client,
        Err(told) => return Ok(Err(told.field(b'M').unwrap_or_default())),
    };
    for _ in 0..5 {
        let answer = client.query("select count(*) from employees")?;
        if answer != "3" {
            return Ok(Err(answer));
        }
    }
    Ok(Ok(()))
}
