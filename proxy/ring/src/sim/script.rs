//! What is asked of the worker in one run, and when.

use std::sync::{Arc, Mutex, OnceLock};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig};
use rustls::{ServerConnection, SideData};

use super::driver::Socket;
use super::peer::{Ending, Peer, Plan};
use super::random::Random;
use super::wire::Wire;
use crate::Closed;
use crate::leg::Leg;
use crate::mailbox::{Handover, Mailbox};
use crate::tls::Tls;

/// A session of the script.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) id: u64,
    /// Its sockets.
    pub(crate) client: usize,
    pub(crate) backend: usize,
    /// Bytes that the login read ahead.
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_backend: Vec<u8>,
    pub(crate) end_ordered: bool,
}

impl Scripted {
    /// The two directions: from, to, and how many bytes were read ahead.
    pub(crate) fn directions(&self) -> [(usize, usize, usize); 2] {
        [
            (self.client, self.backend, self.to_backend.len()),
            (self.backend, self.client, self.to_client.len()),
        ]
    }

    /// What an ordered end says to its client.
    pub(crate) fn goodbye(&self) -> Vec<u8> {
        format!("goodbye, session {}", self.id).into_bytes()
    }
}

/// What is asked of the worker in one run.
pub(crate) struct Script {
    pub(crate) mailbox: Arc<Mailbox<Socket>>,
    pub(crate) closed: Arc<Mutex<Vec<Closed>>>,
    pub(crate) sessions: Vec<Scripted>,
    planned: usize,
    /// Whether the worker may be stopped while sessions live.
    drains: bool,
    stopped: bool,
    early: bool,
}

impl Script {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            mailbox: Arc::default(),
            closed: Arc::default(),
            sessions: Vec::new(),
            planned: random.between(1, 6),
            drains: random.one_in(5),
            stopped: false,
            early: false,
        }
    }

    /// Whether the stop has come before the last session ended by itself.
    pub(crate) fn stopped_early(&self) -> bool {
        self.early
    }

    /// Perhaps asks for something; says whether the worker is to be woken.
    pub(crate) fn goes_on(
        &mut self,
        wires: &mut Vec<Wire>,
        random: &mut Random,
        out_of_ideas: bool,
    ) -> bool {
        if self.stopped {
            return false;
        }
        let closed = self.closed.lock().expect("no test panics with it").len();
        if self.sessions.len() < self.planned && (out_of_ideas || random.one_in(300)) {
            self.hand_over(wires, random);
            return true;
        }
        let finished = closed == self.planned;
        if finished || (self.drains && !self.sessions.is_empty() && random.one_in(20_000)) {
            self.stopped = true;
            self.early = !finished;
            self.mailbox.stop();
            return true;
        }
        if random.one_in(15_000) || out_of_ideas {
            return self.order_end(wires, random, out_of_ideas);
        }
        false
    }

    fn order_end(&mut self, wires: &[Wire], random: &mut Random, out_of_ideas: bool) -> bool {
        let pick = random.below(self.sessions.len());
        for (index, session) in self.sessions.iter_mut().enumerate() {
            let open = |wire: usize| wires.get(wire).filter(|wire| wire.closed.is_none());
            let Some((client, backend)) = open(session.client).zip(open(session.backend)) else {
                continue;
            };
            // Peers that wait for each other, or never read, are the reasons to have nothing to do.
            let (client, backend) = (&client.peer.plan, &backend.peer.plan);
            let waits = |plan: &Plan| plan.ending == Ending::WhenTold;
            let deaf = client.is_deaf() || backend.is_deaf();
            let stuck = deaf || waits(client) && waits(backend);
            if !session.end_ordered && (stuck && out_of_ideas || index == pick && !out_of_ideas) {
                session.end_ordered = true;
                self.mailbox.end(session.id, session.goodbye());
                return true;
            }
        }
        false
    }

    fn hand_over(&mut self, wires: &mut Vec<Wire>, random: &mut Random) {
        let id = 1000 + self.sessions.len() as u64;
        let (to_client, to_backend) = (random.below(300), random.below(300));
        let session = Scripted {
            id,
            client: wires.len(),
            backend: wires.len() + 1,
            to_client: random.bytes(to_client),
            to_backend: random.bytes(to_backend),
            end_ordered: false,
        };
        let (client_tls, client_peer) = if random.one_in(4) {
            let (client, server) = connected();
            (
                Some(Tls::new(Box::new(Connection::Server(server)))),
                Some(Connection::Client(client)),
            )
        } else {
            (None, None)
        };
        let (backend_tls, backend_peer) = if random.one_in(6) {
            let (client, server) = connected();
            (
                Some(Tls::new(Box::new(Connection::Client(client)))),
                Some(Connection::Server(server)),
            )
        } else {
            (None, None)
        };
        for peer in [client_peer, backend_peer] {
            wires.push(Wire::new(Peer::new(
                Plan::random(random),
                peer.map(Box::new),
            )));
        }
        let closed = Arc::clone(&self.closed);
        self.mailbox.hand_over(Handover {
            id,
            client: Leg::new(Socket(session.client), client_tls),
            backend: Leg::new(Socket(session.backend), backend_tls),
            to_client: session.to_client.clone(),
            to_backend: session.to_backend.clone(),
            on_close: Box::new(move |it| closed.lock().expect("no test panics with it").push(it)),
        });
        self.sessions.push(session);
    }
}

/// A client and a server that have shaken hands.
fn connected() -> (ClientConnection, ServerConnection) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
    let (client, server) = CONFIGS.get_or_init(configs);
    let name = ServerName::try_from("localhost").expect("a valid name");
    let mut client = ClientConnection::new(Arc::clone(client), name).expect("a valid client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a valid server");
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server);
        carry(&mut server, &mut client);
    }
    (client, server)
}

fn carry<A: SideData, B: SideData>(
    from: &mut rustls::ConnectionCommon<A>,
    to: &mut rustls::ConnectionCommon<B>,
) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("a vector takes all");
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("a slice can be read");
        to.process_new_packets().expect("rustls understands itself");
    }
}

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a server");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(client), Arc::new(server))
}
