//! What comes of each kind of encryption that libpq 18 can ask for, alone and together.

use anyhow::{Result, ensure};
use postern_tests::World;
use postern_tests::cast::HR_GROUP;

use crate::libpq;

/// libpq's words, in the order in which the script goes through them.
const GSS_MODES: [&str; 3] = ["disable", "prefer", "require"];
const NEGOTIATIONS: [&str; 2] = ["postgres", "direct"];
const TLS_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// Connects in every way to each of two ports, as somebody who has a ticket of Kerberos: libpq asks
/// for GSSAPI only with one, and looks no further than whether it is there.
const SCRIPT: &str = r#"
import itertools, struct, tempfile

def data(it):
    return struct.pack('>I', len(it)) + it

def principal(*parts):
    return struct.pack('>II', 1, len(parts)) + data(b'REALM') + b''.join(map(data, parts))

never = 2**31 - 1
who = principal(b'person')
ticket = who + principal(b'krbtgt', b'REALM') + struct.pack('>H', 18) + data(bytes(32))
ticket += struct.pack('>4IB3I', 0, 0, never, never, 0, 0, 0, 0) + data(b'ticket') + data(b'')
cache = tempfile.NamedTemporaryFile()
cache.write(b'\5\4\0\0' + who + ticket)
cache.flush()
os.environ['KRB5CCNAME'] = 'FILE:' + cache.name

def outcome(**parameters):
    try:
        with connect(**parameters) as c:
            return 'tls' if c.pgconn.ssl_in_use else 'plain'
    except psycopg.OperationalError as error:
        said = str(error)
    for part, word in KNOWN.items():
        if part in said:
            return word
    return said

KNOWN = {
    'may not be used with sslnegotiation=direct': 'weak',
    "server doesn't support GSSAPI encryption": 'no-gss',
    'encrypted connections only': 'no-tls',
}
ways = itertools.product(GSS_MODES, NEGOTIATIONS, TLS_MODES)
for gss, negotiation, mode in ways:
    words = [outcome(port=port, gssencmode=gss, sslnegotiation=negotiation, sslmode=mode)
             for port in PORTS]
    print(gss, negotiation, mode, *words)
"#;

pub(crate) fn libpq_18_gets_in_by_every_way_that_has_tls_and_by_no_other(
    world: &World,
) -> Result<()> {
    let person = world.person("ticketed", &[HR_GROUP])?;
    let ports = [world.postern.port(), world.plain.port()];
    let lists = format!(
        "GSS_MODES, NEGOTIATIONS = {GSS_MODES:?}, {NEGOTIATIONS:?}\n\
         TLS_MODES, PORTS = {TLS_MODES:?}, {ports:?}\n"
    );
    let claim = "libpq_18_gets_in_by_every_way_that_has_tls_and_by_no_other";
    let Some(said) = libpq::run(world, claim, &person, &(lists + SCRIPT))? else {
        return Ok(());
    };
    let mut expected = String::new();
    for gss in GSS_MODES {
        for negotiation in NEGOTIATIONS {
            for mode in TLS_MODES {
                let words = [false, true].map(|it| outcome(gss, negotiation, mode, it));
                expected += &format!("{gss} {negotiation} {mode} {}\n", words.join(" "));
            }
        }
    }
    ensure!(said == expected, "{said}\nwas expected to be\n{expected}");
    Ok(())
}

/// The table: what comes of a way to a port, which may allow plaintext.
fn outcome(gss: &str, negotiation: &str, mode: &str, allows_plaintext: bool) -> &'static str {
    match (gss, negotiation, mode) {
        // libpq itself begins with TLS only where nothing else will do.
        (_, "direct", "disable" | "allow" | "prefer") => "weak",
        ("require", ..) => "no-gss",
        // It begins without TLS, which one of them goes on without and the other is refused.
        (_, _, "disable" | "allow") if allows_plaintext => "plain",
        (_, _, "disable") => "no-tls",
        _ => "tls",
    }
}

pub(crate) fn a_mistyped_password_is_one_bind_also_where_libpq_tries_both_ways(
    world: &World,
) -> Result<()> {
    let claim = "a_mistyped_password_is_one_bind_also_where_libpq_tries_both_ways";
    for (login, mode, port) in [
        ("clumsy", "prefer", world.postern.port()),
        ("clumsier", "allow", world.postern.port()),
        ("clumsiest", "prefer", world.plain.port()),
    ] {
        let person = world.person(login, &[HR_GROUP])?;
        let before = world.directory_calls()?.0;
        let script = format!(
            "try:\n    connect(port={port}, sslmode='{mode}', password='mistyped')\n\
             except psycopg.OperationalError as error:\n    print(str(error))\n"
        );
        let Some(said) = libpq::run(world, claim, &person, &script)? else {
            return Ok(());
        };
        let told = said.contains(&format!(
            "password authentication failed for user \"{login}\""
        ));
        ensure!(told, "{mode}: {said}");
        let binds = world.directory_calls()?.0 - before;
        ensure!(binds == 1, "{mode} at {port}: {binds} binds: {said}");
    }
    Ok(())
}
