//! The servers themselves, before anything is tested with them.

use anyhow::{Context, Result};
use postern_tests::{
    Certificates, DirectoryServer, OpenLdap, Postgres, Samba, Scratch, cast, needs,
};

#[test]
fn postgres_answers_over_tls_and_comes_back_after_a_restart() -> Result<()> {
    if needs::postgres(None).is_none() {
        needs::skip("postgres_answers_over_tls", "PostgreSQL is not installed");
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let certificates = Certificates::new(&scratch)?;
    let postgres = Postgres::start(&scratch, &certificates)?;
    cast::make_databases(&postgres)?;
    postgres.sql("create role alice login password 'wonderland'")?;
    let alice = postgres.psql("alice", "wonderland");
    let tls = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(alice.query(tls)?, "t|TLSv1.3");
    assert!(
        alice
            .login("alice", "wrong")
            .refused()?
            .contains("password authentication failed")
    );
    postgres.restart()?;
    assert_eq!(alice.database(cast::HR_DATABASE).query("select 1")?, "1");
    postgres.set_hba("hostssl all all 127.0.0.1/32 reject")?;
    assert!(alice.refused()?.contains("rejects connection"));
    Ok(())
}

#[test]
fn openldap_knows_the_cast_and_counts_what_it_is_asked() -> Result<()> {
    if let Some(missing) = needs::missing_for_openldap() {
        needs::skip("openldap_knows_the_cast", &missing);
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let certificates = Certificates::new(&scratch)?;
    let directory = OpenLdap::start(&scratch, &certificates)?;
    cast::populate(&directory)?;
    assert_eq!(directory.binds()?, Some(0));
    let groups = directory.search("(uid=testuser)", &["memberOf"])?;
    assert!(groups.contains(cast::HR_GROUP), "{groups}");
    for (url, tls) in [
        (directory.url(), None),
        (directory.plain_url(), Some("-ZZ")),
    ] {
        let mut who = std::process::Command::new("ldapwhoami");
        who.env("LDAPTLS_CACERT", directory.ca_file());
        who.args(["-x", "-H", &url]).args(tls);
        who.args([
            "-D",
            &OpenLdap::person_dn("nina"),
            "-w",
            cast::NINA.password,
        ]);
        let name = postern_tests::process::run(&mut who).context(url)?;
        assert_eq!(name.trim(), format!("dn:{}", OpenLdap::person_dn("nina")));
    }
    assert_eq!(directory.binds()?, Some(2));
    Ok(())
}

#[test]
fn two_sambas_run_side_by_side_and_know_nested_groups() -> Result<()> {
    if let Some(missing) = needs::missing_for_samba() {
        needs::skip("two_sambas_run_side_by_side", &missing);
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let certificates = Certificates::new(&scratch)?;
    let first = Samba::start(&scratch, &certificates)?;
    let second = Samba::start(&scratch, &certificates)?;
    cast::populate(&second)?;
    assert_eq!(second.binds()?, Some(0));
    let in_chain = format!(
        "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={}))",
        Samba::dn("nina")
    );
    let groups = second.search(&in_chain, &["cn"])?;
    assert!(groups.contains(cast::FINANCE_GROUP), "{groups}");
    assert!(!first.search("(cn=nina)", &["cn"])?.contains("nina"));
    for (url, tls) in [(second.url(), None), (second.plain_url(), Some("-ZZ"))] {
        let mut search = std::process::Command::new("ldapsearch");
        search.env("LDAPTLS_CACERT", second.ca_file());
        search.args(["-x", "-LLL", "-H", &url]).args(tls);
        search.args(["-D", "nina@corp.example", "-w", cast::NINA.password]);
        search.args(["-s", "base", "-b", &Samba::dn("nina"), "sAMAccountName"]);
        let entry = postern_tests::process::run(&mut search).context(url)?;
        assert!(entry.contains("sAMAccountName: nina"), "{entry}");
    }
    assert_eq!(second.binds()?, Some(2));
    Ok(())
}
