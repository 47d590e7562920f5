//! A session of the console: one request after the other, and what each is answered.

mod extended;

use std::collections::HashMap;
use std::sync::Arc;

use postern_core::audit::ClosedReason;
use postern_core::console::{Cell, Column, Setting, Statement, Table, parse};
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{
    ErrorFields, Severity, authentication_ok, authentication_sasl_final, error_response,
};
use postern_core::wire::query::{
    self, CLOSE_COMPLETE, EMPTY_QUERY, Field, Format, QueryError, Request, Status, Target,
};
use tokio::time::{sleep, timeout};

use self::extended::Portal;
use super::Account;
use super::answer::{Answer, Refusal, parameters};
use crate::gate::CurrentPlane;
use crate::limits::{
    CONSOLE_IDLE_TIMEOUT, CONSOLE_SEND_BYTES, CONSOLE_SEND_TIMEOUT, CONSOLE_STOP_WAIT, LINGER,
};
use crate::operators::Operator;
use crate::stream::{Stream, StreamError};

/// What this process would show and do is of its own last sessions, and nobody means those alone.
const ANOTHER_SERVES: &str = "another process serves; log in again";

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
        let end = self.serve().await;
        if let Some((sqlstate, message)) = &end.last {
            self.error(Severity::Fatal, &Refusal::new(*sqlstate, message));
            // It ends either way, and a stop does not wait for a client that does not read.
            drop(timeout(LINGER, self.flush()).await);
        }
        end.reason
    }

    /// Answers until either side ends it, or until a stop has waited long enough.
    async fn serve(&mut self) -> End {
        let mut stopping = self.current.gate().stopping.subscribe();
        let overdue = async move {
            // The sender is in the gate, which is there for as long as the process.
            drop(stopping.wait_for(|stopping| *stopping).await);
            sleep(CONSOLE_STOP_WAIT).await;
        };
        tokio::select! {
            biased;
            end = self.answer_all() => end,
            () = overdue => shutting_down(),
        }
    }

    async fn answer_all(&mut self) -> End {
        loop {
            if let Err(end) = self.flush().await {
                return end;
            }
            if let Err(end) = self.step().await {
                return end;
            }
        }
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
        let gate = self.current.gate();
        let mut stopping = gate.stopping.subscribe();
        let mut handed_over = gate.handed_over.subscribe();
        let received = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => {
                return Err(shutting_down());
            }
            _ = handed_over.wait_for(|handed_over| *handed_over) => {
                return Err(shut_down(ANOTHER_SERVES));
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

    /// Says a statement for the account, with the rights that it has now.
    async fn say(&mut self, statement: &Statement) -> Result<Result<Answer, Refusal>, End> {
        let gate = self.current.gate();
        if gate.has_handed_over() {
            return Err(shut_down(ANOTHER_SERVES));
        }
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

fn shutting_down() -> End {
    shut_down("the proxy is shutting down")
}

fn shut_down(text: &str) -> End {
    End {
        reason: ClosedReason::ShuttingDown,
        last: Some((Sqlstate::ADMIN_SHUTDOWN, text.to_owned())),
    }
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
