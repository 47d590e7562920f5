//! What a statement is answered, once it is known who says it.

use std::time::Duration;

use postern_core::audit::OrderOutcome;
use postern_core::console::{
    Cell, Column, CommandError, Constant, Kill, Kind, Order, Right, Rights, Shown, Statement, Table,
};
use postern_core::limits::CONSOLE_ROWS_MAX;
use postern_core::sqlstate::Sqlstate;
use tokio::time::timeout;

use super::show;
use crate::gate::Gate;
use crate::limits::COMMAND_TIMEOUT;
use crate::operators::{Operator, OrderError};
use crate::revocation::{Command, Said};
use crate::upkeep::Upkeep;

/// The version of PostgreSQL whose protocol and types the console speaks, for clients that decide
/// by it; what it is follows in brackets.
const SERVER_VERSION: &str = concat!("14.0 (Postern ", env!("CARGO_PKG_VERSION"), " console)");

/// What a client is told.
pub(super) struct Answer {
    /// Texts that are shown beside it.
    pub(super) notices: Vec<String>,
    /// The rows, if it has some.
    pub(super) table: Option<Table>,
    /// What it is called when it is done.
    pub(super) tag: String,
}

/// Why a statement was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) sqlstate: Sqlstate,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(sqlstate: Sqlstate, message: &str) -> Self {
        Self {
            sqlstate,
            message: message.to_owned(),
            hint: None,
        }
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        let sqlstate = match error {
            CommandError::Sql => Sqlstate::FEATURE_NOT_SUPPORTED,
            CommandError::TooMany => Sqlstate::LIMIT_EXCEEDED,
            CommandError::Unknown
            | CommandError::Expected(_)
            | CommandError::Unterminated
            | CommandError::TooLong
            | CommandError::Control => Sqlstate::SYNTAX_ERROR,
        };
        Self {
            hint: Some("HELP lists the commands."),
            ..Self::new(sqlstate, &error.to_string())
        }
    }
}

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Self {
        let sqlstate = match error {
            OrderError::Unknown(_) => Sqlstate::UNDEFINED_OBJECT,
            OrderError::NotNow(_) | OrderError::Failed(_) => Sqlstate::NOT_NOW,
        };
        Self::new(sqlstate, &error.to_string())
    }
}

impl Answer {
    /// Does what a statement says, if whoever says it may, and after it is on record.
    pub(super) async fn to(
        statement: &Statement,
        gate: &Gate,
        (operator, rights): (&Operator, &Rights),
    ) -> Result<Self, Refusal> {
        if let Some(right) = statement.right().filter(|it| !rights.has(*it)) {
            return Err(denied(statement, gate, (operator, right)).await);
        }
        match statement {
            Statement::Show(shown) => {
                if *shown != Shown::Help {
                    operator.orders(gate, "show", (shown.name(), "")).await?;
                }
                Ok(Self::rows(show::shown(gate, *shown).await, "SHOW"))
            }
            Statement::Order(order) => {
                let obeyed = timeout(COMMAND_TIMEOUT, obey(gate, order, operator)).await;
                let late = |_| OrderError::Failed("it takes too long; it goes on".to_owned());
                Ok(Self {
                    notices: obeyed.map_err(late)??,
                    table: None,
                    tag: order.right().label().to_uppercase(),
                })
            }
            Statement::Select(constant) => {
                let cell = match constant {
                    Constant::Number(number) => Cell::integer(*number),
                    Constant::Version => {
                        Cell::text(format!("PostgreSQL {SERVER_VERSION}, no database"))
                    }
                    Constant::User => Cell::text(&operator.name),
                    Constant::Database => {
                        Cell::or_null(gate.console.as_ref(), |it| Cell::text(it.database()))
                    }
                };
                Ok(Self::rows(single(statement, cell), "SELECT 1"))
            }
            Statement::Parameter(name) => {
                let value = parameter(name, &operator.name);
                let unknown = || {
                    let text = format!("unrecognized configuration parameter \"{name}\"");
                    Refusal {
                        hint: Some("HELP lists the commands."),
                        ..Refusal::new(Sqlstate::UNDEFINED_OBJECT, &text)
                    }
                };
                let cell = Cell::text(value.ok_or_else(unknown)?);
                Ok(Self::rows(single(statement, cell), "SHOW"))
            }
            Statement::Setting(setting) => Ok(Self {
                notices: Vec::new(),
                table: None,
                tag: setting.tag().to_owned(),
            }),
        }
    }

    fn rows(table: Table, tag: &str) -> Self {
        let note = format!(
            "the first {CONSOLE_ROWS_MAX} rows are shown, and {} more are there",
            table.left_out
        );
        Self {
            notices: (table.left_out > 0).then_some(note).into_iter().collect(),
            table: Some(table),
            tag: tag.to_owned(),
        }
    }
}

