//! The mixed load: few of everything at once, so that it can go on for hours beside other work.

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use postern_tests::{DirectoryServer, Member, RawClient};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::site::{CHANGER, DATABASE, OTHER_GROUP, PASSWORD, STAYER, Servers, Site, WARM};
use super::tally::{Tally, Work};
use crate::limits::{ANSWER_TIMEOUT, SOAK_REVOCATION};
use crate::load::client::{Client, Statement};
use crate::load::door::Wire;
use crate::load::random::Random;

/// Sessions that ask prepared queries.
const ASKING: u64 = 4;
/// Sessions that say nothing for a while.
const IDLE: u64 = 40;

/// Between two of the same kind: a quiet hour of a small company.
const WARM_EVERY: Duration = Duration::from_millis(500);
const COLD_EVERY: Duration = Duration::from_secs(2);
const QUERY_EVERY: Duration = Duration::from_millis(50);
const COPY_EVERY: Duration = Duration::from_secs(5);
const CANCEL_EVERY: Duration = Duration::from_secs(7);
const GROUPS_EVERY: Duration = Duration::from_secs(15);
const CUT_EVERY: Duration = Duration::from_secs(3);
const METRICS_EVERY: Duration = Duration::from_secs(15);
const IDLE_FOR: Duration = Duration::from_secs(60);
/// Before a session that was lost is opened again, so that a fault is followed by no storm.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a COPY moves: 20,000 lines of 100 bytes out, 32 pieces of 64 KiB in.
const COPY_OUT: &str = "copy (select repeat('x', 99) from generate_series(1, 20000)) to stdout";
const PIECE_LINES: usize = 1_024;
const PIECES: u32 = 32;

/// It speaks when it runs, so that a cancel request cannot come too early.
const LONG_QUERY: &str = "do $$ begin raise notice 'it runs'; perform pg_sleep(30); end $$";
/// What PostgreSQL answers to a query that was cancelled.
const QUERY_CANCELED: &str = "57014";
/// Longer than a session may outlast the loss of a group.
const WAIT_FOR_THE_END: &str = "select pg_sleep(60)";

/// One of a kind of load, from its beginning to its end.
type Step = fn(Rc<Site>) -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// Every kind that is done again and again, with the pause after each.
const STEPS: [(Work, Duration, Step); 8] = [
    (Work::WarmLogin, WARM_EVERY, |it| Box::pin(warm_login(it))),
    (Work::ColdLogin, COLD_EVERY, |it| Box::pin(cold_login(it))),
    (Work::CopyOut, COPY_EVERY, |it| Box::pin(copy_out(it))),
    (Work::CopyIn, COPY_EVERY, |it| Box::pin(copy_in(it))),
    (Work::Cancel, CANCEL_EVERY, |it| Box::pin(cancel(it))),
    (Work::Groups, GROUPS_EVERY, |it| Box::pin(groups(it))),
    (Work::CutOff, CUT_EVERY, |it| Box::pin(cut_off(it))),
    (Work::Metrics, METRICS_EVERY, |it| Box::pin(metrics(it))),
];

/// Begins everything; it ends when the set is dropped.
pub(super) fn begin(site: &Rc<Site>, tally: &Rc<Tally>) -> JoinSet<()> {
    let mut set = JoinSet::new();
    for (work, every, step) in STEPS {
        let (site, tally) = (Rc::clone(site), Rc::clone(tally));
        set.spawn_local(async move {
            loop {
                let since = Instant::now();
                let outcome = step(Rc::clone(&site)).await;
                tally.count(work, since, &outcome);
                sleep(every).await;
            }
        });
    }
    for index in 0..ASKING + IDLE {
        let (work, every) = match index < ASKING {
            true => (Work::Query, QUERY_EVERY),
            false => (Work::Idle, IDLE_FOR),
        };
        let (site, tally) = (Rc::clone(site), Rc::clone(tally));
        set.spawn_local(async move { stay(&site, &tally, (work, every), index).await });
    }
    set
}

/// A session that asks and waits by turns; when it is lost, it is opened again.
async fn stay(site: &Site, tally: &Tally, (work, every): (Work, Duration), index: u64) {
    let mut random = Random::new(index);
    loop {
        let opening = Instant::now();
        let opened = open(site).await;
        let outcome = match &opened {
            Ok(_) => Ok(()),
            Err(error) => Err(anyhow!("{error:#}")),
        };
        tally.count(Work::Session, opening, &outcome);
        if let Ok((mut client, mut statement)) = opened {
            loop {
                // What ends a session while it says nothing is noticed only when it speaks.
                let since = Instant::now();
                sleep(every.mul_f64(0.5 + random.share())).await;
                statement.set(random.below(1_000_000));
                let answer = timeout(ANSWER_TIMEOUT, client.execute(&statement)).await;
                let outcome = answer.context("no answer").and_then(|it| it.map(|_| ()));
                tally.count(work, since, &outcome);
                if outcome.is_err() {
                    break;
                }
            }
        }
        sleep(AGAIN_AFTER).await;
    }
}

