//! The first packet of a connection.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use postern_core::limits::{
    APPLICATION_NAME_BYTES_MAX, CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN, STARTUP_BYTES_MAX,
};
use postern_core::wire::backend::{cancel_request, ssl_request};
use postern_core::wire::startup::{
    CancelRequest, FirstPacket, Startup, StartupError, first_packet_len, parse,
};

/// The settings that the properties about `options` are tried with.
const SETTINGS: [&str; 4] = ["role", "session_authorization", "search_path", "a.b"];

/// A first packet from its length word on.
pub fn startup(data: &[u8]) {
    let announced = data.first_chunk().map(first_packet_len);
    match parse(data) {
        Err(error) => assert_ne!(error, StartupError::NulInName, "nobody sends it that way"),
        Ok(packet) => {
            assert_eq!(announced, Some(Ok(data.len())));
            match packet {
                FirstPacket::Ssl => assert_eq!(data, ssl_request()),
                FirstPacket::Gss => assert_eq!(data.len(), 8),
                FirstPacket::Cancel(request) => check_cancel(&request, data),
                FirstPacket::Startup(startup) => check_startup(&startup, data),
            }
        }
    }
}

fn check_cancel(request: &CancelRequest, data: &[u8]) {
    assert!((CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&request.key.len()));
    assert_eq!(cancel_request(request.pid, &request.key), data);
}

fn check_startup(startup: &Startup, data: &[u8]) {
    assert!(!startup.user().is_empty() && !startup.database().is_empty());
    assert!(startup.minor() == 0 || startup.minor() == 2);
    let extensions = startup.protocol_options();
    assert!(extensions.iter().all(|name| name.starts_with("_pq_.")));
    assert!(extensions.is_empty() || startup.wants_negotiation());

    // What is sent on is what came, without extensions, and sending it on again changes nothing.
    let sent = startup.encode();
    assert!(sent.len() <= data.len() + "database".len() + startup.database().len() + 2);
    if sent.len() <= STARTUP_BYTES_MAX {
        let Ok(FirstPacket::Startup(again)) = parse(&sent) else {
            panic!("{sent:?} is not read again");
        };
        assert_eq!(
            (again.user(), again.database()),
            (startup.user(), startup.database())
        );
        assert!(again.protocol_options().is_empty() && !again.wants_negotiation());
        assert_eq!(again.encode(), sent);
        assert_eq!(again.replication(), startup.replication());
    }
    check_changes(startup);
    check_options(startup);
}

/// Of what a proxy changes in a packet, the rest stays.
fn check_changes(startup: &Startup) {
    let name = startup.application_name().unwrap_or_default();
    assert!(name.len() <= APPLICATION_NAME_BYTES_MAX && !name.contains(|c: char| !is_plain(c)));
    let without = startup.clone().without(&SETTINGS);
    for (name, value) in without.parameters() {
        assert!(!SETTINGS.iter().any(|it| it.eq_ignore_ascii_case(name)));
        assert!(startup.parameters().any(|it| it == (name, value)));
    }
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
    let addresses = [
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, 255), 65_535)),
        SocketAddr::from((v6, 65_535)),
    ];
    for address in addresses {
        let named = startup.clone().with_client_address(address);
        let name = named.get("application_name").unwrap_or_default();
        assert!(name.len() <= APPLICATION_NAME_BYTES_MAX);
        assert!(name.ends_with(address.to_string().as_bytes()));
        let is_other = |(name, _): &(&str, &[u8])| !name.eq_ignore_ascii_case("application_name");
        let kept = named.parameters().filter(is_other);
        assert!(kept.eq(startup.parameters().filter(is_other)));
        match named.with_user_database("somebody", "somewhere") {
            Ok(last) => {
                let sent = last.encode();
                assert!(sent.len() <= STARTUP_BYTES_MAX && parse(&sent).is_ok());
                assert_eq!((last.user(), last.database()), ("somebody", "somewhere"));
            }
            Err(error) => assert!(matches!(error, StartupError::Length(_)), "{error}"),
        }
    }
}

fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

/// Whatever PostgreSQL would set, `options_may_set` says of it that it may be set.
fn check_options(startup: &Startup) {
    let all = startup.parameters().filter(|(name, _)| *name == "options");
    for (_, options) in all {
        for name in set_by(options) {
            let text = String::from_utf8_lossy(&name).into_owned();
            // What is not UTF-8 is the name of no setting.
            if text.as_bytes() == name && !text.is_empty() {
                assert!(startup.options_may_set(&text), "{text:?} in {options:?}");
            }
        }
    }
}

/// The names that PostgreSQL would give a value for these options, as `pg_split_opts` in
/// `postinit.c`, `process_postgres_switches` in `postgres.c` and `ParseLongOption` in `guc.c`
/// read them.
fn set_by(options: &[u8]) -> Vec<Vec<u8>> {
    /// The letters that take an argument.
    const WITH_ARGUMENT: &[u8] = b"BcCDdfhkNoprStvW-";
    /// Those that take none.
    const ALONE: &[u8] = b"bEeFijlnOPsT";
    let mut names = Vec::new();
    /// Those that stand for one setting each.
    const BY_LETTER: [(u8, &str); 6] = [
        (b'e', "datestyle"),
        (b'O', "allow_system_table_mods"),
        (b'P', "ignore_system_indexes"),
        (b'S', "work_mem"),
        (b's', "log_statement_stats"),
        (b'W', "post_auth_delay"),
    ];
    let words = words(options);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some((b'-', mut letters)) = word.split_first().map(|(first, rest)| (*first, rest))
        else {
            return names;
        };
        while let Some((letter, rest)) = letters.split_first() {
            letters = rest;
            let by_letter = BY_LETTER.iter().filter(|(it, _)| it == letter);
            names.extend(by_letter.map(|(_, name)| name.as_bytes().to_vec()));
            if ALONE.contains(letter) {
                continue;
            }
            if !WITH_ARGUMENT.contains(letter) {
                return names;
            }
            let argument = match letters {
                [] => words.next().map(Vec::as_slice).unwrap_or_default(),
                rest => rest,
            };
            let mut parts = argument.splitn(2, |byte| *byte == b'=');
            if let (b'c' | b'-', Some(name), Some(_)) = (letter, parts.next(), parts.next()) {
                let underscored = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
                names.push(name.iter().map(underscored).collect());
            }
            break;
        }
    }
    names
}

/// Words between white space; a backslash takes the next byte as it is.
fn words(options: &[u8]) -> Vec<Vec<u8>> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let mut words = Vec::new();
    let mut word = None::<Vec<u8>>;
    let mut bytes = options.iter().copied();
    while let Some(byte) = bytes.next() {
        if is_space(byte) {
            words.extend(word.take());
            continue;
        }
        let kept = if byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        };
        word.get_or_insert_default().extend(kept);
    }
    words.extend(word);
    words
}
