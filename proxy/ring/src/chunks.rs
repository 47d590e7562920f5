//! Memory for queues, reused from session to session of one worker.

use crate::limits::{CHUNK_BYTES, CHUNK_KEEP_BYTES_MAX, CHUNKS_KEPT_MAX};

/// Emptied queues that wait for the next session that has to queue bytes.
///
/// An idle session owns none. A kept queue is cleared, and its old bytes are not readable: a
/// `Vec` gives out what was written since.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    kept: Vec<Vec<u8>>,
}

impl Chunks {
    /// An empty queue with some capacity.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.kept
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
    }

    /// Takes a queue back that is no longer needed.
    pub(crate) fn give(&mut self, mut chunk: Vec<u8>) {
        let worth_keeping = (CHUNK_BYTES..=CHUNK_KEEP_BYTES_MAX).contains(&chunk.capacity());
        if worth_keeping && self.kept.len() < CHUNKS_KEPT_MAX {
            chunk.clear();
            self.kept.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_empty() {
        let mut chunks = Chunks::default();
        for _ in 0..CHUNKS_KEPT_MAX + 5 {
            chunks.give(vec![7; CHUNK_BYTES]);
        }
        chunks.give(vec![7; CHUNK_KEEP_BYTES_MAX + 1]);
        chunks.give(Vec::new());
        assert_eq!(chunks.kept.len(), CHUNKS_KEPT_MAX);
        assert!(chunks.take().is_empty());
    }
}
