//! Searches that are read answer by answer, and may go on for as long as the connection does.

use std::sync::Arc;
use std::time::Duration;

use ldap3::asn1::{PL, StructureTag};
use ldap3::controls::{Control, RawControl};
use ldap3::{Scope, SearchStream};
use postern_core::directory::entry::Entry;

use super::{Connection, Contained, Limit, Panicked, Query, diagnostic};
use crate::directory::entry::decode_entry;
use crate::directory::error::DirectoryError;

/// A search under way.
pub(in crate::directory) struct LiveSearch {
    stream: SearchStream<'static, String, Vec<String>>,
    server: Arc<str>,
}

/// What a server answers to such a search.
pub(in crate::directory) enum Answer {
    /// An entry.
    Entry(Entry, Controls),
    /// An intermediate response (RFC 4511, 4.13): its name and value.
    Intermediate(String, Vec<u8>),
    /// The end.
    Done(Done),
}

/// The end of a search.
pub(in crate::directory) struct Done {
    /// The result code; 0 is success.
    pub(in crate::directory) code: u32,
    /// The diagnostic message.
    pub(in crate::directory) message: String,
    /// The controls of the answer.
    pub(in crate::directory) controls: Controls,
}

/// The controls of an answer.
pub(in crate::directory) struct Controls(Vec<Control>);

impl Controls {
    /// The value of the control with this name, if it is there and has one.
    pub(in crate::directory) fn value(&self, name: &str) -> Option<&[u8]> {
        let control = self.0.iter().find(|control| control.1.ctype == name)?;
        control.1.val.as_deref()
    }
}

impl Connection {
    /// Starts a search whose answers are read one by one.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the request cannot be sent.
    pub(in crate::directory) async fn live_search(
        &self,
        query: &Query<'_>,
        controls: Vec<RawControl>,
    ) -> Result<LiveSearch, DirectoryError> {
        let mut ldap = self.ldap.clone();
        let attributes = query.attributes.iter().map(|&a| a.to_owned()).collect();
        let starting = async move {
            ldap.with_controls(controls)
                .streaming_search(query.base, query.scope, query.filter, attributes)
                .await
        };
        let limit = self.limit("a search", self.operation_timeout);
        Ok(LiveSearch {
            stream: limit.run(starting).await?,
            server: Arc::clone(&self.server),
        })
    }

    /// Asks for next to nothing, to learn whether the server is there.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when it has not answered within `after`, or the connection has ended.
    pub(in crate::directory) async fn ping(&self, after: Duration) -> Result<(), DirectoryError> {
        let mut ldap = self.ldap.clone();
        let asking = async move {
            // Whatever the answer is, it shows that there is somebody who answers.
            ldap.search("", Scope::Base, "(objectClass=*)", vec!["1.1"])
                .await
                .map(|_answer| ())
        };
        self.limit("whether it is there", after).run(asking).await
    }

    /// That an exchange has taken longer than it may.
    pub(in crate::directory) fn timed_out(
        &self,
        what: &'static str,
        after: Duration,
    ) -> DirectoryError {
        DirectoryError::TimedOut {
            server: self.server.to_string(),
            what,
            after_ms: after.as_millis(),
        }
    }

    fn limit(&self, what: &'static str, after: Duration) -> Limit<'_> {
        Limit {
            server: &self.server,
            what,
            after,
        }
    }
}

impl LiveSearch {
    /// The next answer; waits for it without a limit, and may be dropped while it waits.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the connection has ended or the answer is malformed.
    pub(in crate::directory) async fn next(&mut self) -> Result<Answer, DirectoryError> {
        loop {
            let item = match Contained(Box::pin(self.stream.next())).await {
                Ok(Ok(item)) => item,
                Ok(Err(error)) => return Err(self.limit().failed(error)),
                Err(Panicked) => return Err(self.malformed("a message that is not LDAP")),
            };
            let Some(item) = item else {
                let result = self.stream.finish().await;
                return Ok(Answer::Done(Done {
                    code: result.rc,
                    message: diagnostic(&result.text),
                    controls: Controls(result.ctrls),
                }));
            };
            if item.is_ref() {
                continue;
            }
            let answer = if item.is_intermediate() {
                intermediate(item.0)
            } else {
                decode_entry(item.0).map(|entry| Answer::Entry(entry, Controls(item.1)))
            };
            return answer.ok_or_else(|| self.malformed("a malformed answer"));
        }
    }

    /// That the server broke the protocol.
    pub(in crate::directory) fn malformed(&self, why: &'static str) -> DirectoryError {
        DirectoryError::Protocol {
            server: self.server.to_string(),
            why,
        }
    }

    /// That the server refused the search, or ended it.
    pub(in crate::directory) fn ended(&self, what: &'static str, done: &Done) -> DirectoryError {
        DirectoryError::Refused {
            server: self.server.to_string(),
            what,
            code: done.code,
            message: done.message.clone(),
        }
    }

    fn limit(&self) -> Limit<'_> {
        Limit {
            server: &self.server,
            what: "a search",
            after: Duration::MAX,
        }
    }
}

/// The name and value of an intermediate response; both may be missing.
fn intermediate(tag: StructureTag) -> Option<Answer> {
    let (mut name, mut value) = (String::new(), Vec::new());
    for part in tag.expect_constructed()? {
        match (part.id, part.payload) {
            (0, PL::P(bytes)) => name = String::from_utf8(bytes).ok()?,
            (1, PL::P(bytes)) => value = bytes,
            _ => return None,
        }
    }
    Some(Answer::Intermediate(name, value))
}
