//! Who gives orders, what they are told when an order cannot be obeyed, and how it is put on
//! record.

use postern_core::audit::{OrderOutcome, Record};
use serde::{Deserialize, Serialize};

use crate::audit::OF_THE_PROCESS;
use crate::error::LoginError;
use crate::gate::Gate;

/// Who gives an order, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// The name of the user on this machine, or of the console's account.
    pub(crate) name: String,
    /// `control socket`, or the address and port of the console's client.
    pub(crate) from: String,
    /// What the records are of: a session of the console, or the process.
    pub(crate) session: String,
}

/// Why an order was not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", content = "why", rename_all = "snake_case")]
pub(crate) enum OrderError {
    /// What it is about is not there.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be obeyed as things are.
    #[error("{0}")]
    NotNow(String),
    /// Something that it needs failed.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for OrderError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl Operator {
    /// Somebody on this machine, by a way that has no session of its own.
    pub(crate) fn of_process(name: impl Into<String>, from: &str) -> Self {
        Self {
            name: name.into(),
            from: from.to_owned(),
            session: OF_THE_PROCESS.to_owned(),
        }
    }

    /// Puts an order on record, before anything comes of it.
    ///
    /// # Errors
    ///
    /// The audit file cannot be written: the order must not be obeyed.
    pub(crate) async fn orders(
        &self,
        gate: &Gate,
        order: &str,
        (subject, detail): (&str, &str),
    ) -> Result<(), OrderError> {
        let record = Record::Ordered {
            by: self.name.clone(),
            from: self.from.clone(),
            order: order.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        };
        let unwritten = |_: LoginError| {
            OrderError::Failed("the audit file cannot be written: nothing was done".to_owned())
        };
        let written = gate.record_for(&self.session, &record).await;
        written.map_err(unwritten)
    }

    /// Puts on record what came of an order.
    pub(crate) async fn ended(
        &self,
        gate: &Gate,
        order: &str,
        outcome: OrderOutcome,
        detail: String,
    ) {
        let record = Record::OrderEnded {
            by: self.name.clone(),
            from: self.from.clone(),
            order: order.to_owned(),
            outcome,
            detail,
        };
        // It is done already, and that it was ordered is on record.
        drop(gate.record_for(&self.session, &record).await);
    }
}
