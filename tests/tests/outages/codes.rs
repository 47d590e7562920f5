//! Result codes that are neither yes nor "invalid credentials" (RFC 4511, appendix A), made by
//! OpenLDAP's own overlay for that (slapo-retcode(5)).

use anyhow::{Context as _, Result, bail, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::openldap::ADMIN_DN;
use postern_tests::world::{CHANGE_LIMIT, last_refusal};
use postern_tests::{ConfigFile, DirectoryServer, Member, OpenLdap, RawClient, World, wait_until};

const PASSWORD: &str = "Odd-codes-90";
/// The overlay asks for the entry as whoever binds, who is nobody yet. Below its own parent, where
/// nothing is, it would make entries up.
const OVERLAY: &str = "access to * by * read\n\
    moduleload retcode\n\
    overlay retcode\n\
    retcode-parent ou=codes,dc=corp,dc=example\n\
    retcode-indir\n";

/// `busy`, which is to be asked again.
const BUSY: u32 = 51;
/// `other`, which says nothing at all.
const OTHER: u32 = 80;
/// `inappropriateAuthentication` and `unwillingToPerform`, by which some servers mean the account.
const OF_THE_ACCOUNT: [u32; 2] = [48, 53];
/// operationsError, sizeLimitExceeded, strongerAuthRequired, referral, confidentialityRequired,
/// inappropriateAuthentication, busy, unavailable, unwillingToPerform, other, and one that nobody
/// has defined.
const CODES: [u32; 11] = [1, 4, 8, 10, 13, 48, BUSY, 52, 53, OTHER, 123];

/// A directory in which anybody's entry may name the code with which it is answered.
fn odd_directory(world: &World) -> Result<OpenLdap> {
    let odd = OpenLdap::start_with(&world.scratch, &world.certificates, OVERLAY)?;
    // The overlay looks every operation's entry up, that of the administrator's bind, too.
    odd.stop()?;
    odd.ldif_offline(&format!(
        "dn: {ADMIN_DN}\nchangetype: add\nobjectClass: organizationalRole\n"
    ))?;
    odd.start_again()?;
    odd.add_group(HR_GROUP)?;
    Ok(odd)
}

fn add_person(odd: &OpenLdap, login: &str) -> Result<()> {
    odd.add_person(login, PASSWORD)?;
    odd.add_member(HR_GROUP, Member::Person(login))
}

fn answer_with(odd: &OpenLdap, login: &str, code: u32, operation: &str) -> Result<()> {
    let dn = OpenLdap::person_dn(login);
    odd.ldif(&format!(
        "dn: {dn}\nchangetype: modify\nadd: objectClass\nobjectClass: errAuxObject\n-\n\
         add: errCode\nerrCode: {code}\n-\nadd: errOp\nerrOp: {operation}\n"
    ))
}

fn binds_of(odd: &OpenLdap, login: &str) -> Result<usize> {
    let log = std::fs::read(odd.log_file())?;
    let bind = format!(" BIND dn=\"{}\" method=", OpenLdap::person_dn(login));
    let log = String::from_utf8_lossy(&log);
    Ok(log.lines().filter(|it| it.contains(&bind)).count())
}

/// With the odd directory instead of the other, and memory that lasts. The other proxy does not
/// run: it would find roles of people whom its own directory does not know.
fn with(world: &World, odd: &OpenLdap, claim: impl FnOnce() -> Result<()>) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config
            .set("directory", "urls", vec![odd.url()])
            .set("directory", "feed", "off")
            .set("cache", "stale_s", 600);
    };
    world.postern.stop()?;
    let outcome = world.with_plain_config(change, || {
        // Whoever is remembered by then is looked at.
        world.plain.wait_until_listening()?;
        claim()
    });
    world.postern.start_again()?;
    outcome
}

/// The SQLSTATE of the refusal.
fn refused(world: &World, login: &str) -> Result<String> {
    let told = RawClient::refused(world.plain.port(), login, HR_DATABASE, PASSWORD)?;
    told.field(b'C').context("a refusal without a code")
}

pub(crate) fn a_result_code_that_is_no_yes_lets_nobody_in_and_is_one_bind(
    world: &World,
) -> Result<()> {
    let odd = odd_directory(world)?;
    add_person(&odd, "even")?;
    for code in CODES {
        let login = format!("bind{code}");
        add_person(&odd, &login)?;
        answer_with(&odd, &login, code, "bind")?;
    }
    with(world, &odd, || {
        for code in CODES {
            let login = format!("bind{code}");
            let told = refused(world, &login)?;
            let expected = match OF_THE_ACCOUNT.contains(&code) {
                true => "28P01",
                false => "57P03",
            };
            ensure!(told == expected, "{code}: {told}");
            let binds = binds_of(&odd, &login)?;
            ensure!(binds == 1, "{code}: {binds} binds");
            // Who has no such entry is in all the while.
            RawClient::logged_in(world.plain.port(), "even", HR_DATABASE, PASSWORD)?;
        }
        Ok(())
    })
}

pub(crate) fn a_search_that_ends_with_an_error_lets_nobody_in(world: &World) -> Result<()> {
    let odd = odd_directory(world)?;
    for code in CODES {
        let login = format!("search{code}");
        add_person(&odd, &login)?;
        answer_with(&odd, &login, code, "search")?;
    }
    with(world, &odd, || {
        for code in CODES {
            let login = format!("search{code}");
            let told = refused(world, &login)?;
            ensure!(told == "57P03", "{code}: {told}");
            ensure!(binds_of(&odd, &login)? == 0, "{code}: a password was sent");
        }
        Ok(())
    })
}

pub(crate) fn memory_stands_in_for_a_busy_directory_and_not_for_an_odd_answer(
    world: &World,
) -> Result<()> {
    let odd = odd_directory(world)?;
    for login in ["remembered51", "remembered80"] {
        add_person(&odd, login)?;
    }
    with(world, &odd, || {
        let log_in =
            |login: &str| RawClient::log_in(world.plain.port(), login, HR_DATABASE, PASSWORD);
        for (login, code) in [("remembered51", BUSY), ("remembered80", OTHER)] {
            ensure!(log_in(login)?.is_ok(), "{login} is not in at first");
            answer_with(&odd, login, code, "bind")?;
        }
        wait_until("the answer is due for a check", CHANGE_LIMIT, || {
            Ok(log_in("remembered80")?.is_err())
        })?;
        ensure!(refused(world, "remembered80")? == "57P03");
        wait_until("memory stands in", CHANGE_LIMIT, || {
            if let Err(told) = log_in("remembered51")? {
                bail!(
                    "busy is no refusal: {told:?}, {}",
                    last_refusal(&world.plain)?
                );
            }
            let records = world.plain.audit()?;
            let mut told = records.iter().filter(|it| it["event"] == "authenticated");
            Ok(told.any(|it| it["source"] == "stale_memory" && it["name"] == "remembered51"))
        })
    })
}
