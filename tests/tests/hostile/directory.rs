//! The leg to a directory that means ill.

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{ConfigFile, Someone, World};

use crate::SLACK;
use crate::backend::attempt;
use crate::ldap::{Directory, Says, Step, answer, element, entry, page, page_of, result, to_it};
use crate::meter::resident_kib;

/// What all rows together may add to the memory of the process, in KiB: an answer of 64 MiB, or of
/// 2,000,000 elements, is there as it came and as it was read, and what is freed is not given back
/// to the system at once.
pub(crate) const GROWTH_KIB_MAX: u64 = 384 * 1024;

/// The lines that a row may add to the log: why the server failed and what became of the login,
/// and the backtrace where the library panicked, but not each message.
const ROW_LINES_MAX: usize = 100;

/// What lets somebody in as the answer to a bind: whatever operation a result of success names, the
/// directory has said yes.
const SAYS_YES: [&str; 2] = ["answers twice", "answers a bind"];

/// A row: what the directory does, and what it says.
type Row = (&'static str, Says);

/// So many elements, each inside the one before.
fn nested(levels: u32) -> Vec<u8> {
    let insides = (0..levels).rev().map(|it| (it * 6).to_be_bytes());
    insides
        .flat_map(|it| [&[0x30, 0x84][..], &it].concat())
        .collect()
}

/// What is too deep, too long or without end.
fn floods() -> Vec<Row> {
    let once = |bytes: Vec<u8>| Says::Once(bytes);
    let nested = nested(100_000);
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
fn answers() -> Vec<Row> {
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
        (
            "answers a byte a second",
            Says::Dripping(to_it(&result(0x65, 0))),
        ),
    ]
}

/// What only the end of a page can say.
fn pages() -> Vec<Row> {
    let once = |value: &[u8]| Says::Once(page_of(value));
    let of_values = |values: &[u8]| {
        let attribute = [element(4, b"cn"), element(0x31, values)].concat();
        to_it(&entry(b"cn=x", &element(0x30, &attribute)))
    };
    let empty = of_values(&element(4, b"").repeat(60_000)).repeat(8);
    let long = of_values(&element(4, &vec![0; 4 * 1_048_576]));
    vec![
        ("nests 60,000 elements in a cookie", once(&nested(60_000))),
        ("has a cookie that is none", once(b"\x30\x03\x02\x01\0")),
        (
            "has a cookie longer than the message",
            once(b"\x30\x84\xff\xff\xff\xff"),
        ),
        ("sends empty pages without end", Says::Once(page(b"again"))),
        (
            "sends pages of 480,000 empty values without end",
            Says::Once([empty, page(b"again")].concat()),
        ),
        ("sends values of 4 MB without end", Says::Forever(long)),
    ]
}

/// Every row, each at one step; at every one in a full run.
fn rows() -> Vec<(&'static str, Step, Says)> {
    let is_full = crate::is_full();
    let mut rows = Vec::new();
    for (number, (what, says)) in floods().into_iter().chain(answers()).enumerate() {
        for (place, step) in Step::ALL.into_iter().enumerate() {
            let is_yes = step == Step::Bind && SAYS_YES.contains(&what);
            if !is_yes && (is_full || place == number % Step::ALL.len()) {
                rows.push((what, step, says.clone()));
            }
        }
    }
    for (what, says) in pages() {
        if is_full {
            rows.push((what, Step::Page, says.clone()));
        }
        rows.push((what, Step::Groups, says));
    }
    rows
}

/// What a client may be told that logs in: that there is an outage, or that nobody of that name
/// may. It is never in, and never told an error of Postern's.
fn expected(what: &str, step: Step) -> &'static [&'static str] {
    match (what, step) {
        // There is nobody, or there are no groups, and that twice.
        ("answers twice", _) => &["28P01"],
        // There are many of that name: one bind more follows, while the entries still come.
        ("sends entries without end", Step::Person) => &["28P01", "57P03"],
        _ => &["57P03"],
    }
}

pub(crate) fn a_directory_that_breaks_the_protocol_lets_nobody_in_and_ends_nothing(
    world: &World,
) -> Result<()> {
    let person = world.person("unfounded", &[HR_GROUP])?;
    let directory = Directory::start()?;
    let change = |config: &mut ConfigFile| directory.configure(config);
    world.with_plain_config(change, || hold(world, &directory))?;
    // The same Postern, before the directory that means well.
    world.raw(&person).map(drop)
}

/// Every row, with one start of Postern; at the end the process is the same, and has not grown.
fn hold(world: &World, directory: &Directory) -> Result<()> {
    let pid = world.plain.pid()?;
    // What the directory says before and after the step of a row would let anybody in.
    let honest = somebody("honest");
    directory.expects(&honest.login, None);
    let (told, _) = attempt(world, &honest)?;
    ensure!(told.is_empty(), "the honest one is refused: {told}");
    let before = resident_kib(pid)?;
    let lines = || anyhow::Ok(world.plain.log()?.lines().count());
    let lines_before = lines()?;
    let rows = rows();
    let lines_max = rows.len() * ROW_LINES_MAX;
    for (number, (what, step, says)) in rows.into_iter().enumerate() {
        // A password that was refused is not asked about again, and another one of the same
        // person not for long.
        let person = somebody(&format!("row{number}"));
        directory.expects(&person.login, Some((step, says)));
        let (told, taken) = attempt(world, &person).context(what)?;
        ensure!(
            expected(what, step).contains(&told.as_str()),
            "{step:?}: {what}: {told:?}"
        );
        ensure!(directory.count() > 0, "{step:?}: {what}: it was not asked");
        ensure!(taken < SLACK, "{step:?}: {what}: {taken:?}");
        ensure!(
            world.plain.is_running()?,
            "{step:?}: {what}: Postern has ended"
        );
    }
    let growth = resident_kib(pid)?.saturating_sub(before);
    println!("{growth} KiB more after every row");
    ensure!(growth < GROWTH_KIB_MAX, "{growth} KiB more");
    ensure!(world.plain.pid()? == pid);
    let lines = lines()?.saturating_sub(lines_before);
    ensure!(lines <= lines_max, "{lines} lines more in the log");
    for why in [
        "too deep",
        "too long",
        "an answer without end",
        "an answer of too many elements",
    ] {
        ensure!(world.plain.log_contains(why)?, "nothing was {why}");
    }
    Ok(())
}

pub(crate) fn somebody(login: &str) -> Someone {
    Someone {
        login: login.to_owned(),
        password: format!("Secret-{login}-42"),
    }
}
