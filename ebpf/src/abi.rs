//! What the programs and the loader share: the names, keys and values of the maps.
//!
//! All integers are in the machine's byte order, addresses in the network's.

/// An address: IPv6, or IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2), so that one map holds both.
pub type Address = [u8; 16];

/// The most ports that one protected prefix names.
pub const PORTS_MAX: usize = 8;
/// The most ports that all protected prefixes of a policy name together.
pub const ANSWERS_MAX: usize = 16;
/// The most interfaces that a policy names: one bit of [`Allowed::interfaces`] each.
pub const INTERFACES_MAX: usize = 64;
/// The kernel's numbers of interfaces end before this one, as far as a policy knows them: an array
/// is read without a call. Numbers are given out in turn, to veth pairs too, and not again.
pub const INTERFACE_INDEX_END: u32 = 32_768;
/// The most prefixes of a kind that a policy holds. The kernel allocates those that there are.
pub const PREFIXES_MAX: u32 = 65_536;
/// The bytes of [`Event`]s that wait for a reader; a power of two, as the kernel wants it.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Events a second and processor; further ones are counted ([`Count::Suppressed`]), not sent.
pub const EVENTS_PER_SECOND_MAX: u64 = 200;
/// Banks of a policy: one is in force, and a replacement fills the other one.
pub const BANKS: u32 = 2;

/// The maps' names.
pub mod map {
    /// Array of one `u32`: the bank that is in force.
    pub const ACTIVE: &str = "ACTIVE";
    /// Array of [`super::Settings`], by bank.
    pub const SETTINGS: &str = "SETTINGS";
    /// Longest prefix match from an [`super::Address`] to [`super::Protected`], by bank.
    pub const PROTECTED: [&str; 2] = ["PROTECTED_0", "PROTECTED_1"];
    /// Longest prefix match from an [`super::Address`] to [`super::Allowed`], by bank.
    pub const ALLOWED: [&str; 2] = ["ALLOWED_0", "ALLOWED_1"];
    /// Array of [`super::Interface`], by bank and the kernel's number.
    pub const INTERFACES: &str = "INTERFACES";
    /// Array of `u64` for each processor, by [`super::Count`] and then by [`crate::Reason`].
    pub const COUNTS: &str = "COUNTS";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// Array of [`super::Pace`] for each processor: the programs' own.
    pub const PACE: &str = "PACE";
}

/// The programs' names.
pub mod program {
    /// At the ingress and at the egress of an interface, by tc.
    pub const GATE: &str = "gate";
    /// In a cgroup, where a socket is connected over IPv4.
    pub const PROXY_CONNECT4: &str = "proxy_connect4";
    /// In a cgroup, where a socket is connected over IPv6.
    pub const PROXY_CONNECT6: &str = "proxy_connect6";
    /// In a cgroup, where a datagram is sent over IPv4 to a destination of its own.
    pub const PROXY_SENDMSG4: &str = "proxy_sendmsg4";
    /// In a cgroup, where a datagram is sent over IPv6 to a destination of its own.
    pub const PROXY_SENDMSG6: &str = "proxy_sendmsg6";
    /// In a cgroup, where packets of its sockets leave.
    pub const PROXY_EGRESS: &str = "proxy_egress";
}

/// What is done with a packet that the verdict drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// It is reported and passes.
    Monitor = 0,
    /// It is reported and dropped.
    Enforce = 1,
}

/// What a policy says beside its prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// A [`Mode`]; any other value enforces.
    pub mode: u32,
    /// How many [`Self::answers`] there are.
    pub answers_len: u32,
    /// The ports from which packets to anyone who is not allowed are dropped, too, if their source
    /// is protected; at a gateway, all that any prefix names. The places that are left repeat the
    /// first one.
    pub answers: [u16; ANSWERS_MAX],
    /// The cgroup of the proxy: the number that the kernel gives it (the inode of its folder).
    pub cgroup: u64,
    /// How deep that cgroup lies below the root, which has 0.
    pub cgroup_level: u32,
    /// Zero.
    pub reserved: u32,
    /// Counts the policies that have been in force, from 1.
    pub generation: u64,
    /// A digest (SHA-256) of the policy as it was configured.
    pub digest: [u8; 32],
}

