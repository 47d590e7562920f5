//! The maps of a set: filling one bank while the other one is in force, and reading both.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData, MapError, PerCpuArray};
use postern_core::perimeter::Prefix;
use postern_ebpf::Reason;
use postern_ebpf::abi::{
    ANSWERS_MAX, Address, Allowed, BANKS, COUNTS_BEFORE_REASONS, Count, INTERFACE_INDEX_END,
    Interface, Mode, Protected, Settings, map,
};
use postern_ebpf::kernel::{elements, wait_for_running_programs};

use super::error::PolicyError;
use super::pins::Set;
use crate::limits::POLICY_GRACE;

/// What a bank says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bank {
    /// Beside the prefixes.
    pub(super) settings: Settings,
    /// The protected prefixes, sorted.
    pub(super) protected: Vec<(Prefix, Protected)>,
    /// The allowed sources, sorted.
    pub(super) allowed: Vec<(Prefix, Allowed)>,
    /// The interfaces, by the kernel's number.
    pub(super) interfaces: BTreeMap<u32, Interface>,
}

/// The maps of a set.
pub(super) struct Maps {
    active: Array<MapData, u32>,
    settings: Array<MapData, Settings>,
    protected: [LpmTrie<MapData, Address, Protected>; 2],
    allowed: [LpmTrie<MapData, Address, Allowed>; 2],
    interfaces: Array<MapData, Interface>,
    /// The same, to be read as a whole.
    interfaces_data: MapData,
    counts: PerCpuArray<MapData, u64>,
}

/// What the programs have counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// By reason; those that are zero too.
    pub(super) reasons: Vec<(Reason, u64)>,
    /// Events that were not sent because there were too many.
    pub(super) suppressed: u64,
    /// Events that were not sent because nobody had read earlier ones.
    pub(super) lost: u64,
}

/// Every map of a set.
pub(super) const NAMES: [&str; 10] = [
    map::ACTIVE,
    map::SETTINGS,
    map::PROTECTED[0],
    map::PROTECTED[1],
    map::ALLOWED[0],
    map::ALLOWED[1],
    map::INTERFACES,
    map::COUNTS,
    map::EVENTS,
    map::PACE,
];

/// A bank without a policy.
const NO_SETTINGS: Settings = Settings {
    mode: Mode::Enforce as u32,
    answers_len: 0,
    answers: [0; ANSWERS_MAX],
    cgroup: 0,
    cgroup_level: 0,
    reserved: 0,
    generation: 0,
    digest: [0; 32],
};

impl Maps {
    /// Opens the pinned maps of a set.
    ///
    /// # Errors
    ///
    /// One of them is not there or not as it should be.
    pub(super) fn open(set: &Set) -> Result<Self, PolicyError> {
        let [protected_0, protected_1] = map::PROTECTED;
        let [allowed_0, allowed_1] = map::ALLOWED;
        Ok(Self {
            active: opened(&set.map(map::ACTIVE))?,
            settings: opened(&set.map(map::SETTINGS))?,
            protected: [
                opened(&set.map(protected_0))?,
                opened(&set.map(protected_1))?,
            ],
            allowed: [opened(&set.map(allowed_0))?, opened(&set.map(allowed_1))?],
            interfaces: opened(&set.map(map::INTERFACES))?,
            interfaces_data: data(&set.map(map::INTERFACES))?,
            counts: opened(&set.map(map::COUNTS))?,
        })
    }

