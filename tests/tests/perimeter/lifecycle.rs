//! Loading, replacing, unloading, and being killed meanwhile.

use std::env;
use std::fs;
use std::process::Stdio;
use std::slice::from_ref;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postern_tests::ConfigFile;
use postern_tests::network::Tap;
use postern_tests::network::frame::source_of;
use postern_tests::policy::Policy;

use crate::Test;
use crate::conversation::Conversation;
use crate::origin::Origin;
use crate::stage::{ECHO_PORT, PORT, Place, Stage, database};

pub(crate) const TESTS: &[Test] = tests![
    a_second_load_replaces_and_a_replace_needs_a_load,
    a_hammer_is_in_without_a_policy,
    replaces_under_a_hammer_let_nothing_through,
    a_loader_that_is_killed_leaves_a_whole_policy,
    a_first_load_that_is_killed_leaves_nothing_half_open,
    with_every_process_killed_the_policy_holds,
    what_contradicts_itself_is_refused_and_the_old_policy_holds,
    unload_needs_a_yes,
    a_closed_machine_is_opened_for_the_proxy_by_a_load,
    clsact_does_where_there_is_no_tcx,
    replaces_of_clsact_let_nothing_through,
];

/// How many times the loader is replaced and killed; [`ROUNDS_VARIABLE`] sets another number, and
/// 100 is what is promised.
const ROUNDS: u32 = 8;
const ROUNDS_VARIABLE: &str = "POSTERN_PERIMETER_ROUNDS";

/// How long frames of the last connections may be under way.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

fn rounds() -> Result<u32> {
    match env::var(ROUNDS_VARIABLE) {
        Ok(text) => text.parse().context(ROUNDS_VARIABLE),
        Err(_) => Ok(ROUNDS),
    }
}

/// What the attempts of [`hammered`] came to.
#[derive(Debug, PartialEq, Eq)]
struct Hammered {
    tried: u64,
    connected: u64,
    /// A packet of theirs was seen at the database, whatever became of it.
    leaked: bool,
}

/// Does something while a stranger connects as fast as it can.
fn hammered(
    stage: &Stage,
    stranger: &Origin,
    then: impl FnOnce() -> Result<()>,
) -> Result<Hammered> {
    let tap = Tap::open(&stage.network.database, "router")?;
    let [v4, v6] = database(PORT);
    let hammer = Conversation::hammer(stranger, &[v4, v6])?;
    then()?;
    let line = hammer.end()?;
    let (tried, connected) = line.split_once(' ').context("no two numbers")?;
    let sources = stranger.addresses();
    let is_leak = |frame: &[u8]| source_of(frame).is_some_and(|it| sources.contains(&it));
    Ok(Hammered {
        tried: tried.parse()?,
        connected: connected.parse()?,
        leaked: tap.sees(DRAIN_LIMIT, is_leak)?,
    })
}

/// Two policies that differ and mean the same for the application and the proxy.
fn alternatives(config: &ConfigFile) -> [ConfigFile; 2] {
    let mut other = config.clone();
    other
        .begin("perimeter.protect")
        .set("perimeter.protect", "prefixes", ["10.30.9.0/24"])
        .set("perimeter.protect", "ports", [1_u16]);
    [config.clone(), other]
}

fn replace_again_and_again(policy: &Policy, config: &ConfigFile, words: &[&str]) -> Result<()> {
    let configs = alternatives(config);
    for config in configs.iter().cycle().take(usize::try_from(rounds()?)?) {
        policy.configure(config)?;
        policy.must(words)?;
    }
    Ok(())
}

fn a_second_load_replaces_and_a_replace_needs_a_load(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let said = policy.run(&["replace"])?;
    ensure!(said.code != 0, "{said:?}");
    ensure!(said.stderr.contains("no policy is loaded"), "{said:?}");
    stage.expect(&[stage.application()], true)?;
    policy.load()?;
    for config in alternatives(&stage.gateway_config()) {
        policy.configure(&config)?;
        policy.load()?;
        policy.must(&["replace"])?;
        policy.must(&["status"])?;
    }
    stage.expect(&[stage.application()], false)?;
    policy.unload()?;
    stage.expect(&[stage.application()], true)
}

fn a_hammer_is_in_without_a_policy(stage: &Stage) -> Result<()> {
    // What the tests below count to nothing does count.
    let came = hammered(stage, &stage.application(), || Ok(()))?;
    ensure!(came.connected > 0 && came.leaked, "{came:?}");
    Ok(())
}

