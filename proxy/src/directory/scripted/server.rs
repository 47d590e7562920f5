//! A directory server that says whatever a test wants it to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ldap3::asn1::{StructureTag, parse_tag, parse_uint};

use super::SERVICE;

/// What a server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::directory) enum Asked {
    Bind(String, String),
    Search,
    Unbind,
}

/// What it does then.
pub(in crate::directory) enum Reply {
    /// An entry: DN, and attributes with one value each.
    Entry(&'static str, &'static [(&'static str, &'static str)]),
    /// A search reference (RFC 4511, 4.5.3).
    Reference(&'static str),
    /// The end of a bind or search with a result code.
    Code(u8),
    /// An operation in the envelope of the answer.
    Operation(&'static [u8]),
    /// Bytes as they are.
    Raw(&'static [u8]),
    Close,
}

/// A server; it ends with the test's process.
pub(in crate::directory) struct Scripted {
    pub(in crate::directory) port: u16,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    pub(in crate::directory) fn start(
        script: impl Fn(&Asked) -> Vec<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, script) = (Arc::clone(&asked), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || serve(stream, &log, &*script));
            }
        });
        Self { port, asked }
    }

    /// How often a person's password was sent to it.
    pub(super) fn passwords(&self) -> usize {
        self.tried(|password| password.len() < "a password that nobody has".len())
    }

    /// How often a bind was sent to it that nobody can succeed with.
    pub(super) fn decoys(&self) -> usize {
        self.tried(|password| password.len() > "a password that nobody has".len())
    }

    fn tried(&self, is_one: impl Fn(&str) -> bool) -> usize {
        let asked = self.asked.lock().unwrap();
        let tried = asked.iter().filter(|asked| match asked {
            Asked::Bind(name, password) => name != SERVICE && is_one(password),
            Asked::Search | Asked::Unbind => false,
        });
        tried.count()
    }

    /// What it was asked, without names and passwords.
    pub(super) fn steps(&self) -> Vec<&'static str> {
        let asked = self.asked.lock().unwrap();
        let steps = asked.iter().map(|asked| match asked {
            Asked::Bind(name, _) if name == SERVICE => "bind of the service",
            Asked::Bind(..) => "bind",
            Asked::Search => "search",
            Asked::Unbind => "unbind",
        });
        steps.collect()
    }

    pub(super) fn count(&self, what: &Asked) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| *asked == what)
            .count()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, script: &dyn Fn(&Asked) -> Vec<Reply>) {
    let mut buffer = Vec::new();
    loop {
        while let Ok((rest, message)) = parse_tag(&buffer) {
            let used = buffer.len() - rest.len();
            buffer.drain(..used);
            let (id, asked) = request(message);
            let replies = script(&asked);
            let response = if asked == Asked::Search { 0x65 } else { 0x61 };
            log.lock().unwrap().push(asked);
            for reply in replies {
                let bytes = match reply {
                    Reply::Entry(dn, attributes) => envelope(&id, &entry(dn, attributes)),
                    Reply::Reference(url) => envelope(&id, &tlv(0x73, &text(url))),
                    Reply::Code(code) => envelope(&id, &tlv(response, &result(code))),
                    Reply::Operation(bytes) => envelope(&id, bytes),
                    Reply::Raw(bytes) => bytes.to_vec(),
                    Reply::Close => return,
                };
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        }
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}

fn request(message: StructureTag) -> (Vec<u8>, Asked) {
    let mut parts = message.expect_constructed().unwrap().into_iter();
    let id = parts.next().unwrap().expect_primitive().unwrap();
    assert!(parse_uint(&id).is_ok());
    let operation = parts.next().unwrap();
    let asked = match operation.id {
        0 => {
            let texts: Vec<String> = operation
                .expect_constructed()
                .unwrap()
                .into_iter()
                .map(|t| String::from_utf8(t.expect_primitive().unwrap()).unwrap())
                .collect();
            Asked::Bind(texts[1].clone(), texts[2].clone())
        }
        3 => Asked::Search,
        2 => Asked::Unbind,
        other => panic!("operation {other}"),
    };
    (id, asked)
}

pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    tlv(0x04, text.as_bytes())
}

fn envelope(id: &[u8], operation: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x02, id), operation.to_vec()].concat())
}

pub(super) fn result(code: u8) -> Vec<u8> {
    [tlv(0x0a, &[code]), text(""), text("a diagnostic text")].concat()
}

fn entry(dn: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attributes: Vec<u8> = attributes
        .iter()
        .flat_map(|(n, v)| tlv(0x30, &[text(n), tlv(0x31, &text(v))].concat()))
        .collect();
    tlv(0x64, &[text(dn), tlv(0x30, &attributes)].concat())
}
