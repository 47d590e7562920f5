//! Which version of the protocol a client is told that it gets.

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::{PROTOCOL_3_0, PROTOCOL_3_2};
use postern_tests::{RawClient, World};

use crate::libpq;

/// What nobody speaks, so that a server must say what it speaks instead.
const GREASE: u32 = (3 << 16) | 9_999;

pub(crate) fn a_client_of_3_2_gets_what_it_asked_for_in_front_of_any_server(
    world: &World,
) -> Result<()> {
    let person = world.person("modern", &[HR_GROUP])?;
    for (version, key_bytes) in [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)] {
        let mut client = RawClient::connect(world.plain.port())?;
        client.startup(version, &[("user", "modern"), ("database", HR_DATABASE)])?;
        // Nothing is negotiated: the next message asks for the password.
        let in_session = client.finish(&person.password)?;
        let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
        let key = client.cancel_key.clone();
        let length = key.map(|it| it.key.len());
        ensure!(length == Some(key_bytes), "{version}: {length:?}");
        ensure!(client.query("select count(*) from employees")? == "3");
    }
    Ok(())
}

pub(crate) fn whatever_is_newer_or_unknown_is_named_in_the_answer(world: &World) -> Result<()> {
    let person = world.person("greasy", &[HR_GROUP])?;
    let test = "_pq_.test_protocol_negotiation";
    for (asked, options, told) in [
        (PROTOCOL_3_0, &[test][..], PROTOCOL_3_0),
        (PROTOCOL_3_0 | 1, &[], PROTOCOL_3_0),
        (PROTOCOL_3_2, &["_pq_.one", "_pq_.two"], PROTOCOL_3_2),
        (PROTOCOL_3_2 + 1, &[], PROTOCOL_3_2),
        (GREASE, &[test], PROTOCOL_3_2),
    ] {
        let mut client = RawClient::connect(world.plain.port())?;
        let mut parameters = vec![("user", "greasy"), ("database", HR_DATABASE)];
        parameters.extend(options.iter().map(|name| (*name, "on")));
        client.startup(asked, &parameters)?;
        let answer = client.read()?;
        let mut expected = told.to_be_bytes().to_vec();
        expected.extend(u32::try_from(options.len())?.to_be_bytes());
        for name in options {
            expected.extend(name.as_bytes());
            expected.push(0);
        }
        ensure!(answer.tag == b'v', "{asked:x}: {answer:?}");
        ensure!(answer.body == expected, "{asked:x}: {answer:?}");
        let in_session = client.finish(&person.password)?;
        let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
        // No server would have taken the options.
        ensure!(client.query("select count(*) from employees")? == "3");
    }
    Ok(())
}

pub(crate) fn libpq_18_insists_on_3_2_and_gets_it(world: &World) -> Result<()> {
    let person = world.person("insistent", &[HR_GROUP])?;
    let script = "
for newest, version in ('3.0', 30000), ('3.2', 30002), ('latest', 30002):
    with connect(min_protocol_version='3.0', max_protocol_version=newest) as c:
        print(c.pgconn.full_protocol_version == version, end=' ')
with connect(min_protocol_version='3.2', max_protocol_version='3.2') as c:
    print(c.execute('select count(*) from employees').fetchone()[0], end=' ')
    c.execute('listen news')
    c.execute('notify news')
    c.commit()
    print(next(c.notifies(timeout=10)).pid == c.info.backend_pid)
";
    let claim = "libpq_18_insists_on_3_2_and_gets_it";
    match libpq::run(world, claim, &person, script)? {
        None => Ok(()),
        Some(said) => {
            ensure!(said.trim() == "True True True 3 True", "{said}");
            Ok(())
        }
    }
}
