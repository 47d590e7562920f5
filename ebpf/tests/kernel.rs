//! The programs in the kernel, by `BPF_PROG_TEST_RUN`: they agree with the library on every
//! packet. For root, on Linux 6.1 or later; `cargo xtask ebpf` builds the programs before.

use std::path::Path;
use std::sync::Mutex;

use crate::packets::{Flaw, Host, LEFT, Link, Lists, Load, Part, RIGHT, Sent, policy, sent};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, PerCpuArray};
use aya::programs::{CgroupSkb, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use postern_ebpf::Reason;
use postern_ebpf::abi::{
    ANSWERS_MAX, Allowed, COUNTS_BEFORE_REASONS, Interface, LINK_ETHERNET, Mode, Protected,
    Settings, map, program,
};
use postern_ebpf::packet::Flow;
use postern_ebpf::verdict::{Origin, Start, packet};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The loopback interface: the kernel runs the programs as if at it.
const LOOPBACK: u32 = 1;
/// Interfaces that do not have to exist: only packets that leave name them.
const FROM_LEFT: u32 = 1_001;
const FROM_RIGHT: u32 = 1_002;
const FROM_NOWHERE: u32 = 1_003;
/// What the kernel says a new socket belongs to: the root of all cgroups.
const ROOT_CGROUP: u64 = 1;
/// Packets of each kind.
const CASES: u32 = 10_000;
/// The kernel runs a program on no shorter frame, and on none that says it is IP and cannot hold
/// the header.
const FRAME_BYTES_MIN: usize = 14;
const HEADER_BYTES: usize = 40;

const DROP: u32 = 2;
const NEXT: u32 = u32::MAX;

#[test]
fn the_gates_agree_with_the_library_on_every_frame() {
    let mut kernel = Kernel::load();
    let lists = policy(true);
    kernel.fill(&lists, Mode::Enforce, 0);
    let frames = prop_oneof![
        8 => sent().prop_map(|it| it.bytes()).boxed(),
        1 => (sent(), any::<prop::sample::Index>()).prop_map(|(sent, at)| {
            let bytes = sent.bytes();
            bytes[..at.index(bytes.len())].to_vec()
        }),
        1 => vec(any::<u8>(), FRAME_BYTES_MIN..200),
    ];
    let frames = frames.prop_filter("the kernel runs no shorter one", |it| {
        let is_ip = matches!(it.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
        it.len() >= FRAME_BYTES_MIN + if is_ip { HEADER_BYTES } else { 0 }
    });
    let frames = frames.boxed();
    let arrivals = prop_oneof![
        Just((LOOPBACK, Origin::Arrived(LEFT))),
        Just((FROM_LEFT, Origin::Arrived(LEFT))),
        Just((FROM_RIGHT, Origin::Arrived(RIGHT))),
        Just((FROM_NOWHERE, Origin::Arrived(0))),
        Just((0, Origin::Made(0))),
    ];
    let kernel = Mutex::new(kernel);
    runner()
        .run(&(frames, arrivals), |(frame, (arrival, origin))| {
            let reason = packet(
                &frame[..],
                Start::Ethernet,
                origin,
                &lists,
                &mut Flow::default(),
            );
            let mut kernel = kernel.lock().unwrap();
            let (returned, counted) = kernel.gate(&frame, arrival);
            prop_assert_eq!(counted, Some(reason));
            prop_assert_eq!(returned, if reason.passes() { NEXT } else { DROP });
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_sockets_hook_agrees_with_the_library_on_every_packet() {
    for of_proxy in [false, true] {
        let mut kernel = Kernel::load();
        let lists = policy(false);
        kernel.fill(
            &lists,
            Mode::Enforce,
            if of_proxy { ROOT_CGROUP } else { 77 },
        );
        let kernel = Mutex::new(kernel);
        runner()
            .run(&sent(), |sent| {
                let bytes = sent.internet();
                let origin = Origin::Socket { of_proxy };
                let reason = packet(
                    &bytes[..],
                    Start::Internet,
                    origin,
                    &lists,
                    &mut Flow::default(),
                );
                let mut kernel = kernel.lock().unwrap();
                let (returned, counted) = kernel.socket(&bytes, sent.is_v6);
                prop_assert_eq!(counted, Some(reason));
                prop_assert_eq!(returned, u32::from(reason.passes()));
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn no_cgroup_is_not_the_proxys_where_the_policy_names_none() {
    let mut kernel = Kernel::load();
    kernel.fill(&policy(false), Mode::Enforce, 0);
    let sent = ping_from_the_proxy();
    // A new socket belongs to the root, which has no cgroup below it.
    for level in [0, 1] {
        kernel.set_level(level);
        let found = kernel.socket(&sent.internet(), false);
        assert_eq!(found, (0, Some(Reason::ForeignSocket)), "level {level}");
    }
}

#[test]
fn without_a_policy_nothing_passes() {
    let mut kernel = Kernel::load();
    let frame = [[2; 12].as_slice(), &[8, 0, 0x45], &[0; 40]].concat();
    assert_eq!(
        kernel.gate(&frame, LOOPBACK),
        (DROP, Some(Reason::NoPolicy))
    );
    assert_eq!(
        kernel.socket(&frame[14..], false),
        (0, Some(Reason::NoPolicy))
    );
}

#[test]
fn monitoring_counts_what_it_would_drop_and_lets_it_pass() {
    let mut kernel = Kernel::load();
    kernel.fill(&policy(true), Mode::Monitor, 0);
    let frame = [[2; 12].as_slice(), &[8, 0, 0x44], &[0; 40]].concat();
    assert_eq!(
        kernel.gate(&frame, LOOPBACK),
        (NEXT, Some(Reason::Malformed))
    );
}

#[test]
fn the_other_bank_is_in_force_as_soon_as_it_is_named() {
    let mut kernel = Kernel::load();
    kernel.fill(&policy(true), Mode::Enforce, 0);
    let frame = ping_from_the_proxy().bytes();
    let found = kernel.gate(&frame, LOOPBACK);
    assert_eq!(found, (NEXT, Some(Reason::SourceAllowed)));
    kernel.activate(1);
    let found = kernel.gate(&frame, LOOPBACK);
    assert_eq!(found, (DROP, Some(Reason::NoPolicy)));
}

fn ping_from_the_proxy() -> Sent {
    Sent {
        link: Link::Tagged(Vec::new()),
        is_v6: false,
        source: Host::Proxy,
        destination: Host::Database,
        flaw: Flaw::Nothing,
        extras: Vec::new(),
        part: Part::Whole,
        load: Load::Message {
            kind: 8,
            hops_are_255: false,
            quoted_from: Host::Proxy,
            quoted_to: Host::Proxy,
        },
    }
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    })
}

/// The programs in the kernel, attached nowhere.
struct Kernel {
    programs: Ebpf,
    counts: Vec<u64>,
}

impl Kernel {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/postern-programs");
        let object = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; run cargo xtask ebpf", path.display()));
        let mut programs = EbpfLoader::new()
            .load(&object)
            .expect("the object is loaded");
        let program: &mut SchedClassifier = programs
            .program_mut(program::GATE)
            .unwrap()
            .try_into()
            .unwrap();
        program
            .load()
            .unwrap_or_else(|error| panic!("gate: {error}"));
        let program: &mut CgroupSkb = programs
            .program_mut(program::PROXY_EGRESS)
            .unwrap()
            .try_into()
            .unwrap();
        program
            .load()
            .unwrap_or_else(|error| panic!("proxy_egress: {error}"));
        let mut kernel = Self {
            programs,
            counts: Vec::new(),
        };
        kernel.counted();
        kernel
    }

    fn fill(&mut self, lists: &Lists, mode: Mode, cgroup: u64) {
        let mut protected = LpmTrie::<_, [u8; 16], Protected>::try_from(
            self.programs.map_mut(map::PROTECTED[0]).unwrap(),
        )
        .unwrap();
        for (address, len, value) in &lists.protected {
            protected
                .insert(&Key::new(*len, *address), value, 0)
                .unwrap();
        }
        let mut allowed = LpmTrie::<_, [u8; 16], Allowed>::try_from(
            self.programs.map_mut(map::ALLOWED[0]).unwrap(),
        )
        .unwrap();
        for (address, len, value) in &lists.allowed {
            allowed.insert(&Key::new(*len, *address), value, 0).unwrap();
        }
        let mut interfaces =
            Array::<_, Interface>::try_from(self.programs.map_mut(map::INTERFACES).unwrap())
                .unwrap();
        for (index, bit) in [(LOOPBACK, LEFT), (FROM_LEFT, LEFT), (FROM_RIGHT, RIGHT)] {
            let link = LINK_ETHERNET;
            interfaces.set(index, Interface { bit, link }, 0).unwrap();
        }
        let mut settings =
            Array::<_, Settings>::try_from(self.programs.map_mut(map::SETTINGS).unwrap()).unwrap();
        let mut answers = [5432; ANSWERS_MAX];
        answers[1] = 6432;
        let value = Settings {
            mode: mode as u32,
            answers_len: if lists.answers { 2 } else { 0 },
            answers,
            cgroup,
            cgroup_level: 0,
            reserved: 0,
            generation: 1,
            digest: [0; 32],
        };
        settings.set(0, value, 0).unwrap();
    }

    fn set_level(&mut self, level: u32) {
        let mut settings =
            Array::<_, Settings>::try_from(self.programs.map_mut(map::SETTINGS).unwrap()).unwrap();
        let mut value = settings.get(&0, 0).unwrap();
        value.cgroup_level = level;
        settings.set(0, value, 0).unwrap();
    }

    fn activate(&mut self, bank: u32) {
        let mut active =
            Array::<_, u32>::try_from(self.programs.map_mut(map::ACTIVE).unwrap()).unwrap();
        active.set(0, bank, 0).unwrap();
    }

    /// What the gate returns for a frame, and the reason that it has counted.
    fn gate(&mut self, frame: &[u8], arrival: u32) -> (u32, Option<Reason>) {
        // struct __sk_buff (linux/bpf.h): ingress_ifindex is its tenth word.
        let mut context = [0; 192];
        context[9 * 4..10 * 4].copy_from_slice(&arrival.to_ne_bytes());
        let program: &mut SchedClassifier = self
            .programs
            .program_mut(program::GATE)
            .unwrap()
            .try_into()
            .unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let returned = program
            .test_run(options)
            .expect("the gate runs")
            .return_value;
        (returned, self.counted())
    }

    /// What the sockets' hook returns for a packet, and the reason that it has counted.
    fn socket(&mut self, packet: &[u8], is_v6: bool) -> (u32, Option<Reason>) {
        // The kernel takes an Ethernet header off before.
        let kind = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let frame = [&[2; 12][..], &kind, packet].concat();
        let program: &mut CgroupSkb = self
            .programs
            .program_mut(program::PROXY_EGRESS)
            .unwrap()
            .try_into()
            .unwrap();
        let options = TestRunOptions {
            data_in: Some(&frame),
            ..TestRunOptions::new()
        };
        let returned = program
            .test_run(options)
            .expect("the hook runs")
            .return_value;
        (returned, self.counted())
    }

    /// The reason that has been counted since the last call.
    fn counted(&mut self) -> Option<Reason> {
        let counts =
            PerCpuArray::<_, u64>::try_from(self.programs.map(map::COUNTS).unwrap()).unwrap();
        let sum = |at: u8| {
            let index = COUNTS_BEFORE_REASONS + u32::from(at);
            counts.get(&index, 0).unwrap().iter().sum()
        };
        let now: Vec<u64> = Reason::ALL.into_iter().map(|it| sum(it as u8)).collect();
        let before = std::mem::replace(&mut self.counts, now);
        let mut grown = Reason::ALL.into_iter().zip(self.counts.iter().zip(before));
        let (reason, _) = grown.find(|(_, (now, before))| *now > before)?;
        assert!(
            grown.all(|(_, (now, before))| *now == before),
            "one packet, one count"
        );
        Some(reason)
    }
}
