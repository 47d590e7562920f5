//! The bars: what is promised, and what a run found of it.
//!
//! The promises are a table in [`promises`]; here is how each kind of them is worked out.
//! A figure is compared with one that was made in the same round, and a ratio of costs that are
//! not positive is no figure: then the bar has no value, and its note says why.

mod measure;
pub mod promises;
#[cfg(test)]
mod tests;

use crate::report::{Bar, RouteSummary, Sense};
use crate::sample::Samples;

use measure::{Found, Measured};
use promises::{PROMISES, Promise};

/// What the name of a stand-in ends with.
pub const STAND_IN_SUFFIX: &str = ", by busy time";

/// What the note of every stand-in begins with.
pub const STAND_IN_NOTE: &str = "stand-in for instructions";

/// What the note of a bar begins with whose instructions no hardware counted.
pub const EMULATED_NOTE: &str = "counted in an emulator";

/// What the note says where a run left a figure out.
pub const NOT_RUN: &str = "not run";

/// Works out every bar, in the order of the promises.
///
/// Where the machine has no hardware counters, a bar about instructions has the value that an
/// emulator counted. In a run without that, it has no value, and the one after it is its stand-in:
/// the same ratio, of the time that the machine's cores were busy.
pub fn bars(samples: &Samples, routes: &[RouteSummary]) -> Vec<Bar> {
    let measured = Measured { samples, routes };
    let mut bars = Vec::new();
    for promise in PROMISES {
        let found = measured.find(promise.of);
        let emulated = measured.emulated(promise.of);
        if let Some(emulated) = emulated.filter(|_| found.value.is_none()) {
            let found = emulated.with_note_before(EMULATED_NOTE);
            bars.push(bar(promise, promise.name.to_owned(), found));
            continue;
        }
        let stand_in = measured.stand_in(promise.of);
        let Some(stand_in) = stand_in.filter(|_| found.value.is_none()) else {
            bars.push(bar(promise, promise.name.to_owned(), found));
            continue;
        };
        let found = Found::nothing("no hardware counters here: see the stand-in");
        bars.push(bar(promise, promise.name.to_owned(), found));
        let name = format!("{}{STAND_IN_SUFFIX}", promise.name);
        bars.push(bar(promise, name, stand_in.with_note_before(STAND_IN_NOTE)));
    }
    bars
}

/// Whether a bar only stands in for one that could not be measured.
pub fn is_stand_in(bar: &Bar) -> bool {
    bar.name.ends_with(STAND_IN_SUFFIX)
}

/// Whether a bar is missed. Stand-ins are no bars.
pub fn is_any_missed(bars: &[Bar]) -> bool {
    bars.iter()
        .any(|it| it.met == Some(false) && !is_stand_in(it))
}

fn bar(promise: &Promise, name: String, found: Found) -> Bar {
    let is_met = |value: f64| match promise.sense {
        Sense::AtMost => value <= promise.bound,
        Sense::AtLeast => value >= promise.bound,
    };
    Bar {
        name,
        value: found.value,
        bound: promise.bound,
        sense: promise.sense,
        unit: promise.unit.to_owned(),
        met: found.value.map(is_met),
        note: found.note,
    }
}
