//! What is tried at the perimeter, by a process of its own: this program, started again with
//! other words, in whatever namespace, cgroup and account the test wants.
//!
//! An actor says in one line what came of it: `connected`, `sent`, or `blocked: ` and why.

use std::io::{BufRead, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use anyhow::{Context, Result, bail, ensure};
use postern_tests::network::Tap;
use postern_tests::network::frame::{self, Way, protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, connect,
    ipproto, recvmsg, sendmsg, sendto, socket_with, sockopt,
};

/// The word that makes an actor of this program.
const WORD: &str = "actor";

/// How long a connection may take: through three namespaces it takes less than a millisecond. What
/// must get through is tried again, so this is what tests wait where nothing gets through.
const CONNECT_LIMIT: Duration = Duration::from_millis(400);

/// How long the other side may take to answer; as above.
const ANSWER_LIMIT: Duration = Duration::from_millis(400);

/// How many connections a hammer tries at once, and how long it waits for them.
const HAMMER_SOCKETS: usize = 64;
const HAMMER_LIMIT: Duration = Duration::from_millis(6);

/// Data with the first packet of a connection, socket(2) `sendto`, RFC 7413.
const FAST_OPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);

/// The command that is this program as an actor.
///
/// # Errors
/// If the system does not say what program this is.
pub(crate) fn command(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(WORD).args(words);
    Ok(command)
}

/// Acts, if this process is an actor.
pub(crate) fn run() -> Option<ExitCode> {
    let mut words = env::args().skip(1);
    if words.next()? != WORD {
        return None;
    }
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match act(&words) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{}: {error:#}", words.join(" "));
            Some(ExitCode::FAILURE)
        }
    }
}

fn act(words: &[&str]) -> Result<()> {
    let said = match *words {
        ["echo", port] => return echo(port.parse()?),
        ["hammer", ref addresses @ ..] => return hammer(addresses),
        ["converse", address] => return converse(address.parse()?),
        ["connect", address] => attempt(|| dial(ipproto::TCP, address.parse()?, None)),
        ["connect", address, from] => {
            attempt(|| dial(ipproto::TCP, address.parse()?, Some(from.parse()?)))
        }
        ["mptcp", address] => attempt(|| dial(ipproto::MPTCP, address.parse()?, None)),
        ["fast-open", address, text] => attempt(|| fast_open(address.parse()?, text)),
        ["datagram", address, text] => attempt(|| datagram(address.parse()?, None, text)),
        ["datagram", address, text, from] => {
            attempt(|| datagram(address.parse()?, Some(from.parse()?), text))
        }
        ["raw", address, text] => attempt(|| raw(address.parse()?, text)),
        ["packet", device] => attempt(|| Tap::open_here(device).map(|_| "opened")),
        ["join", cgroup] => attempt(|| join(Path::new(cgroup)).map(|()| "joined")),
        ["move", cgroup, address] => attempt(|| moved(Path::new(cgroup), address.parse()?)),
        ["take", path, address] => attempt(|| take(Path::new(path), address.parse()?)),
        ["give", path] => attempt(|| give(Path::new(path))),
        _ => bail!("no actor does this"),
    };
    println!("{}", said?);
    Ok(())
}

/// What came of something; being stopped is an outcome, and anything else that fails an error.
fn attempt(it: impl FnOnce() -> Result<&'static str>) -> Result<String> {
    match it() {
        Ok(said) => Ok(said.to_owned()),
        Err(error) => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(kind @ (ErrorKind::PermissionDenied | ErrorKind::TimedOut)) => {
                Ok(format!("blocked: {kind}"))
            }
            _ => Err(error),
        },
    }
}

