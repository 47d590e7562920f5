//! Many at the same moment.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::{RawClient, Someone, World};

/// Clients that log in at the same moment.
const CLIENTS: usize = 200;
/// People who log in for the first time at the same moment.
const PEOPLE: usize = 40;

/// Connections that have been asked for their password.
fn asked(port: u16, login: &str, count: usize) -> Result<Vec<RawClient>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = RawClient::connect(port)?;
        let parameters = [("user", login), ("database", HR_DATABASE)];
        client.startup(PROTOCOL_3_0, &parameters)?;
        let message = client.read()?;
        ensure!(message.tag == b'R', "{:?}", message.field(b'M'));
        clients.push(client);
    }
    Ok(clients)
}

/// Sends all passwords at once; each client with the last message that it was sent.
fn answer_at_once(
    clients: Vec<RawClient>,
    password: impl Fn(usize) -> String + Sync,
) -> Result<Vec<(RawClient, Message)>> {
    let password = &password;
    thread::scope(|scope| {
        let logins: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(index, mut client)| {
                scope.spawn(move || -> Result<(RawClient, Message)> {
                    client.password(password(index).as_bytes())?;
                    let last = client.read_until_ready()?.pop();
                    Ok((client, last.ok_or_else(|| anyhow!("no answer"))?))
                })
            })
            .collect();
        let ends = logins.into_iter().map(thread::ScopedJoinHandle::join);
        ends.map(|end| end.map_err(|_| anyhow!("a client panicked"))?)
            .collect()
    })
}

fn all_are_in(answers: Vec<(RawClient, Message)>) -> Result<()> {
    for (mut client, last) in answers {
        ensure!(last.tag == b'Z', "refused: {:?}", last.field(b'M'));
        let count = client.query("select count(*) from employees")?;
        ensure!(count == "3", "{count:?}");
    }
    Ok(())
}

pub(crate) fn two_hundred_first_logins_at_once_are_one_bind_and_one_sync(
    world: &World,
) -> Result<()> {
    let star = world.person("star", &[HR_GROUP])?;
    let waiting = asked(world.plain.port(), "star", CLIENTS)?;
    let before = world.directory_calls()?;
    let synced = || world.postgres_lines(&[" postern@", "apply_login"]);
    ensure!(synced()? == 0);
    all_are_in(answer_at_once(waiting, |_| star.password.clone())?)?;
    let after = world.directory_calls()?;
    ensure!(after.0 - before.0 == 1, "{before:?} became {after:?}");
    let synced = synced()?;
    ensure!(synced == 1, "{synced} calls of apply_login");
    Ok(())
}

pub(crate) fn two_hundred_wrong_passwords_at_once_are_one_bind(world: &World) -> Result<()> {
    world.person("target", &[HR_GROUP])?;
    let waiting = asked(world.plain.port(), "target", CLIENTS)?;
    let before = world.directory.failed_binds()?;
    for (_, last) in answer_at_once(waiting, |_| "guess".to_owned())? {
        let code = last.field(b'C');
        ensure!(code.as_deref() == Some("28P01"), "{last:?}");
    }
    let after = world.directory.failed_binds()?;
    ensure!(after - before == 1, "{before} became {after}");
    Ok(())
}

pub(crate) fn forty_people_who_log_in_for_the_first_time_at_once_are_all_in(
    world: &World,
) -> Result<()> {
    let groups = [HR_GROUP, FINANCE_GROUP, "postern-new-1", "postern-new-2"];
    // All are added before the first connects: a login has only so long from there.
    let people = (0..PEOPLE)
        .map(|number| world.person(&format!("member{number}"), &groups))
        .collect::<Result<Vec<Someone>>>()?;
    let mut waiting = Vec::new();
    for person in &people {
        waiting.extend(asked(world.plain.port(), &person.login, 1)?);
    }
    let password = |index: usize| people.get(index).map(|it| it.password.clone());
    all_are_in(answer_at_once(waiting, |it| {
        password(it).unwrap_or_default()
    })?)?;
    let complete = world.postgres.sql(
        "select count(*) from (select 1 from pg_auth_members m join pg_roles p \
         on p.oid = m.member where p.rolname ~ '^member[0-9]+$' group by p.oid \
         having count(*) = 4) complete",
    )?;
    ensure!(complete == PEOPLE.to_string(), "{complete} have all groups");
    Ok(())
}

pub(crate) fn a_client_that_gives_up_does_not_take_the_others_with_it(world: &World) -> Result<()> {
    let person = world.person("hangup", &[HR_GROUP])?;
    for login in ["hangup", "hangup@corp.example"] {
        let mut waiting = asked(world.plain.port(), login, 20)?;
        let rest = waiting.split_off(5);
        for mut client in waiting {
            // The first of them starts the question to the directory, and is gone.
            client.password(person.password.as_bytes())?;
            drop(client);
        }
        all_are_in(answer_at_once(rest, |_| person.password.clone())?)?;
    }
    Ok(())
}
