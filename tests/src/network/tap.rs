//! Frames sent and received as they are, <https://man7.org/linux/man-pages/man7/packet.7.html>.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv, send,
    socket,
};

use super::Namespace;

/// The longest frame that is read; what a virtual device gathers can be this long.
const FRAME_BYTES_MAX: usize = 66_000;

/// A socket that sees every frame of a device, in both directions, and can send any.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
}

impl Tap {
    /// Opens one on a device of a namespace.
    ///
    /// # Errors
    /// If we are not root, or there is no such device.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.enter(|| Self::open_here(device))
    }

    /// Opens one on a device of the namespace that we are in.
    ///
    /// # Errors
    /// As [`Tap::open`].
    pub fn open_here(device: &str) -> Result<Self> {
        let (family, flags) = (AddressFamily::Packet, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, SockType::Raw, flags, SockProtocol::EthAll)
            .map_err(io::Error::from)
            .context("cannot open a packet socket")?;
        let address = link_address(device)?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self { socket })
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// If the device does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        ensure!(sent == frame.len(), "{sent} of {} bytes", frame.len());
        Ok(())
    }

    /// The next frame, if one comes within `limit`.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::try_from(limit)?)? == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; FRAME_BYTES_MAX];
        match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            // It was not for us after all.
            Err(Errno::EAGAIN) => Ok(Some(Vec::new())),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets every frame that has come.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn drain(&self) -> Result<()> {
        while self.receive(Duration::ZERO)?.is_some() {}
        Ok(())
    }

    /// Whether a frame that matches comes within `limit`.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn sees(&self, limit: Duration, matches: impl Fn(&[u8]) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        while let Some(frame) = self.receive(end.saturating_duration_since(Instant::now()))? {
            if matches(&frame) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether some bytes stand anywhere in others.
#[must_use]
pub fn contains(frame: &[u8], part: &[u8]) -> bool {
    frame.windows(part.len()).any(|it| it == part)
}

/// The address that stands for a device, by the list of all.
fn link_address(device: &str) -> Result<SockaddrStorage> {
    let ours = getifaddrs()?.filter(|it| it.interface_name == device);
    let mut addresses = ours.filter_map(|it| it.address);
    addresses
        .find(|it| it.as_link_addr().is_some())
        .with_context(|| format!("there is no device {device}"))
}
