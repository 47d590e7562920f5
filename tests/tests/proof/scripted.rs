//! Service accounts with a database that breaks the exchange, and with a client that does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{HR_DATABASE, TESTUSER};
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::world::{CHANGE_LIMIT, last_refusal};
use postern_tests::{ConfigFile, RawClient, World, wait_until};

use crate::PROGRAM;
use crate::hostile::{answer, initial};

/// How long the database may take, and how much later on a busy machine something may come.
const PATIENCE_MS: i32 = 1_000;
const SLACK: Duration = Duration::from_secs(4);

/// An AuthenticationXXX with this code.
fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    let mut message = vec![b'R'];
    let length = u32::try_from(data.len() + 8).unwrap_or(u32::MAX);
    message.extend(length.to_be_bytes());
    message.extend(code.to_be_bytes());
    message.extend(data);
    message
}

/// What a database says, one text after each message of the other side.
type Script = Vec<Vec<u8>>;

/// A database that plays one script to its end, and then says nothing until it is hung up on.
fn play(script: Script) -> Result<(u16, JoinHandle<Result<()>>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let database = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        for (place, said) in script.iter().enumerate() {
            let tag_bytes = usize::from(place > 0);
            if !read_message(&mut stream, tag_bytes)? {
                return Ok(());
            }
            // It may have been hung up on by now; what comes of it the client tells.
            drop(stream.write_all(said));
        }
        while read_message(&mut stream, 1)? {}
        Ok(())
    });
    Ok((port, database))
}

/// Reads one message; false at the end.
fn read_message(stream: &mut TcpStream, tag_bytes: usize) -> Result<bool> {
    let mut header = vec![0; tag_bytes + 4];
    if stream.read_exact(&mut header).is_err() {
        return Ok(false);
    }
    let length = header.last_chunk::<4>().context("no length")?;
    let length = usize::try_from(u32::from_be_bytes(*length))?;
    let mut body = vec![0; length.saturating_sub(4)];
    Ok(stream.read_exact(&mut body).is_ok())
}

fn before(port: u16) -> impl Fn(&mut ConfigFile) {
    move |config| {
        config
            .set("backend", "host", "127.0.0.1")
            .set("backend", "port", port)
            .set("backend", "sslmode", "disable")
            .set("backend", "connect_timeout_ms", PATIENCE_MS)
            .unset("backend", "tls_ca_file")
            .set("service_account", "tls", "allow-plaintext");
    }
}

/// Begins a login as the program.
pub(crate) fn begin(world: &World) -> Result<RawClient> {
    let mut client = RawClient::connect(world.plain.port())?;
    let parameters = [("user", PROGRAM.0), ("database", HR_DATABASE)];
    client.startup(PROTOCOL_3_0, &parameters)?;
    Ok(client)
}

/// Goes through an exchange that honest databases refuse, and returns the last word of this one.
fn last_word(client: &mut RawClient) -> Result<Message> {
    let first = answer(&initial("SCRAM-SHA-256", "n,,n=,r=abc"));
    for next in [first, answer(b"c=biws,r=abcdef,p=AAAA")] {
        let message = client.read()?;
        if message.tag != b'R' {
            return Ok(message);
        }
        client.send(&next)?;
    }
    client.read()
}

