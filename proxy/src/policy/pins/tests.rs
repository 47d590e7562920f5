//! The order of the steps from one set to the next, and locks.

use super::*;

#[test]
fn a_record_is_read_as_it_was_written() {
    let record = Record {
        object: "ab12".to_owned(),
        at_ms: 1_700_000_000_123,
    };
    assert_eq!(Record::parse(&record.text()), Some(record));
    for text in [
        "",
        "object",
        "object x",
        "object x loaded",
        "object x loaded y",
        "a b c d",
    ] {
        assert_eq!(Record::parse(text), None, "{text}");
    }
}

#[test]
fn the_holder_of_a_lock_is_found_in_the_kernels_list() {
    let locks = "\
1: POSIX  ADVISORY  WRITE 900 00:1d:77 0 EOF
2: FLOCK  ADVISORY  WRITE 1234 00:1d:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 1300 00:1d:77 0 EOF
";
    assert_eq!(holder_in(locks, "00:1d:77"), Some(1234));
    assert_eq!(holder_in(locks, "00:1d:78"), None);
    assert_eq!(holder_in("", "00:1d:77"), None);
}

#[test]
fn a_second_lock_names_the_folder_and_a_lock_is_free_again_when_dropped() {
    let Ok(folder) = tempfile::tempdir() else {
        panic!("no folder")
    };
    let pins = Pins::new(folder.path());
    let first = pins.lock();
    assert!(first.is_ok());
    let second = pins.lock().map(drop).map_err(|error| error.to_string());
    let expect = format!(
        "another command is changing the policy in {}",
        folder.path().display()
    );
    assert!(second.is_err_and(|it| it.starts_with(&expect)));
    drop(first);
    assert!(pins.lock().is_ok());
}

/// The names in a folder, deep.
fn tree(folder: &Path) -> Vec<String> {
    let Ok(entries) = entries(folder) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for path in entries {
        names.push(name(&path));
        names.extend(tree(&path));
    }
    names
}

#[test]
fn what_was_cut_off_is_removed_and_what_was_confirmed_takes_its_place() -> Result<(), PolicyError> {
    // A plain folder does for the order of the steps: pins are files there.
    let folder =
        tempfile::tempdir().map_err(|error| PolicyError::file("make", Path::new("/tmp"), error))?;
    let pins = Pins::new(folder.path());
    let put = |set: &Set, mark: &str| {
        set.create()?;
        set.write_record(&Record {
            object: mark.to_owned(),
            at_ms: 1,
        })?;
        fs::write(set.map(mark), "")
            .map_err(|error| PolicyError::file("write", &set.map(mark), error))
    };
    put(&pins.current(), "old")?;
    put(&pins.next(), "cut")?;
    pins.recover()?;
    assert_eq!(
        tree(folder.path()),
        ["links", "maps", "old", "programs", "record"]
    );
    put(&pins.next(), "new")?;
    rename(&pins.next().folder, &pins.ready().folder)?;
    // Killed here, at the first moment of the change.
    assert_eq!(pins.record().map(|it| it.object).as_deref(), Some("new"));
    pins.recover()?;
    assert_eq!(
        tree(folder.path()),
        ["links", "maps", "new", "programs", "record"]
    );
    put(&pins.next(), "newer")?;
    rename(&pins.next().folder, &pins.ready().folder)?;
    pins.current().remove_part("links")?;
    rename(&pins.ready().folder.join("links"), &pins.root.join("links"))?;
    // Killed here, in the middle of it.
    pins.recover()?;
    assert_eq!(
        tree(folder.path()),
        ["links", "maps", "newer", "programs", "record"]
    );
    pins.remove()?;
    assert!(!folder.path().exists());
    Ok(())
}
