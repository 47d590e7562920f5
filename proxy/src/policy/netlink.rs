//! What the kernel says over netlink of interfaces and of the filters at them (rtnetlink(7)).
//!
//! The messages are few and their layout is fixed, so they are read here: a library for all of
//! rtnetlink brings more code than the rest of the loader.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::limits::{NETLINK_BYTES, NETLINK_TIMEOUT};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `RTMGRP_LINK`.
const LINK_CHANGES: u32 = 1;

/// The header of each message.
const HEADER_BYTES: usize = 16;
/// `struct ifinfomsg`.
const LINK_BYTES: usize = 16;
/// `struct tcmsg`.
const FILTER_BYTES: usize = 20;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// What its packets begin with: `ARPHRD_*`.
    pub(super) kind: u16,
}

/// A filter of tc.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Filter {
    /// The lowest is asked first.
    pub(super) priority: u16,
    /// Tells filters of one priority apart.
    pub(super) handle: u32,
    /// The name of the program, if it is one of eBPF.
    pub(super) program: Option<String>,
    /// The program's number.
    pub(super) program_id: u32,
    /// The program's tag, in hexadecimal.
    pub(super) tag: String,
    /// Whether the program itself decides (`direct-action`).
    pub(super) is_direct: bool,
}

/// A side of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Where packets come in.
    Ingress,
    /// Where packets go out.
    Egress,
}

/// Tells of interfaces that come and go.
#[derive(Debug)]
pub(super) struct Changes(OwnedFd);

/// Every interface of this network namespace.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn links() -> io::Result<Vec<Link>> {
    let messages = dump(GET_LINK, &[0; LINK_BYTES])?;
    Ok(messages
        .iter()
        .filter(|(kind, _)| *kind == NEW_LINK)
        .filter_map(|(_, body)| link(body))
        .collect())
}

/// The filters of clsact at one side of an interface, in the order in which they are asked.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn filters(index: u32, side: Side) -> io::Result<Vec<Filter>> {
    let parent: u32 = match side {
        Side::Ingress => 0xffff_fff2,
        Side::Egress => 0xffff_fff3,
    };
    let mut request = [0; FILTER_BYTES];
    put(&mut request, 4, &index.to_ne_bytes());
    put(&mut request, 12, &parent.to_ne_bytes());
    let messages = dump(GET_FILTER, &request)?;
    Ok(messages
        .iter()
        .filter(|(kind, _)| *kind == NEW_FILTER)
        .filter_map(|(_, body)| filter(body))
        .collect())
}

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(super) fn listen() -> io::Result<Self> {
        open(LINK_CHANGES, SockFlag::SOCK_NONBLOCK).map(Self)
    }

    /// Whether anything has changed since the last call.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(super) fn seen(&self) -> io::Result<bool> {
        let mut buffer = vec![0; NETLINK_BYTES];
        let mut is_changed = false;
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    let kinds = messages(bytes).into_iter().map(|(kind, _)| kind);
                    is_changed |= kinds
                        .into_iter()
                        .any(|kind| matches!(kind, NEW_LINK | DELETED_LINK));
                }
                Err(nix::errno::Errno::EAGAIN) => return Ok(is_changed),
                // More changes than fit were made; what they come to is looked up anyway.
                Err(nix::errno::Errno::ENOBUFS) => is_changed = true,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(groups: u32, flags: SockFlag) -> io::Result<OwnedFd> {
    let descriptor = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        SockProtocol::NetlinkRoute,
    )?;
    bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(descriptor)
}

/// Asks for everything of a kind; the answers by their type.
fn dump(kind: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let descriptor = open(0, SockFlag::empty())?;
    let seconds = i64::try_from(NETLINK_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
    setsockopt(
        &descriptor,
        sockopt::ReceiveTimeout,
        &TimeVal::new(seconds, 0),
    )?;
    let request = request(kind, body);
    let kernel = NetlinkAddr::new(0, 0);
    sendto(descriptor.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; NETLINK_BYTES];
    loop {
        let len = recv(descriptor.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(buffer.get(..len).unwrap_or_default()) {
            match kind {
                DONE => return Ok(answers),
                ERROR => return Err(error(body)),
                kind => answers.push((kind, body.to_vec())),
            }
        }
    }
}

fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let len = HEADER_BYTES + body.len();
    let mut request = Vec::with_capacity(len);
    request.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&DUMP.to_ne_bytes());
    // The sequence number, and the port, which the kernel fills in.
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(body);
    request
}

/// The messages of a datagram: type and body. What is cut short is left out.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut messages = Vec::new();
    while let (Some(len), Some(kind)) = (number(bytes, 0), half(bytes, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER_BYTES..len) else {
            break;
        };
        messages.push((kind, body));
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
    }
    messages
}

