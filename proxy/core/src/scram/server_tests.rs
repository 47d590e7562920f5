//! Tests of [`super`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::scram::{ChannelBinding, ClientExchange, Keys};

const END_POINT: &[u8] = b"the hash of a certificate";
const SERVER_NONCE: &str = "0123456789";

fn verifier() -> Verifier {
    Verifier::from_password(b"pencil", b"salt", NonZeroU32::MIN)
}

/// Both sides of an exchange, up to the client's last message.
fn asked(
    end_point: Option<&[u8]>,
    binding: ChannelBinding<'_>,
    password: &[u8],
) -> Result<(Challenged, String, crate::scram::ClientFinal), ClientScramError> {
    let (client, message) = ClientExchange::start("rOprNGfwEbeRWgbNEkqO", binding);
    let first = ClientFirst::read(end_point, client.mechanism().as_bytes(), &message)?;
    let (challenged, message) = first.challenge(SERVER_NONCE, &verifier());
    let challenge = client.server_first(&message).unwrap();
    let keys = Keys::derive(password, challenge.salt(), challenge.iterations());
    let (client_final, message) = challenge.answer(&keys);
    Ok((
        challenged,
        String::from_utf8(message).unwrap(),
        client_final,
    ))
}

fn plain() -> (Challenged, String) {
    let (challenged, message, _) = asked(None, ChannelBinding::Unsupported, b"pencil").unwrap();
    (challenged, message)
}

