//! Every command, and what is none.

use proptest::prelude::*;

use super::*;
use crate::limits::{CONSOLE_WORD_BYTES_MAX, CONSOLE_WORDS_MAX};

fn one(query: &str) -> Result<Statement, CommandError> {
    let mut statements = parse(query)?;
    assert_eq!(statements.len(), 1, "{query}");
    statements.pop().ok_or(CommandError::Unknown)
}

fn order(query: &str) -> Result<Order, CommandError> {
    let statement = one(query)?;
    let Statement::Order(order) = statement else {
        panic!("{query}: {statement:?}");
    };
    Ok(order)
}

#[test]
fn every_table_is_shown_by_its_name_in_any_case() {
    for shown in Shown::ALL {
        for query in [
            format!("show {}", shown.name()),
            format!(" SHOW\t{} ; ", shown.name().to_uppercase()),
            format!("/* x */ show {} -- y", shown.name()),
        ] {
            assert_eq!(one(&query), Ok(Statement::Show(shown)), "{query}");
        }
    }
    assert_eq!(one("help"), Ok(Statement::Show(Shown::Help)));
    let refused = Err(CommandError::Expected("the end of the command"));
    assert_eq!(one("show help me"), refused);
}

#[test]
fn an_order_has_its_words_in_order() {
    let kill = |whom, reason: &str| {
        let reason = reason.to_owned();
        Ok(Order::Kill { whom, reason })
    };
    let session = || Kill::Session("00ab".to_owned());
    assert_eq!(order("kill 00ab"), kill(session(), ""));
    assert_eq!(
        order("KILL SESSION '00ab' REASON 'a ''b'''"),
        kill(session(), "a 'b'")
    );
    let role = Kill::Role("Alice X".to_owned());
    assert_eq!(order("kill role \"Alice X\" reason x"), kill(role, "x"));
    let revoke = Order::Revoke {
        name: "CORP\\alice".to_owned(),
        lasts: Some(Duration::from_secs(3_600)),
        reason: "left".to_owned(),
    };
    assert_eq!(order("revoke CORP\\alice for 1h reason 'left'"), Ok(revoke));
    let name = "alice@corp.example".to_owned();
    assert_eq!(
        order("restore alice@corp.example;"),
        Ok(Order::Restore { name })
    );
    let within = Some(Duration::from_secs(300));
    assert_eq!(order("drain within 5m"), Ok(Order::Drain { within }));
    for (query, expected) in [
        ("drain", Order::Drain { within: None }),
        ("reload", Order::Reload),
        ("pause", Order::Pause),
        ("resume", Order::Resume),
        ("rotate", Order::Rotate),
    ] {
        assert_eq!(order(query), Ok(expected), "{query}");
    }
}

#[test]
fn an_order_that_lacks_something_is_refused() {
    for query in [
        "kill",
        "kill role",
        "kill ''",
        "kill a b",
        "kill a reason",
        "revoke",
        "revoke alice",
        "revoke alice for 1h",
        "revoke alice for 1y reason x",
        "revoke alice for 0s reason x",
        "restore",
        "restore a b",
        "drain 5m",
        "drain within",
        "drain within -5m",
        "pause now",
        "show",
    ] {
        assert!(
            matches!(parse(query), Err(CommandError::Expected(_))),
            "{query}"
        );
    }
}

#[test]
fn a_keyword_in_quotes_is_a_name() {
    let name = "reason".to_owned();
    assert_eq!(order("restore 'reason'"), Ok(Order::Restore { name }));
    assert_eq!(parse("'show' help"), Err(CommandError::Unknown));
    let whom = Kill::Session("role".to_owned());
    let reason = String::new();
    assert_eq!(order("kill 'role'"), Ok(Order::Kill { whom, reason }));
}

#[test]
fn what_drivers_ask_is_answered() {
    for (query, constant) in [
        ("select 1", Constant::Number(1)),
        ("SELECT version();", Constant::Version),
        ("select pg_catalog.version()", Constant::Version),
        ("select current_user", Constant::User),
        ("select current_database()", Constant::Database),
    ] {
        assert_eq!(one(query), Ok(Statement::Select(constant)), "{query}");
    }
    for (query, setting) in [
        ("set extra_float_digits = 3", Setting::Set),
        ("SET application_name = 'psql (x)'", Setting::Set),
        ("BEGIN READ WRITE", Setting::Begin),
        ("start transaction", Setting::Begin),
        ("rollback", Setting::Rollback),
        ("discard all", Setting::Discard),
    ] {
        assert_eq!(one(query), Ok(Statement::Setting(setting)), "{query}");
    }
    let parameter = |name: &str| Ok(Statement::Parameter(name.to_owned()));
    assert_eq!(one("show server_version"), parameter("server_version"));
    assert_eq!(
        one("SHOW TRANSACTION ISOLATION LEVEL"),
        parameter("transaction_isolation_level")
    );
}

