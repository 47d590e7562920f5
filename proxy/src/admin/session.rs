//! A session of the console: one request after the other, and what each is answered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use postern_core::audit::ClosedReason;
use postern_core::console::{Cell, Column, Setting, Statement, Table, parse};
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{
    ErrorFields, Severity, authentication_ok, authentication_sasl_final, error_response,
};
use postern_core::wire::query::{
    self, BIND_COMPLETE, Bind, CLOSE_COMPLETE, EMPTY_QUERY, Field, Format, NO_DATA, NO_PARAMETERS,
    PARSE_COMPLETE, PORTAL_SUSPENDED, QueryError, Request, Status, Target,
};
use tokio::time::timeout;

use super::Account;
use super::answer::{Answer, Refusal, columns_of, parameters};
use crate::gate::CurrentPlane;
use crate::limits::{
    CONSOLE_IDLE_TIMEOUT, CONSOLE_OPEN_ANSWERS_MAX, CONSOLE_SEND_BYTES, CONSOLE_SEND_TIMEOUT,
    CONSOLE_STATEMENTS_MAX,
};
use crate::operators::Operator;
use crate::stream::{Stream, StreamError};

/// What the session of one client is made of.
pub(super) struct Session {
    /// The newest configuration.
    pub(super) current: Arc<CurrentPlane>,
    pub(super) client: Stream,
    pub(super) account: Account,
    pub(super) operator: Operator,
    /// By the names that the client gave them.
    pub(super) statements: HashMap<String, Option<Statement>>,
    pub(super) portals: HashMap<String, Portal>,
    /// The client has said BEGIN, which changes nothing but what it is told.
    pub(super) is_in_transaction: bool,
    /// An extended query has failed, and what comes before the next Sync is not looked at.
    pub(super) is_skipping: bool,
    /// What has not been sent yet.
    pub(super) out: Vec<u8>,
    pub(super) traffic: Traffic,
}

/// How much has gone to and fro.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

/// A statement that can be run, once.
pub(super) struct Portal {
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

/// Why a session ends, and what the client is told first.
struct End {
    reason: ClosedReason,
    last: Option<(Sqlstate, String)>,
}

impl Session {
    /// Lets the client in and serves it until either side ends it.
    pub(super) async fn run(&mut self, server_final: &[u8]) -> ClosedReason {
        self.out.extend(authentication_sasl_final(server_final));
        self.out.extend(authentication_ok());
        for (name, value) in parameters(&self.account.name) {
            self.out.extend(query::parameter_status(name, &value));
        }
        self.ready();
        let end = loop {
            if let Err(end) = self.flush().await {
                break end;
            }
            if let Err(end) = self.step().await {
                break end;
            }
        };
        if let Some((sqlstate, message)) = &end.last {
            self.error(Severity::Fatal, &Refusal::new(*sqlstate, message));
            // It ends either way.
            drop(self.flush().await);
        }
        end.reason
    }

    /// Answers the requests that have come, or waits for more bytes.
    async fn step(&mut self) -> Result<(), End> {
        // The bytes are copied, so that the client can be talked to while they are read.
        let received = self.client.received().to_vec();
        let mut rest = received.as_slice();
        while let Some((request, length)) = query::read(rest).map_err(|it| broken(&it))? {
            self.traffic.received_bytes += u64::try_from(length).unwrap_or_default();
            self.answer(request).await?;
            self.flush_if_large().await?;
            rest = rest.get(length..).unwrap_or_default();
        }
        self.client.consume(received.len() - rest.len());
        self.flush().await?;
        self.receive().await
    }

    async fn receive(&mut self) -> Result<(), End> {
        let mut stopping = self.current.gate().stopping.subscribe();
        let received = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => {
                return Err(End {
                    reason: ClosedReason::ShuttingDown,
                    last: Some((Sqlstate::ADMIN_SHUTDOWN, "the proxy is shutting down".to_owned())),
                });
            }
            received = timeout(CONSOLE_IDLE_TIMEOUT, self.client.receive()) => received,
        };
        match received {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(gone(&error)),
            Err(_) => {
                let text = "terminating connection due to idle-session timeout".to_owned();
                Err(End {
                    reason: ClosedReason::TimedOut,
                    last: Some((Sqlstate::IDLE_SESSION_TIMEOUT, text)),
                })
            }
        }
    }

