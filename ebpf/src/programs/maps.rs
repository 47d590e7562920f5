//! The maps, and the policy that is in force in them.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, PerCpuArray, RingBuf};
use postern_ebpf::abi::{
    Address, Allowed, BANKS, COUNTS_LEN, EVENTS_BYTES, INTERFACE_INDEX_END, Interface, Mode,
    PREFIXES_MAX, Pace, Protected, Settings,
};
use postern_ebpf::verdict::Policy;

#[map]
static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(BANKS, 0);
#[map]
static PROTECTED_0: LpmTrie<Address, Protected> = LpmTrie::with_max_entries(PREFIXES_MAX, 0);
#[map]
static PROTECTED_1: LpmTrie<Address, Protected> = LpmTrie::with_max_entries(PREFIXES_MAX, 0);
#[map]
static ALLOWED_0: LpmTrie<Address, Allowed> = LpmTrie::with_max_entries(PREFIXES_MAX, 0);
#[map]
static ALLOWED_1: LpmTrie<Address, Allowed> = LpmTrie::with_max_entries(PREFIXES_MAX, 0);
#[map]
static INTERFACES: Array<Interface> = Array::with_max_entries(BANKS * INTERFACE_INDEX_END, 0);
#[map]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTS_LEN, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
#[map]
pub(crate) static PACE: PerCpuArray<Pace> = PerCpuArray::with_max_entries(1, 0);

/// The policy that is in force.
pub(crate) struct Force {
    bank: u32,
    pub(crate) settings: &'static Settings,
}

/// The policy that is in force; none as long as none has been filled in.
#[inline(always)]
pub(crate) fn in_force() -> Option<Force> {
    let bank = *ACTIVE.get(0)?;
    let settings = SETTINGS.get(bank)?;
    (settings.generation != 0).then_some(Force { bank, settings })
}

impl Force {
    #[inline(always)]
    pub(crate) fn enforces(&self) -> bool {
        self.settings.mode != Mode::Monitor as u32
    }

    /// Whether a cgroup is the proxy's.
    ///
    /// The kernel says 0 where there is no cgroup at the level that it was asked for, which is not
    /// the cgroup of a policy that names none.
    #[inline(always)]
    pub(crate) fn is_proxy(&self, cgroup: u64) -> bool {
        cgroup != 0 && cgroup == self.settings.cgroup
    }

    #[inline(always)]
    pub(crate) fn interface(&self, index: u32) -> Interface {
        let nowhere = Interface { bit: 0, link: 0 };
        if index >= INTERFACE_INDEX_END {
            return nowhere;
        }
        let found = INTERFACES.get(self.bank * INTERFACE_INDEX_END + index);
        *found.unwrap_or(&nowhere)
    }
}

impl Policy for Force {
    #[inline(always)]
    fn protected(&self, address: &Address) -> Option<&Protected> {
        let key = Key::new(128, *address);
        match self.bank {
            0 => PROTECTED_0.get(key),
            _ => PROTECTED_1.get(key),
        }
    }

    #[inline(always)]
    fn allowed(&self, address: &Address) -> Option<&Allowed> {
        let key = Key::new(128, *address);
        match self.bank {
            0 => ALLOWED_0.get(key),
            _ => ALLOWED_1.get(key),
        }
    }

    #[inline(always)]
    fn holds_answers(&self, port: u16) -> bool {
        self.settings.holds_answers(port)
    }
}
