//! A TLS connection whose handshake is complete, between the socket and the other leg.
//!
//! All ciphertext that arrives is decrypted at once and all plaintext is handed on at once, so
//! rustls never holds more than one incomplete record; what waits, waits in the send queue of a
//! leg, where the marks of the backpressure see it.

use std::io::{BufRead, Write};

use rustls::{Connection, Error, InvalidMessage};

use crate::chunks::Chunks;

/// What went wrong while bytes passed from one leg to the other.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The leg that the bytes came from broke the protocol.
    Source(Error),
    /// The leg that the bytes went to could not encrypt.
    Sink(Error),
}

/// A connection of rustls, of either kind.
#[derive(Debug)]
pub(crate) struct Tls(Box<Connection>);

impl Tls {
    pub(crate) fn new(mut connection: Box<Connection>) -> Self {
        // The bound is the high mark: whatever is written is moved to the send queue at once.
        connection.set_buffer_limit(None);
        Self(connection)
    }

    /// Decrypts what has arrived and passes the plaintext to `sink` record by record.
    ///
    /// # Errors
    ///
    /// A protocol error of the peer, or what `sink` returned.
    pub(crate) fn feed(
        &mut self,
        mut ciphertext: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Fault> {
        while !ciphertext.is_empty() {
            let taken = self.0.read_tls(&mut ciphertext).map_err(|_| {
                // The slice itself cannot fail, so rustls refused a record that is too long.
                Fault::Source(Error::InvalidMessage(InvalidMessage::MessageTooLarge))
            })?;
            self.pump(&mut sink)?;
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Passes on the plaintext of what rustls already has.
    ///
    /// # Errors
    ///
    /// As for [`Self::feed`].
    pub(crate) fn pump(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Fault> {
        let outcome = self.0.process_new_packets();
        let mut reader = self.0.reader();
        // An error of the reader says only that there is no plaintext now.
        while let Ok(plaintext) = reader.fill_buf() {
            let len = plaintext.len();
            if len == 0 {
                break;
            }
            sink(plaintext).map_err(Fault::Sink)?;
            reader.consume(len);
        }
        outcome.map(drop).map_err(Fault::Source)
    }

    /// Whether the peer has sent its `close_notify`.
    pub(crate) fn peer_has_closed(&mut self) -> bool {
        // The reader's clean end of input is the only public sign of it.
        matches!(self.0.reader().fill_buf(), Ok(plaintext) if plaintext.is_empty())
    }

    /// Encrypts application bytes and appends the records to `queue`.
    ///
    /// # Errors
    ///
    /// [`Error::EncryptError`] when the keys are used up (TLS 1.2 cannot renew them).
    pub(crate) fn seal(&mut self, plaintext: &[u8], queue: &mut Vec<u8>) -> Result<(), Error> {
        self.0
            .writer()
            .write_all(plaintext)
            .map_err(|_| Error::EncryptError)?;
        self.take_records(queue);
        Ok(())
    }

    /// Whether rustls has records of its own to send: tickets, key updates, alerts.
    pub(crate) fn has_records(&self) -> bool {
        self.0.wants_write()
    }

    /// Appends the records that rustls wants to send to `queue`.
    pub(crate) fn take_records(&mut self, queue: &mut Vec<u8>) {
        while self.0.wants_write() {
            if self.0.write_tls(queue).is_err() {
                // A vector takes every byte; rustls could only have refused its own.
                break;
            }
        }
    }

    /// Appends the `close_notify` (RFC 8446, section 6.1) to `queue`.
    pub(crate) fn close(&mut self, queue: &mut Vec<u8>) {
        self.0.send_close_notify();
        self.take_records(queue);
    }
}

/// Makes sure that a queue has memory from the worker's stock before bytes are put into it.
pub(crate) fn ready<'a>(queue: &'a mut Vec<u8>, chunks: &mut Chunks) -> &'a mut Vec<u8> {
    if queue.capacity() == 0 {
        *queue = chunks.take();
    }
    queue
}