/// The columns of what a statement returns; none where it returns no rows.
pub(super) fn columns_of(statement: &Statement) -> Vec<Column> {
    let (name, kind) = match statement {
        Statement::Show(shown) => return Table::new(show::columns(*shown)).columns,
        Statement::Order(_) | Statement::Setting(_) => return Vec::new(),
        Statement::Select(Constant::Number(_)) => ("?column?", Kind::Integer),
        Statement::Select(Constant::Version) => ("version", Kind::Text),
        Statement::Select(Constant::User) => ("current_user", Kind::Text),
        Statement::Select(Constant::Database) => ("current_database", Kind::Text),
        Statement::Parameter(name) => (name.as_str(), Kind::Text),
    };
    Table::new(&[(name, kind)]).columns
}

fn single(statement: &Statement, cell: Cell) -> Table {
    Table {
        columns: columns_of(statement),
        rows: vec![vec![cell]],
        left_out: 0,
    }
}

/// What clients are told at the start, as a database tells it.
pub(super) fn parameters(account: &str) -> Vec<(&'static str, String)> {
    [
        ("server_version", SERVER_VERSION),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "off"),
        ("session_authorization", account),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// What drivers ask besides.
fn parameter(name: &str, account: &str) -> Option<String> {
    let isolation = ["transaction_isolation", "transaction_isolation_level"];
    if isolation.contains(&name) || name == "default_transaction_isolation" {
        return Some("read committed".to_owned());
    }
    let name = name.replace("time_zone", "timezone");
    let mut known = parameters(account).into_iter();
    let found = known.find(|(it, _)| it.eq_ignore_ascii_case(&name));
    found.map(|(_, value)| value)
}

/// Puts on record that somebody wanted what they may not.
async fn denied(
    statement: &Statement,
    gate: &Gate,
    (operator, right): (&Operator, Right),
) -> Refusal {
    let said = match statement {
        Statement::Show(shown) => Some(Said {
            order: "show",
            subject: shown.name().to_owned(),
            detail: String::new(),
        }),
        Statement::Order(order) => command(order).and_then(|it| it.said()),
        Statement::Select(_) | Statement::Parameter(_) | Statement::Setting(_) => None,
    };
    // Of the others there is no more to say than their name.
    let said = said.unwrap_or_else(|| Said {
        order: right.label(),
        ..Said::default()
    });
    let what = match said.order {
        "show" => format!("show {}", said.subject),
        _ => right.label().to_owned(),
    };
    let needs = format!(
        "{} needs the right \"{}\"",
        what.to_uppercase(),
        right.label()
    );
    let about = (said.subject.as_str(), said.detail.as_str());
    if let Err(error) = operator.orders(gate, said.order, about).await {
        return error.into();
    }
    let outcome = OrderOutcome::Denied;
    operator
        .ended(gate, said.order, outcome, needs.clone())
        .await;
    let text = format!("permission denied: {needs}");
    Refusal::new(Sqlstate::INSUFFICIENT_PRIVILEGE, &text)
}

/// Has the control thread do what is ordered.
async fn obey(gate: &Gate, order: &Order, by: &Operator) -> Result<Vec<String>, OrderError> {
    match command(order) {
        Some(command) => gate.orders.command(command, by.clone()).await,
        None => {
            let answer = gate.upkeep.order(Upkeep::Reload, by.clone()).await;
            answer.map_err(OrderError::NotNow)
        }
    }
}

/// An order as the control thread knows it; a reload is none of its commands.
fn command(order: &Order) -> Option<Command> {
    let seconds = |it: Duration| it.as_secs();
    Some(match order.clone() {
        Order::Reload => return None,
        Order::Kill {
            whom: Kill::Session(session),
            reason,
        } => Command::Kill { session, reason },
        Order::Kill {
            whom: Kill::Role(role),
            reason,
        } => Command::KillRole { role, reason },
        Order::Revoke {
            name,
            lasts,
            reason,
        } => Command::Revoke {
            name,
            for_s: lasts.map(seconds),
            reason,
        },
        Order::Restore { name } => Command::Restore { name },
        Order::Drain { within } => Command::Drain {
            within_s: within.map(seconds),
        },
        Order::Pause => Command::Pause,
        Order::Resume => Command::Resume,
        Order::Rotate => Command::Rotate,
    })
}

#[cfg(test)]
mod tests {
    use postern_core::console::parse;

    use super::*;

    #[test]
    fn every_statement_that_returns_rows_says_its_columns_beforehand() {
        for shown in Shown::ALL {
            assert!(!columns_of(&Statement::Show(shown)).is_empty(), "{shown:?}");
        }
        for query in ["select 1", "select version()", "show server_version"] {
            let statement = parse(query).unwrap_or_default().pop();
            let columns = statement.as_ref().map(columns_of).unwrap_or_default();
            assert_eq!(columns.len(), 1, "{query}");
        }
        for query in ["pause", "set x = 1"] {
            let statement = parse(query).unwrap_or_default().pop();
            assert_eq!(
                statement.as_ref().map(columns_of),
                Some(Vec::new()),
                "{query}"
            );
        }
    }

    #[test]
    fn what_drivers_ask_has_a_value() {
        for name in [
            "server_version",
            "datestyle",
            "time_zone",
            "transaction_isolation_level",
            "standard_conforming_strings",
        ] {
            assert!(parameter(name, "ops").is_some(), "{name}");
        }
        assert_eq!(parameter("work_mem", "ops"), None);
    }
}
