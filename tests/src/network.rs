//! Three subnets and a router between them, each in a network namespace of its own.
//!
//! ```text
//!   application ── 10.30.1.0/24 ──┐
//!                                 │
//!   proxy ──────── 10.30.2.0/24 ──┤ router
//!                                 │
//!   database ───── 10.30.3.0/24 ──┘
//! ```
//!
//! The subnets are `fd00:30:N::/64` too. Who lives in one has the address `.2` and reaches the
//! router, which is `.1`, by a device called `router`; the router's devices are called like who
//! is at their other end.

pub mod frame;
pub mod namespace;
pub mod tap;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

pub use namespace::{End, Namespace, link};
pub use tap::Tap;

/// A subnet, by the number in its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet(pub u8);

/// Where the application is.
pub const APPLICATION: Subnet = Subnet(1);
/// Where the proxy is.
pub const PROXY: Subnet = Subnet(2);
/// Where the database is.
pub const DATABASE: Subnet = Subnet(3);

/// The router in each of its subnets.
pub const ROUTER: u8 = 1;
/// Who lives in a subnet.
pub const HOST: u8 = 2;

/// The names of the three subnets' inhabitants, which are the router's devices too.
const INHABITANTS: [(&str, Subnet); 3] = [
    ("application", APPLICATION),
    ("proxy", PROXY),
    ("database", DATABASE),
];

/// What a namespace is set to before it gets its devices, which inherit it.
const SETTINGS: [(&str, &str); 4] = [
    // An IPv6 address can be used at once.
    ("ipv6/conf/default/accept_dad", "0"),
    // The kernel itself drops no source that it would not answer there: the policy is to.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // Errors come at once, and all of them.
    ("ipv4/icmp_ratelimit", "0"),
];

/// What the router is set to: it forwards whatever it can, packets with source routes too.
const ROUTER_SETTINGS: [(&str, &str); 8] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/accept_source_route", "1"),
    ("ipv4/conf/default/accept_source_route", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/all/seg6_enabled", "1"),
    ("ipv6/conf/default/seg6_enabled", "1"),
];

impl Subnet {
    /// The IPv4 address with a number.
    #[must_use]
    pub const fn v4(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 30, self.0, number)
    }

    /// The IPv6 address with a number.
    #[must_use]
    pub fn v6(self, number: u8) -> Ipv6Addr {
        let [subnet, number] = [self.0, number].map(u16::from);
        Ipv6Addr::new(0xfd00, 0x30, subnet, 0, 0, 0, 0, number)
    }

    /// Both addresses with a number, IPv4 first.
    #[must_use]
    pub fn both(self, number: u8) -> [IpAddr; 2] {
        [self.v4(number).into(), self.v6(number).into()]
    }

    /// Both prefixes.
    #[must_use]
    pub fn prefixes(self) -> [String; 2] {
        [format!("{}/24", self.v4(0)), format!("{}/64", self.v6(0))]
    }

    /// The addresses of one machine as prefixes.
    #[must_use]
    pub fn hosts(self, number: u8) -> [String; 2] {
        [
            format!("{}/32", self.v4(number)),
            format!("{}/128", self.v6(number)),
        ]
    }

    /// The hardware address of the device with these addresses.
    #[must_use]
    pub const fn hardware(self, number: u8) -> [u8; 6] {
        // Bit 1 of the first byte says that it was assigned by nobody.
        [0x02, 0x30, 0, 0, self.0, number]
    }

    /// A device in this subnet, with both addresses.
    #[must_use]
    pub fn end<'a>(self, namespace: &'a Namespace, device: &'a str, number: u8) -> End<'a> {
        End {
            namespace,
            device,
            hardware: Some(self.hardware(number)),
            addresses: vec![
                format!("{}/24", self.v4(number)),
                format!("{}/64", self.v6(number)),
            ],
        }
    }
}

/// The three and the router between them.
#[derive(Debug)]
pub struct Network {
    /// Whom nobody has allowed anything.
    pub application: Namespace,
    /// Where the proxy runs.
    pub proxy: Namespace,
    /// Where the database runs.
    pub database: Namespace,
    /// What the packets between them pass through.
    pub router: Namespace,
}

impl Network {
    /// Makes the namespaces and connects them.
    ///
    /// # Errors
    /// If we are not root, or the system has no `ip`.
    pub fn start() -> Result<Self> {
        let network = Self {
            application: Namespace::new("application")?,
            proxy: Namespace::new("proxy")?,
            database: Namespace::new("database")?,
            router: Namespace::new("router")?,
        };
        let Self { router, .. } = &network;
        for (setting, value) in ROUTER_SETTINGS {
            router.set(setting, value)?;
        }
        for namespace in network.all() {
            for (setting, value) in SETTINGS {
                namespace.set(setting, value)?;
            }
        }
        for ((name, subnet), namespace) in INHABITANTS.into_iter().zip(network.all()) {
            let here = subnet.end(namespace, "router", HOST);
            link(&subnet.end(router, name, ROUTER), &here)?;
            for gateway in subnet.both(ROUTER) {
                namespace.ip(&["route", "add", "default", "via", &gateway.to_string()])?;
            }
        }
        Ok(network)
    }

    /// Every namespace; first the three in the order of their subnets.
    fn all(&self) -> [&Namespace; 4] {
        [&self.application, &self.proxy, &self.database, &self.router]
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::needs;

    #[test]
    fn the_application_reaches_the_database_through_the_router() -> Result<()> {
        if !needs::is_root() {
            needs::skip("the_application_reaches_the_database", "it takes root");
            return Ok(());
        }
        let network = Network::start()?;
        for address in DATABASE.both(HOST) {
            let address = SocketAddr::new(address, 5432);
            let listener = network.database.enter(|| Ok(TcpListener::bind(address)?))?;
            let second = Duration::from_secs(1);
            let connect = || Ok(TcpStream::connect_timeout(&address, second)?);
            let client = network.application.enter(connect)?;
            let (_, from) = listener.accept()?;
            assert_eq!(client.local_addr()?, from);
            assert!(APPLICATION.both(HOST).contains(&from.ip()), "{from}");
        }
        Ok(())
    }
}
