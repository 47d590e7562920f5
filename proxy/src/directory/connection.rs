//! One connection to an LDAP server: open, bind, search, close.
//!
//! Referrals and search references are never followed: following one would hand a password, or
//! the service principal's, to a host that the configuration does not name.

pub(super) mod live;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ldap3::controls::{MatchedValues, PagedResults, RawControl};
use ldap3::exop::WhoAmI;
use ldap3::{Ldap, LdapError, LdapResult, Scope, SearchOptions};
use postern_core::directory::entry::Entry;
use postern_core::directory::paging::{PAGED_RESULTS, next_page};
use postern_core::secret::Secret;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::endpoint::{Connected, Endpoint};
use super::entry::decode_entry;
use super::error::{DirectoryError, code};
use super::guard::Answer;
use crate::limits::{
    LDAP_CLOSE_TIMEOUT, LDAP_DIAGNOSTIC_BYTES_MAX, LDAP_ENTRIES_MAX, LDAP_PAGE_ENTRIES,
};

/// What a bind is called in errors.
const BIND: &str = "a bind";

/// An open connection.
pub(super) struct Connection {
    ldap: Ldap,
    driver: Driver,
    certificate: Option<Vec<u8>>,
    answer: Arc<Answer>,
    server: Arc<str>,
    operation_timeout: Duration,
    opened_at: Instant,
}

/// What a server answered to a bind.
pub(super) struct BindAnswer {
    /// The result code; 0 is yes.
    pub(super) code: u32,
    /// The diagnostic message.
    pub(super) message: String,
}

/// A search.
pub(super) struct Query<'a> {
    pub(super) base: &'a str,
    pub(super) scope: Scope,
    pub(super) filter: &'a str,
    pub(super) attributes: &'a [&'a str],
    /// Only these values of the attributes are wanted (RFC 3876), if the server knows how.
    pub(super) matched_values: Option<&'a str>,
}

