//! What comes after the login: nothing of it is Postern's business.

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::client_config;
use postern_tests::{ConfigFile, RawClient, Someone, World};

use crate::database::{Database, Says, greeting, message};
use crate::meter::resident_kib;

/// The lengths that a message may announce and not have (CVE-2024-27304: one of more than 4 GiB has
/// its length modulo that, and what is behind it is taken for other messages).
const LENGTHS: [u32; 9] = [
    0,
    1,
    3,
    4,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX - 4,
    u32::MAX - 1,
    u32::MAX,
];

/// What is sent behind one of them, in all: far more than may be held.
const BULK_BYTES: usize = 64 * 1024 * 1024;

/// It is sent in pieces of up to this length, each of which is read again before the next one, so
/// that the sockets on the way have room for it.
const PIECE_BYTES: usize = 32 * 1024;

/// What a session may add to the memory of the process, in KiB.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// What a message begins with, and behind it what would mean something if it was read as messages
/// of either side, or as first packets.
fn smuggled(tag: u8, length: u32) -> Vec<u8> {
    let cancel = [
        &[0, 0, 0, 16, 4, 210, 22, 46][..],
        &[0, 0, 0, 7, 1, 2, 3, 4],
    ]
    .concat();
    [
        &[tag][..],
        &length.to_be_bytes(),
        &message(b'Z', b"I"),
        &message(b'E', b"SFATAL\0C57P01\0Mno\0\0"),
        &message(b'Q', b"select 1\0"),
        &cancel,
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        &message(b'X', b""),
    ]
    .concat()
}

/// A session before the echo, with TLS or without.
fn echoing(world: &World, person: &Someone, is_encrypted: bool) -> Result<RawClient> {
    let port = world.plain.port();
    let client = if is_encrypted {
        let tls = client_config(world.plain.ca_file())?;
        RawClient::encrypted(port, &tls)?.map_err(|told| anyhow!("{told:?}"))?
    } else {
        RawClient::connect(port)?
    };
    let in_session = client.go_on(&person.login, HR_DATABASE, &person.password)?;
    in_session.map_err(|told| anyhow!("{told:?}"))
}

/// Sends bytes, and has the same bytes back.
fn there_and_back(client: &mut RawClient, bytes: &[u8]) -> Result<()> {
    client.send(bytes)?;
    let back = client.read_bytes(bytes.len())?;
    ensure!(back == bytes, "other bytes came back");
    Ok(())
}

pub(crate) fn no_length_in_a_session_is_believed_and_its_bytes_arrive_as_they_were(
    world: &World,
) -> Result<()> {
    let person = world.person("smuggler", &[HR_GROUP])?;
    let database = Database::start()?;
    let change = |config: &mut ConfigFile| database.configure(config, "disable");
    world.with_plain_config(change, || {
        let pid = world.plain.pid()?;
        for is_encrypted in [false, true] {
            database.says(Says::Echo(greeting()));
            let mut beside = echoing(world, &person, false)?;
            let mut client = echoing(world, &person, is_encrypted)?;
            for length in LENGTHS {
                for tag in *b"QPdDFSZEX\0\xff" {
                    there_and_back(&mut client, &smuggled(tag, length))
                        .with_context(|| format!("{length} behind {tag}"))?;
                }
                there_and_back(&mut beside, b"beside")?;
            }
            let before = resident_kib(pid)?;
            let bytes = smuggled(b'D', u32::MAX);
            let piece = bytes.repeat(PIECE_BYTES / bytes.len());
            for _ in 0..BULK_BYTES / piece.len() {
                there_and_back(&mut client, &piece)?;
            }
            let growth = resident_kib(pid)?.saturating_sub(before);
            ensure!(growth < GROWTH_KIB_MAX, "{growth} KiB more");
            there_and_back(&mut beside, b"beside")?;
            // Right behind what the login ends with, where the splice begins.
            let behind = smuggled(b'D', 1 << 31);
            database.says(Says::Echo([greeting(), behind.clone()].concat()));
            let mut client = echoing(world, &person, is_encrypted)?;
            ensure!(client.read_bytes(behind.len())? == behind, "at the seam");
            there_and_back(&mut client, &behind)?;
        }
        ensure!(world.plain.pid()? == pid && world.plain.is_running()?);
        Ok(())
    })
}
