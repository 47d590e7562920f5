//! Tests of [`super`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use proptest::prelude::*;

use super::*;

const NONCE: &str = "aaaabbbbccccddddeeeeffff";
const SERVER_FIRST: &str = "r=aaaabbbbccccddddeeeeffff0123456789,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

fn start(binding: ChannelBinding<'_>) -> ClientExchange {
    ClientExchange::start(NONCE, binding).0
}

fn first(message: &[u8]) -> Result<Challenge, ScramError> {
    start(ChannelBinding::Unsupported).server_first(message)
}

fn answer(challenge: Challenge) -> (ClientFinal, String) {
    let keys = Keys::derive(b"pencil", challenge.salt(), challenge.iterations());
    let (client_final, message) = challenge.answer(&keys);
    (client_final, String::from_utf8(message).unwrap())
}

/// Quick, because most of these tests are about the form of messages and not about the password.
fn client_final() -> ClientFinal {
    let message = format!("r={NONCE}x,s=AAAA,i=1");
    answer(first(message.as_bytes()).unwrap()).0
}

#[test]
fn the_example_of_rfc_7677_goes_through() {
    let (exchange, sent) =
        ClientExchange::start_as("user", "rOprNGfwEbeRWgbNEkqO", ChannelBinding::Unsupported);
    assert_eq!(sent, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let challenge = exchange
        .server_first(
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        .unwrap();
    assert_eq!(challenge.iterations().get(), 4096);
    let (client_final, sent) = answer(challenge);
    assert_eq!(
        sent,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert!(
        client_final
            .server_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .is_ok()
    );
}

/// Recorded with PostgreSQL 15, password `pencil`; only the client's nonce was chosen.
#[test]
fn a_recorded_login_to_postgresql_goes_through() {
    let nonce = "abcdefghijklmnopqrstuvwx";
    let (exchange, sent) = ClientExchange::start(nonce, ChannelBinding::Unsupported);
    assert_eq!(sent, b"n,,n=,r=abcdefghijklmnopqrstuvwx");
    let challenge = exchange
        .server_first(
            b"r=abcdefghijklmnopqrstuvwxW2nFOAitAyrmVzkXqNOrx0VO,\
              s=Z+0023zDxNrkiKM/UKXVLw==,i=4096",
        )
        .unwrap();
    let (client_final, sent) = answer(challenge);
    assert_eq!(
        sent,
        "c=biws,r=abcdefghijklmnopqrstuvwxW2nFOAitAyrmVzkXqNOrx0VO,\
         p=YQDgPnG+KgA4+qTXIeNMXUvaSC5CnMsizakzKvhbw4I="
    );
    let signature = b"v=77BJ1mdXTG7e38CYHRyJsdJ7bh5CqNxgUufr2aGgUrc=";
    assert!(client_final.server_final(signature).is_ok());
}

/// The proofs and signatures were made by an independent program (Python's `hmac`).
#[test]
fn each_channel_binding_says_what_it_is_and_is_proved() {
    let hash: Vec<u8> = (0..32).collect();
    for (binding, header, mechanism, c, p, v) in [
        (
            ChannelBinding::ServerLacks,
            "y,,",
            "SCRAM-SHA-256",
            "eSws",
            "xgpDul1awryYRJUqoOyEzEcURNZ4m2alg1zvXbbPFMw=",
            "P3tPHg2fzNEpnviP80pbTy3auLbFCXJYrxcO1EpRo0A=",
        ),
        (
            ChannelBinding::TlsServerEndPoint(&hash),
            "p=tls-server-end-point,,",
            "SCRAM-SHA-256-PLUS",
            "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "zuWPPw0NG3hTqBb3qcOpAXmClMTDlPhuE8IigAG1F/c=",
            "qp35lOuDX7P4OqONsrxfchQz/qtmPChZssS536MFfcU=",
        ),
    ] {
        let (exchange, sent) = ClientExchange::start(NONCE, binding);
        assert_eq!(exchange.mechanism(), mechanism);
        assert_eq!(sent, format!("{header}n=,r={NONCE}").as_bytes());
        let (client_final, sent) = answer(exchange.server_first(SERVER_FIRST.as_bytes()).unwrap());
        assert_eq!(sent, format!("c={c},r={NONCE}0123456789,p={p}"));
        assert!(
            client_final
                .server_final(format!("v={v}").as_bytes())
                .is_ok()
        );
    }
    assert_eq!(ChannelBinding::Unsupported.encode(), "biws");
    assert_eq!(
        start(ChannelBinding::Unsupported).mechanism(),
        "SCRAM-SHA-256"
    );
}

#[test]
fn a_broken_first_message_is_named_by_its_broken_rule() {
    let broken = |from: &str, to: &str| {
        let message = SERVER_FIRST.replacen(from, to, 1);
        first(message.as_bytes()).map(|_| ()).unwrap_err()
    };
    for (from, to, error) in [
        (SERVER_FIRST, "", ScramError::Attribute),
        ("r=", "", ScramError::Attribute),
        ("r=", "rr=", ScramError::Attribute),
        ("r=", "1=", ScramError::Attribute),
        ("r=", ",r=", ScramError::Attribute),
        ("r=", "x=1,r=", ScramError::Nonce),
        ("r=", "m=must,r=", ScramError::MandatoryExtension),
        (",i=", ",m=must,i=", ScramError::MandatoryExtension),
        ("i=4096", "i=4096,m=must", ScramError::MandatoryExtension),
        ("0123", "01 23", ScramError::Nonce),
        ("0123", "01\u{7f}23", ScramError::Nonce),
        ("0123", "01\u{e9}23", ScramError::Nonce),
        ("0123", "01\0", ScramError::NotText),
        ("0123456789", "", ScramError::NonceNotOurs),
        ("aaaa", "aaab", ScramError::NonceNotOurs),
        ("aaaa", "AAAA", ScramError::NonceNotOurs),
        (NONCE, "", ScramError::NonceNotOurs),
        (",s=W22ZaJ0SNY7soEsUEjb6gQ==", "", ScramError::Salt),
        ("W22ZaJ0SNY7soEsUEjb6gQ==", "", ScramError::Salt),
        ("gQ==", "gQ=", ScramError::Salt),
        ("W22Z", "W2!Z", ScramError::Salt),
        (",i=4096", "", ScramError::Iterations),
        ("4096", "", ScramError::Iterations),
        ("4096", "0", ScramError::Iterations),
        ("4096", "-4096", ScramError::Iterations),
        ("4096", "+4096", ScramError::Iterations),
        ("4096", " 4096", ScramError::Iterations),
        ("4096", "1000001", ScramError::Iterations),
        ("4096", "4294967296", ScramError::Iterations),
        ("4096", "99999999999999999999", ScramError::Iterations),
        ("i=4096", "i=4096,", ScramError::Attribute),
        ("i=4096", "i=4096,i=1", ScramError::Attribute),
        ("i=4096", "i=4096,garbage", ScramError::Attribute),
        (
            SERVER_FIRST,
            "e=no-resources",
            ScramError::Server(ServerError::NoResources),
        ),
    ] {
        assert_eq!(broken(from, to), error, "{from:?} -> {to:?}");
    }
    assert_eq!(first(b"r=\xff").map(|_| ()), Err(ScramError::NotText));
}

#[test]
fn a_message_is_bounded() {
    let long = |bytes: usize| {
        let rest = ",s=AAAA,i=1";
        let nonce = format!("r={NONCE}");
        format!(
            "{nonce}{}{rest}",
            "x".repeat(bytes - nonce.len() - rest.len())
        )
    };
    assert!(first(long(SCRAM_MESSAGE_BYTES_MAX).as_bytes()).is_ok());
    let refused = first(long(SCRAM_MESSAGE_BYTES_MAX + 1).as_bytes()).map(|_| ());
    assert_eq!(refused, Err(ScramError::TooLong));
    let refused = client_final().server_final(&vec![b'v'; SCRAM_MESSAGE_BYTES_MAX + 1]);
    assert_eq!(refused.map(|_| ()), Err(ScramError::TooLong));
}

#[test]
fn the_most_iterations_that_are_allowed_are_accepted() {
    let message = SERVER_FIRST.replace("4096", "1000000");
    assert_eq!(
        first(message.as_bytes()).unwrap().iterations().get(),
        SCRAM_ITERATIONS_MAX
    );
}

#[test]
fn an_optional_extension_is_ignored_but_proved() {
    let message = format!("{SERVER_FIRST},x=1");
    let challenge = first(message.as_bytes()).unwrap();
    assert!(challenge.auth_message.contains("i=4096,x=1,c=biws"));
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_refused() {
    for (message, error) in [
        (&b""[..], ScramError::Attribute),
        (b"v", ScramError::Attribute),
        (b"x=1", ScramError::Signature),
        (b"v=!", ScramError::Signature),
        (b"v=", ScramError::WrongSignature),
        (b"v=AAAA", ScramError::WrongSignature),
        (
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ScramError::WrongSignature,
        ),
        (b"v=AAAA,", ScramError::Attribute),
        (b"v=AAAA,e=other-error", ScramError::Attribute),
        (b"m=x,v=AAAA", ScramError::MandatoryExtension),
        (b"\xff", ScramError::NotText),
        (
            b"e=invalid-proof",
            ScramError::Server(ServerError::InvalidProof),
        ),
        (
            b"e=channel-bindings-dont-match",
            ScramError::Server(ServerError::ChannelBindingsDontMatch),
        ),
        (b"e=", ScramError::Server(ServerError::Other)),
        (b"e=anything at all", ScramError::Server(ServerError::Other)),
    ] {
        let refused = client_final().server_final(message).map(|_| ());
        assert_eq!(
            refused,
            Err(error),
            "{:?}",
            message.escape_ascii().to_string()
        );
    }
}

/// The words of RFC 5802, section 7.
#[test]
fn each_error_of_a_server_has_its_own_name() {
    use ServerError as Error;
    for (word, error) in [
        ("invalid-encoding", Error::InvalidEncoding),
        ("extensions-not-supported", Error::ExtensionsNotSupported),
        ("invalid-proof", Error::InvalidProof),
        (
            "channel-bindings-dont-match",
            Error::ChannelBindingsDontMatch,
        ),
        (
            "server-does-support-channel-binding",
            Error::ServerDoesSupportChannelBinding,
        ),
        (
            "channel-binding-not-supported",
            Error::ChannelBindingNotSupported,
        ),
        (
            "unsupported-channel-binding-type",
            Error::UnsupportedChannelBindingType,
        ),
        ("unknown-user", Error::UnknownUser),
        ("invalid-username-encoding", Error::InvalidUsernameEncoding),
        ("no-resources", Error::NoResources),
        ("other-error", Error::Other),
    ] {
        let said = client_final().server_final(format!("e={word}").as_bytes());
        assert_eq!(said.map(|_| ()), Err(ScramError::Server(error)), "{word}");
    }
}

#[test]
fn a_signature_with_one_bit_wrong_is_refused() {
    let (client_final, _) = answer(first(SERVER_FIRST.as_bytes()).unwrap());
    let key = hmac::Key::new(hmac::HMAC_SHA256, client_final.server_key.as_slice());
    let right = hmac::sign(&key, client_final.auth_message.as_bytes());
    let auth_message = client_final.auth_message.clone();
    let attempt = |signature: &[u8]| {
        let server_key = client_final.server_key.clone();
        ClientFinal {
            server_key,
            auth_message: auth_message.clone(),
        }
        .server_final(format!("v={}", BASE64.encode(signature)).as_bytes())
        .map(|_| ())
    };
    assert_eq!(attempt(right.as_ref()), Ok(()));
    for bit in 0..KEY_BYTES * 8 {
        let mut wrong = right.as_ref().to_vec();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(attempt(&wrong), Err(ScramError::WrongSignature));
    }
    let longer = [right.as_ref(), b"x"].concat();
    assert_eq!(attempt(&longer), Err(ScramError::WrongSignature));
}

#[test]
fn a_nonce_is_24_printable_characters() {
    for random in [[0; 18], [255; 18]] {
        let nonce = nonce(&random);
        assert_eq!(nonce.len(), 24);
        assert!(is_printable(&nonce) && !nonce.contains(','));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "[a-z=,0-9+/]{0,60}",
    ) {
        let extended = [format!("r={NONCE}").as_bytes(), &bytes].concat();
        let attributes = format!("r={NONCE}x,{text}");
        for message in [&bytes[..], text.as_bytes(), &extended, attributes.as_bytes()] {
            let _ = first(message);
            let _ = client_final().server_final(message);
        }
    }
}
