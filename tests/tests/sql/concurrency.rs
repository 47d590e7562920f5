//! Logins that meet each other in the role store.

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{Answer, DirectoryServer, Member, wait_until};

use crate::{SEEN_LIMIT, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "fifty_logins_of_one_person_end_with_the_last_state_of_the_directory",
        |worlds| worlds.each(changing_groups),
    ),
    (
        "a_hundred_first_logins_that_need_one_new_group_all_succeed",
        |worlds| worlds.each(new_group),
    ),
    (
        "two_hundred_first_logins_of_one_person_make_one_role",
        |worlds| worlds.each(one_person),
    ),
    ("what_another_proxy_did_is_put_right", |worlds| {
        worlds.each(another_proxy)
    }),
];

/// Spellings of one login: each is a question of its own to the directory, and all lead to one
/// role.
fn spelling(login: &str, number: usize) -> String {
    let letters = login.chars().enumerate();
    let letters = letters.map(|(place, letter)| match number >> place & 1 {
        1 => letter.to_ascii_uppercase(),
        _ => letter,
    });
    letters.collect()
}

/// Logs in as all of them at once.
fn log_in_together(world: &World, logins: &[String]) -> Result<Vec<Answer>> {
    let answers = std::thread::scope(|scope| {
        let running: Vec<_> = logins
            .iter()
            .map(|login| scope.spawn(|| world.psql(login).run("select session_user")))
            .collect();
        let answers = running.into_iter().map(|it| it.join());
        answers.collect::<Vec<_>>()
    });
    let answers = answers.into_iter();
    let answers = answers.map(|it| it.map_err(|_| anyhow!("a login panicked"))?);
    answers.collect()
}

fn all_in(answers: &[Answer], role: impl Fn(usize) -> String) -> Result<()> {
    for (number, answer) in answers.iter().enumerate() {
        ensure!(answer.ok, "login {number}: {}", answer.stderr);
        ensure!(
            answer.stdout == role(number),
            "login {number} is {}",
            answer.stdout
        );
    }
    Ok(())
}

fn changing_groups(world: &World) -> Result<()> {
    const LOGINS: usize = 50;
    const CHANGES: usize = 12;
    world.add_person("changing", HR_GROUP)?;
    let logins: Vec<String> = (0..LOGINS).map(|it| spelling("changing", it)).collect();
    let (answers, changed, last) = std::thread::scope(|scope| {
        let logins = scope.spawn(|| log_in_together(world, &logins));
        let changed = (0..CHANGES).try_for_each(|number| {
            let group = format!("postern-turn-{}", number / 2);
            let member = Member::Person("changing");
            match number % 2 {
                0 => world.directory.add_member(&group, member),
                _ => world.directory.remove_member(&group, member),
            }
        });
        // This one begins after the last change, while others are under way.
        let last = world
            .psql(&spelling("changing", LOGINS))
            .run("select session_user");
        (logins.join(), changed, last)
    });
    changed?;
    let mut answers = answers.map_err(|_| anyhow!("the logins panicked"))??;
    answers.push(last?);
    all_in(&answers, |_| "changing".to_owned())?;
    let roles = world.memberships("changing")?;
    ensure!(roles.iter().eq([HR_GROUP]), "{roles:?}");
    Ok(())
}

fn new_group(world: &World) -> Result<()> {
    const PEOPLE: usize = 100;
    let people: Vec<String> = (0..PEOPLE).map(|it| format!("new-{it:03}")).collect();
    for login in &people {
        world.add_person(login, "postern-new-group")?;
    }
    let answers = log_in_together(world, &people)?;
    all_in(&answers, |number| format!("new-{number:03}"))?;
    for login in &people {
        let roles = world.memberships(login)?;
        ensure!(roles.iter().eq(["postern-new-group"]), "{login}: {roles:?}");
    }
    let groups = "select count(*) from postern.group_role where role_name = 'postern-new-group'";
    ensure!(
        world.postgres.sql(groups)? == "1",
        "the group is on record twice"
    );
    Ok(())
}

fn one_person(world: &World) -> Result<()> {
    const LOGINS: usize = 200;
    world.add_person("popular", HR_GROUP)?;
    let before = world.postgres.syncs()?;
    let logins = vec!["popular".to_owned(); LOGINS];
    let answers = log_in_together(world, &logins)?;
    all_in(&answers, |_| "popular".to_owned())?;
    let twice = world.postgres.sql(
        "select action, count(*) from postern.change_log where role_name = 'popular' \
         group by action having count(*) > 1",
    )?;
    ensure!(twice.is_empty(), "done twice: {twice}");
    let syncs = world.postgres.syncs()? - before;
    ensure!(syncs <= 10, "{syncs} syncs for one person");
    Ok(())
}

/// Another proxy has heard of a group that has been taken away again since.
fn another_proxy(world: &World) -> Result<()> {
    world.add_person("drift", HR_GROUP)?;
    let psql = world.psql("drift");
    psql.query("select 1")?;
    world.postgres.sql(
        "select postern.apply_login(m.role_name, m.directory_id, m.login, m.dn, \
         array['postern-hr-data', 'postern-drift'], a.rolpassword, 'create', false, 'other') \
         from postern.managed_role m join pg_authid a on a.oid = m.role_oid \
         where m.role_name = 'drift'",
    )?;
    let granted = "select count(*) from postern.change_log \
        where role_name = 'drift' and action = 'grant' and detail like 'postern-drift%'";
    ensure!(world.postgres.sql(granted)? == "1");
    wait_until("the membership is gone", SEEN_LIMIT, || {
        psql.query("select 1")?;
        Ok(world.memberships("drift")?.iter().eq([HR_GROUP]))
    })
}