fn replaces_under_a_hammer_let_nothing_through(stage: &Stage) -> Result<()> {
    let configs = [
        stage.gateway_config(),
        stage.database_host_config(),
        stage.proxy_host_config(),
    ];
    for (place, config) in stage.places(|_| ())?.iter().zip(configs) {
        let Place { name, policy, .. } = place;
        policy.load()?;
        let came = hammered(stage, &place.stranger, || {
            replace_again_and_again(policy, &config, &["replace"])
        })?;
        ensure!(came.tried > 0 && came.connected == 0, "{name}: {came:?}");
        // A database's own machine drops what has arrived there already.
        ensure!(!came.leaked || *name == "database-host", "{name}: {came:?}");
        policy.unload()?;
    }
    Ok(())
}

/// Starts a command and kills it after a while; whether it was still at work.
fn kill_after(policy: &Policy, words: &[&str], delay: Duration) -> Result<bool> {
    let mut command = policy.command(words)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    while start.elapsed() < delay && child.try_wait()?.is_none() {
        thread::yield_now();
    }
    let at_work = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    Ok(at_work)
}

/// How long a command takes from its start to its end.
fn duration_of(policy: &Policy, words: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    policy.must(words)?;
    Ok(start.elapsed())
}

fn a_loader_that_is_killed_leaves_a_whole_policy(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let whole = duration_of(&policy, &["replace"])?;
    let configs = alternatives(&stage.gateway_config());
    let rounds = rounds()?;
    let mut at_work = 0;
    let came = hammered(stage, &stage.application(), || {
        for (round, config) in (0..rounds).zip(configs.iter().cycle()) {
            policy.configure(config)?;
            // From its first moment to its last one, in equal steps.
            let delay = whole * round / rounds;
            at_work += u32::from(kill_after(&policy, &["replace"], delay)?);
            let proxy = stage.expect(&[stage.proxy()], true);
            proxy.with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })?;
    ensure!(
        at_work * 2 > rounds,
        "only {at_work} of {rounds} were killed"
    );
    ensure!(came.connected == 0 && !came.leaked, "{came:?}");
    policy.load()?;
    stage.expect(&[stage.application()], false)?;
    policy.unload()?;
    stage.expect(&[stage.application()], true)
}

fn a_first_load_that_is_killed_leaves_nothing_half_open(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.must(&["close"])?;
    let whole = duration_of(&policy, &["load"])?;
    let rounds = rounds()?;
    for round in 0..rounds {
        policy.unload()?;
        policy.must(&["close"])?;
        let came = hammered(stage, &stage.application(), || {
            kill_after(&policy, &["load"], whole * round / rounds).map(drop)
        })?;
        ensure!(
            came.connected == 0 && !came.leaked,
            "round {round}: {came:?}"
        );
        // Whatever it left behind, the next one gets through.
        policy.load()?;
        let proxy = stage.expect(&[stage.proxy()], true);
        proxy.with_context(|| format!("round {round}"))?;
    }
    policy.unload()?;
    stage.expect(&[stage.application()], true)
}

fn with_every_process_killed_the_policy_holds(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let log = stage.scratch.path().join("killed-watch.log");
    for _ in 0..rounds()? {
        let mut watch = policy.start(&["watch"], &log)?;
        let mut client = Conversation::begin(&stage.proxy(), database(ECHO_PORT)[0].ip())?;
        ensure!(client.is_answered()?);
        watch.kill()?;
        client.kill()?;
    }
    policy.must(&["status"])?;
    stage.expect(&[stage.application()], false)?;
    stage.expect(&[stage.proxy()], true)?;
    policy.unload()?;
    stage.expect(&[stage.application()], true)
}

/// Configurations that must be refused, and what the refusal must name.
fn contradictions(stage: &Stage) -> Vec<(&'static str, ConfigFile)> {
    let changed = |change: &dyn Fn(&mut ConfigFile)| {
        let mut config = stage.gateway_config();
        change(&mut config);
        config
    };
    let sources = |sources: &'static str| {
        changed(&move |config: &mut ConfigFile| {
            config.set("perimeter.allow", "sources", [sources]);
        })
    };
    vec![
        ("10.30.2.2/33", sources("10.30.2.2/33")),
        ("10.30.2.2/24", sources("10.30.2.2/24")),
        (
            "nowhere0",
            changed(&|config| {
                config.set("perimeter", "interfaces", ["application", "nowhere0"]);
                config.set("perimeter.allow", "interfaces", ["application"]);
            }),
        ),
        (
            "stranger0",
            changed(&|config| {
                config.set("perimeter.allow", "interfaces", ["stranger0"]);
            }),
        ),
        (
            "10.30.3.128/25",
            changed(&|config| {
                config
                    .begin("perimeter.protect")
                    .set("perimeter.protect", "prefixes", ["10.30.3.128/25"])
                    .set("perimeter.protect", "ports", [PORT, 6432]);
            }),
        ),
        (
            "cgroup",
            changed(&|config| {
                config.set("perimeter", "cgroup", "/postern.slice");
            }),
        ),
        (
            "protect",
            changed(&|config| {
                config.remove("perimeter.protect");
            }),
        ),
        (
            "allow",
            changed(&|config| {
                config.remove("perimeter.allow");
            }),
        ),
    ]
}

