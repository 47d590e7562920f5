//! The reader against texts that nobody wrote.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Pieces that mean something somewhere.
const PIECES: [&str; 24] = [
    "\n[listen]\n",
    "\n[[group_rule]]\n",
    "\n[[backend]]\n",
    "\n[perimeter]\n",
    "\n[[perimeter.allow]]\n",
    "\n[local]\nfile = 'accounts.toml'\n",
    "regex = '(?<n>a)|b'\nrole = '${n}$$'\n",
    "names = []\n",
    "source = '::/0'\n",
    "addresses = ['[::1%lo]:65536']\n",
    "=",
    ".",
    "'",
    "\"\"\"",
    "[",
    "{",
    "\n\"\\u001b[2J\" = 1\n",
    "\\u001b",
    "\\u{110000}",
    "-1",
    "9223372036854775808",
    "1e400",
    "\0",
    "ä\u{202e}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused_with_a_line_for_each_problem(
        edits in proptest::collection::vec((any::<Index>(), 0..60_usize, select(&PIECES)), 1..6),
    ) {
        let folder = folder();
        let mut text = Sample::new().text();
        for (at, len, piece) in edits {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary(at.saturating_add(len).min(text.len()));
            text.replace_range(at..end, piece);
        }
        let problems = match parse(&text, Places::of(&folder.path().join("postern.toml"))) {
            Ok(config) => config.warnings,
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                problems.iter().map(ToString::to_string).collect()
            }
        };
        for problem in problems {
            prop_assert!(!problem.is_empty());
            // What is valid stands on a line of its own.
            let problem = problem.replacen("\n    valid: ", " ", 1);
            prop_assert!(!problem.chars().any(char::is_control), "{:?}", problem);
        }
    }
}
