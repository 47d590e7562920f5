//! Where the three parties are: on loopback, or in network namespaces that are made for them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};
use postern_tests::network::{End, Namespace, link};
use socket2::{Domain, SockRef, Socket, Type};

/// A party that waits longer than this for another gives up: a measurement takes a few seconds.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(60);

/// What the segments of a pair of virtual devices look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segments {
    /// As the system sets new devices up: up to 64 KiB cross in one piece.
    Whole,
    /// Cut to the MTU by the sender, and gathered by the receiver (GRO), as with a real device.
    Gathered,
    /// Cut to the MTU, and each received by itself.
    Single,
}

/// A way from the backend by the relay to the client.
#[derive(Debug)]
pub(super) struct Network {
    /// Its name in all tables.
    pub(super) name: String,
    /// Those of the backend, the relay and the client; none on loopback.
    namespaces: Vec<Namespace>,
}

/// The sockets of one measurement.
#[derive(Debug)]
pub(super) struct Circuit {
    /// Where the backend writes.
    pub(super) backend: TcpStream,
    /// Where the relay reads and where it writes; nothing when there is no relay.
    pub(super) relay: Option<(TcpStream, TcpStream)>,
    /// Where the client reads.
    pub(super) client: TcpStream,
}

/// The addresses are inside namespaces of our own, so they are in nobody's way.
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const RELAY_TO_BACKEND: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const RELAY_TO_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);

impl Network {
    /// All three on 127.0.0.1.
    pub(super) fn loopback() -> Self {
        Self {
            name: "loopback".to_owned(),
            namespaces: Vec::new(),
        }
    }

    /// Each in a namespace of its own: two pairs of virtual devices with that MTU, in bytes.
    ///
    /// # Errors
    /// If the system does not let us, or lacks `ip` or `ethtool`.
    pub(super) fn pairs(mtu: u32, segments: Segments) -> Result<Self> {
        let [backend, relay, client] = ["backend", "relay", "client"].map(Namespace::new);
        let namespaces = [backend?, relay?, client?];
        let [backend, relay, client] = &namespaces;
        // Each device is called like who is at its other end.
        let (to_backend, to_client) = ("backend", "client");
        link(
            &end(backend, "relay", BACKEND),
            &end(relay, to_backend, RELAY_TO_BACKEND),
        )?;
        link(
            &end(client, "relay", CLIENT),
            &end(relay, to_client, RELAY_TO_CLIENT),
        )?;
        let ends = [
            (backend, "relay"),
            (relay, to_backend),
            (relay, to_client),
            (client, "relay"),
        ];
        for (place, device) in ends {
            place.ip(&["link", "set", device, "mtu", &mtu.to_string()])?;
        }
        let gro = match segments {
            Segments::Whole => None,
            Segments::Gathered => Some("on"),
            Segments::Single => Some("off"),
        };
        if let Some(gro) = gro {
            for (place, device) in ends {
                let options = ["tso", "off", "gso", "off", "gro", gro];
                place.run(&[&["ethtool", "-K", device], options.as_slice()].concat())?;
            }
        }
        Ok(Self {
            name: Self::name_of(mtu, segments),
            namespaces: namespaces.into(),
        })
    }

    /// What such a network is called.
    pub(super) fn name_of(mtu: u32, segments: Segments) -> String {
        let suffix = match segments {
            Segments::Whole => "",
            Segments::Gathered => ", cut and gathered",
            Segments::Single => ", cut",
        };
        format!("veth {mtu}{suffix}")
    }

    /// Makes the connections of one measurement: the relay dials the backend and is dialled by
    /// the client, as Postern is.
    ///
    /// `socket_bytes` is asked for as the size of the relay's socket buffers; nothing leaves them
    /// to the system.
    ///
    /// # Errors
    /// If something cannot be connected.
    pub(super) fn circuit(&self, relayed: bool, socket_bytes: Option<usize>) -> Result<Circuit> {
        let [backend, relay, client] = self.places();
        let listener = within(backend, || listen(self.address(BACKEND), None))?;
        let address = listener.local_addr()?;
        // Without a relay the client is in its place: one leg, as each of two.
        let near = within(relay, || dial(address, socket_bytes.filter(|_| relayed)))?;
        let backend = listener.accept()?.0;
        let circuit = if relayed {
            let address = self.address(RELAY_TO_CLIENT);
            let listener = within(relay, || listen(address, socket_bytes))?;
            let address = listener.local_addr()?;
            let client = within(client, || dial(address, None))?;
            Circuit {
                backend,
                relay: Some((near, listener.accept()?.0)),
                client,
            }
        } else {
            Circuit {
                backend,
                relay: None,
                client: near,
            }
        };
        circuit.prepare()?;
        Ok(circuit)
    }

    fn places(&self) -> [Option<&Namespace>; 3] {
        [0, 1, 2].map(|index| self.namespaces.get(index))
    }

    fn address(&self, in_namespace: Ipv4Addr) -> Ipv4Addr {
        if self.namespaces.is_empty() {
            Ipv4Addr::LOCALHOST
        } else {
            in_namespace
        }
    }
}

impl Circuit {
    fn prepare(&self) -> Result<()> {
        let relay = self.relay.iter().flat_map(|(from, to)| [from, to]);
        for socket in relay.chain([&self.backend, &self.client]) {
            // PostgreSQL, libpq and Postern all do.
            socket.set_nodelay(true)?;
        }
        self.backend.set_write_timeout(Some(STALL_LIMIT))?;
        self.client.set_read_timeout(Some(STALL_LIMIT))?;
        Ok(())
    }

    /// The buffers that the relay's sockets have: to receive from the backend and to send to the
    /// client, in bytes as the kernel counts them.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn relay_buffers(&self) -> Result<(usize, usize)> {
        let Some((from, to)) = &self.relay else {
            bail!("there is no relay");
        };
        let receive = SockRef::from(from).recv_buffer_size()?;
        Ok((receive, SockRef::from(to).send_buffer_size()?))
    }
}

fn end<'a>(namespace: &'a Namespace, device: &'a str, address: Ipv4Addr) -> End<'a> {
    End {
        namespace,
        device,
        hardware: None,
        addresses: vec![format!("{address}/24")],
    }
}

fn within<T: Send>(
    place: Option<&Namespace>,
    call: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    match place {
        Some(namespace) => namespace.enter(call),
        None => call(),
    }
}

fn socket(socket_bytes: Option<usize>) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = socket_bytes {
        // Before the handshake, which fixes the scale of the window.
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(socket)
}

fn listen(address: Ipv4Addr, socket_bytes: Option<usize>) -> Result<TcpListener> {
    let socket = socket(socket_bytes)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.listen(1)?;
    Ok(socket.into())
}

fn dial(address: SocketAddr, socket_bytes: Option<usize>) -> Result<TcpStream> {
    let socket = socket(socket_bytes)?;
    socket.connect_timeout(&address.into(), STALL_LIMIT)?;
    Ok(socket.into())
}
