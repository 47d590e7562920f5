//! Whatever somebody changes behind the loader's back, `status` ends with 1 and names it, and
//! the next load puts it right.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_ebpf::abi::{map, program};
use postern_tests::ConfigFile;
use postern_tests::network::{HOST, PROXY};
use postern_tests::policy::Policy;
use postern_tests::process::run;
use serde_json::Value;

use crate::Test;
use crate::stage::Stage;

pub(crate) const TESTS: &[Test] = tests![
    a_link_that_is_gone_is_drift,
    an_entry_that_is_gone_is_drift,
    an_entry_that_was_added_is_drift,
    another_mode_in_the_map_is_drift,
    another_bank_in_force_is_drift,
    a_program_that_is_gone_from_a_cgroup_is_drift,
    a_proxys_cgroup_that_was_made_again_is_drift,
    a_configuration_that_was_not_loaded_is_drift,
];

/// The key of an array's element.
const fn index(number: u8) -> [u8; 4] {
    [number, 0, 0, 0]
}

/// Changes something and looks at `status`, which must name all of `names`; then loads again.
fn is_drift(
    policy: &Policy,
    change: impl FnOnce(&Path) -> Result<()>,
    names: &[&str],
) -> Result<()> {
    policy.load()?;
    change(policy.pins())?;
    let said = policy.run(&["status"])?;
    ensure!(said.code == 1, "{said:?}");
    let text = format!("{}{}", said.stdout, said.stderr);
    for name in names {
        ensure!(text.contains(name), "{name} is not named:\n{text}");
    }
    let (code, status) = policy.status()?;
    ensure!(code == 1, "{status}");
    let drift = status["drift"].as_array().context("no list of drift")?;
    ensure!(!drift.is_empty(), "{status}");
    policy.load()?;
    policy.unload()
}

/// Runs bpftool on a map of the set that is in force.
fn bpftool(pins: &Path, words: &[&str], name: &str, bytes: &[(&str, &[u8])]) -> Result<String> {
    let mut command = Command::new("bpftool");
    command.args(["--json", "map"]).args(words);
    command.arg("pinned").arg(pins.join("maps").join(name));
    for (what, bytes) in bytes {
        command.args([what, "hex"]);
        command.args(bytes.iter().map(|it| format!("{it:02x}")));
    }
    run(&mut command)
}

/// The value of an array's element.
fn lookup(pins: &Path, name: &str, number: u8) -> Result<Vec<u8>> {
    let text = bpftool(pins, &["lookup"], name, &[("key", &index(number))])?;
    let entry: Value = serde_json::from_str(&text)?;
    let bytes = entry["value"].as_array().context("no value")?;
    let bytes = bytes.iter().map(|it| {
        let digits = it.as_str().and_then(|it| it.strip_prefix("0x"));
        Ok(u8::from_str_radix(digits.context("no byte")?, 16)?)
    });
    bytes.collect()
}

/// The bank that is in force.
fn active(pins: &Path) -> Result<u8> {
    let value = lookup(pins, map::ACTIVE, 0)?;
    value.first().copied().context("an empty value")
}

/// The key of an IPv4 address in the tries: all 128 bits of it, mapped.
fn address_key(address: std::net::Ipv4Addr) -> Vec<u8> {
    let bits = 128_u32.to_ne_bytes();
    [bits.as_slice(), &address.to_ipv6_mapped().octets()].concat()
}

fn a_link_that_is_gone_is_drift(stage: &Stage) -> Result<()> {
    for (name, device) in [("gate_ingress", "application"), ("gate_egress", "database")] {
        let policy = stage.gateway(|_| ())?;
        let remove = |pins: &Path| {
            let link = pins.join("links").join(format!("{name}-{device}"));
            fs::remove_file(&link).with_context(|| link.display().to_string())
        };
        is_drift(&policy, remove, &[name, device])?;
    }
    Ok(())
}

fn an_entry_that_is_gone_is_drift(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let remove = |pins: &Path| {
        let name = map::ALLOWED[usize::from(active(pins)?)];
        let key = address_key(PROXY.v4(HOST));
        bpftool(pins, &["delete"], name, &[("key", &key)]).map(drop)
    };
    is_drift(&policy, remove, &[&PROXY.v4(HOST).to_string()])
}

fn an_entry_that_was_added_is_drift(stage: &Stage) -> Result<()> {
    let intruder = PROXY.v4(66);
    let policy = stage.gateway(|_| ())?;
    let add = |pins: &Path| {
        let name = map::ALLOWED[usize::from(active(pins)?)];
        // All interfaces, and the first rule.
        let value = [[0xff; 8], [0; 8]].concat();
        let key = address_key(intruder);
        bpftool(pins, &["update"], name, &[("key", &key), ("value", &value)]).map(drop)
    };
    is_drift(&policy, add, &[&intruder.to_string()])
}

fn another_mode_in_the_map_is_drift(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let monitor = |pins: &Path| {
        let bank = active(pins)?;
        let mut value = lookup(pins, map::SETTINGS, bank)?;
        // The mode comes first; 0 only monitors.
        *value.first_mut().context("an empty value")? = 0;
        let entry: [(&str, &[u8]); 2] = [("key", &index(bank)), ("value", &value)];
        bpftool(pins, &["update"], map::SETTINGS, &entry).map(drop)
    };
    is_drift(&policy, monitor, &["monitor"])
}

fn another_bank_in_force_is_drift(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let switch = |pins: &Path| {
        let other = 1 - active(pins)?;
        let entry: [(&str, &[u8]); 2] = [("key", &index(0)), ("value", &index(other))];
        bpftool(pins, &["update"], map::ACTIVE, &entry).map(drop)
    };
    is_drift(&policy, switch, &[])
}

fn a_program_that_is_gone_from_a_cgroup_is_drift(stage: &Stage) -> Result<()> {
    for name in [program::PROXY_CONNECT6, program::PROXY_EGRESS] {
        let policy = stage.proxy_host(|_| ())?;
        let remove = |pins: &Path| {
            let link = pins.join("links").join(format!("{name}-cgroup"));
            fs::remove_file(&link).with_context(|| link.display().to_string())
        };
        is_drift(&policy, remove, &[name])?;
    }
    Ok(())
}

fn a_proxys_cgroup_that_was_made_again_is_drift(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|config| {
        config.set("perimeter", "cgroup", "/fresh.slice");
    })?;
    let folder = stage.cgroup.path().join("fresh.slice");
    let again = |_: &Path| {
        fs::remove_dir(&folder)?;
        Ok(fs::create_dir(&folder)?)
    };
    is_drift(&policy, again, &["proxy's cgroup"])?;
    Ok(fs::remove_dir(&folder)?)
}

fn a_configuration_that_was_not_loaded_is_drift(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let mut changed: ConfigFile = stage.gateway_config();
    changed.set("perimeter.allow", "sources", ["10.30.2.3/32"]);
    is_drift(&policy, |_| policy.configure(&changed), &["10.30.2.3"])
}
