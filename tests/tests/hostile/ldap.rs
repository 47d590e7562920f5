//! A directory that answers as it should until one step of a login, and then as a test wants.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;
use postern_tests::ConfigFile;
use postern_tests::cast::HR_GROUP;
use postern_tests::openldap::{GROUPS_DN, PEOPLE_DN};

use crate::database::drip;

/// The number of the message in what a test gives; that of the request is put in its place.
const NUMBER: u8 = 0x7e;
/// The control of paged results (RFC 2696).
const PAGED_RESULTS: &[u8] = b"1.2.840.113556.1.4.319";
/// What stands for the second page of the groups.
const SECOND_PAGE: &[u8] = b"the second page";
/// The tags of requests (RFC 4511, section 4).
const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;

/// What a login asks the directory, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The entry with the login name.
    Person,
    /// Whether the password is right.
    Bind,
    /// The first page of the groups.
    Groups,
    /// The page after it.
    Page,
}

impl Step {
    pub(crate) const ALL: [Self; 4] = [Self::Person, Self::Bind, Self::Groups, Self::Page];
}

/// What the directory answers.
#[derive(Clone)]
pub(crate) enum Says {
    /// These bytes and then nothing, each time.
    Once(Vec<u8>),
    /// The same, a byte a second.
    Dripping(Vec<u8>),
    /// The same again and again.
    Forever(Vec<u8>),
    /// The first of these, and then the other again and again.
    Then(Vec<u8>, Vec<u8>),
}

/// How the directory tells of changes, by a control that its clients ask with.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) control: &'static str,
    pub(crate) says: Says,
}

/// Who is known, and at which step what is answered.
#[derive(Default)]
struct Script {
    logins: Vec<String>,
    /// Nothing is, where the directory means well.
    answer: Option<(Step, Says)>,
    /// How often it was.
    count: usize,
    /// It tells nothing without one.
    feed: Option<Feed>,
    /// How often it was asked to.
    feed_count: usize,
}

/// A directory; its threads end with the test's process.
pub(crate) struct Directory {
    port: u16,
    script: Arc<Mutex<Script>>,
}

impl Directory {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let script = Arc::clone(&shared);
                // Its client hangs up on it, which is no failure here.
                thread::spawn(move || drop(serve(stream, &script)));
            }
        });
        Ok(Self { port, script })
    }

    /// Puts it behind Postern.
    pub(crate) fn configure(&self, config: &mut ConfigFile) {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        config
            .set("directory", "urls", vec![url])
            .set("directory", "allow_plaintext", true)
            .set("directory", "connect_timeout_ms", 1_000)
            .set("directory", "operation_timeout_ms", 1_000)
            .set("directory", "total_timeout_ms", 1_500)
            .unset("directory", "tls_ca_file");
    }

    /// From now on only a person of this name is known, and this step of the login answered so.
    pub(crate) fn expects(&self, login: &str, answer: Option<(Step, Says)>) {
        *lock(&self.script) = Script {
            logins: vec![login.to_owned()],
            answer,
            ..Script::default()
        };
    }

    /// From now on only people of these names are known.
    pub(crate) fn knows(&self, logins: &[&str]) {
        lock(&self.script).logins = logins.iter().map(|&it| it.to_owned()).collect();
    }

    /// How it tells of changes to those who connect from now on.
    pub(crate) fn tells(&self, feed: Feed) {
        let mut script = lock(&self.script);
        script.feed = Some(feed);
        script.feed_count = 0;
    }

    /// How often it was asked to.
    pub(crate) fn feed_count(&self) -> usize {
        lock(&self.script).feed_count
    }

    /// How often that step was asked for.
    pub(crate) fn count(&self) -> usize {
        lock(&self.script).count
    }
}

/// A test that panicked meanwhile left it whole.
fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    loop {
        let request = read_message(&mut stream)?;
        // Every request begins with its number (RFC 4511, section 4.1.1). One of more digits does
        // not fit into what the tests give: the connection ends, and its client makes another.
        let [0x02, 1, number, tag, ..] = *request.as_slice() else {
            return Ok(());
        };
        let says = next(&request, tag, &mut lock(script));
        let with_number = |bytes| numbered(bytes, number);
        let (first, again) = match says {
            None => continue,
            Some(Says::Once(bytes)) => (with_number(bytes), None),
            Some(Says::Dripping(bytes)) => return drip(&mut stream, &with_number(bytes)),
            Some(Says::Forever(bytes)) => (Vec::new(), Some(with_number(bytes))),
            Some(Says::Then(first, again)) => (with_number(first), Some(with_number(again))),
        };
        stream.write_all(&first)?;
        while let Some(again) = &again {
            stream.write_all(again)?;
        }
    }
}