#[test]
fn sql_is_told_from_nonsense() {
    for query in [
        "select * from pg_class",
        "select 1, 2",
        "select 'x'",
        "select pg_terminate_backend(1)",
        "with x as (select 1) table x",
        "delete from x",
    ] {
        assert_eq!(parse(query), Err(CommandError::Sql), "{query}");
    }
    for query in ["hello", "(", "1", "''", "\\d"] {
        assert_eq!(parse(query), Err(CommandError::Unknown), "{query}");
    }
}

#[test]
fn all_statements_are_read_before_any_is_done() {
    assert_eq!(parse(" ; ;; -- nothing\n"), Ok(Vec::new()));
    let two = parse("pause; show limits");
    let both = vec![
        Statement::Order(Order::Pause),
        Statement::Show(Shown::Limits),
    ];
    assert_eq!(two, Ok(both));
    assert_eq!(parse("pause; nonsense"), Err(CommandError::Unknown));
}

#[test]
fn quotes_and_words_have_an_end() {
    for query in ["restore 'a", "restore \"a", "/* show help", "restore 'a''"] {
        assert_eq!(parse(query), Err(CommandError::Unterminated), "{query}");
    }
    let longest = "a".repeat(CONSOLE_WORD_BYTES_MAX);
    assert!(order(&format!("restore {longest}")).is_ok());
    let refused = parse(&format!("restore '{longest}b'"));
    assert_eq!(refused, Err(CommandError::TooLong));
    let many = "set ".repeat(CONSOLE_WORDS_MAX);
    assert!(parse(&many).is_ok());
    assert_eq!(parse(&format!("{many} x")), Err(CommandError::TooLong));
    let sql = format!("select {}", "x, ".repeat(CONSOLE_WORDS_MAX));
    assert_eq!(parse(&sql), Err(CommandError::Sql));
    assert_eq!(parse("restore 'a\nb'"), Err(CommandError::Control));
}

#[test]
fn a_query_has_64_statements_at_most() {
    let most = "pause;;".repeat(CONSOLE_QUERY_STATEMENTS_MAX);
    assert_eq!(
        parse(&most).map(|it| it.len()),
        Ok(CONSOLE_QUERY_STATEMENTS_MAX)
    );
    let refused = parse(&format!("{most} pause"));
    assert_eq!(refused, Err(CommandError::TooMany));
}

#[test]
fn a_time_has_a_number_and_a_unit() {
    let seconds = |text| lasting(text).map(|it| it.as_secs());
    assert_eq!(seconds("90s"), Some(90));
    assert_eq!(seconds("15m"), Some(900));
    assert_eq!(seconds("1h"), Some(3_600));
    assert_eq!(seconds("2d"), Some(172_800));
    assert_eq!(seconds("36525d"), Some(LASTING_S_MAX));
    let huge = "99999999999999999999d";
    for text in [
        "", "1", "h", "-1h", "+1h", "0s", "1 h", "1é", "36526d", huge,
    ] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn each_order_needs_its_own_right() {
    for (query, right) in [
        ("kill x", Right::Kill),
        ("revoke x reason y", Right::Revoke),
        ("restore x", Right::Restore),
        ("reload", Right::Reload),
        ("drain", Right::Drain),
        ("pause", Right::Pause),
        ("resume", Right::Resume),
        ("rotate", Right::Rotate),
        ("show sessions", Right::Show),
    ] {
        assert_eq!(one(query).map(|it| it.right()), Ok(Some(right)), "{query}");
    }
    assert_eq!(one("show help").map(|it| it.right()), Ok(None));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_quoted_name_comes_back_as_it_is(name in "[^\\p{Cc}]{1,60}") {
        let query = format!("restore '{}'", name.replace('\'', "''"));
        prop_assert_eq!(parse(&query), Ok(vec![Statement::Order(Order::Restore { name })]));
    }
}