pub(crate) fn a_database_that_breaks_the_exchange_is_not_believed(world: &World) -> Result<()> {
    let offer = authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let challenge = authentication(11, b"r=abcdef,s=AAAA,i=4096");
    let is_in = authentication(0, b"");
    let without_code = b"E\0\0\0\x10SFATAL\0Mno\0\0".to_vec();
    let refusal = b"E\0\0\0\x17SFATAL\0C57P03\0Mno\0\0".to_vec();
    let steps = |steps: &[&Vec<u8>]| steps.iter().map(|it| (*it).clone()).collect::<Script>();
    for (what, script, sqlstate) in [
        ("lets in at once", steps(&[&offer, &is_in]), "08006"),
        (
            "lets in without its proof",
            steps(&[&offer, &challenge, &is_in]),
            "08006",
        ),
        (
            "ends too early",
            steps(&[&offer, &authentication(12, b"v=AAAA")]),
            "08006",
        ),
        ("offers again", steps(&[&offer, &offer]), "08006"),
        (
            "says too much",
            steps(&[&offer, &authentication(11, &[b'x'; 4_097])]),
            "08006",
        ),
        (
            "announces too much",
            steps(&[&offer, &b"R\x7f\xff\xff\xff".to_vec()]),
            "08006",
        ),
        ("says nothing more", steps(&[&offer]), "57P03"),
        ("says nothing", steps(&[]), "57P03"),
        (
            "only binds",
            steps(&[&authentication(10, b"SCRAM-SHA-256-PLUS\0\0")]),
            "28000",
        ),
        (
            "wants a token",
            steps(&[&authentication(10, b"OAUTHBEARER\0\0")]),
            "28000",
        ),
        ("wants Kerberos", steps(&[&authentication(7, b"")]), "28000"),
        ("refuses without a code", steps(&[&without_code]), "08006"),
        (
            "refuses in the middle without a code",
            steps(&[&offer, &without_code]),
            "08006",
        ),
        ("refuses", steps(&[&refusal]), "57P03"),
    ] {
        let (port, database) = play(script)?;
        world.with_plain_config(before(port), || {
            let began = Instant::now();
            let mut client = begin(world)?;
            let told = last_word(&mut client)?;
            let code = told.field(b'C');
            ensure!(code.as_deref() == Some(sqlstate), "{what}: {told:?}");
            client.expect_end()?;
            ensure!(began.elapsed() < 2 * SLACK, "{what}: {:?}", began.elapsed());
            Ok(())
        })?;
        let ended = database.join();
        ended
            .ok()
            .with_context(|| format!("{what}: the script failed"))??;
    }
    Ok(())
}

pub(crate) fn silent_clients_take_32_backends_at_most(world: &World) -> Result<()> {
    let quick = |config: &mut ConfigFile| {
        config
            .set("service_account", "tls", "allow-plaintext")
            .set("limits", "login_timeout_ms", 6_000)
            .set("limits", "cold_logins_max", 1);
    };
    world.with_plain_config(quick, || {
        let received = || world.postgres_lines(&["connection received"]);
        let before = received()?;
        let mut silent = Vec::new();
        for _ in 0..80 {
            silent.push(begin(world)?);
        }
        wait_until("the exchanges", CHANGE_LIMIT, || {
            Ok(received()? >= before + 32)
        })?;
        // They take no place of people who have to be looked up, of which there is one.
        let (login, password) = (TESTUSER.login, TESTUSER.password);
        RawClient::logged_in(world.plain.port(), login, HR_DATABASE, password)?;
        // The person's, the role store's, and those of the other Postern are among them.
        let count = received()? - before;
        ensure!(count < 50, "{count} connections for 80 clients");
        drop(silent);
        Ok(())
    })
}

pub(crate) fn a_client_that_breaks_the_exchange_holds_nobody_up(world: &World) -> Result<()> {
    let quick = |config: &mut ConfigFile| {
        config.set("service_account", "tls", "allow-plaintext").set(
            "limits",
            "login_timeout_ms",
            1_000,
        );
    };
    world.with_plain_config(quick, || {
        // One that says nothing.
        let began = Instant::now();
        let mut client = begin(world)?;
        ensure!(client.read()?.tag == b'R', "not offered");
        client.expect_end()?;
        ensure!(began.elapsed() < SLACK, "{:?}", began.elapsed());
        ensure!(last_refusal(&world.plain)? == "login_timed_out");
        for (message, sqlstate) in [
            (
                answer(&initial(
                    "SCRAM-SHA-256-PLUS",
                    "p=tls-server-end-point,,n=,r=x",
                )),
                "28000",
            ),
            (answer(&initial("SCRAM-SHA-1", "n,,n=,r=x")), "28000"),
            (
                answer(&initial("SCRAM-SHA-256", &"n".repeat(1_024))),
                "08P01",
            ),
            (answer(b"Etl-secret-1\0"), "08P01"),
            (b"Q\0\0\0\x0dselect 1\0".to_vec(), "08P01"),
            // What is no exchange is the database's to refuse.
            (answer(&initial("SCRAM-SHA-256", "nonsense")), "08P01"),
            (answer(&initial("SCRAM-SHA-256", "x,,n=,r=x")), "08P01"),
        ] {
            let mut client = begin(world)?;
            ensure!(client.read()?.tag == b'R', "not offered");
            client.send(&message)?;
            let told = client.read()?;
            let code = told.field(b'C');
            ensure!(code.as_deref() == Some(sqlstate), "{message:?}: {told:?}");
        }
        let psql = world.plain.psql(PROGRAM.0, PROGRAM.1).database(HR_DATABASE);
        let said = crate::query_bound(&psql, "disable", "select session_user")?;
        ensure!(said == Ok(PROGRAM.0.to_owned()), "{said:?}");
        Ok(())
    })
}
