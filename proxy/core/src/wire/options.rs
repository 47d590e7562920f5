//! The startup parameter `options`: a command line of PostgreSQL's.
//!
//! Source: `pg_split_opts` in `postinit.c`, and `process_postgres_switches` in `postgres.c` of
//! PostgreSQL 13 to 18.

/// The letters that stand for settings, and which; others change nothing that a client may change.
const SWITCHES: [(u8, &[&str]); 9] = [
    (
        b'd',
        &[
            "client_min_messages",
            "debug_print_parse",
            "debug_print_plan",
            "debug_print_rewritten",
            "log_connections",
            "log_disconnections",
            "log_min_messages",
            "log_statement",
        ],
    ),
    (b'e', &["datestyle"]),
    (
        b'f',
        &[
            "enable_bitmapscan",
            "enable_hashjoin",
            "enable_indexonlyscan",
            "enable_indexscan",
            "enable_mergejoin",
            "enable_nestloop",
            "enable_seqscan",
            "enable_tidscan",
        ],
    ),
    (b'O', &["allow_system_table_mods"]),
    (b'P', &["ignore_system_indexes"]),
    (b'S', &["work_mem"]),
    (b's', &["log_statement_stats"]),
    (
        b't',
        &[
            "log_executor_stats",
            "log_parser_stats",
            "log_planner_stats",
        ],
    ),
    (b'W', &["post_auth_delay"]),
];

/// The letters that take an argument: the rest of their word, or the next one.
const WITH_ARGUMENT: &[u8] = b"BcCDdfhkNoprStvW-";

/// True when the options may give the setting a value.
///
/// They are words with backslash escapes: `-c name=value`, `--name=value`, single letters run
/// together, and `-` for `_` in names. The answer leans to yes: it is also yes for a longer name
/// that ends with this one, and for a letter in a word that may be an argument.
pub(super) fn may_set(options: &[u8], name: &str) -> bool {
    let mut wanted = plain(name.as_bytes());
    let by_letter = |(letter, names): &(u8, &[&str])| {
        names.iter().any(|it| it.as_bytes() == wanted) && has_letter(options, *letter)
    };
    if SWITCHES.iter().any(by_letter) {
        return true;
    }
    wanted.push(b'=');
    plain(options)
        .windows(wanted.len())
        .any(|part| part == wanted)
}

/// In small letters, without escapes, with `_` for `-`.
fn plain(text: &[u8]) -> Vec<u8> {
    let kept = text.iter().filter(|byte| **byte != b'\\');
    kept.map(|byte| match byte {
        b'-' => b'_',
        other => other.to_ascii_lowercase(),
    })
    .collect()
}

/// Whether a word of letters has this one before the argument of another.
fn has_letter(options: &[u8], letter: u8) -> bool {
    words(options).iter().any(|word| {
        let Some((b'-', letters)) = word.split_first() else {
            return false;
        };
        let argument = letters.iter().position(|it| WITH_ARGUMENT.contains(it));
        // The letter that takes the argument is one, too.
        let end = argument.map_or(letters.len(), |it| it + 1);
        letters.iter().take(end).any(|it| *it == letter)
    })
}

/// The words between white space, which a backslash makes a part of one.
fn words(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = options.iter();
    while let Some(byte) = bytes.next() {
        // `isspace` has the vertical tab, which `is_ascii_whitespace` has not.
        if byte.is_ascii_whitespace() || *byte == 0x0b {
            words.extend(word.take());
            continue;
        }
        let kept = match byte {
            b'\\' => bytes.next(),
            other => Some(other),
        };
        word.get_or_insert_default().extend(kept);
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_sets_what_it_stands_for() {
        for (options, name) in [
            ("-W 600", "post_auth_delay"),
            ("-W600", "Post-Auth-Delay"),
            ("-\\W 600", "post_auth_delay"),
            ("-c geqo=off -eOP", "ignore_system_indexes"),
            ("-eS 64kB", "work_mem"),
            ("word -S 64kB", "work_mem"),
            ("\u{b}-fs", "enable_seqscan"),
            ("-tpa", "log_parser_stats"),
            ("-d5", "debug_print_parse"),
        ] {
            assert!(may_set(options.as_bytes(), name), "{options}");
        }
    }

    #[test]
    fn an_argument_is_no_letter() {
        for (options, name) in [
            ("-c application_name=-W", "post_auth_delay"),
            ("-capplication_name=WORK", "post_auth_delay"),
            ("-c geqo=S", "work_mem"),
            ("-e", "work_mem"),
            ("W", "post_auth_delay"),
            ("-", "work_mem"),
            ("\\", "work_mem"),
        ] {
            assert!(!may_set(options.as_bytes(), name), "{options}");
        }
    }
}
