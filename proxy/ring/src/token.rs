//! The name of an operation in flight.
//!
//! ```text
//! 63            36 35                     4 3      0
//! +---------------+------------------------+--------+
//! | slot, 28 bits | generation, 32 bits    | op     |
//! +---------------+------------------------+--------+
//! ```
//!
//! The slot is where the session's record is.
//! The generation is the session's own: a slot that is used again has another one.
//! A slot is freed only when nothing of its session is in flight, so that a completion always
//! finds its session or, for a cancellation, nobody.

use crate::limits::SESSIONS_MAX;

/// One of the two legs of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The leg to the person's program.
    Client,
    /// The leg to PostgreSQL.
    Backend,
}

impl Side {
    /// The other leg.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Backend => 1,
        }
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Receive(Side),
    Send(Side),
    CancelReceive(Side),
    CancelSend(Side),
    /// The driver's own: no session is concerned.
    Driver,
}

impl Op {
    const CODES: [Self; 9] = [
        Self::Receive(Side::Client),
        Self::Receive(Side::Backend),
        Self::Send(Side::Client),
        Self::Send(Side::Backend),
        Self::CancelReceive(Side::Client),
        Self::CancelReceive(Side::Backend),
        Self::CancelSend(Side::Client),
        Self::CancelSend(Side::Backend),
        Self::Driver,
    ];

    fn code(self) -> u64 {
        match self {
            Self::Receive(side) => side.index() as u64,
            Self::Send(side) => 2 + side.index() as u64,
            Self::CancelReceive(side) => 4 + side.index() as u64,
            Self::CancelSend(side) => 6 + side.index() as u64,
            Self::Driver => 8,
        }
    }
}

/// The name of an operation in flight: whose it is and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) op: Op,
}

impl Token {
    pub(crate) const DRIVER: Self = Self {
        slot: 0,
        generation: 0,
        op: Op::Driver,
    };

    pub(crate) fn encode(self) -> u64 {
        debug_assert!((self.slot as usize) < SESSIONS_MAX);
        (u64::from(self.slot) << 36) | (u64::from(self.generation) << 4) | self.op.code()
    }

    /// The token of a completion; `None` for a value that `encode` never makes.
    pub(crate) fn decode(bits: u64) -> Option<Self> {
        let op = usize::try_from(bits & 0xf).ok()?;
        let slot = u32::try_from(bits >> 36).ok()?;
        let generation = u32::try_from((bits >> 4) & 0xffff_ffff).ok()?;
        Some(Self {
            slot,
            generation,
            op: *Op::CODES.get(op)?,
        })
    }

    /// The token of another operation of the same session.
    pub(crate) fn with(self, op: Op) -> Self {
        Self { op, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_ring() {
        for op in Op::CODES {
            for (slot, generation) in [(0, 0), (1, u32::MAX), ((1 << 28) - 1, 7)] {
                let token = Token {
                    slot,
                    generation,
                    op,
                };
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
    }

    #[test]
    fn an_unknown_operation_is_no_token() {
        assert_eq!(Token::decode(0xf), None);
    }
}
