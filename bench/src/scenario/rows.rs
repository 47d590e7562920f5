//! Rows from small to very large: a proxy that copies what it has not finished reading takes
//! quadratic time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Extent, Point, Recorder, Scenario};
use crate::limits::ANSWER_TIMEOUT;
use crate::load::client::Client;
use crate::load::door::{Door, Tickets};
use crate::load::latency::Latencies;
use crate::load::{float, run};
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How long a row is at each point, in bytes.
const ROWS: [(&str, u64); 4] = [
    ("1 KiB rows", 1_024),
    ("64 KiB rows", 65_536),
    ("1 MiB rows", 1_048_576),
    (LARGEST, 40_000_000),
];
/// One row a query, so that its time is known.
const LARGEST: &str = "40 MB rows";
/// How much one query asks for where a row is shorter, in bytes.
const ANSWER_BYTES: u64 = 16_000_000;

/// One client that asks for rows.
#[derive(Debug)]
pub(super) struct Rows;

impl Scenario for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn shows(&self) -> &'static str {
        "rows of 1 KiB to 40 MB, one client"
    }

    fn points(&self, _extent: Extent) -> Vec<Point> {
        let of = |encryption| {
            ROWS.map(|(name, amount)| Point {
                name: name.to_owned(),
                encryption,
                amount,
            })
        };
        [of(Encryption::Plain), of(Encryption::Tls)].concat()
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let duration = match stage.extent() {
            Extent::Quick => Duration::from_millis(300),
            Extent::Full => Duration::from_millis(1_500),
        };
        // What one query asks for is small beside what goes by meanwhile.
        let rows = (ANSWER_BYTES / point.amount).max(1);
        let sql = format!(
            "select repeat('x', {}) from generate_series(1, {rows})",
            point.amount
        );
        let door = Door::new(route, point.encryption, Tickets::Forgotten)?;
        let asked = ask(&door, &sql, rows, duration);
        let (took, latencies) = run(ANSWER_TIMEOUT * 2 + duration, asked)?;
        let rows = float(rows * latencies.count());
        let row_bytes = float(point.amount);
        recorder.figure(Metric::RatePerS, rows / took.as_secs_f64());
        recorder.figure(Metric::BytesPerS, rows * row_bytes / took.as_secs_f64());
        if point.name == LARGEST {
            recorder.figure_if_any(Metric::P50Us, latencies.at_us(0.5));
        }
        Ok(())
    }
}

/// Asks the same at least once and until the time is over. How long that took in all, and each
/// time.
async fn ask(
    door: &Door,
    sql: &str,
    rows: u64,
    duration: Duration,
) -> Result<(Duration, Latencies)> {
    let mut client = Client::log_in(door).await?;
    client.query("select 1").await?;
    let mut latencies = Latencies::new()?;
    let start = Instant::now();
    while start.elapsed() < duration {
        let before = Instant::now();
        let answer = client.query(sql).await?;
        ensure!(answer.rows == rows, "{} rows, and not {rows}", answer.rows);
        latencies.record(before.elapsed());
    }
    let took = start.elapsed();
    client.leave().await?;
    Ok((took, latencies))
}
