//! Tests of [`super`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use proptest::prelude::*;

use super::*;

/// A packet of this code and body, with a true length word.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, None, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(body);
    });
    out
}

fn startup(body: &[u8]) -> Result<Startup, StartupError> {
    let first = parse(&packet(PROTOCOL_3, body))?;
    let FirstPacket::Startup(startup) = first else {
        panic!("not a startup packet: {first:?}");
    };
    Ok(startup)
}

#[test]
fn a_length_is_accepted_only_from_8_to_10000() {
    for length in [0, 3, 4, 7, 10_001, i32::MAX as u32, 1 << 31, u32::MAX] {
        let expected = Err(StartupError::Length(length));
        assert_eq!(first_packet_len(&length.to_be_bytes()), expected);
        // The same word in front of a packet is refused for the same reason.
        let mut lying = packet(PROTOCOL_3, b"user\0a\0\0");
        lying[..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(parse(&lying).unwrap_err(), StartupError::Length(length));
    }
    for length in [8_u16, 9, 10_000] {
        let word = u32::from(length).to_be_bytes();
        assert_eq!(first_packet_len(&word), Ok(usize::from(length)));
    }
}

#[test]
fn a_packet_that_is_not_as_long_as_it_says_is_refused() {
    let whole = packet(PROTOCOL_3, b"user\0alice\0\0");
    for end in 0..whole.len() {
        assert_eq!(parse(&whole[..end]), Err(StartupError::LengthMismatch));
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(parse(&longer), Err(StartupError::LengthMismatch));
}

#[test]
fn the_longest_packet_parses() {
    let body = format!("user\0alice\0options\0{}\0\0", "x".repeat(10_000 - 8 - 21));
    let whole = packet(PROTOCOL_3, body.as_bytes());
    assert_eq!(whole.len(), STARTUP_BYTES_MAX);
    assert!(matches!(parse(&whole), Ok(FirstPacket::Startup(_))));
}

#[test]
fn encryption_requests_have_no_body() {
    assert_eq!(parse(b"\0\0\0\x08\x04\xd2\x16\x2f"), Ok(FirstPacket::Ssl));
    assert_eq!(parse(b"\0\0\0\x08\x04\xd2\x16\x30"), Ok(FirstPacket::Gss));
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        assert_eq!(
            parse(&packet(code, b"x")),
            Err(StartupError::NegotiationLength)
        );
    }
}

#[test]
fn a_cancel_key_has_4_to_256_bytes() {
    for length in [4, 5, 32, 256] {
        let body = [&7_u32.to_be_bytes()[..], &vec![9; length]].concat();
        let expected = CancelRequest {
            pid: 7,
            key: vec![9; length],
        };
        assert_eq!(
            parse(&packet(CANCEL_REQUEST, &body)),
            Ok(FirstPacket::Cancel(expected))
        );
    }
    for length in [0, 3, 7, 4 + 257] {
        let refused = parse(&packet(CANCEL_REQUEST, &vec![9; length]));
        assert_eq!(refused, Err(StartupError::CancelLength));
    }
}

#[test]
fn a_cancel_key_is_not_printed() {
    let request = CancelRequest {
        pid: 7,
        key: vec![171; 4],
    };
    assert_eq!(
        format!("{request:?}"),
        "CancelRequest { pid: 7, key: 4 bytes }"
    );
}

#[test]
fn only_protocol_3_is_spoken() {
    for (code, major, minor) in [
        (2 << 16, 2, 0),
        (4 << 16, 4, 0),
        (0, 0, 0),
        (80_877_105, 1234, 5681),
        (3, 0, 3),
    ] {
        let refused = parse(&packet(code, b"user\0a\0\0"));
        assert_eq!(refused, Err(StartupError::ProtocolVersion { major, minor }));
    }
}

#[test]
fn a_client_speaks_the_newest_version_that_both_know() {
    for (asked, spoken, key_bytes) in [
        (0_u16, 0, 4),
        (1, 0, 4),
        (2, 2, 32),
        (3, 2, 32),
        (9_999, 2, 32),
        (u16::MAX, 2, 32),
    ] {
        let first = parse(&packet(PROTOCOL_3 | u32::from(asked), b"user\0a\0\0"));
        let Ok(FirstPacket::Startup(startup)) = first else {
            panic!("{asked}: {first:?}");
        };
        assert_eq!(startup.minor(), spoken, "{asked}");
        assert_eq!(startup.wants_negotiation(), asked != spoken, "{asked}");
        assert_eq!(startup.cancel_key_bytes(), key_bytes, "{asked}");
        let version = PROTOCOL_3 | u32::from(spoken);
        let sent = startup.encode();
        assert_eq!(sent.get(4..8), Some(&version.to_be_bytes()[..]), "{asked}");
    }
}

#[test]
fn every_byte_of_the_parameters_is_accounted_for() {
    for (body, refusal) in [
        (&b""[..], StartupError::NoTerminator),
        (b"user", StartupError::NoTerminator),
        (b"user\0", StartupError::NoValue),
        (b"user\0alice", StartupError::NoValue),
        (b"user\0alice\0", StartupError::NoTerminator),
        (b"user\0alice\0\0\0", StartupError::TrailingBytes),
        (
            b"user\0alice\0\0database\0d\0\0",
            StartupError::TrailingBytes,
        ),
        (b"\0", StartupError::NoUser),
        (b"database\0d\0\0", StartupError::NoUser),
        (b"user\0\0\0", StartupError::NoUser),
        (b"user\0alice\0user\0\0\0", StartupError::NoUser),
        (b"user\0\xff\0\0", StartupError::UserNotUtf8),
        (
            b"user\0a\0database\0\xff\0\0",
            StartupError::DatabaseNotUtf8,
        ),
        (b"user\0a\0\xff\0x\0\0", StartupError::NameNotUtf8),
    ] {
        assert_eq!(
            startup(body),
            Err(refusal),
            "{:?}",
            body.escape_ascii().to_string()
        );
    }
}

#[test]
fn the_database_defaults_to_the_user() {
    for body in [&b"user\0alice\0\0"[..], b"user\0alice\0database\0\0\0"] {
        assert_eq!(startup(body).unwrap().database(), "alice");
    }
    assert_eq!(
        startup(b"user\0a\0database\0sales\0\0").unwrap().database(),
        "sales"
    );
}

#[test]
fn a_database_name_of_63_bytes_is_taken_and_one_of_64_is_refused() {
    let named = |user: &str, database: &str| {
        startup(format!("user\0{user}\0database\0{database}\0\0").as_bytes())
    };
    let longest = "d".repeat(63);
    assert_eq!(named("alice", &longest).unwrap().database(), longest);
    let longer = "d".repeat(64);
    assert_eq!(named("alice", &longer), Err(StartupError::DatabaseTooLong));
    // As libpq sends a login without a database; the role has a name of its own.
    assert_eq!(named(&longer, &longer).unwrap().database(), longer);
}

#[test]
fn of_repeated_parameters_the_last_counts() {
    let startup = startup(b"user\0alice\0search_path\0a\0user\0bob\0Search_Path\0b\0\0").unwrap();
    assert_eq!(startup.user(), "bob");
    assert_eq!(startup.get("search_path"), Some(&b"b"[..]));
    assert_eq!(startup.get("user"), None);
    assert!(!startup.encode().windows(5).any(|part| part == b"alice"));
}

#[test]
fn a_backend_is_sent_everything_but_what_is_denied_or_negotiated() {
    let sent = startup(
        b"user\0alice@corp\0options\0-c geqo=off\0replication\0true\0REPLICATION\0on\0\
          _pq_.extension\0x\0application_name\0\xe9\0database\0d\0\0",
    )
    .unwrap();
    assert_eq!(sent.protocol_options(), ["_pq_.extension"]);
    assert!(sent.wants_negotiation());
    let forwarded = sent
        .without(&["replication"])
        .with_user_database("alice", "sales")
        .unwrap();
    let expected = packet(
        PROTOCOL_3,
        b"user\0alice\0database\0sales\0options\0-c geqo=off\0application_name\0\xe9\0\0",
    );
    assert_eq!(forwarded.encode(), expected);
}

#[test]
fn replication_is_read_as_postgresql_reads_it() {
    use Replication::{Logical, No, Physical};
    let refused = Err(StartupError::Replication);
    for (sent, wanted) in [
        ("", Ok(No)),
        ("replication\0database\0", Ok(Logical)),
        ("replication\0true\0", Ok(Physical)),
        ("replication\0T\0", Ok(Physical)),
        ("replication\0yEs\0", Ok(Physical)),
        ("replication\0on\0", Ok(Physical)),
        ("replication\x001\0", Ok(Physical)),
        ("replication\0false\0", Ok(No)),
        ("replication\0of\0", Ok(No)),
        ("replication\x000\0", Ok(No)),
        ("replication\0no\0replication\0database\0", Ok(Logical)),
        ("replication\0database\0replication\0no\0", Ok(No)),
        ("replication\0\0", refused),
        ("replication\0o\0", refused),
        ("replication\0Database\0", refused),
        ("replication\0truest\0", refused),
        ("Replication\0no\0", refused),
        ("replication\0no\0REPLICATION\0true\0", refused),
    ] {
        let startup = startup(format!("user\0a\0{sent}\0").as_bytes()).unwrap();
        assert_eq!(startup.replication(), wanted, "{sent:?}");
    }
}

#[test]
fn an_application_name_is_short_printable_ascii_as_postgresql_shows_it() {
    let named = |name: &[u8]| {
        let body = [b"user\0a\0application_name\0", name, b"\0\0"].concat();
        startup(&body).unwrap().application_name()
    };
    assert_eq!(startup(b"user\0a\0\0").unwrap().application_name(), None);
    for (name, shown) in [
        (&b""[..], "".to_owned()),
        (b"psql", "psql".to_owned()),
        ("\u{fc}~ \\".as_bytes(), r"\xc3\xbc~ \".to_owned()),
        (b"a\nb\x1b[2J\x7f", r"a\x0ab\x1b[2J\x7f".to_owned()),
        (&[b'x'; 64], "x".repeat(63)),
        (&[0xff; 9_000], r"\xff".repeat(15) + r"\xf"),
    ] {
        assert_eq!(named(name), Some(shown), "{name:?}");
    }
}

#[test]
fn the_clients_address_stands_whole_behind_the_application_name() {
    let ipv6 = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
    for (sent, address, named) in [
        ("", "192.0.2.7:1", "192.0.2.7:1".to_owned()),
        (
            "application_name\0\0",
            "192.0.2.7:1",
            "192.0.2.7:1".to_owned(),
        ),
        (
            "application_name\0psql\0",
            "192.0.2.7:1",
            "psql - 192.0.2.7:1".to_owned(),
        ),
        (
            "Application_Name\0old\0application_name\0new\0",
            "192.0.2.7:1",
            "new - 192.0.2.7:1".to_owned(),
        ),
        (
            "application_name\0a very long name that says too much\0",
            ipv6,
            format!("a very long na - {ipv6}"),
        ),
    ] {
        let startup = startup(format!("user\0a\0{sent}\0").as_bytes()).unwrap();
        let with = startup.with_client_address(address.parse().unwrap());
        let names: Vec<_> = with.parameters().collect();
        assert_eq!(names, [("application_name", named.as_bytes())]);
        assert!(named.len() <= 63);
    }
}

#[test]
fn a_name_that_would_break_the_packet_is_refused() {
    let sent = startup(b"user\0alice\0\0").unwrap();
    let renamed = |user: &str, database: &str| sent.clone().with_user_database(user, database);
    assert_eq!(renamed("", "d"), Err(StartupError::NoUser));
    assert_eq!(renamed("a\0b", "d"), Err(StartupError::NulInName));
    assert_eq!(
        renamed("a", "d\0role\0postgres"),
        Err(StartupError::NulInName)
    );
    assert!(matches!(
        renamed("a", &"d".repeat(10_000)),
        Err(StartupError::Length(_))
    ));
}

#[test]
fn a_setting_cannot_hide_in_the_command_line_options() {
    for options in [
        "-c search_path=x",
        "-csearch_path=x",
        "--search-path=x",
        "--Search_Path=x",
        "-e -c  search\\_path=x",
        "-ecsearch_path=x",
        "-c geqo=off -c search_path=",
    ] {
        let body = format!("options\0{options}\0user\0a\0options\0-c geqo=off\0\0");
        let startup = startup(body.as_bytes()).unwrap();
        assert!(startup.options_may_set("search_path"), "{options}");
    }
    for options in [
        "",
        "-c",
        "-c=",
        "-c geqo=off",
        "-c application_name=search_path",
    ] {
        let startup = startup(format!("user\0a\0options\0{options}\0\0").as_bytes()).unwrap();
        assert!(!startup.options_may_set("search_path"), "{options}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        for code in [PROTOCOL_3, CANCEL_REQUEST, SSL_REQUEST] {
            let _ = parse(&packet(code, &bytes));
        }
    }

    #[test]
    fn what_was_encoded_parses_to_the_same_request(
        user in "[^\0]{1,40}",
        database in "[^\0]{1,15}",
        parameters in proptest::collection::vec(
            ("[a-z]{1,9}\\.[a-z]{0,9}", proptest::collection::vec(1..=255_u8, 0..20)), 0..8),
    ) {
        let startup = Startup { minor: 0, user, database, parameters };
        prop_assert_eq!(parse(&startup.encode()), Ok(FirstPacket::Startup(startup)));
    }
}