/// A protected prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Protected {
    /// The protected ports; the places that are left repeat the first one.
    pub ports: [u16; PORTS_MAX],
    /// How many; none says that all ports and protocols are protected.
    pub ports_len: u32,
    /// The number of the rule in the configuration, from 0.
    pub rule: u32,
}

/// An allowed source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Allowed {
    /// The interfaces on which it may arrive, a bit each ([`Interface::bit`]).
    pub interfaces: u64,
    /// The number of the rule in the configuration, from 0.
    pub rule: u32,
    /// Zero.
    pub reserved: u32,
}

/// An interface at which the programs stand, or from which an allowed source may come.
///
/// The elements of the array of a bank stand behind [`INTERFACE_INDEX_END`] of the bank before.
/// That of the index 0 is for packets that this machine makes itself. All zero: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Interface {
    /// Its bit in [`Allowed::interfaces`].
    pub bit: u64,
    /// [`LINK_ETHERNET`], [`LINK_NONE`], or 0 where the interface is not known.
    pub link: u64,
}

/// [`Interface::link`]: its packets begin with an Ethernet header.
pub const LINK_ETHERNET: u64 = 1;
/// [`Interface::link`]: its packets begin with the header of IP (tunnels).
pub const LINK_NONE: u64 = 2;

/// The first counts; those of the [`crate::Reason`]s follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Count {
    /// Events that were not sent because there were too many.
    Suppressed = 0,
    /// Events that were not sent because nobody had read earlier ones.
    Lost = 1,
}

/// Counts that stand before those of the reasons.
pub const COUNTS_BEFORE_REASONS: u32 = 2;
/// All counts.
pub const COUNTS_LEN: u32 = 64;

/// Where a verdict was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// tc, at ingress.
    Ingress = 0,
    /// tc, at egress.
    Egress = 1,
    /// cgroup, `connect`.
    Connect = 2,
    /// cgroup, `sendmsg`.
    Send = 3,
    /// cgroup, a packet that leaves.
    Socket = 4,
}

/// A packet or call that was not to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds since boot, suspended time included (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// The cgroup of whoever called, at the cgroup's hooks; else 0.
    pub cgroup: u64,
    /// Where from; zero where it is not known (an unbound socket).
    pub source: Address,
    /// Where to.
    pub destination: Address,
    /// The interface of the hook, by the kernel's number; 0 at `connect` and `sendmsg`.
    pub interface: u32,
    /// The interface on which the packet arrived; 0 if it was made here.
    pub arrival: u32,
    /// The process at `connect` and `sendmsg`; else 0.
    pub pid: u32,
    /// 0 where there are no ports or they are not known.
    pub source_port: u16,
    /// As above.
    pub destination_port: u16,
    /// The transport's number (IANA); 255 where it is not known.
    pub protocol: u8,
    /// A [`Hook`].
    pub hook: u8,
    /// A [`crate::Reason`].
    pub reason: u8,
    /// 1 if it was dropped, 0 if it was only reported.
    pub dropped: u8,
    /// The command's name at `connect` and `sendmsg`, padded with zeros.
    pub command: [u8; 16],
    /// Zero.
    pub reserved: [u8; 4],
}

/// How many events a processor has sent in this second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Pace {
    /// The second, since boot.
    pub second: u64,
    /// Events in it.
    pub events: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_has_padding_that_would_reach_the_kernel_uninitialised() {
        assert_eq!(
            size_of::<Settings>(),
            4 + 4 + 2 * ANSWERS_MAX + 8 + 4 + 4 + 8 + 32
        );
        assert_eq!(size_of::<Protected>(), 2 * PORTS_MAX + 4 + 4);
        assert_eq!(size_of::<Allowed>(), 8 + 4 + 4);
        assert_eq!(size_of::<Interface>(), 16);
        assert_eq!(size_of::<Event>(), 8 + 8 + 32 + 12 + 4 + 4 + 16 + 4);
        assert_eq!(size_of::<Event>() % 8, 0);
        assert_eq!(size_of::<Pace>(), 16);
    }
}
