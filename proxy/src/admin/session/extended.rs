//! Statements that are prepared, and portals.

use std::collections::{HashMap, VecDeque};

use postern_core::console::{Cell, Statement, parse};
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::query::{
    self, BIND_COMPLETE, Bind, EMPTY_QUERY, Format, NO_DATA, NO_PARAMETERS, PARSE_COMPLETE,
    PORTAL_SUSPENDED, Target,
};

use super::{End, Session, description, put_row};
use crate::admin::answer::{Refusal, columns_of};
use crate::limits::{CONSOLE_OPEN_ANSWERS_MAX, CONSOLE_STATEMENTS_MAX};

/// A statement that can be run, once.
pub(in crate::admin) struct Portal {
    statement: Option<Statement>,
    formats: Vec<Format>,
    /// What is left of its answer, once it was run: rows, and what is said after them.
    left: Option<(VecDeque<Vec<Cell>>, String)>,
}

impl Portal {
    fn has_rows_left(&self) -> bool {
        self.left.as_ref().is_some_and(|(rows, _)| !rows.is_empty())
    }
}

impl Session {
    /// Parse.
    pub(super) fn prepare(&mut self, name: &str, query: &str) -> Result<(), Refusal> {
        let mut statements = parse(query)?;
        let statement = statements.pop();
        if !statements.is_empty() {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::new(Sqlstate::SYNTAX_ERROR, text));
        }
        if !name.is_empty() && self.statements.contains_key(name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Refusal::new(Sqlstate::DUPLICATE_STATEMENT, &text));
        }
        has_room(&self.statements, name)?;
        self.statements.insert(name.to_owned(), statement);
        self.out.extend(PARSE_COMPLETE);
        Ok(())
    }

    /// Bind.
    pub(super) fn bind(&mut self, bind: &Bind<'_>) -> Result<(), Refusal> {
        let statement = self.statement(bind.statement)?.clone();
        let columns = statement.as_ref().map_or(0, |it| columns_of(it).len());
        if bind.parameters > 0 {
            let text = format!(
                "{} parameters are bound, and commands have none",
                bind.parameters
            );
            return Err(Refusal::new(Sqlstate::PROTOCOL_VIOLATION, &text));
        }
        if bind.formats() > 1 && bind.formats() != columns {
            let given = bind.formats();
            let text = format!("{given} formats are given for {columns} columns");
            return Err(Refusal::new(Sqlstate::PROTOCOL_VIOLATION, &text));
        }
        has_room(&self.portals, bind.portal)?;
        let portal = Portal {
            statement,
            formats: (0..columns).map(|column| bind.format(column)).collect(),
            left: None,
        };
        self.portals.insert(bind.portal.to_owned(), portal);
        self.out.extend(BIND_COMPLETE);
        Ok(())
    }

    /// Describe.
    pub(super) fn describe(&mut self, target: Target<'_>) -> Result<(), Refusal> {
        let (columns, formats) = match target {
            Target::Statement(name) => {
                let columns = self.statement(name)?.as_ref().map(columns_of);
                self.out.extend(NO_PARAMETERS);
                (columns.unwrap_or_default(), Vec::new())
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                let columns = portal.statement.as_ref().map(columns_of);
                (columns.unwrap_or_default(), portal.formats.clone())
            }
        };
        match columns.is_empty() {
            true => self.out.extend(NO_DATA),
            false => self.out.extend(description(&columns, &formats)),
        }
        Ok(())
    }

    /// Execute: the statement is done the first time that its portal is asked for rows.
    pub(super) async fn execute(
        &mut self,
        name: &str,
        rows_max: u32,
    ) -> Result<Result<(), Refusal>, End> {
        let Some(portal) = self.portals.get(name) else {
            return Ok(Err(no_portal(name)));
        };
        let Some(statement) = portal.statement.clone() else {
            self.out.extend(EMPTY_QUERY);
            return Ok(Ok(()));
        };
        if portal.left.is_none() {
            let open = self.portals.values().filter(|it| it.has_rows_left());
            if rows_max > 0 && open.count() >= CONSOLE_OPEN_ANSWERS_MAX {
                let text = format!("{CONSOLE_OPEN_ANSWERS_MAX} portals at most have rows left");
                return Ok(Err(Refusal::new(Sqlstate::LIMIT_EXCEEDED, &text)));
            }
            let answer = match self.say(&statement).await? {
                Ok(answer) => answer,
                Err(refusal) => return Ok(Err(refusal)),
            };
            self.notices(&answer);
            let rows = answer.table.map(|it| it.rows).unwrap_or_default();
            if let Some(portal) = self.portals.get_mut(name) {
                portal.left = Some((rows.into(), answer.tag));
            }
        }
        let Some(portal) = self.portals.get_mut(name) else {
            return Ok(Ok(()));
        };
        let Some((rows, tag)) = &mut portal.left else {
            return Ok(Ok(()));
        };
        let wanted = match usize::try_from(rows_max) {
            Ok(0) | Err(_) => rows.len(),
            Ok(wanted) => wanted.min(rows.len()),
        };
        for row in rows.drain(..wanted) {
            put_row(&mut self.out, &row, &portal.formats);
        }
        match rows.is_empty() {
            true => {
                // Nor does it hold the memory that they had.
                rows.shrink_to_fit();
                self.out.extend(query::command_complete(tag));
            }
            false => self.out.extend(PORTAL_SUSPENDED),
        }
        Ok(Ok(()))
    }

    fn statement(&self, name: &str) -> Result<&Option<Statement>, Refusal> {
        self.statements.get(name).ok_or_else(|| {
            let text = format!("prepared statement \"{name}\" does not exist");
            Refusal::new(Sqlstate::NO_STATEMENT, &text)
        })
    }
}

/// Whether one more may be open, or this takes the place of another.
fn has_room<T>(open: &HashMap<String, T>, name: &str) -> Result<(), Refusal> {
    match open.len() < CONSOLE_STATEMENTS_MAX || open.contains_key(name) {
        true => Ok(()),
        false => {
            let text = format!("more than {CONSOLE_STATEMENTS_MAX} statements or portals are open");
            Err(Refusal::new(Sqlstate::LIMIT_EXCEEDED, &text))
        }
    }
}

fn no_portal(name: &str) -> Refusal {
    let text = format!("portal \"{name}\" does not exist");
    Refusal::new(Sqlstate::NO_PORTAL, &text)
}