impl Connection {
    /// Opens a connection: TCP, and TLS as the endpoint asks.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Unreachable`] or [`DirectoryError::TimedOut`];
    /// [`DirectoryError::Refused`] when the server refuses StartTLS.
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self, DirectoryError> {
        let limit = Limit {
            server: &endpoint.url,
            what: "connect",
            after: endpoint.connect_timeout,
        };
        let Connected {
            driver,
            ldap,
            certificate,
            answer,
        } = limit.run(endpoint.connect()).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.drive().await {
                tracing::debug!(%error, "directory connection ended");
            }
        });
        Ok(Self {
            ldap,
            driver: Driver(driver),
            certificate,
            answer,
            server: Arc::clone(&endpoint.url),
            operation_timeout: endpoint.operation_timeout,
            opened_at: Instant::now(),
        })
    }

    /// The server's URL.
    pub(super) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// How long ago the connection was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// True when the server has closed the connection.
    pub(super) fn is_closed(&mut self) -> bool {
        self.ldap.is_closed()
    }

    /// A simple bind (RFC 4513, 5.1.3).
    ///
    /// An empty name or password would be an anonymous or unauthenticated bind, to which a server
    /// may answer success without having checked anything (RFC 4513, 5.1.2): such a bind is never
    /// sent, and is answered here as invalid credentials.
    ///
    /// # Errors
    ///
    /// Only when there is no answer; every result code is an answer.
    pub(super) async fn bind(
        &mut self,
        name: &str,
        password: &Secret<Vec<u8>>,
    ) -> Result<BindAnswer, DirectoryError> {
        let usable = std::str::from_utf8(password.expose()).ok().filter(|p| {
            !p.is_empty() && !p.contains('\0') && !name.is_empty() && !name.contains('\0')
        });
        let Some(password) = usable else {
            let message = "empty, with a NUL byte or not UTF-8: not sent".to_owned();
            return Ok(BindAnswer {
                code: code::INVALID_CREDENTIALS,
                message,
            });
        };
        let limit = Limit {
            server: &self.server,
            what: BIND,
            after: self.operation_timeout,
        };
        let result = limit.run(self.ldap.simple_bind(name, password)).await?;
        Ok(BindAnswer {
            code: result.rc,
            message: diagnostic(&result.text),
        })
    }

    /// Who the server thinks is bound (RFC 4532): `dn:...` or `u:...`.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Refused`] when the server does not know the operation.
    pub(super) async fn who_am_i(&mut self) -> Result<String, DirectoryError> {
        let limit = Limit {
            server: &self.server,
            what: "who am I",
            after: self.operation_timeout,
        };
        let answer = limit.run(self.ldap.extended(WhoAmI)).await?;
        if answer.1.rc != code::SUCCESS {
            return Err(self.refused("who am I", &answer.1));
        }
        let text = answer.0.val.unwrap_or_default();
        String::from_utf8(text).map_err(|_| self.protocol("an identity that is not UTF-8"))
    }

    /// A search that must find everything: all pages, and an error when the server cut it short.
    ///
    /// It stops when it has found more than [`LDAP_ENTRIES_MAX`] entries: the caller must refuse
    /// so many.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] for no answer and for any result code but success.
    pub(super) async fn search_all(&self, query: &Query<'_>) -> Result<Vec<Entry>, DirectoryError> {
        // All of them are kept, so that all together are bounded as one answer is.
        let _pages = self.answer.in_pages();
        let mut entries = Vec::new();
        let mut cookie = Vec::new();
        loop {
            let page = PagedResults {
                size: LDAP_PAGE_ENTRIES,
                cookie,
            };
            let (found, result) = self
                .page(
                    query,
                    SearchOptions::new(),
                    Some(page.into()),
                    LDAP_ENTRIES_MAX,
                )
                .await?;
            entries.extend(found);
            if entries.len() > LDAP_ENTRIES_MAX {
                return Ok(entries);
            }
            if result.rc != code::SUCCESS {
                return Err(self.refused("a search", &result));
            }
            cookie = cookie_of(&result).ok_or_else(|| self.protocol("a malformed page cookie"))?;
            if cookie.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// A search that looks for at most `entries_max` entries: that there are more is an answer
    /// too, and no error.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] for no answer and for any result code but success and size limit.
    pub(super) async fn search_some(
        &self,
        query: &Query<'_>,
        entries_max: u16,
    ) -> Result<Vec<Entry>, DirectoryError> {
        let options = SearchOptions::new().sizelimit(i32::from(entries_max));
        let (entries, result) = self
            .page(query, options, None, usize::from(entries_max))
            .await?;
        match result.rc {
            code::SUCCESS => Ok(entries),
            // A server that ignores the size limit is cut short after one entry too many.
            _ if entries.len() > usize::from(entries_max) => Ok(entries),
            code::SIZE_LIMIT_EXCEEDED if !entries.is_empty() => Ok(entries),
            _ => Err(self.refused("a search", &result)),
        }
    }

    /// The server's certificate in DER form, if the connection has TLS.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Says goodbye (RFC 4511, 4.3) and closes, without making the caller wait.
    pub(super) fn close(self) {
        let Self {
            mut ldap, driver, ..
        } = self;
        tokio::spawn(async move {
            // The connection is of no further use: whether the goodbye arrived changes nothing.
            let _ = timeout(LDAP_CLOSE_TIMEOUT, Contained(Box::pin(ldap.unbind()))).await;
            drop(driver);
        });
    }

    /// One request and its entries, at most `entries_max` and one more.
    async fn page(
        &self,
        query: &Query<'_>,
        options: SearchOptions,
        paging: Option<RawControl>,
        entries_max: usize,
    ) -> Result<(Vec<Entry>, LdapResult), DirectoryError> {
        let mut controls: Vec<RawControl> = paging.into_iter().collect();
        let mut ldap = self.ldap.clone();
        let searching = async move {
            if let Some(filter) = query.matched_values {
                controls.push(MatchedValues::new(filter));
            }
            let mut stream = ldap
                .with_search_options(options)
                .with_controls(controls)
                .streaming_search(query.base, query.scope, query.filter, query.attributes)
                .await?;
            let mut entries = Vec::new();
            while let Some(item) = stream.next().await? {
                if item.is_ref() || item.is_intermediate() {
                    continue;
                }
                entries.push(decode_entry(item.0));
                if entries.len() > entries_max {
                    break;
                }
            }
            Ok((entries, stream.finish().await))
        };
        let limit = Limit {
            server: &self.server,
            what: "a search",
            after: self.operation_timeout,
        };
        let (entries, result) = limit.run(searching).await?;
        let entries: Option<Vec<Entry>> = entries.into_iter().collect();
        let entries = entries.ok_or_else(|| self.protocol("a malformed entry"))?;
        Ok((entries, result))
    }

    /// A result code of a bind that is about the server and not about the person.
    pub(super) fn bind_refused(&self, answer: BindAnswer) -> DirectoryError {
        let BindAnswer { code, message } = answer;
        DirectoryError::Refused {
            server: self.server.to_string(),
            what: BIND,
            code,
            message,
        }
    }

    fn refused(&self, what: &'static str, result: &LdapResult) -> DirectoryError {
        DirectoryError::Refused {
            server: self.server.to_string(),
            what,
            code: result.rc,
            message: diagnostic(&result.text),
        }
    }

    fn protocol(&self, why: &'static str) -> DirectoryError {
        DirectoryError::Protocol {
            server: self.server.to_string(),
            why,
        }
    }
}

/// The task that moves the connection's bytes; it ends with the connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The time that an exchange may take, and what to say when it ran out.
struct Limit<'a> {
    server: &'a str,
    what: &'static str,
    after: Duration,
}