fn what_contradicts_itself_is_refused_and_the_old_policy_holds(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    // Nothing is touched where there is no policy yet, either.
    let bad = contradictions(stage);
    let (_, first) = bad.first().context("no contradiction")?;
    policy.configure(first)?;
    ensure!(policy.run(&["load"])?.code != 0, "it was loaded");
    ensure!(!policy.pins().exists(), "something was made");
    stage.expect(&[stage.application()], true)?;
    policy.configure(&stage.gateway_config())?;
    policy.load()?;
    for (name, config) in &bad {
        policy.configure(config)?;
        for words in [["load"], ["replace"]] {
            let said = policy.run(&words)?;
            ensure!(said.code != 0, "{name}: {said:?}");
            ensure!(
                said.stderr.contains(name),
                "{name} is not named: {}",
                said.stderr
            );
        }
    }
    policy.configure(&stage.gateway_config())?;
    policy.must(&["status"])?;
    stage.expect(&[stage.application()], false)?;
    policy.unload()?;
    stage.expect(&[stage.application()], true)
}

fn unload_needs_a_yes(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let said = policy.run(&["unload"])?;
    ensure!(said.code != 0 && said.stderr.contains("--yes"), "{said:?}");
    policy.must(&["status"])?;
    stage.expect(&[stage.application()], false)?;
    policy.unload()?;
    ensure!(!policy.pins().exists(), "pins are left");
    let rules = stage.network.router.run(&["nft", "list", "tables"])?;
    ensure!(!rules.contains("postern"), "{rules}");
    stage.expect(&[stage.application()], true)
}

fn a_closed_machine_is_opened_for_the_proxy_by_a_load(stage: &Stage) -> Result<()> {
    let everybody = [stage.application(), stage.proxy()];
    for place in stage.places(|_| ())? {
        let Place {
            name,
            policy,
            stranger,
            ..
        } = &place;
        stage.expect(&everybody, true)?;
        policy.must(&["close"])?;
        let both = [stranger.clone(), stage.proxy()];
        stage
            .expect(&both, false)
            .with_context(|| format!("{name}: closed"))?;
        let said = policy.run(&["status"])?;
        ensure!(said.code == 1, "{name}: closed is not in force: {said:?}");
        policy.load()?;
        stage
            .expect(&[stage.proxy()], true)
            .with_context(|| format!("{name}: loaded"))?;
        stage.expect(from_ref(stranger), false)?;
        policy.unload()?;
        stage.expect(&everybody, true)?;
    }
    Ok(())
}

fn clsact_does_where_there_is_no_tcx(stage: &Stage) -> Result<()> {
    for policy in [stage.gateway(|_| ())?, stage.database_host(|_| ())?] {
        stage.expect(&[stage.application()], true)?;
        policy.must(&["load", "--tc", "clsact"])?;
        policy.must(&["status"])?;
        stage.expect(&[stage.application()], false)?;
        stage.expect(&[stage.proxy()], true)?;
        ensure!(policy.count("source_not_allowed")? > 0);
        policy.unload()?;
        stage.expect(&[stage.application()], true)?;
    }
    let filters = ["tc", "filter", "show", "dev", "application", "ingress"];
    let filters = stage.network.router.run(&filters)?;
    ensure!(!filters.contains(" gate "), "{filters}");
    Ok(())
}

fn replaces_of_clsact_let_nothing_through(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    policy.must(&["load", "--tc", "clsact"])?;
    let came = hammered(stage, &stage.application(), || {
        replace_again_and_again(
            &policy,
            &stage.gateway_config(),
            &["load", "--tc", "clsact"],
        )?;
        // From one to the other and back, as an upgrade of the kernel does.
        policy.must(&["load"])?;
        policy.must(&["status"])?;
        policy.must(&["load", "--tc", "clsact"])?;
        policy.must(&["status"]).map(drop)
    })?;
    ensure!(came.connected == 0 && !came.leaked, "{came:?}");
    policy.unload()?;
    ensure!(fs::metadata(policy.pins()).is_err(), "pins are left");
    stage.expect(&[stage.application()], true)
}