    /// The bank that is in force.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn active(&self) -> Result<u32, PolicyError> {
        let bank = self
            .active
            .get(&0, 0)
            .map_err(|error| read(map::ACTIVE, &error))?;
        Ok(bank.min(BANKS - 1))
    }

    /// Puts a bank in force, at once for all programs.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(super) fn activate(&mut self, bank: u32) -> Result<(), PolicyError> {
        self.active
            .set(0, bank, 0)
            .map_err(|error| write(map::ACTIVE, &error))
    }

    /// What a bank says beside its prefixes.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn settings(&self, bank: u32) -> Result<Settings, PolicyError> {
        self.settings
            .get(&bank, 0)
            .map_err(|error| read(map::SETTINGS, &error))
    }

    /// Everything that a bank says.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn read(&self, bank: u32) -> Result<Bank, PolicyError> {
        let (protected, allowed) = self.tries(bank);
        Ok(Bank {
            settings: self.settings(bank)?,
            protected: entries(protected.0).map_err(|error| read(protected.1, &error))?,
            allowed: entries(allowed.0).map_err(|error| read(allowed.1, &error))?,
            interfaces: self.interfaces(bank)?,
        })
    }

    /// The interfaces of a bank, by the kernel's number.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn interfaces(&self, bank: u32) -> Result<BTreeMap<u32, Interface>, PolicyError> {
        let map = self.interfaces_data.fd().as_fd();
        let all = elements(map, place(bank, 0), INTERFACE_INDEX_END);
        let all = all.map_err(|error| {
            PolicyError::kernel(format!("read the map {}", map::INTERFACES), &error)
        })?;
        let known = (0..).zip(all).filter(|(_, it)| *it != Interface::default());
        Ok(known.collect())
    }

    /// Fills a bank that is not in force; what the kernel then says of it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(super) fn fill(&mut self, number: u32, bank: &Bank) -> Result<Bank, PolicyError> {
        self.clear(number, [])?;
        let at = position(number);
        let names = (map::PROTECTED, map::ALLOWED);
        if let (Some(trie), Some(name)) = (self.protected.get_mut(at), names.0.get(at)) {
            insert(trie, &bank.protected).map_err(|error| write(name, &error))?;
        }
        if let (Some(trie), Some(name)) = (self.allowed.get_mut(at), names.1.get(at)) {
            insert(trie, &bank.allowed).map_err(|error| write(name, &error))?;
        }
        for (index, interface) in &bank.interfaces {
            self.set_interface(number, *index, *interface)?;
        }
        self.set_settings(number, &bank.settings)?;
        let mut found = self.read(number)?;
        let found_there = found.interfaces.keys().copied();
        let extra = found_there.filter(|index| !bank.interfaces.contains_key(index));
        for index in extra.collect::<Vec<_>>() {
            self.set_interface(number, index, Interface::default())?;
            found.interfaces.remove(&index);
        }
        Ok(found)
    }

    fn set_settings(&mut self, number: u32, settings: &Settings) -> Result<(), PolicyError> {
        self.settings
            .set(number, *settings, 0)
            .map_err(|error| write(map::SETTINGS, &error))
    }

    /// Empties a bank that is not in force, with those of its interfaces that are named, when the
    /// last program has ended that may have begun while it was.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(super) fn clear(
        &mut self,
        number: u32,
        interfaces: impl IntoIterator<Item = u32>,
    ) -> Result<(), PolicyError> {
        if wait_for_running_programs().is_err() {
            // Some processors run without a tick, and the kernel gives no such promise there.
            std::thread::sleep(POLICY_GRACE);
        }
        // An empty bank says that there is no policy, so that nothing would pass if it were put in
        // force, and not that nothing is protected.
        self.set_settings(number, &NO_SETTINGS)?;
        let at = position(number);
        let names = (map::PROTECTED, map::ALLOWED);
        if let (Some(trie), Some(name)) = (self.protected.get_mut(at), names.0.get(at)) {
            empty(trie).map_err(|error| write(name, &error))?;
        }
        if let (Some(trie), Some(name)) = (self.allowed.get_mut(at), names.1.get(at)) {
            empty(trie).map_err(|error| write(name, &error))?;
        }
        for index in interfaces {
            self.set_interface(number, index, Interface::default())?;
        }
        Ok(())
    }

    /// Says what an interface is in a bank, which may be the one that is in force; all zero
    /// forgets it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(super) fn set_interface(
        &mut self,
        bank: u32,
        index: u32,
        interface: Interface,
    ) -> Result<(), PolicyError> {
        self.interfaces
            .set(place(bank, index), interface, 0)
            .map_err(|error| write(map::INTERFACES, &error))
    }

    /// What the kernel finds for an address in a bank: the longest prefix of each kind.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn look_up(
        &self,
        bank: u32,
        address: Address,
    ) -> Result<(Option<Protected>, Option<Allowed>), PolicyError> {
        let (protected, allowed) = self.tries(bank);
        let key = Key::new(128, address);
        let found = found(protected.0.get(&key, 0)).map_err(|error| read(protected.1, &error))?;
        let source = self::found(allowed.0.get(&key, 0));
        Ok((found, source.map_err(|error| read(allowed.1, &error))?))
    }

    /// What the programs have counted, on all processors together.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub(super) fn counts(&self) -> Result<Counts, PolicyError> {
        let of = |index: u32| {
            let values = self.counts.get(&index, 0);
            let values = values.map_err(|error| read(map::COUNTS, &error))?;
            Ok::<u64, PolicyError>(values.iter().sum())
        };
        let mut reasons = Vec::new();
        for reason in Reason::ALL {
            let index = COUNTS_BEFORE_REASONS + u32::from(reason as u8);
            reasons.push((reason, of(index)?));
        }
        Ok(Counts {
            reasons,
            suppressed: of(Count::Suppressed as u32)?,
            lost: of(Count::Lost as u32)?,
        })
    }

    /// The tries of a bank with their names.
    #[expect(
        clippy::type_complexity,
        reason = "two maps of different values with their names"
    )]
    fn tries(
        &self,
        bank: u32,
    ) -> (
        (&LpmTrie<MapData, Address, Protected>, &'static str),
        (&LpmTrie<MapData, Address, Allowed>, &'static str),
    ) {
        let [protected_0, protected_1] = &self.protected;
        let [allowed_0, allowed_1] = &self.allowed;
        let [name_0, name_1] = map::PROTECTED;
        let [allowed_name_0, allowed_name_1] = map::ALLOWED;
        match bank {
            0 => ((protected_0, name_0), (allowed_0, allowed_name_0)),
            _ => ((protected_1, name_1), (allowed_1, allowed_name_1)),
        }
    }
}

fn data(path: &Path) -> Result<MapData, PolicyError> {
    let data = MapData::from_pin(path);
    data.map_err(|error| PolicyError::kernel(format!("open {}", path.display()), &error))
}

/// A pinned map.
pub(super) fn pinned(path: &Path) -> Result<Map, PolicyError> {
    let map = Map::from_map_data(data(path)?);
    map.map_err(|error| PolicyError::kernel(format!("open {}", path.display()), &error))
}

fn opened<T: TryFrom<Map, Error = MapError>>(path: &Path) -> Result<T, PolicyError> {
    let map = T::try_from(pinned(path)?);
    map.map_err(|error| PolicyError::kernel(format!("open {}", path.display()), &error))
}

fn entries<V: Pod>(trie: &LpmTrie<MapData, Address, V>) -> Result<Vec<(Prefix, V)>, MapError> {
    let mut entries = Vec::new();
    for key in trie.keys() {
        let key = key?;
        let bits = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
        // The key is there, so that nothing longer than it is found.
        let value = trie.get(&key, 0)?;
        entries.push((Prefix::covering(key.data(), bits), value));
    }
    entries.sort_by_key(|(prefix, _)| *prefix);
    Ok(entries)
}

fn insert<V: Pod>(
    trie: &mut LpmTrie<MapData, Address, V>,
    entries: &[(Prefix, V)],
) -> Result<(), MapError> {
    for (prefix, value) in entries {
        let key = Key::new(u32::from(prefix.bits()), prefix.address());
        trie.insert(&key, value, 0)?;
    }
    Ok(())
}

fn empty<V: Pod>(trie: &mut LpmTrie<MapData, Address, V>) -> Result<(), MapError> {
    let keys = trie.keys().collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        trie.remove(&key)?;
    }
    Ok(())
}

fn found<V>(result: Result<V, MapError>) -> Result<Option<V>, MapError> {
    match result {
        Err(error) if is_missing(&error) => Ok(None),
        result => result.map(Some),
    }
}

fn is_missing(error: &MapError) -> bool {
    if let MapError::SyscallError(error) = error {
        return error.io_error.kind() == std::io::ErrorKind::NotFound;
    }
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
}

/// Where an interface of a bank stands; one past the end where the kernel's number is too high.
fn place(bank: u32, index: u32) -> u32 {
    match index < INTERFACE_INDEX_END {
        true => bank * INTERFACE_INDEX_END + index,
        false => BANKS * INTERFACE_INDEX_END,
    }
}

fn position(bank: u32) -> usize {
    usize::from(bank != 0)
}

fn read(name: &str, error: &MapError) -> PolicyError {
    PolicyError::kernel(format!("read the map {name}"), error)
}

fn write(name: &str, error: &MapError) -> PolicyError {
    PolicyError::kernel(format!("write the map {name}"), error)
}
