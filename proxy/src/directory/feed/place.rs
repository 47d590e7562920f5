//! How far the feed has come: the server's cookies, kept over reconnects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::FEED_COOKIE_BYTES_MAX;

/// The place in one server's changes up to which everything has been told.
///
/// A cookie is a server's own: another one may have heard of less, and then the place is lost.
#[derive(Debug, Default)]
pub(super) struct Place {
    server: Option<Arc<str>>,
    /// By what is watched.
    cookies: BTreeMap<String, Vec<u8>>,
}

impl Place {
    /// The server that is talked to now.
    pub(super) fn at_server(&mut self, server: &Arc<str>) {
        if self.server.as_ref() != Some(server) {
            self.server = Some(Arc::clone(server));
            self.cookies.clear();
        }
    }

    /// The cookie for what is watched, if it is known.
    pub(super) fn cookie(&self, watched: &str) -> Option<&[u8]> {
        self.cookies.get(watched).map(Vec::as_slice)
    }

    /// Everything up to this cookie has been told.
    pub(super) fn advance(&mut self, watched: &str, cookie: &[u8]) {
        if cookie.is_empty() || cookie.len() > FEED_COOKIE_BYTES_MAX {
            self.forget(watched);
        } else {
            self.cookies.insert(watched.to_owned(), cookie.to_owned());
        }
    }

    /// The place is lost.
    pub(super) fn forget(&mut self, watched: &str) {
        self.cookies.remove(watched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_servers() {
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let mut place = Place::default();
        place.at_server(&one);
        place.advance("dc=x", b"1");
        place.at_server(&one);
        assert_eq!(place.cookie("dc=x"), Some(&b"1"[..]));
        place.at_server(&other);
        assert_eq!(place.cookie("dc=x"), None);
    }

    #[test]
    fn a_cookie_that_cannot_be_kept_is_a_lost_place() {
        for odd in [vec![], vec![0; FEED_COOKIE_BYTES_MAX + 1]] {
            let mut place = Place::default();
            place.advance("dc=x", b"1");
            place.advance("dc=x", &odd);
            assert_eq!(place.cookie("dc=x"), None);
        }
    }
}
