//! The leg to a directory that means ill.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{ConfigFile, World};

use crate::SLACK;
use crate::backend::attempt;
use crate::meter::resident_kib;

/// What all rows together may add to the memory of the process, in KiB.
const GROWTH_KIB_MAX: u64 = 256 * 1024;

/// What the directory does when it is asked the second thing, after the bind of the service.
#[derive(Clone)]
enum Says {
    /// These bytes, where `ID` stands for the message's number, and then nothing.
    Once(Vec<u8>),
    /// The same again and again.
    Forever(Vec<u8>),
    /// The first of these, and then the other again and again.
    Then(Vec<u8>, Vec<u8>),
}

/// A directory; its threads end with the test's process.
struct Directory {
    port: u16,
    says: Arc<Mutex<Says>>,
}

impl Directory {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let says = Arc::new(Mutex::new(Says::Once(Vec::new())));
        let script = Arc::clone(&says);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let script = Arc::clone(&script);
                // Its client hangs up on it, which is no failure here.
                thread::spawn(move || drop(serve(stream, &script)));
            }
        });
        Ok(Self { port, says })
    }

    fn says(&self, says: Says) {
        // A test that panicked meanwhile left it whole.
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }
}

fn serve(mut stream: TcpStream, script: &Mutex<Says>) -> std::io::Result<()> {
    let mut is_first = true;
    loop {
        let request = read_message(&mut stream)?;
        // Every request begins with its number (RFC 4511, section 4.1.1), of one digit here.
        let number = request.get(2).copied().unwrap_or_default();
        if std::mem::take(&mut is_first) {
            stream.write_all(&answer(number, &result(0x61, 0)))?;
            continue;
        }
        let says = script.lock().unwrap_or_else(PoisonError::into_inner);
        let says = says.clone();
        match says {
            Says::Once(bytes) => stream.write_all(&numbered(bytes, number))?,
            Says::Forever(bytes) => {
                let bytes = numbered(bytes, number);
                loop {
                    stream.write_all(&bytes)?;
                }
            }
            Says::Then(first, again) => {
                stream.write_all(&first)?;
                loop {
                    stream.write_all(&again)?;
                }
            }
        }
    }
}

/// Reads one message; its content.
fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 2];
    stream.read_exact(&mut header)?;
    let [_, first] = header;
    let mut length = usize::from(first);
    if first > 0x80 {
        let mut digits = vec![0; usize::from(first & 0x7f)];
        stream.read_exact(&mut digits)?;
        length = digits
            .iter()
            .fold(0, |it, digit| it << 8 | usize::from(*digit));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content)?;
    Ok(content)
}

/// Puts the number in the place of the one that the rows are written with.
fn numbered(bytes: Vec<u8>, number: u8) -> Vec<u8> {
    let mut rest = bytes.as_slice();
    let mut out = Vec::with_capacity(bytes.len());
    while let Some(at) = rest.windows(3).position(|it| it == [2, 1, 0x7e]) {
        let (before, after) = rest.split_at(at);
        out.extend(before);
        out.extend([2, 1, number]);
        rest = after.get(3..).unwrap_or_default();
    }
    out.extend(rest);
    out
}

/// An element (X.690), its length in four digits.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&[tag, 0x84][..], &length.to_be_bytes(), content].concat()
}

fn answer(number: u8, operation: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, number][..], operation].concat())
}

/// An answer to whatever is asked.
fn to_it(operation: &[u8]) -> Vec<u8> {
    answer(0x7e, operation)
}

fn result(tag: u8, code: u8) -> Vec<u8> {
    element(tag, &[&[0x0a, 1, code][..], b"\x04\0\x04\0"].concat())
}

fn entry(dn: &[u8], attributes: &[u8]) -> Vec<u8> {
    element(0x64, &[element(4, dn), element(0x30, attributes)].concat())
}

