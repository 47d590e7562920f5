//! Input in several parts.

/// Bytes that are taken apart from the front; what is missing is zero or empty.
pub(crate) struct Pieces<'a>(pub(crate) &'a [u8]);

impl<'a> Pieces<'a> {
    /// One byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// A line, without its end.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let mut parts = self.0.splitn(2, |byte| *byte == b'\n');
        let line = parts.next().unwrap_or_default();
        self.0 = parts.next().unwrap_or_default();
        line
    }

    /// A line as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.line()).into_owned()
    }

    /// Everything that is left, line by line, at most so many.
    pub(crate) fn texts(&mut self, count_max: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while !self.0.is_empty() && texts.len() < count_max {
            texts.push(self.text());
        }
        texts
    }
}
