//! A server that sends without end.

use std::io;
use std::net::Ipv4Addr;

use postern_core::limits::ROLE_STORE_ANSWER_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::world::{CALL_LIMIT, LIMIT, Outcome, PROVISIONER};
use crate::config::{Endpoint, SslMode};
use crate::role_store::connect::Connector;
use crate::role_store::pool::{Access, Lease, Pool};
use crate::schema::VERSION;

/// A server's bytes: the first ones, and the ones that it then repeats, numbered or not.
struct Flood {
    begins: &'static [u8],
    repeats: fn(u32) -> Vec<u8>,
}

/// A row of two gigabytes.
const LONG_ROW: Flood = Flood {
    begins: b"D\x7f\xff\xff\xff",
    repeats: |_| vec![0; 65_536],
};

/// Settings, each of another name.
const SETTINGS: Flood = Flood {
    begins: b"",
    repeats: |number| format!("S\0\0\0\x0e{number:08}\0\0").into_bytes(),
};

/// Rows of a megabyte.
const ROWS: Flood = Flood {
    begins: b"T\0\0\0\x06\0\0",
    repeats: |_| [b"D\0\x10\0\0".to_vec(), vec![0; 0x000f_fffc]].concat(),
};

/// Lets somebody in, says that it is no standby, and which version the schema has.
async fn log_in(socket: &mut TcpStream) -> io::Result<()> {
    skip(socket).await?;
    socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
    hear(socket).await?;
    let mut answer = b"T\0\0\0\x1a\0\x01s\0\0\0\0\0\0\0\0\0\0\x19\xff\xff".to_vec();
    answer.extend(b"\xff\xff\xff\xff\0\0D\0\0\0\x0d\0\x01\0\0\0\x03off");
    answer.extend(b"C\0\0\0\x09SHOW\0Z\0\0\0\x05I");
    socket.write_all(&answer).await?;
    hear(socket).await?;
    let mut answer = b"1\0\0\0\x042\0\0\0\x04".to_vec();
    answer.extend(b"T\0\0\0\x1a\0\x01v\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01");
    answer.extend(b"D\0\0\0\x0e\0\x01\0\0\0\x04");
    answer.extend(VERSION.to_be_bytes());
    answer.extend(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
    socket.write_all(&answer).await
}

/// Reads to the end of a statement: a Query or a Sync.
async fn hear(socket: &mut TcpStream) -> io::Result<()> {
    loop {
        let tag = socket.read_u8().await?;
        skip(socket).await?;
        if matches!(tag, b'Q' | b'S') {
            return Ok(());
        }
    }
}

/// Reads a message from its length word on.
async fn skip(socket: &mut TcpStream) -> io::Result<()> {
    let length = socket.read_u32().await?;
    let mut body = vec![0; length.saturating_sub(4) as usize];
    socket.read_exact(&mut body).await.map(drop)
}

/// Sends until nobody takes any more, and returns how much that was, in bytes.
async fn flood(socket: &mut TcpStream, flood: &Flood) -> usize {
    let mut sent = 0;
    let mut next = flood.begins.to_vec();
    for number in 0.. {
        next.extend((flood.repeats)(number));
        if socket.write_all(&next).await.is_err() {
            break;
        }
        sent += next.len();
        next.clear();
    }
    sent
}

/// Has the first connection of a pool flooded, in a call or while it is idle, and takes another.
async fn survive(what: &Flood, in_a_call: bool) -> Result<usize, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let connector = Connector::new(&Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
        sslmode: SslMode::Disable,
        tls_ca_file: None,
        connect_timeout: LIMIT,
    })?;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(PROVISIONER);
    let pool = Pool::new(Access::new(connector, config, CALL_LIMIT));
    let is_leased = Notify::new();
    let serving = async {
        let (mut socket, _) = listener.accept().await?;
        log_in(&mut socket).await?;
        match in_a_call {
            true => hear(&mut socket).await?,
            false => is_leased.notified().await,
        }
        let sent = flood(&mut socket, what).await;
        let (mut socket, _) = listener.accept().await?;
        log_in(&mut socket).await?;
        Ok((sent, socket))
    };
    let using = async {
        let lease = pool.lease().await?;
        is_leased.notify_one();
        if in_a_call {
            assert!(lease.client().simple_query("SELECT 1").await.is_err());
        }
        while !lease.client().is_closed() {
            tokio::task::yield_now().await;
        }
        lease.keep();
        Ok(pool.lease().await?)
    };
    let both = async { tokio::try_join!(serving, using) };
    let ((sent, _socket), lease): ((_, TcpStream), Lease<'_>) = tokio::time::timeout(LIMIT, both)
        .await?
        .map_err(|error: Box<dyn std::error::Error>| error)?;
    assert!(!lease.client().is_closed());
    Ok(sent)
}

#[tokio::test]
async fn what_a_server_sends_without_end_ends_its_connection_and_no_more() -> Outcome {
    // Beside the limit, what the kernel keeps of a connection that nobody reads.
    let most = ROLE_STORE_ANSWER_BYTES_MAX;
    for in_a_call in [true, false] {
        let sent = survive(&LONG_ROW, in_a_call).await?;
        assert!(sent < most, "a long row: {sent} bytes");
        let sent = survive(&SETTINGS, in_a_call).await?;
        assert!(sent < most, "settings: {sent} bytes");
    }
    let sent = survive(&ROWS, true).await?;
    assert!(sent < 2 * most, "rows: {sent} bytes");
    Ok(())
}
