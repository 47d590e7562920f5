//! The programs for the kernel.
//!
//! Each of them gets a verdict from the library, counts it, reports it if it is not to pass, and
//! returns what its hook understands. What they do beside that is in [`maps`] and [`report`].
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "the kernel's helpers and contexts are raw pointers"
)]

mod maps;
mod report;

use core::ptr::copy_nonoverlapping;

use aya_ebpf::bindings::{__sk_buff, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_sk_fullsock,
    bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, TcContext};
use postern_ebpf::Reason;
use postern_ebpf::abi::{Address, Hook, Interface, LINK_NONE};
use postern_ebpf::packet::{Flow, Packet, TCP, mapped};
use postern_ebpf::verdict::{self, Origin, Start};

use crate::report::Place;

/// tc: the next program decides (`TCX_NEXT`, `TC_ACT_UNSPEC`).
const NEXT: i32 = -1;
/// tc: dropped (`TCX_DROP`, `TC_ACT_SHOT`).
const DROP: i32 = 2;
/// A cgroup's hook: it may go on; anything else is EPERM.
const ALLOW: i32 = 1;
/// A cgroup's hook: EPERM.
const DENY: i32 = 0;

/// At the ingress and at the egress of an interface.
///
/// One program for both: the verifier takes most of the time of a load. Where a packet comes in,
/// the interface on which it arrived is this one (`__netif_receive_skb_core` sets it before tc); a
/// packet that leaves by the interface on which it arrived is reported as if it came in.
#[classifier]
pub(crate) fn gate(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the kernel hands a valid context to the program.
    let (index, arrival) = unsafe { ((*skb).ifindex, (*skb).ingress_ifindex) };
    let mut flow = Flow::default();
    let (reason, enforces) = match maps::in_force() {
        None => (Reason::NoPolicy, true),
        Some(force) => {
            let here = force.interface(index);
            // What stands at an interface that the policy does not know is a leftover: it is
            // taken for one with Ethernet headers, and nothing is allowed to arrive there.
            let start = match here.link {
                LINK_NONE => Start::Internet,
                _ => Start::Ethernet,
            };
            let Interface { bit, .. } = match arrival == index {
                true => here,
                false => force.interface(arrival),
            };
            // 0: made here.
            let origin = match arrival {
                0 => Origin::Made(bit),
                _ => Origin::Arrived(bit),
            };
            let reason = verdict::packet(&Skb(skb), start, origin, &force, &mut flow);
            (reason, force.enforces())
        }
    };
    if reason.passes() {
        report::count(reason);
        return NEXT;
    }
    let hook = match arrival == index {
        true => Hook::Ingress,
        false => Hook::Egress,
    };
    let place = Place {
        interface: index,
        arrival,
        cgroup: 0,
    };
    report::refused(hook, (reason, enforces), &flow, place);
    if enforces { DROP } else { NEXT }
}

/// A socket of a cgroup is connected over IPv4.
#[cgroup_sock_addr(connect4)]
pub(crate) fn proxy_connect4(context: SockAddrContext) -> i32 {
    call(context.sock_addr, Hook::Connect, v4(context.sock_addr))
}

/// A socket of a cgroup is connected over IPv6.
#[cgroup_sock_addr(connect6)]
pub(crate) fn proxy_connect6(context: SockAddrContext) -> i32 {
    call(context.sock_addr, Hook::Connect, v6(context.sock_addr))
}

/// A socket of a cgroup sends a datagram over IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn proxy_sendmsg4(context: SockAddrContext) -> i32 {
    call(context.sock_addr, Hook::Send, v4(context.sock_addr))
}

/// A socket of a cgroup sends a datagram over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn proxy_sendmsg6(context: SockAddrContext) -> i32 {
    call(context.sock_addr, Hook::Send, v6(context.sock_addr))
}

