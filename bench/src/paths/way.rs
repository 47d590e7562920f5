//! The ways of moving bytes that are compared.

use std::fmt;

/// How bytes get from the socket of the backend to that of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// There is nothing between the two.
    Direct,
    /// By `recv` and `send` of one buffer of that many bytes.
    Copy {
        /// The size of the buffer.
        buffer_bytes: usize,
        /// `SO_RCVLOWAT` while bytes stream; 1 leaves it off.
        low_mark_bytes: usize,
    },
    /// By `splice(2)` through a pipe that holds that many bytes.
    Splice {
        /// The size of the pipe.
        pipe_bytes: usize,
        /// `SO_RCVLOWAT` while bytes stream; 1 leaves it off.
        low_mark_bytes: usize,
    },
    /// By Postern's own ring.
    Ring {
        /// The size of its receive buffers.
        buffer_bytes: u32,
        /// How many it has: they are used in turn, so all of them are in use by a long stream.
        buffers: u16,
    },
}

const KIB: usize = 1024;

/// Every way, in the order in which they are measured and shown.
pub(super) fn all() -> Vec<Way> {
    let copy = |buffer, low_mark| Way::Copy {
        buffer_bytes: buffer * KIB,
        low_mark_bytes: low_mark,
    };
    let splice = |pipe, low_mark| Way::Splice {
        pipe_bytes: pipe * KIB,
        low_mark_bytes: low_mark,
    };
    let ring = |buffer: u32, buffers| Way::Ring {
        buffer_bytes: buffer * 1024,
        buffers,
    };
    vec![
        Way::Direct,
        copy(16, 1),
        copy(64, 1),
        copy(128, 1),
        copy(64, 32 * KIB),
        copy(64, 64 * KIB),
        copy(128, 128 * KIB),
        splice(64, 1),
        splice(256, 1),
        splice(1024, 1),
        splice(256, 64 * KIB),
        splice(1024, 128 * KIB),
        ring(16, 512),
        ring(64, 512),
        ring(64, 128),
        ring(16, 16),
        ring(64, 8),
    ]
}

/// The way that the others are compared with.
pub(super) const REFERENCE: Way = Way::Copy {
    buffer_bytes: 16 * KIB,
    low_mark_bytes: 1,
};

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low_mark_bytes = match *self {
            Self::Direct => {
                f.write_str("direct")?;
                1
            }
            Self::Copy {
                buffer_bytes,
                low_mark_bytes,
            } => {
                write!(f, "copy {}K", buffer_bytes / KIB)?;
                low_mark_bytes
            }
            Self::Splice {
                pipe_bytes,
                low_mark_bytes,
            } => {
                write!(f, "splice {}K", pipe_bytes / KIB)?;
                low_mark_bytes
            }
            Self::Ring {
                buffer_bytes,
                buffers,
            } => {
                write!(f, "ring {}K x{buffers}", buffer_bytes / 1024)?;
                1
            }
        };
        if low_mark_bytes > 1 {
            write!(f, " lowat {}K", low_mark_bytes / KIB)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_a_name_of_its_own() {
        let mut names: Vec<String> = all().iter().map(Way::to_string).collect();
        let count = names.len();
        assert!(names.contains(&REFERENCE.to_string()));
        assert!(names.contains(&"splice 256K lowat 64K".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
