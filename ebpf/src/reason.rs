//! Why a packet passes or is dropped.

/// Why a packet passes or is dropped; the number is the ABI's, and counts and events carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Passes: its destination is not protected.
    NotProtected = 0,
    /// Passes: its source is allowed and arrived where it may.
    SourceAllowed = 1,
    /// Passes: the prefix is protected, this port is not.
    PortNotProtected = 2,
    /// Passes: not IP, and cannot carry it: ARP, LACP, 802.1X, LLDP, STP.
    LinkControl = 3,
    /// Passes: neighbour discovery that no router forwards (RFC 4861).
    NeighbourDiscovery = 4,
    /// Passes: an ICMP error about a packet of the protected address to an allowed source.
    ErrorForAllowed = 5,
    /// Passes: from a socket of the proxy's cgroup.
    Proxy = 6,
    /// Passes: TCP that ends a connection and carries nothing; the kernel's own last ACK, too.
    Reset = 7,

    /// Dropped: its source is not allowed.
    SourceNotAllowed = 16,
    /// Dropped: its source is allowed, but not on the interface on which it arrived.
    WrongInterface = 17,
    /// Dropped: a fragment to a prefix with protected ports; its port is not known.
    Fragment = 18,
    /// Dropped: it says itself which way it goes, so its destination is not where it ends.
    SourceRoute = 19,
    /// Dropped: its headers are cut short or contradict themselves.
    Malformed = 20,
    /// Dropped: neither IP nor known to be harmless: MPLS, PPPoE, and what nobody knows.
    UnknownLink = 21,
    /// Dropped: more VLAN tags or IPv6 extension headers than are looked through.
    TooManyHeaders = 22,
    /// Dropped: to a prefix with protected ports, by a transport that may carry another one.
    UnknownTransport = 23,
    /// Dropped: from a protected port to an address that is not allowed.
    AnswerNotAllowed = 24,
    /// Dropped: from a socket that is not of the proxy's cgroup.
    ForeignSocket = 25,
    /// Dropped: there is no policy in the maps.
    NoPolicy = 26,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::NotProtected,
        Self::SourceAllowed,
        Self::PortNotProtected,
        Self::LinkControl,
        Self::NeighbourDiscovery,
        Self::ErrorForAllowed,
        Self::Proxy,
        Self::Reset,
        Self::SourceNotAllowed,
        Self::WrongInterface,
        Self::Fragment,
        Self::SourceRoute,
        Self::Malformed,
        Self::UnknownLink,
        Self::TooManyHeaders,
        Self::UnknownTransport,
        Self::AnswerNotAllowed,
        Self::ForeignSocket,
        Self::NoPolicy,
    ];

    /// Whether it is a reason to pass.
    #[must_use]
    pub const fn passes(self) -> bool {
        (self as u8) < Self::SourceNotAllowed as u8
    }

    /// The reason that has a number, if there is one.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| *it as u8 == number)
    }

    /// Its name in output that programs read: `source_not_allowed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotProtected => "not_protected",
            Self::SourceAllowed => "source_allowed",
            Self::PortNotProtected => "port_not_protected",
            Self::LinkControl => "link_control",
            Self::NeighbourDiscovery => "neighbour_discovery",
            Self::ErrorForAllowed => "error_for_allowed",
            Self::Proxy => "proxy",
            Self::Reset => "reset",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::WrongInterface => "wrong_interface",
            Self::Fragment => "fragment",
            Self::SourceRoute => "source_route",
            Self::Malformed => "malformed",
            Self::UnknownLink => "unknown_link",
            Self::TooManyHeaders => "too_many_headers",
            Self::UnknownTransport => "unknown_transport",
            Self::AnswerNotAllowed => "answer_not_allowed",
            Self::ForeignSocket => "foreign_socket",
            Self::NoPolicy => "no_policy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{COUNTS_BEFORE_REASONS, COUNTS_LEN};

    #[test]
    fn every_reason_has_a_number_of_its_own_and_a_count() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason as u8), Some(reason));
            assert!(COUNTS_BEFORE_REASONS + u32::from(reason as u8) < COUNTS_LEN);
        }
        assert_eq!(Reason::of(8), None);
        let passing = Reason::ALL.into_iter().filter(|it| it.passes()).count();
        assert_eq!(passing, 8);
    }
}
