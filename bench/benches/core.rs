//! What the decisions cost: `cargo bench -p postern-bench`.
//!
//! These are the pure parts of a login. What the network, the directory and the kernel add is
//! what `cargo xtask bench` measures. The program's own map of credentials is not reachable from
//! here: the lookup is benched with core's rules over the same kind of map.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postern_core::audit::{Chain, Record};
use postern_core::cache::{Decision, DigestKey, Entry, Policy};
use postern_core::limits::GROUPS_PER_PRINCIPAL_MAX;
use postern_core::mapping::{GroupRule, GroupRules, Matcher};
use postern_core::principal::{EntryId, Group, Principal};
use postern_core::scram::{ChannelBinding, ClientExchange, Keys};
use postern_core::secret::Secret;
use postern_core::wire::{backend, startup};
use quick_cache::sync::Cache;

/// PostgreSQL's default.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

const NONCE: &str = "aaaabbbbccccddddeeeeffff";

/// As many people as the cache keeps by default.
const PEOPLE: usize = 10_000;

/// Threads that look up other people at the same time as the one that is measured.
const CONTENDERS: usize = 3;

criterion_group!(core, wire, scram, cache, mapping, audit);
criterion_main!(core);

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let packet = startup_packet();
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function("startup packet of psql", |it| {
        it.iter(|| startup::parse(black_box(&packet)).is_ok());
    });
    let answer = backend_answer();
    group.throughput(Throughput::Bytes(answer.len() as u64));
    group.bench_function("messages from AuthenticationOk to ReadyForQuery", |it| {
        it.iter(|| count_messages(black_box(&answer)));
    });
    group.finish();
}

fn scram(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scram");
    let server_first = format!("r={NONCE}0123456789,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={ITERATIONS}");
    let challenge = || {
        let (exchange, _) = ClientExchange::start(NONCE, ChannelBinding::Unsupported);
        exchange.server_first(server_first.as_bytes()).ok()
    };
    group.sample_size(20);
    group.bench_function("client's proof, keys derived", |it| {
        it.iter(|| {
            let challenge = challenge()?;
            let keys = Keys::derive(b"Sesame-4711-open", challenge.salt(), ITERATIONS);
            Some(challenge.answer(&keys).1)
        });
    });
    let salt = challenge().map(|it| it.salt().to_vec()).unwrap_or_default();
    let keys = Keys::derive(b"Sesame-4711-open", &salt, ITERATIONS);
    group.sample_size(100);
    group.bench_function("client's proof, keys cached", |it| {
        it.iter(|| Some(challenge()?.answer(black_box(&keys)).1));
    });
    group.finish();
}

/// The map of the program and the rules of core, as one warm login uses them: the digest of the
/// password, the entry, the decision.
fn cache(criterion: &mut Criterion) {
    let key = DigestKey::new([7; 32]);
    let policy = Policy::default();
    let known = Cache::new(2 * PEOPLE);
    for number in 0..PEOPLE {
        let login = login(number);
        let digest = key.digest(&login, b"Sesame-4711-open");
        let person = Arc::new(principal(&login, 8));
        known.insert(login, Arc::new(Entry::new(digest, person, Duration::ZERO)));
    }
    let look_up = |login: &str| {
        let digest = key.digest(login, b"Sesame-4711-open");
        let entry: Option<Arc<Entry>> = known.get(login);
        let decision = entry.map(|it| it.decide(&policy, Duration::from_secs(1), &digest));
        matches!(decision, Some(Decision::Fresh(_)))
    };
    let logins: Vec<String> = (0..PEOPLE).map(login).collect();
    let mut group = criterion.benchmark_group("cache");
    let mut measure = |name: &str| {
        let mut next = logins.iter().cycle();
        group.bench_function(name, |it| {
            it.iter(|| next.next().is_some_and(|it| look_up(black_box(it))));
        });
    };
    measure("warm login's answer from memory, alone");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for contender in 0..CONTENDERS {
            let (logins, is_done, look_up) = (&logins, &is_done, &look_up);
            scope.spawn(move || {
                let others = logins.iter().cycle().skip(contender * PEOPLE / CONTENDERS);
                for login in others.take_while(|_| !is_done.load(Ordering::Relaxed)) {
                    black_box(look_up(login));
                }
            });
        }
        measure("warm login's answer from memory, beside 3 threads");
        is_done.store(true, Ordering::Relaxed);
    });
    group.finish();
}

fn mapping(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mapping");
    let rules = ["hr-", "finance-", "postern-"].map(|prefix| {
        let matcher = Matcher::Prefix(prefix.to_owned());
        GroupRule::new(matcher, Some("$1".to_owned()), Vec::new())
    });
    let rules = GroupRules::new(rules.into_iter().filter_map(Result::ok).collect());
    for (name, count) in [
        ("8 groups, a tenth of them granted", 8),
        (
            "5,000 groups, a tenth of them granted",
            GROUPS_PER_PRINCIPAL_MAX,
        ),
    ] {
        let person = principal("testuser", count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |it| {
            it.iter(|| rules.grants(black_box(&person.groups), "hr").roles.len());
        });
    }
    group.finish();
}

fn audit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("audit");
    let record = Record::Opened {
        role: "testuser".to_owned(),
        database: "hr".to_owned(),
        backend: "127.0.0.1:5432".to_owned(),
        backend_pid: Some(4_711),
        application_name: Some("psql".to_owned()),
    };
    let mut chain = Chain::new(&Secret::new([7; 32]));
    group.bench_function("sealing the record of an open session", |it| {
        it.iter_batched(
            || record.clone(),
            |record| chain.seal(1_767_323_045_000, "0f8fad5bd9cb469f", &record),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn login(number: usize) -> String {
    format!("CORP\\person{number}")
}

/// A person in so many groups, of which every tenth has a rule.
fn principal(login: &str, groups: usize) -> Principal {
    let group = |number: usize| {
        let kind = if number.is_multiple_of(10) {
            "postern"
        } else {
            "office"
        };
        let name = format!("{kind}-group-{number}");
        Group {
            dn: format!("cn={name},ou=groups,dc=example,dc=com"),
            name,
            path: Vec::new(),
            direct: true,
        }
    };
    Principal {
        id: EntryId::new(format!("uuid:{login}")),
        dn: format!("cn={login},ou=people,dc=example,dc=com"),
        name: login.to_owned(),
        groups: (0..groups).map(group).collect(),
        version: None,
    }
}

fn startup_packet() -> Vec<u8> {
    let texts = [
        ("user", "testuser"),
        ("database", "hr"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
    ];
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in texts {
        for text in [name, value] {
            body.extend(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    with_length(&body)
}

/// What PostgreSQL 15 sends after the login: 13 settings, the cancel key, and that it is ready.
fn backend_answer() -> Vec<u8> {
    let mut bytes = message(b'R', &0_u32.to_be_bytes());
    for number in 0..13 {
        let setting = format!("some_setting_{number}\0a value of it\0");
        bytes.extend(message(b'S', setting.as_bytes()));
    }
    bytes.extend(message(b'K', &[0, 0, 18, 103, 1, 2, 3, 4]));
    bytes.extend(message(b'Z', b"I"));
    bytes
}

fn count_messages(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(frame)) = backend::split(bytes) {
        if backend::parse(frame).is_err() {
            break;
        }
        count += 1;
        bytes = bytes.get(frame.total_len..).unwrap_or_default();
    }
    count
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(with_length(body));
    bytes
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}