    async fn flush_if_large(&mut self) -> Result<(), End> {
        match self.out.len() >= CONSOLE_SEND_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let out = std::mem::take(&mut self.out);
        // TLS takes a bounded number of bytes at once.
        for bytes in out.chunks(CONSOLE_SEND_BYTES) {
            match timeout(CONSOLE_SEND_TIMEOUT, self.client.send(bytes)).await {
                Ok(Ok(())) => self.traffic.sent_bytes += u64::try_from(bytes.len()).unwrap_or(0),
                Ok(Err(error)) => return Err(gone(&error)),
                Err(_) => {
                    return Err(End {
                        reason: ClosedReason::TimedOut,
                        last: None,
                    });
                }
            }
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request<'_>) -> Result<(), End> {
        if self.is_skipping && !matches!(request, Request::Sync | Request::Terminate) {
            return Ok(());
        }
        let answered = match request {
            Request::Query(text) => return self.query(text).await,
            Request::Sync => {
                self.is_skipping = false;
                if !self.is_in_transaction {
                    self.portals.clear();
                }
                self.ready();
                return Ok(());
            }
            Request::Flush => Ok(()),
            Request::Terminate => {
                return Err(End {
                    reason: ClosedReason::ClientClosed,
                    last: None,
                });
            }
            Request::Parse { name, query } => self.prepare(name, query),
            Request::Bind(bind) => self.bind(&bind),
            Request::Describe(target) => self.describe(target),
            Request::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => drop(self.portals.remove(name)),
                }
                self.out.extend(CLOSE_COMPLETE);
                Ok(())
            }
            Request::Execute { portal, rows_max } => match self.execute(portal, rows_max).await {
                Ok(done) => done,
                Err(end) => return Err(end),
            },
            // What is left of a COPY that was never begun.
            Request::Other(b'd' | b'c' | b'f') => Ok(()),
            Request::Other(tag) => return Err(broken(&QueryError::Malformed(tag))),
        };
        if let Err(refusal) = answered {
            self.error(Severity::Error, &refusal);
            self.is_skipping = true;
        }
        Ok(())
    }

    /// A simple query: all its statements, until one fails.
    async fn query(&mut self, text: &str) -> Result<(), End> {
        self.statements.remove("");
        self.portals.remove("");
        match parse(text) {
            Err(error) => self.error(Severity::Error, &error.into()),
            Ok(statements) if statements.is_empty() => self.out.extend(EMPTY_QUERY),
            Ok(statements) => {
                for statement in statements {
                    match self.say(&statement).await? {
                        Ok(answer) => self.whole(answer),
                        Err(refusal) => {
                            self.error(Severity::Error, &refusal);
                            break;
                        }
                    }
                    self.flush_if_large().await?;
                }
            }
        }
        self.ready();
        Ok(())
    }

    fn prepare(&mut self, name: &str, query: &str) -> Result<(), Refusal> {
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
        has_room(self.statements.len())?;
        self.statements.insert(name.to_owned(), statement);
        self.out.extend(PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, bind: &Bind<'_>) -> Result<(), Refusal> {
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
        has_room(self.portals.len())?;
        let portal = Portal {
            statement,
            formats: (0..columns).map(|column| bind.format(column)).collect(),
            left: None,
        };
        self.portals.insert(bind.portal.to_owned(), portal);
        self.out.extend(BIND_COMPLETE);
        Ok(())
    }

    fn describe(&mut self, target: Target<'_>) -> Result<(), Refusal> {
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

    async fn execute(&mut self, name: &str, rows_max: u32) -> Result<Result<(), Refusal>, End> {
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

    /// Says a statement for the account, with the rights that it has now.
    async fn say(&mut self, statement: &Statement) -> Result<Result<Answer, Refusal>, End> {
        let gate = self.current.gate();
        let console = gate.console.as_ref();
        let Some(rights) = console.and_then(|it| it.rights_now(&self.account)) else {
            let text = "this account was changed or removed; log in again".to_owned();
            return Err(End {
                reason: ClosedReason::Revoked,
                last: Some((Sqlstate::ADMIN_SHUTDOWN, text)),
            });
        };
        let said = Answer::to(statement, &gate, (&self.operator, &rights)).await;
        if let (Ok(_), Statement::Setting(setting)) = (&said, statement) {
            match setting {
                Setting::Begin => self.is_in_transaction = true,
                Setting::Commit | Setting::Rollback => self.is_in_transaction = false,
                Setting::Set | Setting::Reset | Setting::Discard | Setting::Deallocate => {}
            }
        }
        Ok(said)
    }

    fn statement(&self, name: &str) -> Result<&Option<Statement>, Refusal> {
        self.statements.get(name).ok_or_else(|| {
            let text = format!("prepared statement \"{name}\" does not exist");
            Refusal::new(Sqlstate::NO_STATEMENT, &text)
        })
    }

    /// The answer to a statement of a simple query.
    fn whole(&mut self, answer: Answer) {
        self.notices(&answer);
        if let Some(Table { columns, rows, .. }) = &answer.table {
            self.out.extend(description(columns, &[]));
            for row in rows {
                put_row(&mut self.out, row, &[]);
            }
        }
        self.out.extend(query::command_complete(&answer.tag));
    }

    fn notices(&mut self, answer: &Answer) {
        for text in &answer.notices {
            self.out.extend(query::notice(text));
        }
    }

    fn error(&mut self, severity: Severity, refusal: &Refusal) {
        self.out.extend(error_response(&ErrorFields {
            severity,
            sqlstate: refusal.sqlstate,
            message: &refusal.message,
            detail: None,
            hint: refusal.hint,
        }));
    }

    fn ready(&mut self) {
        let status = match self.is_in_transaction {
            true => Status::InTransaction,
            false => Status::Idle,
        };
        self.out.extend(query::ready_for_query(status));
    }
}

/// RowDescription; a column without a format is text.
fn description(columns: &[Column], formats: &[Format]) -> Vec<u8> {
    let formats = formats
        .iter()
        .copied()
        .chain(std::iter::repeat(Format::Text));
    let field = |(column, format): (&'_ Column, Format)| {
        let (type_oid, type_bytes) = column.kind.type_of();
        (column.name.clone(), type_oid, type_bytes, format)
    };
    let fields: Vec<_> = columns.iter().zip(formats).map(field).collect();
    let fields: Vec<Field<'_>> = fields
        .iter()
        .map(|(name, type_oid, type_bytes, format)| Field {
            name,
            type_oid: *type_oid,
            type_bytes: *type_bytes,
            format: *format,
        })
        .collect();
    query::row_description(&fields)
}

fn put_row(out: &mut Vec<u8>, row: &[Cell], formats: &[Format]) {
    let formats = formats
        .iter()
        .copied()
        .chain(std::iter::repeat(Format::Text));
    let values: Vec<_> = row
        .iter()
        .zip(formats)
        .map(|(cell, format)| cell.encoded(format))
        .collect();
    query::data_row(out, &values);
}

fn has_room(count: usize) -> Result<(), Refusal> {
    match count < CONSOLE_STATEMENTS_MAX {
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

/// The stream cannot be followed any more.
fn broken(error: &QueryError) -> End {
    let sqlstate = match error {
        QueryError::NotUtf8 => Sqlstate::NOT_UTF8,
        QueryError::Length(_) | QueryError::NotTerminated | QueryError::Malformed(_) => {
            Sqlstate::PROTOCOL_VIOLATION
        }
    };
    End {
        reason: ClosedReason::ProtocolViolation,
        last: Some((sqlstate, error.to_string())),
    }
}

fn gone(error: &StreamError) -> End {
    tracing::debug!(%error, "a client of the admin console has gone");
    End {
        reason: ClosedReason::ClientReset,
        last: None,
    }
}
