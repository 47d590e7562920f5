//! How a record becomes the fields of a JSON line.

use std::fmt::Write as _;

use super::Record;
use crate::limits::{AUDIT_LIST_ITEMS_MAX, AUDIT_TEXT_BYTES_MAX};

/// A JSON object under construction, in printable ASCII.
pub(super) struct Line(String);

impl Line {
    /// Begins a line with its sequence number.
    pub(super) fn begin(seq: u64) -> Self {
        Self(format!("{{\"seq\":{seq}"))
    }

    /// The object so far, without the closing brace.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Adds a text field.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.value(value);
    }

    /// Adds the fields of a record, in the order of its declaration.
    pub(super) fn record(&mut self, record: &Record) {
        self.text("event", record.event());
        match record {
            Record::Started {
                version,
                config_digest,
            } => {
                self.text("version", version);
                self.optional_text("config_digest", config_digest.as_deref());
            }
            Record::Attempted {
                client,
                user,
                database,
                tls,
            } => {
                self.text("client", client);
                self.text("user", user);
                self.text("database", database);
                self.optional_text("tls", tls.as_deref());
            }
            Record::Refused {
                client,
                reason,
                detail,
            } => {
                self.text("client", client);
                self.text("reason", reason.label());
                self.text("detail", detail);
            }
            Record::Authenticated { .. } => self.authenticated(record),
            Record::RolesChanged { role, steps } => {
                self.text("role", role);
                self.list("steps", steps);
            }
            Record::SecretForced { role, backend } => {
                self.text("role", role);
                self.text("backend", backend);
            }
            Record::Opened { .. } => self.opened(record),
            Record::Closed { .. } => self.closed(record),
            Record::AccessLost { .. } => self.access_lost(record),
            Record::AccessEnded { .. } => self.access_ended(record),
            Record::Ordered { .. } => self.ordered(record),
            Record::OrderEnded { .. } => self.order_ended(record),
            Record::Denied { .. } => self.denied(record),
            Record::DenialsUnreported { suppressed, lost } => {
                self.number("suppressed", *suppressed);
                self.number("lost", *lost);
            }
            Record::Recovered {
                dropped_bytes,
                lost_records,
            } => {
                self.number("dropped_bytes", *dropped_bytes);
                self.number("lost_records", *lost_records);
            }
            Record::FileEnded { file } => self.text("file", file),
            Record::FileBegun { after } => self.text("after", after),
            Record::Stopped => {}
        }
    }

    fn authenticated(&mut self, record: &Record) {
        let Record::Authenticated {
            principal,
            dn,
            name,
            source,
            groups,
            roles,
        } = record
        else {
            return;
        };
        self.text("principal", principal);
        self.text("dn", dn);
        self.text("name", name);
        self.text("source", source.label());
        self.number("groups", *groups);
        self.number("roles", *roles);
    }

    fn opened(&mut self, record: &Record) {
        let Record::Opened {
            role,
            database,
            backend,
            backend_pid,
            application_name,
        } = record
        else {
            return;
        };
        self.text("role", role);
        self.text("database", database);
        self.text("backend", backend);
        match backend_pid {
            Some(pid) => self.number("backend_pid", u64::from(*pid)),
            None => self.null("backend_pid"),
        }
        self.optional_text("application_name", application_name.as_deref());
    }

    fn access_lost(&mut self, record: &Record) {
        let Record::AccessLost {
            principal,
            name,
            reason,
            detail,
            heard,
            detected_at,
            sessions,
        } = record
        else {
            return;
        };
        self.text("principal", principal);
        self.text("name", name);
        self.text("reason", reason.label());
        self.text("detail", detail);
        self.text("heard", heard);
        self.text("detected_at", detected_at);
        self.number("sessions", *sessions);
    }

    fn closed(&mut self, record: &Record) {
        let Record::Closed {
            reason,
            bytes_to_client,
            bytes_to_backend,
            duration_ms,
        } = record
        else {
            return;
        };
        self.text("reason", reason.label());
        self.number("bytes_to_client", *bytes_to_client);
        self.number("bytes_to_backend", *bytes_to_backend);
        self.number("duration_ms", *duration_ms);
    }

    fn access_ended(&mut self, record: &Record) {
        let Record::AccessEnded {
            principal,
            role,
            backends_left,
            took_ms,
        } = record
        else {
            return;
        };
        self.text("principal", principal);
        self.optional_text("role", role.as_deref());
        self.number("backends_left", *backends_left);
        self.number("took_ms", *took_ms);
    }

    fn ordered(&mut self, record: &Record) {
        let Record::Ordered {
            by,
            from,
            order,
            subject,
            detail,
        } = record
        else {
            return;
        };
        self.text("by", by);
        self.text("from", from);
        self.text("order", order);
        self.text("subject", subject);
        self.text("detail", detail);
    }

    fn order_ended(&mut self, record: &Record) {
        let Record::OrderEnded {
            by,
            from,
            order,
            outcome,
            detail,
        } = record
        else {
            return;
        };
        self.text("by", by);
        self.text("from", from);
        self.text("order", order);
        self.text("outcome", outcome.label());
        self.text("detail", detail);
    }

    fn denied(&mut self, record: &Record) {
        let Record::Denied {
            refused_at,
            dropped,
            hook,
            reason,
            source,
            destination,
            interface,
            pid,
            command,
            cgroup,
        } = record
        else {
            return;
        };
        self.text("refused_at", refused_at);
        self.name("dropped");
        self.0.push_str(if *dropped { "true" } else { "false" });
        self.text("hook", hook);
        self.text("reason", reason);
        self.text("source", source);
        self.text("destination", destination);
        self.optional_text("interface", interface.as_deref());
        match pid {
            Some(pid) => self.number("pid", u64::from(*pid)),
            None => self.null("pid"),
        }
        self.optional_text("command", command.as_deref());
        self.optional_text("cgroup", cgroup.as_deref());
    }

    fn optional_text(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.0.push_str(&value.to_string());
    }

    fn null(&mut self, name: &str) {
        self.name(name);
        self.0.push_str("null");
    }

    fn list(&mut self, name: &str, values: &[String]) {
        self.name(name);
        self.0.push('[');
        for (at, value) in values.iter().take(AUDIT_LIST_ITEMS_MAX).enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.value(value);
        }
        if let Some(more) = values
            .len()
            .checked_sub(AUDIT_LIST_ITEMS_MAX)
            .filter(|more| *more > 0)
        {
            self.0.push(',');
            self.value(&format!("[and {more} more]"));
        }
        self.0.push(']');
    }

    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    /// Writes a text, cut to [`AUDIT_TEXT_BYTES_MAX`] with a mark.
    ///
    /// The mark stands beyond the limit: a longer text was cut, and one that is not longer is
    /// whole, even when it was made to look cut.
    fn value(&mut self, value: &str) {
        self.0.push('"');
        if value.len() <= AUDIT_TEXT_BYTES_MAX {
            self.escaped(value);
        } else {
            // A character has at most four bytes, so one of these is a boundary.
            let mut ends = (0..4).map(|back| AUDIT_TEXT_BYTES_MAX - back);
            let start = ends.find_map(|end| value.get(..end));
            self.escaped(start.unwrap_or_default());
            self.escaped(&format!("...[cut, {} bytes in all]", value.len()));
        }
        self.0.push('"');
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                ' '..='~' => self.0.push(c),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a String cannot fail.
                        let _ = write!(self.0, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
}