impl Limit<'_> {
    async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, LdapError>>,
    ) -> Result<T, DirectoryError> {
        match timeout(self.after, Contained(Box::pin(work))).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(self.failed(error)),
            Ok(Err(Panicked)) => Err(DirectoryError::Protocol {
                server: self.server.to_owned(),
                why: "a message that is not LDAP",
            }),
            Err(_elapsed) => Err(DirectoryError::TimedOut {
                server: self.server.to_owned(),
                what: self.what,
                after_ms: self.after.as_millis(),
            }),
        }
    }

    fn failed(&self, error: LdapError) -> DirectoryError {
        let server = self.server.to_owned();
        if let LdapError::LdapResult { result } = error {
            let message = diagnostic(&result.text);
            return DirectoryError::Refused {
                server,
                what: self.what,
                code: result.rc,
                message,
            };
        }
        let closed = matches!(
            error,
            LdapError::ResultRecv { .. } | LdapError::OpSend { .. } | LdapError::EndOfStream
        );
        let why = if let LdapError::Io { source } = &error {
            source.to_string()
        } else if closed {
            "the connection was closed".to_owned()
        } else {
            error.to_string()
        };
        DirectoryError::Unreachable { server, why }
    }
}

/// The library panics on some malformed messages; a hostile or broken server must not end more
/// than its own connection by that.
struct Contained<F>(Pin<Box<F>>);

/// The future panicked.
struct Panicked;

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The future is not polled again after a panic: its owner drops it with the connection.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// The cookie for the next page, empty after the last; `None` when the control is malformed.
fn cookie_of(result: &LdapResult) -> Option<Vec<u8>> {
    let control = result.ctrls.iter().find(|it| it.1.ctype == PAGED_RESULTS);
    let Some(control) = control else {
        return Some(Vec::new());
    };
    next_page(control.1.val.as_deref()?).map(<[u8]>::to_vec)
}

/// A peer's text, cut and without control characters, fit for a log line.
fn diagnostic(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim_end_matches('\0').chars() {
        if out.len() + c.len_utf8() > LDAP_DIAGNOSTIC_BYTES_MAX {
            out.push_str("...");
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use ldap3::controls::Control;

    use super::*;

    /// The end of a page whose control has this value.
    fn page(value: Option<&[u8]>) -> LdapResult {
        let control = RawControl {
            ctype: PAGED_RESULTS.to_owned(),
            crit: false,
            val: value.map(<[u8]>::to_vec),
        };
        LdapResult {
            rc: code::SUCCESS,
            matched: String::new(),
            text: String::new(),
            refs: Vec::new(),
            ctrls: vec![Control(None, control)],
        }
    }

    #[test]
    fn a_search_without_pages_has_no_next_one() {
        let mut result = page(Some(b"\x30\x08\x02\x01\x00\x04\x03abc"));
        assert_eq!(cookie_of(&result), Some(b"abc".to_vec()));
        result.ctrls.clear();
        assert_eq!(cookie_of(&result), Some(Vec::new()));
        assert_eq!(cookie_of(&page(None)), None);
        assert_eq!(cookie_of(&page(Some(b""))), None);
    }

    #[test]
    fn a_diagnostic_text_is_cut_and_cannot_break_a_line() {
        assert_eq!(
            diagnostic("bad\r\n\u{1b}[2Jpassword\0"),
            "bad   [2Jpassword"
        );
        let long = diagnostic(&"ä".repeat(1_000));
        assert!(long.len() <= LDAP_DIAGNOSTIC_BYTES_MAX + 3 && long.ends_with("..."));
    }
}
