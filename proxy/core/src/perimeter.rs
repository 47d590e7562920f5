//! The perimeter's policy: from what is configured to what stands in the kernel's maps.
//!
//! [`compile`] refuses whatever contradicts itself, all of it at once, before anything is touched.

mod compile;
mod prefix;
mod refused;

use postern_ebpf::abi::{Allowed, Mode, Protected};
use ring::digest;

pub use compile::compile;
pub use prefix::{Prefix, PrefixError, address_of, octets};
pub use refused::{Refused, Rule};

/// Where a policy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On a machine that routes between the subnets.
    Gateway,
    /// On the database's own machine.
    DatabaseHost,
    /// On the proxy's machine, where the proxy's cgroup is what is allowed.
    ProxyHost,
}

/// What the configuration says, word for word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// Where the policy stands.
    pub place: Place,
    /// The interfaces where programs stand.
    pub interfaces: Vec<String>,
    /// Interfaces that may come later.
    pub await_interfaces: Vec<String>,
    /// The keys about cgroups that are given.
    pub cgroup_keys: Vec<&'static str>,
    /// What is protected, rule by rule.
    pub protect: Vec<ProtectRule>,
    /// Who is allowed, rule by rule.
    pub allow: Vec<AllowRule>,
}

/// A rule that protects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectRule {
    /// Prefixes, as they are written.
    pub prefixes: Vec<String>,
    /// Ports; none for all ports and protocols.
    pub ports: Vec<u16>,
}

/// A rule that allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// Prefixes, as they are written.
    pub sources: Vec<String>,
    /// The interfaces on which they may arrive.
    pub interfaces: Vec<String>,
}

/// A policy without a contradiction, ready for the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it stands.
    pub place: Place,
    /// The interfaces; the position of one is its bit in [`Allowed::interfaces`].
    pub interfaces: Vec<PlannedInterface>,
    /// The protected prefixes, sorted, each once.
    pub protected: Vec<(Prefix, Protected)>,
    /// The allowed sources, sorted, each once.
    pub allowed: Vec<(Prefix, Allowed)>,
}

/// An interface of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedInterface {
    /// Its name.
    pub name: String,
    /// Whether it may come later.
    pub is_awaited: bool,
}

impl Place {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::DatabaseHost => "database-host",
            Self::ProxyHost => "proxy-host",
        }
    }

    /// Whether programs stand at interfaces, and not in a cgroup.
    #[must_use]
    pub const fn has_interfaces(self) -> bool {
        match self {
            Self::Gateway | Self::DatabaseHost => true,
            Self::ProxyHost => false,
        }
    }
}

impl Plan {
    /// The interfaces that must be there and are not.
    #[must_use]
    pub fn missing(&self, is_present: impl Fn(&str) -> bool) -> Vec<Refused> {
        let wanted = self.interfaces.iter().filter(|it| !it.is_awaited);
        let missing = wanted.filter(|it| !is_present(&it.name));
        missing
            .map(|it| Refused::MissingInterface(it.name.clone()))
            .collect()
    }

    /// The bit of an interface, counted from 0.
    #[must_use]
    pub fn bit(&self, name: &str) -> Option<u32> {
        let at = self.interfaces.iter().position(|it| it.name == name)?;
        u32::try_from(at).ok()
    }

    /// The ports whose answers to strangers a gateway holds back: all that a rule names.
    #[must_use]
    pub fn answers(&self) -> Vec<u16> {
        match self.place {
            Place::Gateway => compile::ports_of(&self.protected),
            Place::DatabaseHost | Place::ProxyHost => Vec::new(),
        }
    }

    /// A digest (SHA-256) of everything that decides a verdict.
    #[must_use]
    pub fn digest(&self, mode: Mode) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"postern perimeter, version 1\n");
        context.update(self.place.name().as_bytes());
        context.update(&(mode as u32).to_be_bytes());
        context.update(&len(&self.interfaces));
        for interface in &self.interfaces {
            context.update(interface.name.as_bytes());
            context.update(&[0]);
        }
        context.update(&len(&self.protected));
        for (prefix, value) in &self.protected {
            context.update(&prefix.address());
            context.update(&[prefix.bits()]);
            for port in value.ports {
                context.update(&port.to_be_bytes());
            }
            context.update(&value.ports_len.to_be_bytes());
            context.update(&value.rule.to_be_bytes());
        }
        context.update(&len(&self.allowed));
        for (prefix, value) in &self.allowed {
            context.update(&prefix.address());
            context.update(&[prefix.bits()]);
            context.update(&value.interfaces.to_be_bytes());
            context.update(&value.rule.to_be_bytes());
        }
        let mut bytes = [0; 32];
        for (byte, of_digest) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *byte = *of_digest;
        }
        bytes
    }
}

/// The length of a list, in front of it, so that no two policies read the same.
fn len<T>(list: &[T]) -> [u8; 8] {
    (list.len() as u64).to_be_bytes()
}

#[cfg(test)]
mod tests;
