//! Counts of all verdicts, and events of those that are not to pass.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use postern_ebpf::Reason;
use postern_ebpf::abi::{COUNTS_BEFORE_REASONS, Count, EVENTS_PER_SECOND_MAX, Event, Hook};
use postern_ebpf::packet::Flow;

use crate::maps::{COUNTS, EVENTS, PACE};

/// Where a verdict was given, as far as the flow does not say it.
pub(crate) struct Place {
    /// The interface of the hook; 0 where there is none.
    pub(crate) interface: u32,
    /// Where the packet arrived; 0 if it was made here.
    pub(crate) arrival: u32,
    /// The cgroup of the socket or of the process; 0 at an interface.
    pub(crate) cgroup: u64,
}

/// Counts a verdict.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    add(COUNTS_BEFORE_REASONS + reason as u32);
}

/// Counts a verdict that is not to pass, and tells whoever watches.
#[inline(always)]
pub(crate) fn refused(hook: Hook, (reason, enforces): (Reason, bool), flow: &Flow, place: Place) {
    count(reason);
    // SAFETY: it only reads a clock.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    if !may_send(at_ns) {
        add(Count::Suppressed as u32);
        return;
    }
    let is_call = matches!(hook, Hook::Connect | Hook::Send);
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        add(Count::Lost as u32);
        return;
    };
    entry.write(Event {
        at_ns,
        cgroup: place.cgroup,
        source: flow.source,
        destination: flow.destination,
        interface: place.interface,
        arrival: place.arrival,
        pid: match is_call {
            true => (bpf_get_current_pid_tgid() >> 32) as u32,
            false => 0,
        },
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        protocol: flow.protocol,
        hook: hook as u8,
        reason: reason as u8,
        dropped: u8::from(enforces),
        command: match is_call {
            true => bpf_get_current_comm().unwrap_or_default(),
            false => [0; 16],
        },
        reserved: [0; 4],
    });
    entry.submit(0);
}

/// Whether this processor has sent few enough events in this second.
#[inline(always)]
fn may_send(at_ns: u64) -> bool {
    let Some(pace) = PACE.get_ptr_mut(0) else {
        return false;
    };
    let second = at_ns / 1_000_000_000;
    // SAFETY: an element of this processor's own array, whose programs do not interrupt one
    // another but for a rare count that is off by one.
    let pace = unsafe { &mut *pace };
    if pace.second != second {
        pace.second = second;
        pace.events = 0;
    }
    pace.events += 1;
    pace.events <= EVENTS_PER_SECOND_MAX
}

#[inline(always)]
fn add(index: u32) {
    if let Some(count) = COUNTS.get_ptr_mut(index) {
        // SAFETY: as above: the element is this processor's own.
        unsafe { *count += 1 };
    }
}
