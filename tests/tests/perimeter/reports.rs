//! What `watch` and `explain` say.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use postern_tests::network::{APPLICATION, DATABASE, HOST, PROXY};
use postern_tests::policy::{Policy, said};
use postern_tests::postern::binary;
use postern_tests::process::Server;
use postern_tests::wait_until;
use serde_json::Value;

use crate::conversation::Conversation;
use crate::stage::{ECHO_PORT, OPEN_PORT, PORT, Stage, database};
use crate::{Test, actor};

pub(crate) const TESTS: &[Test] = tests![
    watch_prints_from_where_to_where_and_at_which_interface,
    watch_prints_the_process_that_was_refused,
    watch_says_what_only_was_reported,
    watch_says_how_many_it_left_out,
    watch_ends_on_both_signals,
    a_denial_is_in_the_audit_file,
    explain_names_the_rule_that_decides,
    explain_knows_what_is_in_the_maps_and_not_what_is_configured,
];

/// How long a denial may take to be printed on a busy machine.
const PRINT_LIMIT: Duration = Duration::from_secs(5);

/// A `watch` that runs, and what it prints.
struct Watch(Server);

impl Watch {
    fn start(stage: &Stage, policy: &Policy, name: &str) -> Result<Self> {
        let log = stage.scratch.path().join(format!("{name}.log"));
        Ok(Self(policy.start(&["watch", "--json"], &log)?))
    }

    /// The events so far, one a line.
    fn events(&self) -> Result<Vec<Value>> {
        let log = self.0.log()?;
        let whole = log.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        let events = whole.map(|it| serde_json::from_str(it).with_context(|| it.to_owned()));
        events.collect()
    }

    /// Does something until an event comes that has all of some values.
    fn sees(&self, mut act: impl FnMut() -> Result<()>, values: &[(&str, Value)]) -> Result<Value> {
        let mut found = None;
        let matches = |event: &Value| values.iter().all(|(name, value)| event[name] == *value);
        let seen = wait_until("watch prints it", PRINT_LIMIT, || {
            act()?;
            found = self.events()?.into_iter().find(matches);
            Ok(found.is_some())
        });
        seen.with_context(|| format!("{values:?} is not in {:?}", self.0.log()))?;
        found.context("nothing was found")
    }

    /// Ends it, and returns whether it says that all is well.
    fn end(mut self, signal: Signal) -> Result<()> {
        let status = self.0.stop_by(signal)?;
        ensure!(status.success(), "{status}: {}", self.0.log()?);
        Ok(())
    }
}

/// The application sends a datagram to the database, over IPv4 or IPv6, which does not arrive.
fn knock(stage: &Stage, to: usize) -> Result<()> {
    let to = database(ECHO_PORT)[to].to_string();
    let words = ["datagram", &to, "knock"];
    stage.application().act(&words).map(drop)
}

fn watch_prints_from_where_to_where_and_at_which_interface(stage: &Stage) -> Result<()> {
    for (policy, interface) in [
        (stage.gateway(|_| ())?, "application"),
        (stage.database_host(|_| ())?, "router"),
    ] {
        policy.load()?;
        let watch = Watch::start(stage, &policy, &format!("watch-{interface}"))?;
        let (from, to) = (APPLICATION.both(HOST), DATABASE.both(HOST));
        for (family, (from, to)) in from.into_iter().zip(to).enumerate() {
            let event = watch.sees(
                || knock(stage, family),
                &[
                    ("event", "denied".into()),
                    ("source", from.to_string().into()),
                    ("destination", to.to_string().into()),
                    ("destination_port", ECHO_PORT.into()),
                    ("protocol", 17.into()),
                    ("interface", interface.into()),
                    ("hook", "ingress".into()),
                    ("reason", "source_not_allowed".into()),
                    ("dropped", true.into()),
                ],
            )?;
            ensure!(event["source_port"].as_u64() > Some(0), "{event}");
            ensure!(event["at"].is_string() && event["pid"].is_null(), "{event}");
        }
        watch.end(Signal::SIGTERM)?;
        policy.unload()?;
    }
    Ok(())
}

fn watch_prints_the_process_that_was_refused(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    policy.load()?;
    let watch = Watch::start(stage, &policy, "watch-process")?;
    for to in database(ECHO_PORT) {
        let actor = actor::command(&["connect", &to.to_string()])?;
        let mut child = stage
            .neighbour()
            .command(&actor)
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        child.wait()?;
        let event = watch.sees(
            || Ok(()),
            &[
                ("hook", "connect".into()),
                ("reason", "foreign_socket".into()),
                ("destination", to.ip().to_string().into()),
                ("pid", pid.into()),
                ("dropped", true.into()),
            ],
        )?;
        // The kernel keeps 15 letters of a name.
        let command = event["command"].as_str().context("no command")?;
        let program = actor.get_program().to_string_lossy().into_owned();
        let name = program.rsplit('/').next().unwrap_or_default();
        ensure!(!command.is_empty() && name.starts_with(command), "{event}");
        let cgroup = event["cgroup"].as_str().context("no cgroup")?;
        ensure!(cgroup.ends_with("/other.slice"), "{event}");
    }
    watch.end(Signal::SIGTERM)?;
    policy.unload()
}