/// A packet of a socket of a cgroup leaves.
#[cgroup_skb(egress)]
pub(crate) fn proxy_egress(context: SkBuffContext) -> i32 {
    let skb = context.skb.skb;
    let mut flow = Flow::default();
    let (reason, enforces) = match maps::in_force() {
        None => (Reason::NoPolicy, true),
        Some(force) => {
            let level = force.settings.cgroup_level as i32;
            // SAFETY: a valid context, from the kernel.
            let ancestor = unsafe { bpf_skb_ancestor_cgroup_id(skb, level) };
            let origin = match force.is_proxy(ancestor) {
                false if is_kernels(skb) => Origin::Kernel,
                of_proxy => Origin::Socket { of_proxy },
            };
            let reason = verdict::packet(&Skb(skb), Start::Internet, origin, &force, &mut flow);
            (reason, force.enforces())
        }
    };
    if reason.passes() {
        report::count(reason);
        return ALLOW;
    }
    // SAFETY: as above.
    let (interface, cgroup) = unsafe { ((*skb).ifindex, bpf_skb_cgroup_id(skb)) };
    let place = Place {
        interface,
        arrival: 0,
        cgroup,
    };
    report::refused(Hook::Socket, (reason, enforces), &flow, place);
    if enforces { DENY } else { ALLOW }
}

/// Whether a packet is of the socket through which the kernel answers for TCP over IPv4: a raw one
/// that belongs to no cgroup but the root, where no service has its sockets. Through it go resets,
/// and until Linux 6.12 also the ACKs of connections that linger (TIME_WAIT).
#[inline(always)]
fn is_kernels(skb: *mut __sk_buff) -> bool {
    const SOCK_RAW: u32 = 3;
    const ROOT_CGROUP: u64 = 1;
    // SAFETY: a valid context, and what the kernel answers is looked at only where it is not null.
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return false;
        }
        let socket = bpf_sk_fullsock(socket);
        !socket.is_null()
            && (*socket).type_ == SOCK_RAW
            && (*socket).protocol == u32::from(TCP)
            && bpf_skb_cgroup_id(skb) == ROOT_CGROUP
    }
}

/// The verdict on a call that names a destination.
#[inline(always)]
fn call(address: *mut bpf_sock_addr, hook: Hook, destination: Address) -> i32 {
    // SAFETY: the kernel hands a valid context to the program.
    let (port, protocol) = unsafe { ((*address).user_port, (*address).protocol) };
    let flow = Flow {
        destination,
        // In the network's byte order, in the first two bytes.
        destination_port: u16::from_be(port as u16),
        protocol: u8::try_from(protocol).unwrap_or(postern_ebpf::packet::UNKNOWN_PROTOCOL),
        ..Flow::default()
    };
    let (reason, enforces) = match maps::in_force() {
        None => (Reason::NoPolicy, true),
        Some(force) => {
            let level = force.settings.cgroup_level as i32;
            // SAFETY: it only reads what the current task is.
            let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            let of_proxy = force.is_proxy(ancestor);
            let reason = verdict::connection(&destination, flow.destination_port, of_proxy, &force);
            (reason, force.enforces())
        }
    };
    if reason.passes() {
        report::count(reason);
        return ALLOW;
    }
    let place = Place {
        interface: 0,
        arrival: 0,
        // SAFETY: as above.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
    };
    report::refused(hook, (reason, enforces), &flow, place);
    if enforces { DENY } else { ALLOW }
}

/// The destination of a call over IPv4.
#[inline(always)]
fn v4(address: *mut bpf_sock_addr) -> Address {
    // SAFETY: the kernel hands a valid context to the program.
    mapped(unsafe { (*address).user_ip4 }.to_ne_bytes())
}

/// The destination of a call over IPv6.
#[inline(always)]
fn v6(address: *mut bpf_sock_addr) -> Address {
    // SAFETY: as above. Word by word: the verifier allows no other access.
    let words = unsafe {
        [
            core::ptr::read_volatile(&raw const (*address).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*address).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*address).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*address).user_ip6[3]),
        ]
    };
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first[..4].copy_from_slice(&a);
    first[4..].copy_from_slice(&b);
    second[..4].copy_from_slice(&c);
    second[4..].copy_from_slice(&d);
    bytes
}

/// A packet in the kernel.
struct Skb(*mut __sk_buff);

impl Packet for Skb {
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool {
        let into = into.as_mut_ptr().cast();
        // SAFETY: a valid context, and the room has the length that is said.
        unsafe { bpf_skb_load_bytes(self.0.cast(), at, into, N as u32) == 0 }
    }

    #[inline(always)]
    fn peek<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool {
        // SAFETY: a valid context.
        let (data, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        let start = data + at as usize;
        let is_there = start + N <= end;
        if is_there {
            // SAFETY: the bytes lie between the packet's bounds, and are not in our room.
            unsafe { copy_nonoverlapping(start as *const u8, into.as_mut_ptr(), N) };
        }
        is_there
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can get here.
    loop {}
}

/// Some of the kernel's helpers are for programs under a licence that is compatible with its own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
