//! Peers that say nothing, next to nothing, or a length and no body; and many of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::{SSL_REQUEST, client_config};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, Someone, World, needs, wait_until};
use rustix::net::{AddressFamily, SocketType};

use crate::SLACK;
use crate::meter::{descriptors, p99};
use crate::waiting::tls_and_nothing;

/// How long a client has until its startup packet.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How many connections each address of the crowd has: what the configuration allows.
const PER_ADDRESS: usize = 1_000;

/// The beginning of a startup packet of 9,000 bytes.
const LENGTH_AND_VERSION: [u8; 8] = [0, 0, 0x23, 0x28, 0, 3, 0, 0];

/// Connects to a port of 127.0.0.1 from an address of loopback.
pub(crate) fn connect_from(source: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(TcpStream::from(socket))
}

/// The first address of the crowd; honest clients come from 127.0.0.1.
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 0);

/// Many peers, of which a third says nothing, a third a byte a second, and a third a length.
struct Crowd {
    peers: Vec<TcpStream>,
    drip: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Crowd {
    fn gather(port: u16, count: usize) -> Result<Self> {
        let mut peers = Vec::new();
        let mut dripping = Vec::new();
        for number in 0..count {
            let address = CROWD.to_bits() + u32::try_from(number / PER_ADDRESS)?;
            let mut peer = connect_from(Ipv4Addr::from_bits(address), port)?;
            match number % 3 {
                0 => {}
                1 => dripping.push(peer.try_clone()?),
                _ => peer.write_all(&LENGTH_AND_VERSION)?,
            }
            peers.push(peer);
        }
        let (stop, stopped) = channel();
        let drip = std::thread::spawn(move || {
            let bytes = LENGTH_AND_VERSION.iter().chain(std::iter::repeat(&b'a'));
            for byte in bytes {
                for peer in &mut dripping {
                    // It may have been cut off by now, which is what is looked at elsewhere.
                    drop(peer.write_all(std::slice::from_ref(byte)));
                }
                if stopped.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Ok(Self {
            peers,
            drip: Some((stop, drip)),
        })
    }

    /// How many are still connected and were told nothing.
    fn connected(&self) -> Result<usize> {
        let mut count = 0;
        for mut peer in &self.peers {
            peer.set_nonblocking(true)?;
            let read = peer.read(&mut [0]);
            count += usize::from(read.is_err_and(|it| it.kind() == ErrorKind::WouldBlock));
        }
        Ok(count)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some((stop, drip)) = self.drip.take() {
            drop(stop);
            // It has nothing to say, and a panic has been said aloud.
            drop(drip.join());
        }
    }
}

/// Makes room for many connections in this process.
pub(crate) fn raise_descriptor_limit() -> Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard)?)
}

pub(crate) fn thousands_of_slow_peers_leave_logins_as_quick_as_they_were(
    world: &World,
) -> Result<()> {
    let (wanted, rounds, logins) = if crate::is_full() {
        (5_000, 5, 200)
    } else {
        (1_000, 3, 100)
    };
    // A dripping peer has two descriptors here, and every one has two in Postern.
    let count = (raise_descriptor_limit()? - 512) / 2;
    if count < wanted {
        let why = format!("there are descriptors for {count} peers of {wanted}");
        needs::skip(
            "thousands_of_slow_peers_leave_logins_as_quick_as_they_were",
            &why,
        );
        return Ok(());
    }
    let person = world.person("punctual", &[HR_GROUP])?;
    let never_cold = |config: &mut ConfigFile| {
        config
            .set("cache", "recheck_s", 3_600)
            .set("cache", "dead_s", 3_600);
    };
    world.with_config(never_cold, || {
        let (port, pid) = (world.postern.port(), world.postern.pid()?);
        let tls = client_config(world.postern.ca_file())?;
        let take_times = || {
            let times = (0..logins).map(|_| log_in(port, &tls, &person));
            times.collect::<Result<Vec<_>>>()
        };
        log_in(port, &tls, &person)?;
        let before = descriptors(pid)?;
        // In turns, so that what else the machine does is in both.
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.extend(take_times()?);
            let crowd = Crowd::gather(port, wanted)?;
            beside.extend(take_times()?);
            let connected = crowd.connected()?;
            ensure!(connected == wanted, "{connected} of {wanted} are connected");
            drop(crowd);
            wait_until("the crowd has gone", CHANGE_LIMIT, || {
                Ok(descriptors(pid)? < before + 100)
            })?;
        }
        let (alone, beside) = (p99(alone), p99(beside));
        let told = format!("p99 {alone:?} alone, {beside:?} beside {wanted} slow peers");
        println!("{told}");
        ensure!(beside <= alone.mul_f64(1.2), "{told}");
        Ok(())
    })
}

/// Logs in with TLS, and returns how long that took.
fn log_in(
    port: u16,
    tls: &std::sync::Arc<rustls::ClientConfig>,
    person: &Someone,
) -> Result<Duration> {
    let begun = Instant::now();
    let client = RawClient::encrypted(port, tls)?.map_err(|told| anyhow!("{told:?}"))?;
    let in_session = client.go_on(&person.login, HR_DATABASE, &person.password)?;
    in_session.map_err(|told| anyhow!("{told:?}"))?;
    Ok(begun.elapsed())
}

