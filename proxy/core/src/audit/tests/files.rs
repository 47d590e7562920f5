//! Tests of a log that goes through several files.

use super::*;

/// A log in three files, a text each.
fn in_files() -> [String; 3] {
    let mut chain = Chain::new(&key(1));
    ["one", "two", "three"].map(|file| {
        let mut text = String::new();
        if chain.position().seq > 1 {
            let after = "a \"quoted\" name".to_owned();
            text += &chain.seal(0, "-", &Record::FileBegun { after });
        }
        text += &chain.seal(0, "s-1", &refused("no"));
        let file = file.to_owned();
        text + &chain.seal(0, "-", &Record::FileEnded { file })
    })
}

/// What several files come to; the number of the file that is broken, else.
fn verify_files(files: &[&str]) -> Result<Vec<Summary>, (usize, Broken)> {
    let mut verifier = Verifier::new(&key(1));
    let mut summaries = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for line in file.split_inclusive('\n') {
            verifier
                .line(line.as_bytes())
                .map_err(|why| (number, why))?;
        }
        summaries.push(verifier.end_file());
    }
    Ok(summaries)
}

#[test]
fn a_log_in_several_files_is_whole_in_their_order_only() {
    let [one, two, three] = in_files();
    let summaries = verify_files(&[&one, &two, &three]).unwrap();
    let numbers: Vec<_> = summaries.iter().map(|it| (it.records, it.seq)).collect();
    let expected = [(2, Some((1, 2))), (3, Some((3, 5))), (3, Some((6, 8)))];
    assert_eq!(numbers, expected);
    assert!(summaries.iter().all(|it| it.unchecked_before.is_none()));
    // One behind the other in one file, they are one log as well.
    assert!(verify([one.as_str(), &two, &three].concat().as_bytes()).is_ok());

    let broken = |files: &[&str]| {
        let (file, broken) = verify_files(files).unwrap_err();
        (file, broken.line, broken.why)
    };
    let (expected, found) = (3, 6);
    let missing = Why::Missing { expected, found };
    assert_eq!(broken(&[&one, &three]), (1, 1, missing));
    let (expected, found) = (6, 1);
    let moved = Why::Reordered { expected, found };
    assert_eq!(broken(&[&two, &one]), (1, 1, moved));
    let shorter = two.split_inclusive('\n').take(2).collect::<String>();
    let (expected, found) = (5, 6);
    let cut = Why::Missing { expected, found };
    assert_eq!(broken(&[&one, &shorter, &three]), (2, 1, cut));
}

#[test]
fn a_log_that_begins_later_begins_with_a_whole_file_and_says_so() {
    let [one, two, three] = in_files();
    let summaries = verify_files(&[&two, &three]).unwrap();
    let before: Vec<_> = summaries
        .into_iter()
        .map(|it| it.unchecked_before)
        .collect();
    assert_eq!(before, [Some("a \\\"quoted\\\" name".to_owned()), None]);
    for file in [&one, &two] {
        let later: String = file.split_inclusive('\n').skip(1).collect();
        let why = verify(later.as_bytes()).unwrap_err().why;
        assert!(matches!(why, Why::Missing { expected: 1, .. }), "{why}");
    }
    let edited = two.replacen("quoted", "Quoted", 1);
    assert_eq!(why(&[&edited]), Why::EditedOrWrongKey);
    assert_eq!(why(&[&one, &edited]), Why::Edited);
    // A text that looks like the record is none.
    let text = "\",\"event\":\"file_begun\",\"after\":\"x\",\"prev\":";
    let mut chain = Chain::new(&key(1));
    chain.seal(0, "-", &Record::Stopped);
    let forged = chain.seal(0, text, &refused(text));
    let why = verify(forged.as_bytes()).unwrap_err().why;
    assert!(matches!(why, Why::Missing { .. }), "{why}");
}