/// Answers on a port with what it is sent, over TCP, and says what it heard.
fn echo(port: u16) -> Result<()> {
    let any = SocketAddr::new("::".parse()?, port);
    let datagrams = UdpSocket::bind(any)?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = datagrams.recv_from(&mut buffer) {
            println!("heard {}", String::from_utf8_lossy(&buffer[..length]));
        }
    });
    for stream in TcpListener::bind(any)?.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                println!("heard {}", String::from_utf8_lossy(&buffer[..length]));
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// A socket that does not wait.
fn socket_of(address: SocketAddr, kind: SocketType, protocol: Protocol) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, kind, flags, Some(protocol)).map_err(io::Error::from)?)
}

fn dial(protocol: Protocol, to: SocketAddr, from: Option<IpAddr>) -> Result<&'static str> {
    let socket = socket_of(to, SocketType::STREAM, protocol)?;
    if let Some(from) = from {
        bind(&socket, &SocketAddr::new(from, 0)).map_err(io::Error::from)?;
    }
    connect_within(&socket, to, CONNECT_LIMIT)?;
    Ok("connected")
}

/// Connects a socket that does not wait, and waits for it.
fn connect_within(socket: &OwnedFd, to: SocketAddr, limit: Duration) -> Result<()> {
    match connect(socket, &to) {
        Ok(()) => return Ok(()),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(io::Error::from(error).into()),
    }
    wait_for(socket, limit)
}

/// Waits until a connection is there.
fn wait_for(socket: &OwnedFd, limit: Duration) -> Result<()> {
    let mut ready = [PollFd::new(socket, PollFlags::OUT)];
    let limit = Timespec::try_from(limit)?;
    if poll(&mut ready, Some(&limit)).map_err(io::Error::from)? == 0 {
        return Err(io::Error::from(ErrorKind::TimedOut).into());
    }
    match sockopt::socket_error(socket).map_err(io::Error::from)? {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn fast_open(to: SocketAddr, text: &str) -> Result<&'static str> {
    let socket = socket_of(to, SocketType::STREAM, ipproto::TCP)?;
    match sendto(&socket, text.as_bytes(), FAST_OPEN, &to) {
        Ok(_) => {}
        Err(Errno::INPROGRESS) => bail!("the data was not in the first packet"),
        Err(error) => return Err(io::Error::from(error).into()),
    }
    wait_for(&socket, CONNECT_LIMIT)?;
    Ok("connected")
}

fn datagram(to: SocketAddr, from: Option<IpAddr>, text: &str) -> Result<&'static str> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        "::".parse()?
    };
    let socket = UdpSocket::bind(SocketAddr::new(from.unwrap_or(any), 0))?;
    socket.send_to(text.as_bytes(), to)?;
    Ok("sent")
}

/// Sends a datagram whose header we write, and for IPv4 also the packet's.
fn raw(to: SocketAddr, text: &str) -> Result<&'static str> {
    let (protocol, payload) = match to.ip() {
        IpAddr::V4(destination) => {
            let source = Ipv4Addr::UNSPECIFIED.into();
            let way = Way {
                source,
                destination: destination.into(),
                ports: (40_000, to.port()),
            };
            // The kernel fills in our address, so the checksum is left out: zero says so.
            let mut datagram = frame::udp(way, text.as_bytes());
            datagram.splice(6..8, [0, 0]);
            (ipproto::RAW, frame::ip(way, protocol::UDP, &datagram))
        }
        IpAddr::V6(_) => {
            let source = UdpSocket::bind("[::]:0")?;
            source.connect(to)?;
            let way = Way {
                source: source.local_addr()?.ip(),
                destination: to.ip(),
                ports: (40_000, to.port()),
            };
            (ipproto::UDP, frame::udp(way, text.as_bytes()))
        }
    };
    let socket = socket_of(to, SocketType::RAW, protocol)?;
    let to = SocketAddr::new(to.ip(), 0);
    sendto(&socket, &payload, SendFlags::empty(), &to).map_err(io::Error::from)?;
    Ok("sent")
}

/// Moves this process into a cgroup.
fn join(cgroup: &Path) -> Result<()> {
    Ok(fs::write(cgroup.join("cgroup.procs"), "0")?)
}