pub(crate) fn whoever_has_sent_no_startup_packet_in_10_s_is_cut_off(world: &World) -> Result<()> {
    let begun = Instant::now();
    let crowd = Crowd::gather(world.plain.port(), 30)?;
    let mut shaken = tls_and_nothing(world)?;
    for mut peer in &crowd.peers {
        peer.set_read_timeout(Some(HANDSHAKE_LIMIT + SLACK))?;
        // The drip may come after the end, so that it is a reset.
        let ended = peer.read(&mut [0]);
        let is_end = matches!(ended, Ok(0))
            || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        ensure!(is_end, "it was told something, or nothing at all");
    }
    // With TLS there may be an alert, and then the end; the library makes one error of both.
    drop(shaken.read_byte());
    let taken = begun.elapsed();
    ensure!(
        taken > HANDSHAKE_LIMIT - Duration::from_secs(1),
        "{taken:?}"
    );
    ensure!(taken < HANDSHAKE_LIMIT + SLACK, "{taken:?}");
    Ok(())
}

pub(crate) fn an_address_takes_no_more_places_than_its_own(world: &World) -> Result<()> {
    let person = world.person("elsewhere", &[HR_GROUP])?;
    let few = |config: &mut ConfigFile| {
        config.set("limits", "connections_per_address_max", 3);
    };
    world.with_plain_config(few, || {
        let port = world.plain.port();
        let greedy = || connect_from(CROWD, port);
        // Each has its place before the next one comes: two login threads accept in any order.
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut peer = greedy()?;
            ensure!(has_place(&mut peer)?, "there were three places");
            held.push(peer);
        }
        for _ in 0..10 {
            let told = told(greedy()?)?;
            ensure!(told.contains("C53300\0"), "{told:?}");
        }
        world.raw(&person)?;
        // A session is not on its way any more.
        let mut sessions = Vec::new();
        for _ in 0..5 {
            sessions.push(world.raw(&person)?);
        }
        held.pop();
        wait_until("a place is free again", CHANGE_LIMIT, || {
            has_place(&mut greedy()?)
        })
    })
}

/// Whether a peer that asks for TLS is answered, and not turned away.
fn has_place(peer: &mut TcpStream) -> Result<bool> {
    peer.set_read_timeout(Some(CHANGE_LIMIT))?;
    peer.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f])?;
    let mut answer = [0];
    peer.read_exact(&mut answer)?;
    Ok(answer == *b"S")
}

/// What a peer is told.
fn told(mut peer: TcpStream) -> Result<String> {
    peer.set_read_timeout(Some(CHANGE_LIMIT))?;
    let mut told = [0; 512];
    let count = peer.read(&mut told)?;
    let told = told.get(..count).unwrap_or_default();
    Ok(String::from_utf8_lossy(told).into_owned())
}

/// The header of the PROXY protocol, version 2, for a client of this address (section 2.2 of its
/// specification).
fn header(client: Ipv4Addr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client.octets());
    header.extend([127, 0, 0, 1, 0xc0, 0, 0x13, 0x88]);
    header
}

pub(crate) fn behind_a_proxy_each_client_has_its_own_places(world: &World) -> Result<()> {
    let few = |config: &mut ConfigFile| {
        config.set("limits", "connections_per_address_max", 2).set(
            "listen",
            "proxy_protocol_from",
            ["127.0.0.1/32"],
        );
    };
    world.with_plain_config(few, || {
        let port = world.plain.port();
        let come = |client: Ipv4Addr| -> Result<RawClient> {
            let mut proxy = RawClient::connect(port)?;
            proxy.send(&header(client))?;
            proxy.send_packet(&SSL_REQUEST.to_be_bytes())?;
            Ok(proxy)
        };
        let (one, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let mut held = Vec::new();
        for client in [one, one, other, other] {
            let mut proxy = come(client)?;
            ensure!(proxy.read_byte()? == b'S', "{client} has a place");
            held.push(proxy);
        }
        let told = come(one)?.read()?;
        ensure!(told.field(b'C').as_deref() == Some("53300"), "{told:?}");
        Ok(())
    })
}

pub(crate) fn behind_a_proxy_an_address_over_its_limit_holds_no_place_of_others(
    world: &World,
) -> Result<()> {
    let few = |config: &mut ConfigFile| {
        let limits = [("logins_max", 1), ("connections_per_address_max", 2)];
        for (key, value) in limits {
            config.set("limits", key, value);
        }
        config.set("listen", "proxy_protocol_from", ["127.0.0.1/32"]);
    };
    world.with_plain_config(few, || {
        let port = world.plain.port();
        let come = |client: u8| -> Result<RawClient> {
            let mut proxy = RawClient::connect(port)?;
            proxy.send(&header(Ipv4Addr::new(192, 0, 2, client)))?;
            proxy.send_packet(&SSL_REQUEST.to_be_bytes())?;
            Ok(proxy)
        };
        let mut held = Vec::new();
        for client in [1, 1, 2] {
            let mut proxy = come(client)?;
            ensure!(proxy.read_byte()? == b'S', "{client} has a place");
            held.push(proxy);
        }
        // There are eight places in all. Of these none closes after it has been told, and each is
        // waited for, for a while.
        let mut over = Vec::new();
        for _ in 0..30 {
            let mut proxy = come(1)?;
            let told = proxy.read()?;
            ensure!(told.field(b'C').as_deref() == Some("53300"), "{told:?}");
            let text = told.field(b'M').unwrap_or_default();
            ensure!(!text.is_empty(), "{told:?}");
            over.push(proxy);
        }
        for client in 3..=7 {
            let mut proxy = come(client)?;
            ensure!(proxy.read_byte()? == b'S', "{client} has a place");
            held.push(proxy);
        }
        Ok(())
    })
}