fn link(body: &[u8]) -> Option<Link> {
    let name = attributes(body.get(LINK_BYTES..)?)
        .into_iter()
        .find(|(kind, _)| *kind == 3)?;
    Some(Link {
        index: number(body, 4)?,
        name: text(name.1),
        kind: half(body, 2)?,
    })
}

/// A filter; none for the head of a priority, which has no handle.
fn filter(body: &[u8]) -> Option<Filter> {
    let info = number(body, 16)?;
    let mut filter = Filter {
        priority: u16::try_from(info >> 16).ok()?,
        handle: number(body, 8)?,
        ..Filter::default()
    };
    let attributes_of_filter = attributes(body.get(FILTER_BYTES..)?);
    let is_bpf = attributes_of_filter
        .iter()
        .any(|(kind, value)| *kind == 1 && text(value) == "bpf");
    for (kind, value) in attributes_of_filter {
        if kind != 2 || !is_bpf {
            continue;
        }
        for (kind, value) in attributes(value) {
            match kind {
                7 => filter.program = Some(text(value)),
                8 => filter.is_direct = number(value, 0)? & 1 != 0,
                10 => filter.tag = super::hexadecimal(value),
                11 => filter.program_id = number(value, 0)?,
                _ => {}
            }
        }
    }
    (filter.handle != 0).then_some(filter)
}

/// The attributes of a message: type and value.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut attributes = Vec::new();
    while let (Some(len), Some(kind)) = (half(bytes, 0), half(bytes, 2)) {
        let len = usize::from(len);
        let Some(value) = bytes.get(4..len) else {
            break;
        };
        // The two highest bits say how the value is to be read.
        attributes.push((kind & 0x3fff, value));
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
    }
    attributes
}

/// The error of an answer: the negative number.
fn error(body: &[u8]) -> io::Error {
    let number = number(body, 0).unwrap_or_default();
    io::Error::from_raw_os_error(number.cast_signed().saturating_neg())
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = *byte;
    }
}

/// A text that a zero ends.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    let value = value.get(..end.unwrap_or(value.len()));
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(4 + value.len()).unwrap_or_default();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_interface_is_read_from_its_message() {
        let mut body = vec![0; LINK_BYTES];
        put(&mut body, 2, &1_u16.to_ne_bytes());
        put(&mut body, 4, &7_u32.to_ne_bytes());
        body.extend(attribute(10, b"x"));
        body.extend(attribute(3, b"eth0\0"));
        let expect = Link {
            index: 7,
            name: "eth0".to_owned(),
            kind: 1,
        };
        assert_eq!(link(&body), Some(expect));
        assert_eq!(link(&[0; LINK_BYTES]), None);
    }

    #[test]
    fn a_filter_is_read_from_its_message() {
        let mut body = vec![0; FILTER_BYTES];
        put(&mut body, 8, &2_u32.to_ne_bytes());
        put(&mut body, 16, &(1_u32 << 16 | 3).to_ne_bytes());
        let head = body.clone();
        body.extend(attribute(1, b"bpf\0"));
        let options = [
            attribute(7, b"gate\0"),
            attribute(8, &1_u32.to_ne_bytes()),
            attribute(10, &[0xab; 8]),
            attribute(11, &41_u32.to_ne_bytes()),
        ];
        body.extend(attribute(0x8000 | 2, &options.concat()));
        let expect = Filter {
            priority: 1,
            handle: 2,
            program: Some("gate".to_owned()),
            program_id: 41,
            tag: "abababababababab".to_owned(),
            is_direct: true,
        };
        assert_eq!(filter(&body), Some(expect));
        let mut without_handle = head;
        put(&mut without_handle, 8, &[0; 4]);
        assert_eq!(filter(&without_handle), None);
    }

    #[test]
    fn a_datagram_is_cut_into_its_messages_and_no_further() {
        let first = request(NEW_LINK, &[1, 2, 3, 4]);
        let second = request(DONE, &[]);
        let both = [first.clone(), second].concat();
        let expect: Vec<(u16, &[u8])> = vec![(NEW_LINK, &[1, 2, 3, 4]), (DONE, &[])];
        assert_eq!(messages(&both), expect);
        for end in 0..first.len() {
            assert_eq!(messages(first.get(..end).unwrap_or_default()), []);
        }
        assert_eq!(messages(&[0; 32]), []);
    }

    #[test]
    fn the_kernel_names_the_loopback_interface() -> io::Result<()> {
        let links = links()?;
        assert!(
            links.iter().any(|it| it.name == "lo" && it.kind == 772),
            "{links:?}"
        );
        Ok(())
    }
}
