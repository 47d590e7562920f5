//! The page `postern.toml(5)`, made from the declarations.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::document::absent;
use super::keys;
use super::schema::{Form, Key, Table};

/// The page, in roff.
pub(crate) fn manual() -> String {
    let mut page = Roff::new();
    let version = format!("postern {}", crate::VERSION);
    page.control("TH", ["postern.toml", "5", "", &version, "Postern"]);
    page.control("SH", ["NAME"]);
    page.text([roman("postern.toml - the configuration of Postern")]);
    page.control("SH", ["DESCRIPTION"]);
    for sentence in [
        "Postern reads one TOML file, `/etc/postern/postern.toml` unless `--config` names another.",
        "`postern config default` prints a commented one, and `postern check` tests one with \
         everything that it names.",
        "A key that is not on this page is an error, and all errors are reported at once.",
        "Relative paths start at the folder of the file.",
        "Secrets are given by file only; `credential:NAME` is the file NAME that systemd provides \
         by LoadCredential=.",
    ] {
        page.text(inlines(sentence));
    }
    for table in keys::TABLES {
        write_table(&mut page, table);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("postern"), roman("(1)")]);
    page.render()
}

fn write_table(page: &mut Roff, table: &Table) {
    let heading = match table.form.repeats() {
        true => format!("[[{}]]", table.name),
        false => format!("[{}]", table.name),
    };
    page.control("SH", [heading.as_str()]);
    for sentence in table.doc {
        page.text(inlines(sentence));
    }
    match table.form {
        Form::One => {}
        Form::Optional => {
            page.text([roman("The table may be left out.")]);
        }
        Form::Many => {
            page.text([roman("It stands once or more often.")]);
        }
        Form::Several => {
            page.text([roman("It may be left out, or stand more than once.")]);
        }
    }
    for key in table.keys {
        write_key(page, key);
    }
}

fn write_key(page: &mut Roff, key: &Key) {
    page.control("TP", []);
    page.text([bold(key.name)]);
    for sentence in key.doc {
        page.text(inlines(sentence));
    }
    page.text([roman(format!("Value: {}.", key.kind.valid()))]);
    for sentence in absent(key) {
        page.text(inlines(&sentence));
    }
}

/// What stands in backticks is bold.
fn inlines(sentence: &str) -> Vec<Inline> {
    let parts = sentence.split('`').enumerate();
    let inlines = parts.map(|(index, part)| match index % 2 {
        0 => roman(part),
        _ => bold(part),
    });
    inlines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_every_table_is_explained() {
        let page = manual();
        for table in keys::TABLES {
            for key in table.keys {
                let name = key.name.replace('-', "\\-");
                assert!(page.contains(&format!("\\fB{name}\\fR")), "{}", key.name);
            }
        }
    }
}