/// What is too deep, too long or without end.
fn floods() -> Vec<(&'static str, Says)> {
    let once = |bytes: Vec<u8>| Says::Once(bytes);
    let nested = (0..100_000_u32)
        .rev()
        .fold(Vec::new(), |mut outer: Vec<u8>, inside| {
            outer.extend([0x30, 0x84]);
            outer.extend((inside * 6).to_be_bytes());
            outer
        });
    let referral = element(0x73, &element(4, b"ldap://127.0.0.1:1/"));
    vec![
        (
            "nests 100,000 elements",
            once(to_it(&entry(b"uid=x", &nested))),
        ),
        ("nests as many outside of a message", once(nested)),
        ("announces 4 GB", once(b"\x30\x84\xff\xff\xff\xff".to_vec())),
        (
            "announces 1 GB and sends it",
            Says::Then(b"\x30\x84\x40\0\0\0".to_vec(), vec![0; 65_536]),
        ),
        (
            "announces 15 MB and sends no more",
            once(b"\x30\x84\0\xf0\0\0\x02".to_vec()),
        ),
        (
            "announces no length",
            once(b"\x30\x80\x02\x01\x02\0\0".to_vec()),
        ),
        (
            "has a length of 127 digits",
            once([&b"\x30\xff"[..], &[0xff; 127]].concat()),
        ),
        (
            "sends entries without end",
            Says::Forever(to_it(&entry(b"uid=x,dc=x", b""))),
        ),
        (
            "sends references without end",
            Says::Forever(to_it(&referral)),
        ),
        (
            "answers others without end",
            Says::Forever(answer(0x7d, &entry(b"uid=x", b""))),
        ),
    ]
}

/// What is no answer to the question.
fn answers() -> Vec<(&'static str, Says)> {
    let once = |bytes: Vec<u8>| Says::Once(bytes);
    let done = to_it(&result(0x65, 0));
    vec![
        (
            "answers somebody else",
            once(answer(0x7d, &result(0x65, 0))),
        ),
        ("answers nobody", once(answer(0, &result(0x65, 0)))),
        ("disconnects", once(answer(0, &result(0x78, 52)))),
        ("answers twice", once([done.clone(), done].concat())),
        ("answers a bind", once(to_it(&result(0x61, 0)))),
        ("refers elsewhere", once(to_it(&result(0x65, 10)))),
        (
            "sends a result without a code",
            once(to_it(&element(0x65, b""))),
        ),
        (
            "sends a result that is no element",
            once(to_it(b"\x65\x7f")),
        ),
        (
            "sends an entry that is a number",
            once(to_it(b"\x44\x01\0")),
        ),
        (
            "sends an entry without attributes",
            once(to_it(&element(0x64, &element(4, b"x")))),
        ),
        ("sends an empty message", once(b"\x30\0".to_vec())),
        (
            "sends a message of a number",
            once(b"\x30\x03\x02\x01\x02".to_vec()),
        ),
        ("sends controls that are none", {
            once(element(
                0x30,
                &[&[2, 1, 0x7e][..], &result(0x65, 0), b"\xa0\x03\x04\x01x"].concat(),
            ))
        }),
        ("sends zeros without end", Says::Forever(vec![0; 4_096])),
        (
            "sends a text",
            once(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ),
        ("says nothing", once(Vec::new())),
    ]
}

pub(crate) fn a_directory_that_breaks_the_protocol_lets_nobody_in_and_ends_nothing(
    world: &World,
) -> Result<()> {
    let person = world.person("unfounded", &[HR_GROUP])?;
    let directory = Directory::start()?;
    let port = directory.port;
    let change = |config: &mut ConfigFile| {
        config
            .set(
                "directory",
                "urls",
                vec![format!("ldap://127.0.0.1:{port}")],
            )
            .set("directory", "allow_plaintext", true)
            .set("directory", "connect_timeout_ms", 1_000)
            .set("directory", "operation_timeout_ms", 1_000)
            .set("directory", "total_timeout_ms", 1_500)
            .unset("directory", "tls_ca_file");
    };
    world.with_plain_config(change, || {
        let pid = world.plain.pid()?;
        let before = resident_kib(pid)?;
        for (what, says) in floods().into_iter().chain(answers()) {
            directory.says(says);
            let begun = Instant::now();
            let (told, taken) = attempt(world, &person).context(what)?;
            // An outage, or nobody of that name: never in, and never an error of Postern's.
            ensure!(
                matches!(told.as_str(), "57P03" | "28P01"),
                "{what}: {told:?}"
            );
            ensure!(taken < SLACK, "{what}: {:?}", begun.elapsed());
            ensure!(world.plain.is_running()?, "{what}: Postern has ended");
        }
        let growth = resident_kib(pid)?.saturating_sub(before);
        println!("{growth} KiB more after every row");
        ensure!(growth < GROWTH_KIB_MAX, "{growth} KiB more");
        ensure!(world.plain.pid()? == pid);
        for why in ["too deep", "too long", "an answer without end"] {
            ensure!(world.plain.log_contains(why)?, "nothing was {why}");
        }
        Ok(())
    })?;
    // The same person, before the directory that means well.
    world.raw(&person).map(drop)
}
