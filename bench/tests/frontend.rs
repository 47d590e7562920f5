//! The frontend of the loads against a real PostgreSQL.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use postern_bench::load::client::Client;
use postern_bench::load::clients::{Clients, Question};
use postern_bench::load::door::{Door, Tickets};
use postern_bench::load::open_loop::Plan;
use postern_bench::load::run;
use postern_bench::route::{Encryption, Kind, Login, Route};
use postern_tests::{Certificates, Postgres, Scratch, needs};

const LIMIT: Duration = Duration::from_secs(120);
const ENCRYPTIONS: [Encryption; 2] = [Encryption::Plain, Encryption::Tls];

/// A PostgreSQL with a role, and the folder that it is in.
struct World {
    postgres: Postgres,
    ca_file: PathBuf,
    _scratch: Scratch,
}

impl World {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start(&scratch, &certificates)?;
        postgres.set_hba("host all all 127.0.0.1/32 scram-sha-256")?;
        postgres.sql("create role someone login password 'S\u{e4}sam-42'")?;
        Ok(Self {
            postgres,
            ca_file: certificates.ca_file(),
            _scratch: scratch,
        })
    }

    fn door(&self, encryption: Encryption, password: &str) -> Result<Door> {
        let route = Route {
            name: "direct".to_owned(),
            kind: Kind::Direct,
            host: "localhost".to_owned(),
            port: self.postgres.port(),
            login: Login {
                user: "someone".to_owned(),
                password: Some(password.to_owned()),
                database: "postgres".to_owned(),
            },
            ca_file: Some(self.ca_file.clone()),
            pids: Vec::new(),
            version: String::new(),
            configuration: String::new(),
        };
        Door::new(&route, encryption, Tickets::Forgotten)
    }
}

async fn answers_are_counted(door: &Door) -> Result<()> {
    let mut client = Client::log_in(door).await?;
    // A row that is longer than every buffer, then many short ones.
    let large = client.query("select repeat('x', 5000000)").await?;
    assert_eq!(large.rows, 1);
    assert!((5_000_000..5_001_000).contains(&large.bytes), "{large:?}");
    let many = client.query("select generate_series(1, 100000)").await?;
    assert_eq!(many.rows, 100_000);

    let mut statement = client.prepare("select generate_series(1, $1::int)").await?;
    for rows in [1, 7, 1_000] {
        statement.set(rows);
        assert_eq!(client.execute(&statement).await?.rows, rows);
    }

    let received = Arc::new(AtomicU64::new(0));
    client.count_into(Arc::clone(&received));
    let copy = "copy (select generate_series(100000, 199999)) to stdout";
    let copied = client.query(copy).await?;
    assert_eq!(copied.bytes, received.load(Ordering::Relaxed));
    // Seven characters a line, and a header each.
    assert!((1_200_000..1_201_000).contains(&copied.bytes), "{copied:?}");
    client.leave().await
}

async fn an_error_ends_the_query_and_not_the_session(door: &Door) -> Result<()> {
    let mut client = Client::log_in(door).await?;
    let Err(error) = client.query("select 1 / 0").await else {
        bail!("nothing is wrong");
    };
    assert!(error.to_string().starts_with("22012:"), "{error}");
    assert_eq!(client.query("select 1").await?.rows, 1);
    client.leave().await
}

async fn loops_go_on(door: &Door) -> Result<()> {
    let question = Question {
        sql: "select $1::int".to_owned(),
        parameter_max: 1_000_000,
    };
    let mut clients = Clients::connect(door, 3, &question).await?;
    let closed = clients.closed_loop(Duration::from_millis(200)).await?;
    assert!(closed.latencies.count() > 3, "{closed:?}");
    let plan = Plan {
        rate_per_s: 50.0,
        duration: Duration::from_millis(400),
        seed: 3,
    };
    let outcome = clients.open_loop(plan).await?;
    assert_eq!(outcome.unserved, 0);
    assert!(outcome.latencies.count() > 3, "{outcome:?}");
    Ok(())
}

#[test]
fn the_frontend_speaks_with_postgresql() -> Result<()> {
    if needs::postgres(None).is_none() {
        needs::skip(
            "the_frontend_speaks_with_postgresql",
            "PostgreSQL is not installed",
        );
        return Ok(());
    }
    let world = World::start()?;
    for encryption in ENCRYPTIONS {
        let door = world.door(encryption, "S\u{e4}sam-42")?;
        run(LIMIT, async {
            answers_are_counted(&door).await?;
            an_error_ends_the_query_and_not_the_session(&door).await?;
            loops_go_on(&door).await
        })?;
        let wrong = world.door(encryption, "wrong")?;
        let outcome = run(LIMIT, Client::try_log_in(&wrong))?;
        assert_eq!(
            outcome.err().map(|it| it.sqlstate).as_deref(),
            Some("28P01")
        );
    }
    Ok(())
}