/// Makes a socket, moves into a cgroup, and only then connects.
fn moved(cgroup: &Path, to: SocketAddr) -> Result<&'static str> {
    let socket = socket_of(to, SocketType::STREAM, ipproto::TCP)?;
    join(cgroup)?;
    connect_within(&socket, to, CONNECT_LIMIT)?;
    Ok("connected")
}

/// Connects a socket that somebody else made and sends over a unix socket.
fn take(path: &Path, to: SocketAddr) -> Result<&'static str> {
    let (stream, _) = UnixListener::bind(path)?.accept()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(&stream, &mut data, &mut ancillary, flags).map_err(io::Error::from)?;
    let mut socket = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
            socket = sockets.next();
        }
    }
    let socket = socket.context("no socket came")?;
    connect_within(&socket, to, CONNECT_LIMIT)?;
    Ok("connected")
}

/// Makes a socket, and sends it to whoever takes it.
fn give(path: &Path) -> Result<&'static str> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let socket = socket_of(any, SocketType::STREAM, ipproto::TCP)?;
    let stream = UnixStream::connect(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    ensure!(ancillary.push(SendAncillaryMessage::ScmRights(&sockets)));
    let data = [IoSlice::new(&[1])];
    sendmsg(&stream, &data, &mut ancillary, SendFlags::empty()).map_err(io::Error::from)?;
    Ok("given")
}

/// Holds a connection. For each line on the standard input it sends one, and says whether the
/// answer came.
fn converse(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_LIMIT)?;
    println!("connected");
    let mut received = String::new();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        line?;
        let sent = format!("<{number}>");
        let answered = exchange(&mut stream, &sent, &mut received)?;
        println!("{}", if answered { "answered" } else { "silent" });
    }
    Ok(())
}

/// Sends a text and waits until it comes back.
fn exchange(stream: &mut TcpStream, text: &str, received: &mut String) -> Result<bool> {
    let end = Instant::now() + ANSWER_LIMIT;
    match stream.write_all(text.as_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    while !received.contains(text) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 2048];
        match stream.read(&mut buffer) {
            Ok(0) => bail!("the other side closed"),
            Ok(length) => received.push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Connects to some addresses over and over, until the standard input ends; then says how often
/// it tried and how often it was in.
fn hammer(addresses: &[&str]) -> Result<()> {
    let addresses = addresses.iter().map(|it| it.parse());
    let addresses: Vec<SocketAddr> = addresses.collect::<Result<_, _>>()?;
    let (sender, stop) = channel::<()>();
    thread::spawn(move || {
        // It only ends; what it reads, or why it cannot, does not matter.
        let _ = io::stdin().read(&mut [0]);
        drop(sender);
    });
    println!("hammering");
    let (mut tried, mut connected) = (0_u64, 0_u64);
    loop {
        let mut sockets = Vec::new();
        for address in addresses.iter().cycle().take(HAMMER_SOCKETS) {
            let socket = socket_of(*address, SocketType::STREAM, ipproto::TCP)?;
            tried += 1;
            match connect(&socket, address) {
                Ok(()) => connected += 1,
                Err(Errno::INPROGRESS) => sockets.push(socket),
                Err(Errno::PERM) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        let end = Instant::now() + HAMMER_LIMIT;
        let mut waiting: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|it| PollFd::new(it, PollFlags::OUT))
            .collect();
        // All of them are waited for; one that is ready early does not shorten it for the rest.
        while !waiting.is_empty() && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            poll(&mut waiting, Some(&Timespec::try_from(left)?)).map_err(io::Error::from)?;
            waiting.retain(|it| it.revents().is_empty());
        }
        for socket in &sockets {
            let is_up = rustix::net::getpeername(socket).is_ok_and(|it| it.is_some());
            connected += u64::from(is_up);
        }
        if stop.try_recv() != Err(TryRecvError::Empty) {
            break;
        }
    }
    println!("{tried} {connected}");
    Ok(())
}
