//! What a client sends to the admin console.

use postern_core::console::{Order, Statement, parse};
use postern_core::limits::{CONSOLE_MESSAGE_BYTES_MAX, CONSOLE_WORD_BYTES_MAX};
use postern_core::wire::query::{self, Request};

/// Messages one after the other; and the same bytes as a command.
pub fn console(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((request, length))) = query::read(rest) {
        assert!(length > 0 && length <= CONSOLE_MESSAGE_BYTES_MAX);
        // No part of a message is taken for the whole.
        let cut = rest.get(..length - 1).unwrap_or_default();
        assert!(!matches!(query::read(cut), Ok(Some(_))));
        if let Request::Query(text) | Request::Parse { query: text, .. } = request {
            command(text);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    if let Ok(text) = std::str::from_utf8(data) {
        command(text);
    }
}

/// What is read keeps its limits, and its names are read again as they are.
fn command(text: &str) {
    for statement in parse(text).unwrap_or_default() {
        if let Statement::Order(Order::Restore { name }) = &statement {
            assert!(!name.is_empty() && name.len() <= CONSOLE_WORD_BYTES_MAX);
            let again = format!("RESTORE '{}'", name.replace('\'', "''"));
            assert_eq!(parse(&again), Ok(vec![statement.clone()]));
        }
        // An order is never without a right.
        let is_order = matches!(statement, Statement::Order(_));
        assert!(!is_order || statement.right().is_some());
    }
}
