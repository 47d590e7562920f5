//! Sockets that were opened before this process began: by systemd (socket activation,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>), or by the process
//! that this one takes over from.
//!
//! Connections wait in the kernel's queue of such a socket whether or not a process accepts, so
//! that a restart refuses nobody.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use listenfd::ListenFd;
use nix::libc;
use socket2::SockRef;

use super::Bound;

/// What [`Inherited`] calls its sockets, in `$LISTEN_FDNAMES`.
pub(crate) const CLIENT: &str = "client";
/// See [`CLIENT`].
pub(crate) const METRICS: &str = "metrics";
/// See [`CLIENT`].
pub(crate) const CLUSTER: &str = "cluster";
/// See [`CLIENT`].
pub(crate) const CONTROL: &str = "control";
/// See [`CLIENT`]. It is no listener, but the way to the process that hands over.
pub(crate) const HANDOVER: &str = "handover";

/// The sockets, by what they are for.
#[derive(Default)]
pub(crate) struct Inherited {
    /// For clients; if there is any, `listen.addresses` is not bound.
    pub(crate) client: Vec<Bound>,
    /// For `metrics.listen`.
    pub(crate) metrics: Option<TcpListener>,
    /// For `cluster.listen`.
    pub(crate) cluster: Option<TcpListener>,
    /// For `control.socket`.
    pub(crate) control: Option<UnixListener>,
    /// The process that hands over.
    pub(crate) handover: Option<UnixStream>,
}

/// Why a socket that was passed on cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritedError {
    /// Nobody said what it is for.
    #[error(
        "socket {number} was passed on as {name:?}, which is none of client, metrics, \
         cluster and control: set FileDescriptorName= in its socket unit"
    )]
    Name { number: usize, name: String },
    /// There is one of them already.
    #[error(
        "two sockets were passed on as {name:?}, of which there can be one: leave one \
         ListenStream= in its socket unit"
    )]
    Second {
        /// What they are for.
        name: &'static str,
    },
    /// It is something else.
    #[error("the socket that was passed on as {name:?} cannot be used: {error}")]
    Socket {
        name: &'static str,
        error: io::Error,
    },
}

impl Inherited {
    /// Takes what the environment names. It changes the environment, so that it has to be called
    /// before there is a second thread.
    ///
    /// # Errors
    ///
    /// [`InheritedError`].
    pub(crate) fn take() -> Result<Self, InheritedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        for number in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            inherited.add(&mut passed, number, name)?;
        }
        Ok(inherited)
    }

    fn add(
        &mut self,
        passed: &mut ListenFd,
        number: usize,
        name: &str,
    ) -> Result<(), InheritedError> {
        match name {
            CLIENT => {
                let taken = passed.take_tcp_listener(number).and_then(listening);
                let bound = taken.and_then(|it| it.map(Bound::inherited).transpose());
                self.client.extend(bound.map_err(of(CLIENT))?);
            }
            METRICS => {
                let taken = passed.take_tcp_listener(number).and_then(listening);
                put(&mut self.metrics, METRICS, taken)?;
            }
            CLUSTER => {
                let taken = passed.take_tcp_listener(number).and_then(listening);
                put(&mut self.cluster, CLUSTER, taken)?;
            }
            CONTROL => {
                let taken = passed.take_unix_listener(number).and_then(listening);
                put(&mut self.control, CONTROL, taken)?;
            }
            HANDOVER => {
                let (family, kind) = (libc::AF_UNIX, libc::SOCK_STREAM);
                let taken = passed.take_custom(number, family, kind, "unix stream socket");
                self.handover = taken.map_err(of(HANDOVER))?;
            }
            other => {
                let name = other.to_owned();
                return Err(InheritedError::Name { number, name });
            }
        }
        Ok(())
    }
}

fn of(name: &'static str) -> impl Fn(io::Error) -> InheritedError {
    move |error| InheritedError::Socket { name, error }
}

/// Puts a socket in its place, where there can be one.
fn put<S>(
    place: &mut Option<S>,
    name: &'static str,
    taken: io::Result<Option<S>>,
) -> Result<(), InheritedError> {
    let taken = taken.map_err(of(name))?;
    match (&place, taken) {
        (Some(_), Some(_)) => Err(InheritedError::Second { name }),
        (None, taken) => {
            *place = taken;
            Ok(())
        }
        (Some(_), None) => Ok(()),
    }
}

/// A socket that does not listen is a connection, as `Accept=yes` would pass it on.
fn listening<S: AsFd>(socket: Option<S>) -> io::Result<Option<S>> {
    if let Some(socket) = &socket
        && !SockRef::from(socket).is_listener()?
    {
        let why = "it does not listen: the socket unit needs Accept=no";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(socket)
}
