//! Prefixes of addresses, IPv4 among those of IPv6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use postern_ebpf::abi::Address;

/// The bits of `::ffff:0:0/96`, which hold the IPv4 addresses (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// A prefix of addresses; that of IPv4 is kept as one of `::ffff:0:0/96`.
///
/// The order is that of the first address, the shorter prefix first, so that a prefix stands
/// behind all those that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Address,
    bits: u8,
}

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// What stands before the slash is not an address.
    #[error("is not an address and a length, for example 10.20.0.0/24 or fd00:20::/64")]
    NotAnAddress,
    /// There is no slash.
    #[error("has no length; a single address is written with /32 (IPv4) or /128 (IPv6)")]
    NoLength,
    /// What stands after the slash is no length of such a prefix.
    #[error("has a length that is not 0 to 32 (IPv4) or 0 to 128 (IPv6)")]
    BadLength,
    /// Bits behind the length are set.
    #[error("has bits set behind its length; the prefix is {0}")]
    HostBits(Prefix),
    /// It is so short that all of IPv4 lies in it.
    #[error("would take in all of IPv4, too; name IPv6 by 2000::/3 and fc00::/7")]
    HoldsIpv4,
}

impl Prefix {
    /// Reads `10.20.0.0/24` or `fd00:20::/64`.
    ///
    /// # Errors
    ///
    /// The text is not exactly one prefix.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let Some((address, bits)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(_) => PrefixError::NoLength,
                Err(_) => PrefixError::NotAnAddress,
            });
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::NotAnAddress)?;
        // A sign would be taken by the parser of numbers.
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PrefixError::BadLength);
        }
        let bits: u8 = bits.parse().map_err(|_| PrefixError::BadLength)?;
        let (address, bits) = match address {
            IpAddr::V4(address) if bits <= 32 => (address.to_ipv6_mapped(), MAPPED_BITS + bits),
            IpAddr::V6(address) if bits <= 128 => (address, bits),
            IpAddr::V4(_) | IpAddr::V6(_) => return Err(PrefixError::BadLength),
        };
        let prefix = Self::covering(address.octets(), bits);
        if prefix.address != address.octets() {
            return Err(PrefixError::HostBits(prefix));
        }
        let mapped = Self::covering(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets(), 96);
        if bits < MAPPED_BITS && prefix.contains(mapped) {
            return Err(PrefixError::HoldsIpv4);
        }
        Ok(prefix)
    }

    /// The prefix of a length that an address lies in; lengths above 128 count as 128.
    #[must_use]
    pub fn covering(address: Address, bits: u8) -> Self {
        let bits = bits.min(128);
        let mask = match bits {
            0 => 0,
            bits => u128::MAX << (128 - u32::from(bits)),
        };
        let address = (u128::from_be_bytes(address) & mask).to_be_bytes();
        Self { address, bits }
    }

    /// A single address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self::covering(octets(address), 128)
    }

    /// Whether another prefix lies in this one, or is the same.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.bits <= other.bits && Self::covering(other.address, self.bits) == self
    }

    /// The first address.
    #[must_use]
    pub const fn address(self) -> Address {
        self.address
    }

    /// How many of its bits are fixed, of the 128 of an IPv6 address.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether it is one of IPv4.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        self.bits >= MAPPED_BITS && is_mapped(self.address)
    }
}

/// The octets of an address, IPv4 among those of IPv6.
#[must_use]
pub fn octets(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address of octets: IPv4 where they are one of its.
#[must_use]
pub fn address_of(octets: Address) -> IpAddr {
    let address = Ipv6Addr::from(octets);
    address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4)
}

fn is_mapped(address: Address) -> bool {
    Ipv6Addr::from(address).to_ipv4_mapped().is_some()
}

impl fmt::Display for Prefix {
    /// As it is written in a configuration: IPv4 as IPv4.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.is_ipv4() {
            true => self.bits - MAPPED_BITS,
            false => self.bits,
        };
        match self.is_ipv4() {
            true => write!(f, "{}/{bits}", address_of(self.address)),
            false => write!(f, "{}/{bits}", Ipv6Addr::from(self.address)),
        }
    }
}
