//! The tables of the console and of `postern show`: what is in them, and as text.

mod figures;
mod sessions;
mod state;

use postern_core::console::{Cell, Kind, Right, Shown, Statement, Table};
use postern_core::limits::CONSOLE_ROWS_MAX;

use crate::gate::Gate;
use crate::printable::printable;

/// A column: its name, and what its values are.
type Columns = &'static [(&'static str, Kind)];

/// A row.
type Row = Vec<Cell>;

/// The commands that are no SHOW: how each is written, the right that it needs, and what it does.
const ORDERS: [(&str, Right, &str); 9] = [
    (
        "KILL session [REASON '...']",
        Right::Kill,
        "end a session, by its identifier in SHOW SESSIONS",
    ),
    (
        "KILL ROLE role [REASON '...']",
        Right::Kill,
        "end all sessions of a role on this proxy",
    ),
    (
        "REVOKE name [FOR 1h] REASON '...'",
        Right::Revoke,
        "keep a person out on every proxy, and end their sessions",
    ),
    (
        "RESTORE name",
        Right::Restore,
        "let a person in again who was revoked",
    ),
    ("RELOAD", Right::Reload, "read the configuration again"),
    (
        "DRAIN [WITHIN 5m]",
        Right::Drain,
        "let no more sessions begin; after the time, end those that are left",
    ),
    (
        "PAUSE",
        Right::Pause,
        "let new logins wait; live sessions go on",
    ),
    ("RESUME", Right::Resume, "end a pause or a drain"),
    (
        "ROTATE",
        Right::Rotate,
        "close the audit file and go on in a new one",
    ),
];

/// A table as it is now.
pub(crate) async fn shown(gate: &Gate, what: Shown) -> Table {
    let rows = match what {
        Shown::Version => state::version(gate),
        Shown::Config => state::config(gate),
        Shown::Sessions => sessions::sessions(gate).await,
        Shown::Clients => sessions::clients(gate),
        Shown::Servers => sessions::servers(gate),
        Shown::Backends => state::backends(gate),
        Shown::Directory => state::directory(gate),
        Shown::Cache => state::cache(gate),
        Shown::Policy => state::policy(gate),
        Shown::Stats => figures::stats(gate),
        Shown::Limits => figures::limits(gate),
        Shown::Help => help(),
    };
    Table::new(columns(what)).with(rows, CONSOLE_ROWS_MAX)
}

/// The columns of a table.
pub(super) fn columns(what: Shown) -> Columns {
    match what {
        Shown::Version => state::VERSION,
        Shown::Config => state::CONFIG,
        Shown::Sessions => sessions::SESSIONS,
        Shown::Clients => sessions::CLIENTS,
        Shown::Servers => sessions::SERVERS,
        Shown::Backends => state::BACKENDS,
        Shown::Directory | Shown::Policy => state::PARTS,
        Shown::Cache | Shown::Stats => figures::FIGURES,
        Shown::Limits => figures::LIMITS,
        Shown::Help => &[
            ("command", Kind::Text),
            ("right", Kind::Text),
            ("meaning", Kind::Text),
        ],
    }
}

/// A table for people: columns are aligned, and numbers stand to the right.
pub(crate) fn text(table: &Table) -> String {
    let heading: Vec<String> = table.columns.iter().map(|it| it.name.clone()).collect();
    let cell = |it: &Cell| printable(&it.shown());
    let shown = |row: &Row| row.iter().map(cell).collect::<Vec<String>>();
    let rows: Vec<Vec<String>> = std::iter::once(heading)
        .chain(table.rows.iter().map(shown))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let cells = rows.iter().filter_map(|it| it.get(index));
            let width = cells.map(|it| it.chars().count()).max().unwrap_or(0);
            let kind = table.columns.get(index).map(|it| it.kind);
            line += &match kind {
                Some(Kind::Integer) => format!("{cell:>width$}  "),
                _ => format!("{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if table.left_out > 0 {
        text += &format!("... and {} more\n", table.left_out);
    }
    text
}

fn help() -> Vec<Row> {
    let show = Shown::ALL.into_iter().map(|it| {
        let (name, meaning) = it.about();
        let right = Statement::Show(it).right();
        let right = Cell::or_null(right, |it| Cell::text(it.label()));
        let command = format!("SHOW {}", name.to_uppercase());
        vec![Cell::Text(command), right, Cell::text(meaning)]
    });
    let orders = ORDERS.into_iter().map(|(command, right, meaning)| {
        vec![
            Cell::text(command),
            Cell::text(right.label()),
            Cell::text(meaning),
        ]
    });
    show.chain(orders).collect()
}

#[cfg(test)]
mod tests {
    use postern_core::console::{BUNDLES, parse};

    use super::*;

    #[test]
    fn every_command_of_the_help_is_one_and_needs_the_right_that_it_says() {
        for row in help() {
            let [Cell::Text(command), right, _] = row.as_slice() else {
                panic!("{row:?}");
            };
            let said = command.replace(['[', ']'], "").replace("...", "x");
            let said = said.replace("session", "00ab").replace(" role", " alice");
            let statement = parse(&said).unwrap_or_default().pop();
            let needed = statement.as_ref().and_then(Statement::right);
            assert!(statement.is_some(), "{command}");
            assert_eq!(Cell::or_null(needed, |it| Cell::text(it.label())), *right);
        }
    }

    #[test]
    fn every_right_is_needed_by_a_command_and_is_in_a_bundle() {
        for right in Right::ALL {
            let of_orders = ORDERS.iter().any(|(_, needed, _)| *needed == right);
            assert!(of_orders || right == Right::Show, "{right:?}");
            let mut bundles = BUNDLES.iter();
            assert!(bundles.any(|(_, rights)| rights.contains(&right)));
        }
    }

    #[test]
    fn a_table_is_aligned_with_numbers_to_the_right() {
        let table = Table::new(&[("name", Kind::Text), ("count", Kind::Integer)]);
        let row = |name: &str, count| vec![Cell::text(name), count];
        let rows = [row("é", Cell::Integer(7)), row("longer", Cell::Null)];
        let text = text(&table.with(rows, 9));
        assert_eq!(text, "name    count\né           7\nlonger\n");
    }

    #[test]
    fn no_value_of_a_table_makes_a_row_or_commands_the_terminal() {
        let table = Table::new(&[("name", Kind::Text), ("other", Kind::Text)]);
        let row = vec![Cell::text("a\nb\u{1b}[2J"), Cell::text("\u{202e}c")];
        let text = text(&table.with([row], 9));
        let shown = "name           other\na\\nb\\u{1b}[2J  \\u{202e}c\n";
        assert_eq!(text, shown);
    }
}
