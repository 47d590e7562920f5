//! One session that moves as many bytes as it can, by psql.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{Extent, Point, Recorder, Scenario};
use crate::child;
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::{BulkData, Stage, psql};

/// Far above what a gigabyte takes.
const COPY_LIMIT: Duration = Duration::from_secs(600);

/// `\copy`, in one direction.
#[derive(Debug)]
pub(super) struct Copy {
    name: &'static str,
    shows: &'static str,
    statement: fn(&BulkData) -> String,
}

impl Copy {
    /// From the server.
    pub(super) fn out() -> Self {
        Self {
            name: "copy-out",
            shows: "a big result: \\copy of rows of 1,000 characters to /dev/null",
            statement: |data| format!("\\copy {} to '/dev/null'", data.table),
        }
    }

    /// To the server, which reads every row and keeps none: the path is measured, not the disk.
    pub(super) fn into() -> Self {
        Self {
            name: "copy-in",
            shows: "a big load: \\copy of rows of 1,000 characters, where false",
            statement: |data| {
                let file = data.file.display();
                format!("\\copy {} from '{file}' where false", data.table)
            },
        }
    }
}

impl Scenario for Copy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shows(&self) -> &'static str {
        self.shows
    }

    fn points(&self, _extent: Extent) -> Vec<Point> {
        let point = |encryption| Point {
            name: String::new(),
            encryption,
            amount: 1,
        };
        [Encryption::Plain, Encryption::Tls].map(point).into()
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let data = stage.bulk()?;
        let mut command = psql(route, point.encryption).command()?;
        command.args(["--quiet", "--command", &(self.statement)(data)]);
        let (ended, counts) = stage
            .meter()
            .around(&route.pids, || child::finish(&mut command, COPY_LIMIT))?;
        if !ended.status.success() {
            bail!("psql failed: {}", ended.stderr.trim());
        }
        // Exact: no file is as long as 2^52 bytes.
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let bytes = data.bytes as f64;
        recorder.figure(Metric::BytesPerS, bytes / ended.took.as_secs_f64());
        let instructions = counts.instructions.map(|it| it / bytes);
        recorder.figure_if_any(Metric::InstructionsPerByte, instructions);
        recorder.figure(Metric::BusyPerByteNs, counts.busy_s * 1e9 / bytes);
        recorder.figure(Metric::RouteCpuS, counts.cpu_s);
        Ok(())
    }
}
