//! The tables that commands answer with.

use serde::{Deserialize, Serialize};

use super::super::audit::rfc3339;
use crate::wire::query::Format;

/// Microseconds from 1970 to 2000, from which PostgreSQL counts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Rows, each with a value for every column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The rows, in an order that stays from one time to the next.
    pub rows: Vec<Vec<Cell>>,
    /// How many rows were left out, because there are too many.
    pub left_out: usize,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, the unit last.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `text`.
    Text,
    /// `int8`.
    Integer,
    /// `bool`.
    Boolean,
    /// `timestamptz`.
    Time,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// None is known, or none applies.
    Null,
    /// A truth value.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Milliseconds since 1970.
    Time {
        /// The milliseconds.
        unix_ms: u64,
    },
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&str, Kind)]) -> Self {
        let column = |(name, kind): &(&str, Kind)| Column {
            name: (*name).to_owned(),
            kind: *kind,
        };
        Self {
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            left_out: 0,
        }
    }

    /// The same with these rows, of which at most `rows_max` are kept.
    #[must_use]
    pub fn with(mut self, rows: impl IntoIterator<Item = Vec<Cell>>, rows_max: usize) -> Self {
        for row in rows {
            match self.rows.len() < rows_max {
                true => self.rows.push(row),
                false => self.left_out += 1,
            }
        }
        self
    }
}

impl Kind {
    /// The type's number in `pg_type`, and its size in bytes, -1 where that varies.
    pub const fn type_of(self) -> (u32, i16) {
        match self {
            Self::Boolean => (16, 1),
            Self::Integer => (20, 8),
            Self::Text => (25, -1),
            Self::Time => (1_184, 8),
        }
    }
}

impl Cell {
    /// A text.
    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// A whole number; one that is too large is the largest.
    pub fn integer(number: impl TryInto<i64>) -> Self {
        Self::Integer(number.try_into().unwrap_or(i64::MAX))
    }

    /// A value that may be missing.
    pub fn or_null<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, cell)
    }

    /// The value for people; nothing for NULL.
    pub fn shown(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Boolean(true) => "yes".to_owned(),
            Self::Boolean(false) => "no".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Time { unix_ms } => rfc3339(*unix_ms),
        }
    }

    /// The value on the wire; none for NULL.
    ///
    /// A text is never longer than the peer's own limits let it be, and a NUL, which no text of
    /// PostgreSQL can have, is left out with what follows.
    pub fn encoded(&self, format: Format) -> Option<Vec<u8>> {
        match (self, format) {
            (Self::Null, _) => None,
            (Self::Text(text), _) => {
                let text = text.split('\0').next().unwrap_or_default();
                Some(text.as_bytes().to_vec())
            }
            (Self::Boolean(value), Format::Text) => Some(match value {
                true => b"t".to_vec(),
                false => b"f".to_vec(),
            }),
            (Self::Boolean(value), Format::Binary) => Some(vec![u8::from(*value)]),
            (Self::Integer(number), Format::Text) => Some(number.to_string().into_bytes()),
            (Self::Integer(number), Format::Binary) => Some(number.to_be_bytes().to_vec()),
            (Self::Time { unix_ms }, Format::Text) => {
                // As PostgreSQL writes it with DateStyle ISO in UTC.
                let text = rfc3339(*unix_ms).replace('T', " ").replace('Z', "+00");
                Some(text.into_bytes())
            }
            (Self::Time { unix_ms }, Format::Binary) => {
                let us = i64::try_from(*unix_ms).unwrap_or(i64::MAX / 1_000);
                let us = us.saturating_mul(1_000).saturating_sub(POSTGRES_EPOCH_US);
                Some(us.to_be_bytes().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_postgresql_writes_it() {
        let text = |cell: Cell| cell.encoded(Format::Text);
        let binary = |cell: Cell| cell.encoded(Format::Binary);
        assert_eq!(text(Cell::Null), None);
        assert_eq!(text(Cell::Boolean(true)), Some(b"t".to_vec()));
        assert_eq!(binary(Cell::Boolean(true)), Some(vec![1]));
        assert_eq!(text(Cell::Integer(-7)), Some(b"-7".to_vec()));
        assert_eq!(binary(Cell::Integer(-1)), Some(vec![0xff; 8]));
        assert_eq!(text(Cell::text("a\0b")), Some(b"a".to_vec()));
        let time = Cell::Time {
            unix_ms: 946_684_800_500,
        };
        assert_eq!(
            text(time.clone()),
            Some(b"2000-01-01 00:00:00.500+00".to_vec())
        );
        assert_eq!(binary(time), Some(500_000_i64.to_be_bytes().to_vec()));
    }

    #[test]
    fn what_is_too_large_is_the_largest() {
        assert_eq!(Cell::integer(u64::MAX), Cell::Integer(i64::MAX));
        assert_eq!(Cell::integer(7_usize), Cell::Integer(7));
    }

    #[test]
    fn rows_above_the_limit_are_counted() {
        let table = Table::new(&[("n", Kind::Integer)]);
        let table = table.with((0..5).map(|it| vec![Cell::Integer(it)]), 3);
        assert_eq!((table.rows.len(), table.left_out), (3, 2));
    }

    #[test]
    fn a_table_comes_back_from_json_as_it_was() -> Result<(), serde_json::Error> {
        let columns = [("n", Kind::Integer), ("at", Kind::Time), ("x", Kind::Text)];
        let row = vec![Cell::Integer(1), Cell::Time { unix_ms: 2 }, Cell::Null];
        let table = Table::new(&columns).with([row], 9);
        let text = serde_json::to_string(&table)?;
        assert_eq!(serde_json::from_str::<Table>(&text)?, table);
        Ok(())
    }
}