/// What is answered to a request; nothing to one that has no answer.
fn next(request: &[u8], tag: u8, script: &mut Script) -> Option<Says> {
    let has = |text: &[u8]| request.windows(text.len()).any(|it| it == text);
    if tag == SEARCH
        && let Some(feed) = &script.feed
    {
        if has(b"supportedControl") {
            return Some(Says::Once(offer(feed.control)));
        }
        if has(feed.control.as_bytes()) {
            script.feed_count += 1;
            return Some(feed.says.clone());
        }
    }
    let login = |login: &&String| has(login.as_bytes());
    let login = script.logins.iter().find(login).map(String::as_str);
    let step = match tag {
        BIND if login.is_some_and(|it| has(format!("uid={it},").as_bytes())) => Some(Step::Bind),
        // That of the service, and one that nobody can succeed with.
        BIND => None,
        SEARCH if has(SECOND_PAGE) => Some(Step::Page),
        SEARCH if has(PAGED_RESULTS) => Some(Step::Groups),
        SEARCH => Some(Step::Person),
        _ => return None,
    };
    match &script.answer {
        Some((at, says)) if step == Some(*at) => {
            script.count += 1;
            Some(says.clone())
        }
        _ => Some(Says::Once(honest(step, login))),
    }
}

/// The root entry of a directory that knows this control.
fn offer(control: &str) -> Vec<u8> {
    let root = to_it(&entry(b"", &attribute("supportedControl", control)));
    [root, to_it(&result(0x65, 0))].concat()
}

/// What a directory answers that means well, about a person whom it knows.
fn honest(step: Option<Step>, login: Option<&str>) -> Vec<u8> {
    let done = || to_it(&result(0x65, 0));
    match (step, login) {
        (None | Some(Step::Bind), _) => to_it(&result(0x61, 0)),
        (Some(Step::Person), None) => done(),
        (Some(Step::Person), Some(login)) => {
            let dn = format!("uid={login},{PEOPLE_DN}");
            let id = format!("entry of {login}");
            let attributes = [attribute("uid", login), attribute("entryUUID", &id)].concat();
            [to_it(&entry(dn.as_bytes(), &attributes)), done()].concat()
        }
        (Some(Step::Groups), _) => page(SECOND_PAGE),
        (Some(Step::Page), _) => {
            let dn = format!("cn={HR_GROUP},{GROUPS_DN}");
            let group = entry(dn.as_bytes(), &attribute("cn", HR_GROUP));
            [to_it(&group), page(b"")].concat()
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
    while let Some(at) = rest.windows(3).position(|it| it == [2, 1, NUMBER]) {
        let (before, after) = rest.split_at(at);
        out.extend(before);
        out.extend([2, 1, number]);
        rest = after.get(3..).unwrap_or_default();
    }
    out.extend(rest);
    out
}

/// An element (X.690), its length in four digits.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&[tag, 0x84][..], &length.to_be_bytes(), content].concat()
}

pub(crate) fn answer(number: u8, operation: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, number][..], operation].concat())
}

/// An answer to whatever is asked.
pub(crate) fn to_it(operation: &[u8]) -> Vec<u8> {
    answer(NUMBER, operation)
}

pub(crate) fn result(tag: u8, code: u8) -> Vec<u8> {
    element(tag, &[&[0x0a, 1, code][..], b"\x04\0\x04\0"].concat())
}

pub(crate) fn entry(dn: &[u8], attributes: &[u8]) -> Vec<u8> {
    element(0x64, &[element(4, dn), element(0x30, attributes)].concat())
}

fn attribute(name: &str, value: &str) -> Vec<u8> {
    let values = element(0x31, &element(4, value.as_bytes()));
    element(0x30, &[element(4, name.as_bytes()), values].concat())
}

/// The end of a page with the cookie of the next one.
pub(crate) fn page(cookie: &[u8]) -> Vec<u8> {
    page_of(&element(
        0x30,
        &[b"\x02\x01\0", element(4, cookie).as_slice()].concat(),
    ))
}

/// The end of a page whose control has this value.
pub(crate) fn page_of(value: &[u8]) -> Vec<u8> {
    to_it(&[result(0x65, 0), control(PAGED_RESULTS, value)].concat())
}

/// The controls of a message: this one, with this value.
pub(crate) fn control(name: &[u8], value: &[u8]) -> Vec<u8> {
    let control = [element(4, name), element(4, value)].concat();
    element(0xa0, &element(0x30, &control))
}