async fn open(site: &Site) -> Result<(Client, Statement)> {
    let mut client = Client::log_in(&site.door(STAYER)?).await?;
    let statement = client.prepare("select $1::int + 1").await?;
    Ok((client, statement))
}

async fn warm_login(site: Rc<Site>) -> Result<()> {
    site.log_in(site.warm()).await
}

async fn cold_login(site: Rc<Site>) -> Result<()> {
    site.log_in(&site.next_cold()).await
}

async fn copy_out(site: Rc<Site>) -> Result<()> {
    let mut client = Client::log_in(site.warm()).await?;
    let answer = client.query(COPY_OUT).await?;
    ensure!(answer.bytes > 2_000_000, "{} bytes", answer.bytes);
    client.leave().await
}

async fn copy_in(site: Rc<Site>) -> Result<()> {
    let piece = format!("{}\n", "x".repeat(63)).repeat(PIECE_LINES);
    let mut client = Client::log_in(site.warm()).await?;
    client.query("truncate intake").await?;
    client
        .copy_in("copy intake from stdin", piece.as_bytes(), PIECES)
        .await?;
    client.leave().await
}

async fn cancel(site: Rc<Site>) -> Result<()> {
    site.aside(|servers: &Servers| {
        let port = servers.postern.port();
        let mut client = RawClient::logged_in(port, WARM, DATABASE, PASSWORD)?;
        let key = client.cancel_key.clone().context("no cancel key")?;
        client.send_query(LONG_QUERY)?;
        let notice = client.read()?;
        ensure!(notice.tag == b'N', "{notice:?} is no notice");
        RawClient::cancel(port, &key)?;
        let messages = client.read_until_ready()?;
        let errors = messages.iter().filter(|it| it.tag == b'E');
        let codes: Vec<String> = errors.filter_map(|it| it.field(b'C')).collect();
        ensure!(codes == [QUERY_CANCELED], "{codes:?}");
        Ok(())
    })
    .await
}

/// Somebody gets a group, logs in, loses it, and with it the session; and gets in again with what
/// is left.
async fn groups(site: Rc<Site>) -> Result<()> {
    let door = site.door(CHANGER)?;
    let given = site.aside(|it| {
        it.directory
            .add_member(OTHER_GROUP, Member::Person(CHANGER))
    });
    // After a fault the group may still be there from before, and whether it is, shows below.
    let given = given.await;
    let mut client = Client::log_in(&door).await?;
    client.query("select 1").await?;
    let taken = site.aside(|it| {
        it.directory
            .remove_member(OTHER_GROUP, Member::Person(CHANGER))
    });
    taken.await.context(match given {
        Ok(()) => "the group was given".to_owned(),
        Err(error) => format!("the group was not given: {error:#}"),
    })?;
    match timeout(SOAK_REVOCATION, client.query(WAIT_FOR_THE_END)).await {
        Ok(Err(_)) => site.log_in(&door).await,
        Ok(Ok(_)) | Err(_) => bail!("a session has outlasted its group"),
    }
}

/// One client is gone while it is answered, and another before it has said anything.
async fn cut_off(site: Rc<Site>) -> Result<()> {
    let mut client = Client::log_in(site.warm()).await?;
    client.ask(COPY_OUT).await?;
    reset(&client.into_wire())?;
    reset(&site.warm().connect().await?)
}

/// Makes the end of a connection one that the other side hears of as a reset.
fn reset(wire: &Wire) -> Result<()> {
    let socket = match wire {
        Wire::Plain(socket) => SockRef::from(socket),
        Wire::Tls(tls) => SockRef::from(tls.get_ref().0),
    };
    Ok(socket.set_linger(Some(Duration::ZERO))?)
}

async fn metrics(site: Rc<Site>) -> Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", site.metrics_port())).await?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request).await?;
    let mut text = String::new();
    timeout(ANSWER_TIMEOUT, socket.read_to_string(&mut text))
        .await
        .context("no answer")??;
    ensure!(text.ends_with("# EOF\n"), "the numbers have no end");
    Ok(())
}