#[test]
fn the_example_of_rfc_7677_goes_through_on_the_servers_side() {
    let first = ClientFirst::read(None, b"SCRAM-SHA-256", b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let iterations = NonZeroU32::new(4_096).unwrap();
    let verifier = Verifier::from_password(b"pencil", &salt, iterations);
    let (challenged, sent) = first
        .unwrap()
        .challenge("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", &verifier);
    assert_eq!(
        sent,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
          s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let (_, sent) = challenged
        .client_final(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        .unwrap();
    assert_eq!(sent, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn each_way_to_be_bound_goes_through_where_it_is_offered() {
    for (end_point, binding) in [
        (None, ChannelBinding::Unsupported),
        (None, ChannelBinding::ServerLacks),
        // A client that cannot bind itself may still log in, as with PostgreSQL.
        (Some(END_POINT), ChannelBinding::Unsupported),
        (
            Some(END_POINT),
            ChannelBinding::TlsServerEndPoint(END_POINT),
        ),
    ] {
        let (challenged, message, client) = asked(end_point, binding, b"pencil").unwrap();
        let (_, sent) = challenged.client_final(message.as_bytes()).unwrap();
        assert!(client.server_final(&sent).is_ok(), "{binding:?}");
    }
}

#[test]
fn channel_binding_is_offered_only_where_there_is_something_to_bind_to() {
    assert_eq!(
        offered(Some(END_POINT)),
        ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
    );
    assert_eq!(offered(None), ["SCRAM-SHA-256"]);
}

#[test]
fn an_offer_that_somebody_took_out_is_noticed() {
    let refused = asked(Some(END_POINT), ChannelBinding::ServerLacks, b"pencil");
    assert_eq!(refused.err(), Some(ClientScramError::Downgraded));
    let refused = asked(
        None,
        ChannelBinding::TlsServerEndPoint(END_POINT),
        b"pencil",
    );
    assert_eq!(refused.err(), Some(ClientScramError::BindingNotOffered));
}

#[test]
fn a_login_that_is_bound_to_another_connection_is_refused() {
    for other in [&b"the hash of a certificatf"[..], b"", b"the hash of a"] {
        let binding = ChannelBinding::TlsServerEndPoint(other);
        let (challenged, message, _) = asked(Some(END_POINT), binding, b"pencil").unwrap();
        let refused = challenged.client_final(message.as_bytes()).err();
        assert_eq!(refused, Some(ClientScramError::BindingMismatch));
    }
}

#[test]
fn only_the_password_proves_itself() {
    for password in [&b""[..], b"Pencil", b"pencil ", b"penci"] {
        let (challenged, message, _) = asked(None, ChannelBinding::Unsupported, password).unwrap();
        let refused = challenged.client_final(message.as_bytes()).err();
        assert_eq!(refused, Some(ClientScramError::WrongProof));
    }
}

#[test]
fn a_proof_with_one_bit_wrong_is_refused() {
    let (_, right) = plain();
    let (bare, proof) = right.rsplit_once(",p=").unwrap();
    let proof = BASE64.decode(proof).unwrap();
    for bit in 0..KEY_BYTES * 8 {
        let mut wrong = proof.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let (challenged, _) = plain();
        let message = format!("{bare},p={}", BASE64.encode(wrong));
        let refused = challenged.client_final(message.as_bytes()).err();
        assert_eq!(refused, Some(ClientScramError::WrongProof));
    }
}

#[test]
fn a_broken_first_message_is_named_by_its_rule() {
    use ClientScramError as Rule;
    const PLAIN: &[u8] = b"SCRAM-SHA-256";
    const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
    let bound = "p=tls-server-end-point,,n=,r=x";
    for (end_point, mechanism, message, rule) in [
        (None, &b"SCRAM-SHA-1"[..], "n,,n=,r=x", Rule::Mechanism),
        (None, b"", "n,,n=,r=x", Rule::Mechanism),
        (None, b"scram-sha-256", "n,,n=,r=x", Rule::Mechanism),
        (None, PLUS, bound, Rule::BindingNotOffered),
        (Some(END_POINT), PLUS, "n,,n=,r=x", Rule::BindingMisfit),
        (Some(END_POINT), PLUS, "y,,n=,r=x", Rule::BindingMisfit),
        (Some(END_POINT), PLAIN, bound, Rule::BindingMisfit),
        (None, PLAIN, bound, Rule::BindingMisfit),
        (Some(END_POINT), PLAIN, "y,,n=,r=x", Rule::Downgraded),
        (
            Some(END_POINT),
            PLUS,
            "p=tls-unique,,n=,r=x",
            Rule::BindingType,
        ),
        (Some(END_POINT), PLUS, "p=,,n=,r=x", Rule::BindingType),
        (None, PLAIN, "", Rule::Header),
        (None, PLAIN, "n", Rule::Header),
        (None, PLAIN, "n,", Rule::Header),
        (None, PLAIN, ",,n=,r=x", Rule::Header),
        (None, PLAIN, "x,,n=,r=x", Rule::Header),
        (None, PLAIN, "N,,n=,r=x", Rule::Header),
        (None, PLAIN, "n,b,n=,r=x", Rule::Header),
        (None, PLAIN, "n,a=postgres,n=,r=x", Rule::Identity),
        (None, PLAIN, "n,a=,n=,r=x", Rule::Identity),
        (None, PLAIN, "n,,", Rule::Attribute),
        (None, PLAIN, "n,,r=x", Rule::Attribute),
        (None, PLAIN, "n,,r=x,n=", Rule::Attribute),
        (None, PLAIN, "n,,n=", Rule::Attribute),
        (None, PLAIN, "n,,n=,n=,r=x", Rule::Attribute),
        (None, PLAIN, "n,,n=,r", Rule::Attribute),
        (None, PLAIN, "n,,n=,rr=x", Rule::Attribute),
        (None, PLAIN, "n,,n=,r=x,r=y", Rule::Attribute),
        (None, PLAIN, "n,,n=,r=x,", Rule::Attribute),
        (None, PLAIN, "n,,n=,r=x,1=y", Rule::Attribute),
        (None, PLAIN, "n,,m=x,n=,r=x", Rule::MandatoryExtension),
        (None, PLAIN, "n,,n=,m=x,r=x", Rule::MandatoryExtension),
        (None, PLAIN, "n,,n=,r=x,m=x", Rule::MandatoryExtension),
        (None, PLAIN, "n,,n=,r=", Rule::Nonce),
        (None, PLAIN, "n,,n=,r=a b", Rule::Nonce),
        (None, PLAIN, "n,,n=,r=\u{7f}", Rule::Nonce),
        (None, PLAIN, "n,,n=,r=é", Rule::Nonce),
        (None, PLAIN, "n,,n=,r=x\0", Rule::NotText),
    ] {
        let refused = ClientFirst::read(end_point, mechanism, message.as_bytes()).err();
        assert_eq!(refused, Some(rule), "{message:?}");
    }
    let refused = ClientFirst::read(None, PLAIN, b"n,,n=,r=\xff").err();
    assert_eq!(refused, Some(Rule::NotText));
    let with = |length: usize| format!("n,,n=,r={}", "x".repeat(length - 8));
    let longest = with(SASL_MESSAGE_BYTES_MAX);
    assert!(ClientFirst::read(None, PLAIN, longest.as_bytes()).is_ok());
    let too_long = with(SASL_MESSAGE_BYTES_MAX + 1);
    let refused = ClientFirst::read(None, PLAIN, too_long.as_bytes()).err();
    assert_eq!(refused, Some(Rule::TooLong));
}

#[test]
fn a_broken_last_message_is_named_by_its_rule() {
    use ClientScramError as Rule;
    let (_, right) = plain();
    let proof = right.rsplit_once(",p=").unwrap().1.to_owned();
    let nonce = format!("rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
    for (message, rule) in [
        (String::new(), Rule::Proof),
        (format!("c=biws,r={nonce}"), Rule::Proof),
        (format!("c=biws,r={nonce},p="), Rule::Proof),
        (format!("c=biws,r={nonce},p=x"), Rule::Proof),
        (format!("c=biws,r={nonce},p=AAAA"), Rule::Proof),
        (format!("c=biws,r={nonce},p={proof}="), Rule::Proof),
        (format!("c=biws,r={nonce},p={proof},x=y"), Rule::Proof),
        (format!("p={proof}"), Rule::Proof),
        (format!("c=bi ws,r={nonce},p={proof}"), Rule::Binding),
        (format!("c=biws=,r={nonce},p={proof}"), Rule::Binding),
        (format!("c=,r={nonce},p={proof}"), Rule::BindingMismatch),
        // `y,,` where the first message said `n,,`.
        (format!("c=eSws,r={nonce},p={proof}"), Rule::BindingMismatch),
        (
            format!("c=biwsYQ==,r={nonce},p={proof}"),
            Rule::BindingMismatch,
        ),
        (format!("c=biws,r={nonce}x,p={proof}"), Rule::NonceNotOurs),
        (format!("c=biws,r=,p={proof}"), Rule::NonceNotOurs),
        (
            format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={proof}"),
            Rule::NonceNotOurs,
        ),
        (format!("r={nonce},c=biws,p={proof}"), Rule::Attribute),
        (format!("c=biws,p={proof}"), Rule::Attribute),
        (format!("r={nonce},p={proof}"), Rule::Attribute),
        (
            format!("c=biws,c=biws,r={nonce},p={proof}"),
            Rule::Attribute,
        ),
        (format!("c=biws,r={nonce},,p={proof}"), Rule::Attribute),
        (
            format!("c=biws,r={nonce},p={proof},p={proof}"),
            Rule::Attribute,
        ),
        (
            format!("m=x,c=biws,r={nonce},p={proof}"),
            Rule::MandatoryExtension,
        ),
        (
            format!("c=biws,r={nonce},m=x,p={proof}"),
            Rule::MandatoryExtension,
        ),
        // What was added is covered by the proof.
        (format!("c=biws,r={nonce},x=y,p={proof}"), Rule::WrongProof),
        (format!("{right}\0"), Rule::NotText),
        ("c".repeat(SASL_MESSAGE_BYTES_MAX + 1), Rule::TooLong),
    ] {
        let (challenged, _) = plain();
        let refused = challenged.client_final(message.as_bytes()).err();
        assert_eq!(refused, Some(rule), "{message:?}");
    }
    let (challenged, right) = plain();
    assert!(challenged.client_final(right.as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_the_server_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..99),
        text in "[nyp,=a-z]{0,40}",
    ) {
        for mechanism in [SCRAM_SHA_256, SCRAM_SHA_256_PLUS] {
            for message in [&bytes[..], text.as_bytes()] {
                let _ = ClientFirst::read(Some(END_POINT), mechanism.as_bytes(), message);
                let _ = plain().0.client_final(message);
            }
        }
    }
}
