//! What the process has done, in numbers for a monitoring system; and whether it is ready.
//!
//! Served over HTTP at an address of its own: `/metrics` in OpenMetrics 1.0
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), `/readyz` and `/livez`.
//! No name of a person, a role or a database is in it.

mod http;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::http::serve;
use crate::check::{Outcome, Probe};
use crate::durations::{Buckets, Durations};
use crate::gate::Gate;

/// The upper bounds of buckets, in seconds: from a login that memory answers to what people notice.
const BUCKETS_S: [f64; 14] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Everything that is told, read when it is asked for.
struct Figures(Arc<Gate>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

/// The whole text for `/metrics`.
///
/// # Errors
///
/// Only a text that cannot be written to, which memory can.
fn exposition(gate: &Arc<Gate>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("postern");
    registry.register_collector(Box::new(Figures(gate.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What is worth a warning although the process is ready, one line each.
fn warnings(gate: &Gate) -> Vec<String> {
    let warning = |it: &Probe| match &it.outcome {
        Outcome::Warning { why, cure } => Some(told(it, why, cure)),
        Outcome::Ok { .. } | Outcome::Failed { .. } => None,
    };
    gate.health.seen().iter().filter_map(warning).collect()
}

fn told(probe: &Probe, why: &str, cure: &str) -> String {
    format!("{}  {}: {why}; {cure}", probe.leg, probe.what)
}

/// What keeps the process from being ready, one line each; nothing when it is.
fn complaints(gate: &Gate) -> Vec<String> {
    if gate.door.is_draining() {
        return vec!["draining: no more sessions begin".to_owned()];
    }
    let seen = gate.health.seen();
    if seen.is_empty() {
        return vec!["nothing has been looked at yet".to_owned()];
    }
    let failed = |it: &Probe| match &it.outcome {
        Outcome::Failed { why, cure } => Some(told(it, why, cure)),
        Outcome::Ok { .. } | Outcome::Warning { .. } => None,
    };
    seen.iter().filter_map(failed).collect()
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gate = &self.0;
        let version = [("version", crate::VERSION)];
        encoder
            .encode_descriptor("build", "The program", None, MetricType::Info)?
            .encode_info(&version)?;
        counters(gate, &mut encoder)?;
        gauges(gate, &mut encoder)?;
        histograms(gate, &mut encoder)
    }
}

fn histograms(gate: &Gate, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let of_time = |it: &Durations| it.buckets(&BUCKETS_S);
    let kind = MetricType::Histogram;
    let seconds = Some(&Unit::Seconds);
    let help = "From the password to the session on record";
    let mut family = encoder.encode_descriptor("login_duration", help, seconds, kind)?;
    for (asked, durations) in [
        ("memory", &gate.warm_logins),
        ("directory", &gate.cold_logins),
    ] {
        let told = of_time(durations);
        histogram(&told, family.encode_family(&[("asked", asked)])?)?;
    }
    let help = "The phases of logins that came through";
    let mut family = encoder.encode_descriptor("login_phase_duration", help, seconds, kind)?;
    for (phase, durations) in gate.phases.each() {
        let told = of_time(durations);
        histogram(&told, family.encode_family(&[("phase", phase.name())])?)?;
    }
    let help = "From hearing that access is lost to the last backend gone";
    let single = encoder.encode_descriptor("revocation_lag", help, seconds, kind)?;
    histogram(&of_time(&gate.lag), single)?;
    let help = "Application bytes of sessions that have ended";
    let mut family = encoder.encode_descriptor("session_size", help, Some(&Unit::Bytes), kind)?;
    for (direction, sizes) in [
        ("to_client", &gate.session_sizes.to_client),
        ("to_backend", &gate.session_sizes.to_backend),
    ] {
        let told = sizes.buckets();
        histogram(&told, family.encode_family(&[("direction", direction)])?)?;
    }
    Ok(())
}

fn counters(gate: &Gate, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (counts, splice) = (&gate.counts, gate.ring.stats());
    let load = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
    for (name, help, unit, value) in [
        (
            "connections",
            "Connections accepted",
            None,
            load(&counts.connections),
        ),
        (
            "sessions_opened",
            "Sessions opened",
            None,
            load(&counts.opened),
        ),
        (
            "directory_calls",
            "Logins that asked the directory",
            None,
            gate.authenticator.calls(),
        ),
        (
            "role_store_calls",
            "Calls of the role store",
            None,
            gate.synchronizer.calls(),
        ),
        (
            "splice_to_client",
            "Application bytes from backends to clients",
            Some(&Unit::Bytes),
            splice.bytes_to_client,
        ),
        (
            "splice_to_backend",
            "Application bytes from clients to backends",
            Some(&Unit::Bytes),
            splice.bytes_to_backend,
        ),
        (
            "splice_pauses",
            "Times that a slow side stopped the other",
            None,
            splice.pauses,
        ),
    ] {
        let counter = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(counter)?;
    }
    let help = "Logins that were refused, by the reason of their audit record";
    let mut family = encoder.encode_descriptor("refused", help, None, MetricType::Counter)?;
    for (reason, count) in counts.refused.by_reason() {
        let label = [("reason", reason)];
        ConstCounter::new(count).encode(family.encode_family(&label)?)?;
    }
    Ok(())
}

fn gauges(gate: &Gate, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    let limit = count(gate.config.limits.sessions_max);
    for (name, help, value) in [
        (
            "sessions",
            "Sessions that are live",
            count(gate.sessions.count()),
        ),
        ("sessions_limit", "limits.sessions_max", limit),
        (
            "remembered_people",
            "Entries of the credential cache",
            count(gate.authenticator.remembered()),
        ),
    ] {
        let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(gauge)?;
    }
    room(gate, encoder)?;
    let help = "What postern health shows: 1 ok, 0.5 with a warning, 0 failed; the worst of a leg";
    let mut family = encoder.encode_descriptor("health", help, None, MetricType::Gauge)?;
    for (leg, value) in worst_of_legs(&gate.health.seen()) {
        let label = [("leg", leg.as_str())];
        ConstGauge::new(value).encode(family.encode_family(&label)?)?;
    }
    Ok(())
}

/// The room of the audit file; nothing while it is not known.
fn room(gate: &Gate, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(room) = gate.health.room() else {
        return Ok(());
    };
    for (name, help, value) in [
        ("audit_file", "The audit file", room.file_bytes),
        (
            "audit_free",
            "What is free on the audit file's file system",
            room.free_bytes,
        ),
        (
            "audit_free_wanted",
            "With less free there postern health warns",
            room.wanted_bytes(),
        ),
    ] {
        let unit = Some(&Unit::Bytes);
        let gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(gauge)?;
    }
    Ok(())
}

fn worst_of_legs(seen: &[Probe]) -> BTreeMap<String, f64> {
    let mut worst = BTreeMap::new();
    for probe in seen {
        let value: f64 = match &probe.outcome {
            Outcome::Ok { .. } => 1.0,
            Outcome::Warning { .. } => 0.5,
            Outcome::Failed { .. } => 0.0,
        };
        let of_leg = worst.entry(probe.leg.clone()).or_insert(value);
        *of_leg = value.min(*of_leg);
    }
    worst
}

fn histogram(told: &Buckets, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    encoder.encode_histogram::<NoLabelSet>(told.sum, told.count, &told.buckets, None)
}
