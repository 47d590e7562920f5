//! What the guest prints: a line a load.

use anyhow::{Context, Result, bail};

use super::Counts;
use crate::route::Encryption;

/// The guest's clock moves on by this a second, and by one an instruction.
const NS_PER_S: f64 = 1e9;

/// The clock also moves on where there is nothing to do. Idle time is known for a whole load and
/// not for its steady part, so a load that had more of it than this is not counted.
const IDLE_SHARE_MAX: f64 = 0.002;

/// What a load's figure is called in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// Transactions of so many clients.
    Transactions(u64),
    /// A big result.
    CopyOut,
    /// A big load.
    CopyIn,
}

/// The figure of one load.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// The route's name.
    pub route: String,
    /// Whether the client's leg was encrypted.
    pub encryption: Encryption,
    /// Which load it was.
    pub load: Load,
    /// Instructions a transaction, or a byte.
    pub instructions: f64,
}

/// The figures among the lines of the guest; lines that are none of ours are left out.
pub(super) fn read(text: &str) -> Counts {
    let mut read = Counts {
        counts: Vec::new(),
        gaps: Vec::new(),
    };
    let mut transfers: Vec<(Place<'_>, Transfer)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let outcome = match words.as_slice() {
            ["figure", "transactions", rest @ ..] => transactions(rest).map(|it| {
                read.counts.push(it);
            }),
            ["figure", "bytes", rest @ ..] => transfer(rest).map(|it| transfers.push(it)),
            ["failed", ..] => Err(anyhow::anyhow!("{line}")),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            read.gaps.push(format!("in the emulator: {error:#}"));
        }
    }
    // A short transfer and a long one of the same kind: what is not the transfer cancels.
    for pair in transfers.chunk_by(|one, other| one.0 == other.0) {
        if let [(place, short), (_, long)] = pair {
            read.counts.push(Count {
                route: place.route.to_owned(),
                encryption: place.encryption,
                load: place.load.clone(),
                instructions: (long.busy_ns - short.busy_ns) / (long.bytes - short.bytes),
            });
        }
    }
    read
}

/// What a line of the guest is about.
#[derive(Debug, PartialEq)]
struct Place<'a> {
    route: &'a str,
    encryption: Encryption,
    load: Load,
}

#[derive(Debug)]
struct Transfer {
    bytes: f64,
    busy_ns: f64,
}

/// `postern plain 16 0 1.0:7545.9 2.0:8849.0 3.0:8853.8`
fn transactions(words: &[&str]) -> Result<Count> {
    let [route, encryption, clients, idle_ns, rates @ ..] = words else {
        bail!("words are missing: {}", words.join(" "));
    };
    let about = words.join(" ");
    let rates: Result<Vec<(f64, f64)>> = rates.iter().map(|it| pair(it)).collect();
    let rates = rates.with_context(|| about.clone())?;
    let &(end_s, _) = rates.last().with_context(|| about.clone())?;
    let idle_ns: f64 = idle_ns.parse()?;
    if idle_ns > IDLE_SHARE_MAX * end_s * NS_PER_S {
        bail!("the machine was idle meanwhile: {about}");
    }
    // What begins in the second half: all sessions are open by then and have filled their caches.
    // They end in the last interval.
    let (mut seconds, mut done) = (0.0, 0.0);
    for two in rates.windows(2).rev().skip(1) {
        if let &[(begin_s, _), (at_s, rate)] = two
            && begin_s >= end_s.floor() / 2.0
        {
            seconds += at_s - begin_s;
            done += (at_s - begin_s) * rate;
        }
    }
    if done <= 0.0 {
        bail!("no steady part: {about}");
    }
    Ok(Count {
        route: (*route).to_owned(),
        encryption: self::encryption(encryption)?,
        load: Load::Transactions(clients.parse()?),
        instructions: seconds * NS_PER_S / done,
    })
}

/// `postern plain out 0 8192000:163840000`
fn transfer<'a>(words: &[&'a str]) -> Result<(Place<'a>, Transfer)> {
    let [route, encryption, direction, idle_ns, outcome] = words else {
        bail!("words are missing: {}", words.join(" "));
    };
    let (bytes, ns) = pair(outcome)?;
    let idle_ns: f64 = idle_ns.parse()?;
    let load = match *direction {
        "out" => Load::CopyOut,
        "in" => Load::CopyIn,
        _ => bail!("no such direction: {direction}"),
    };
    let place = Place {
        route,
        encryption: self::encryption(encryption)?,
        load,
    };
    let busy_ns = ns - idle_ns;
    Ok((place, Transfer { bytes, busy_ns }))
}

fn encryption(word: &str) -> Result<Encryption> {
    match word {
        "plain" => Ok(Encryption::Plain),
        "tls" => Ok(Encryption::Tls),
        _ => bail!("no such encryption: {word}"),
    }
}

/// `1.0:7545.9`
fn pair(word: &str) -> Result<(f64, f64)> {
    let (first, second) = word.split_once(':').context("a colon is missing")?;
    Ok((first.parse()?, second.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_half_and_the_last_interval_do_not_count() {
        let text = "figure transactions postern plain 16 0 \
                    1.7:1 2.0:2 3.0:9000 4.0:11000 4.3:3\n";
        let read = read(text);
        assert!(read.gaps.is_empty(), "{:?}", read.gaps);
        let expected = Count {
            route: "postern".to_owned(),
            encryption: Encryption::Plain,
            load: Load::Transactions(16),
            instructions: 100_000.0,
        };
        assert_eq!(read.counts, [expected]);
    }

    #[test]
    fn a_transfer_is_the_difference_of_a_long_one_and_a_short_one_without_idle_time() {
        let text = "figure bytes direct tls in 50 1000:10050\n\
                    figure bytes direct tls in 0 3000:26000\n";
        let read = read(text);
        let expected = Count {
            route: "direct".to_owned(),
            encryption: Encryption::Tls,
            load: Load::CopyIn,
            instructions: 8.0,
        };
        assert_eq!(read.counts, [expected]);
    }

    #[test]
    fn what_cannot_be_counted_is_a_gap() {
        for line in [
            "failed nginx: refused",
            "figure transactions nginx plain 16 900000000 1.0:1 2.0:2 3.0:3",
            "figure transactions nginx plain 16 0 1.0:1",
            "figure transactions nginx plain 16 0",
            "figure bytes nginx plain sideways 0 1:1",
        ] {
            let read = read(line);
            assert!(read.counts.is_empty(), "{line}");
            assert_eq!(read.gaps.len(), 1, "{line}");
        }
        assert!(read("[    0.5] Linux version 6.12\n").gaps.is_empty());
    }
}
