//! What the kernel says of single TCP connections.

use std::process::Command;

use anyhow::{Context, Result};
use postern_tests::process::run;

/// One end of an established connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Socket {
    /// Its port.
    pub local_port: u16,
    /// The port at the other end.
    pub peer_port: u16,
    /// Bytes that have come and that the process has not read.
    pub unread_bytes: u64,
    /// Bytes that the process has written and that the other end has not acknowledged.
    pub unacked_bytes: u64,
    /// Bytes that have come since the connection was made.
    pub received_bytes: u64,
    /// Bytes that the other end has acknowledged since then.
    pub acked_bytes: u64,
}

impl Socket {
    /// Bytes that the process has read since the connection was made.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.received_bytes.saturating_sub(self.unread_bytes)
    }

    /// Bytes that the process has written since then.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.acked_bytes + self.unacked_bytes
    }
}

/// Every established connection of this machine, both ends of those that have both here.
///
/// # Errors
/// If `ss` is not installed.
pub fn sockets() -> Result<Vec<Socket>> {
    let mut command = Command::new("ss");
    let text = run(command.args(["-tinOH", "state", "established"])).context("iproute2")?;
    Ok(text.lines().filter_map(socket).collect())
}

/// A line: both queues, both addresses, and what `tcp_info` has, in words like `bytes_acked:7`.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let mut socket = Socket {
        unread_bytes: words.next()?.parse().ok()?,
        unacked_bytes: words.next()?.parse().ok()?,
        local_port: port(words.next()?)?,
        peer_port: port(words.next()?)?,
        ..Socket::default()
    };
    for word in words {
        // A connection over which nothing has gone yet has none of these.
        match word.split_once(':') {
            Some(("bytes_received", count)) => socket.received_bytes = count.parse().ok()?,
            Some(("bytes_acked", count)) => socket.acked_bytes = count.parse().ok()?,
            _ => {}
        }
    }
    Some(socket)
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use postern_tests::needs;

    use super::*;

    #[test]
    fn what_was_written_is_read_or_waits() -> Result<()> {
        if needs::program("ss").is_none() {
            needs::skip("what_was_written_is_read_or_waits", "ss is not installed");
            return Ok(());
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        client.write_all(&[0; 10_000])?;
        server.read_exact(&mut [0; 4_000])?;
        let (near, far) = (client.local_addr()?.port(), server.local_addr()?.port());
        let sockets = sockets()?;
        let found = |local| sockets.iter().find(|it| it.local_port == local);
        let near = found(near).context("the client's end")?;
        let far = found(far).filter(|it| it.peer_port == near.local_port);
        let far = far.context("the server's end")?;
        assert_eq!((far.read_bytes(), far.unread_bytes), (4_000, 6_000));
        // The end that connected counts its SYN too.
        assert!(
            (10_000..=10_001).contains(&near.written_bytes()),
            "{near:?}"
        );
        Ok(())
    }
}