fn watch_says_what_only_was_reported(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|config| {
        config.set("perimeter", "mode", "monitor");
    })?;
    policy.load()?;
    let watch = Watch::start(stage, &policy, "watch-monitor")?;
    let values = [
        ("reason", "source_not_allowed".into()),
        ("dropped", false.into()),
    ];
    watch.sees(|| knock(stage, 0), &values)?;
    watch.end(Signal::SIGTERM)?;
    policy.unload()
}

fn watch_says_how_many_it_left_out(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let watch = Watch::start(stage, &policy, "watch-hammered")?;
    let hammer = Conversation::hammer(&stage.application(), &database(PORT))?;
    let event = watch.sees(|| Ok(()), &[("event", "denials_unreported".into())])?;
    ensure!(event["suppressed"].as_u64() > Some(0), "{event}");
    hammer.end()?;
    watch.end(Signal::SIGTERM)?;
    policy.unload()
}

fn watch_ends_on_both_signals(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let watch = Watch::start(stage, &policy, &format!("watch-{signal}"))?;
        watch.sees(|| knock(stage, 0), &[("event", "denied".into())])?;
        watch.end(signal)?;
    }
    policy.unload()
}

fn a_denial_is_in_the_audit_file(stage: &Stage) -> Result<()> {
    let audit = stage.scratch.path().join("perimeter.jsonl");
    let policy = stage.gateway(|config| {
        config.set("perimeter", "audit_file", &audit);
    })?;
    policy.load()?;
    let watch = Watch::start(stage, &policy, "watch-audit")?;
    watch.sees(|| knock(stage, 0), &[("event", "denied".into())])?;
    watch.end(Signal::SIGTERM)?;
    let records = std::fs::read_to_string(&audit)?;
    let source = format!("{}:", APPLICATION.v4(HOST));
    ensure!(records.contains("source_not_allowed"), "{records}");
    ensure!(records.contains(&source), "{records}");
    let mut verify = Command::new(binary()?);
    verify.args(["audit", "verify", "--file"]).arg(&audit);
    let verified = said(verify.arg("--config").arg(policy.config_file()))?;
    ensure!(verified.code == 0, "{verified:?}");
    policy.unload()
}

/// What `explain` says about a pair; it ends with 1 where no such packet passes.
fn explain(policy: &Policy, words: &[&str]) -> Result<Value> {
    let said = policy.run(&[&["explain", "--json"], words].concat())?;
    let told: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    let verdicts = told["verdicts"].as_array().context("no verdicts")?;
    let passes = verdicts.iter().any(|it| it["passes"] == true);
    ensure!(said.code == i32::from(!passes), "{said:?}");
    Ok(told)
}

fn explain_names_the_rule_that_decides(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let [to, to_v6] = database(PORT).map(|it| it.to_string());
    let open = format!("{}:{OPEN_PORT}", DATABASE.v4(HOST));
    let elsewhere = format!("{}:22", PROXY.v4(HOST));
    let [proxy, proxy_v6] = PROXY.both(HOST).map(|it| it.to_string());
    let application = APPLICATION.v4(HOST).to_string();
    for (from, to, interface, reason, passes) in [
        (&proxy, &to, "proxy", "source_allowed", true),
        (&proxy_v6, &to_v6, "proxy", "source_allowed", true),
        (&proxy, &to, "application", "wrong_interface", false),
        (
            &application,
            &to,
            "application",
            "source_not_allowed",
            false,
        ),
        (
            &application,
            &open,
            "application",
            "port_not_protected",
            true,
        ),
        (
            &application,
            &elsewhere,
            "application",
            "not_protected",
            true,
        ),
    ] {
        let told = explain(&policy, &[from, to, "--interface", interface])?;
        let verdict = &told["verdicts"][0];
        ensure!(verdict["reason"] == reason, "{from} {to}: {told}");
        ensure!(verdict["passes"] == passes, "{from} {to}: {told}");
    }
    let told = explain(&policy, &[&proxy, &to])?;
    let [protected, allowed] = ["protected", "allowed"].map(|it| &told[it]);
    ensure!(
        protected["prefix"] == "10.30.3.0/24" && protected["rule"] == 1,
        "{told}"
    );
    ensure!(
        allowed["prefix"] == "10.30.2.2/32" && allowed["rule"] == 1,
        "{told}"
    );
    policy.unload()
}

fn explain_knows_what_is_in_the_maps_and_not_what_is_configured(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let mut changed = stage.gateway_config();
    let application = APPLICATION.v4(HOST).to_string();
    changed
        .set(
            "perimeter.allow",
            "sources",
            APPLICATION.hosts(HOST).to_vec(),
        )
        .set("perimeter.allow", "interfaces", ["application"]);
    policy.configure(&changed)?;
    let to = database(PORT)[0].to_string();
    let words = [application.as_str(), &to, "--interface", "application"];
    ensure!(explain(&policy, &words)?["verdicts"][0]["passes"] == false);
    policy.must(&["replace"])?;
    ensure!(explain(&policy, &words)?["verdicts"][0]["passes"] == true);
    policy.unload()
}
