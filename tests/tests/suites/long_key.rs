//! A cancel request with a long key on both legs, as the newest server gives them out.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::raw::{PROTOCOL_3_2, client_config};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{DirectoryServer, Postern, Postgres, RawClient, free_port, wait_until};

use crate::site::{GROUP, Site};
use crate::versions::{NEWEST, find};

/// The code of a CancelRequest.
const CANCEL_REQUEST: u32 = 80_877_102;
/// The length of the keys of protocol 3.0, in bytes.
const SHORT_BYTES: usize = 4;
/// How long a cancel request may take to the server.
const HANDED_ON_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn the_long_key_of_the_newest_server_is_handed_on_with_a_cancel(
    site: &Site,
) -> Result<()> {
    let Some(version) = find(NEWEST, "a cancel with a long key") else {
        return Ok(());
    };
    let world = &site.world;
    let (scratch, certificates) = (&world.scratch, &world.certificates);
    let postgres = Postgres::start_found(scratch, certificates, version)?;
    postgres.set_hba("host all all 127.0.0.1/32 scram-sha-256")?;
    postgres.sql(&format!("create role \"{GROUP}\""))?;
    let between = Between::start(postgres.port())?;
    let postern = Postern::prepare(scratch, certificates, &postgres, free_port()?)?;
    postern.configure(|config| {
        world.directory.configure(config);
        config
            .set("backend", "port", between.port)
            .set("backend", "sslmode", "disable");
    });
    postern.install_schema(&postgres)?;
    postern.start_again()?;
    postgres.sql(&format!("select postern.adopt_group('{GROUP}')"))?;
    let person = world.person("long-key", &[GROUP])?;

    let tls = client_config(postern.ca_file())?;
    let connect = || RawClient::encrypted(postern.port(), &tls)?.map_err(|it| anyhow!("{it:?}"));
    let mut client = connect()?;
    let parameters = [("user", &*person.login), ("database", "postgres")];
    client.startup(PROTOCOL_3_2, &parameters)?;
    let in_session = client.finish(&person.password)?;
    let mut client = in_session.map_err(|it| anyhow!("{it:?}"))?;
    let key = client.cancel_key.clone().context("no cancel key")?;
    ensure!(key.key.len() > SHORT_BYTES, "{} bytes", key.key.len());
    client.send_query("select pg_sleep(600)")?;
    let asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the query is asleep", CHANGE_LIMIT, || {
        Ok(postgres.sql(asleep)? == "1")
    })?;
    connect()?.then_cancel(&key)?;
    let messages = client.read_until_ready()?;
    let error = messages.iter().find(|it| it.tag == b'E');
    let code = error.and_then(|it| it.field(b'C'));
    ensure!(code.as_deref() == Some("57014"), "{messages:?}");
    let handed_on = between.keys.recv_timeout(HANDED_ON_LIMIT)?;
    eprintln!("  the server's key has {handed_on} bytes");
    ensure!(handed_on > SHORT_BYTES, "{handed_on} bytes were handed on");
    Ok(())
}

/// Passes on what Postern and its server say in the clear, and tells the length of the key of each
/// cancel request.
struct Between {
    port: u16,
    keys: Receiver<usize>,
}

impl Between {
    fn start(server: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (sender, keys) = channel();
        std::thread::spawn(move || {
            for postern in listener.incoming().flatten() {
                let sender = sender.clone();
                // What breaks off here breaks off at the client, which the claim notices.
                std::thread::spawn(move || pass_on(&postern, server, &sender));
            }
        });
        Ok(Self { port, keys })
    }
}

/// One connection, from its first packet to its end.
fn pass_on(mut postern: &TcpStream, server: u16, keys: &Sender<usize>) -> Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    let (mut length, mut code) = ([0; 4], [0; 4]);
    postern.read_exact(&mut length)?;
    postern.read_exact(&mut code)?;
    if code == CANCEL_REQUEST.to_be_bytes() {
        // Before the key there are the length, the code and the process.
        keys.send(usize::try_from(u32::from_be_bytes(length))?.saturating_sub(12))?;
    }
    server.write_all(&[length, code].concat())?;
    let (mut answers, mut client) = (server.try_clone()?, postern.try_clone()?);
    std::thread::spawn(move || -> io::Result<()> {
        io::copy(&mut answers, &mut client)?;
        client.shutdown(Shutdown::Write)
    });
    io::copy(&mut postern, &mut server)?;
    Ok(server.shutdown(Shutdown::Write)?)
}
