//! Whether the perimeter is in force, by the kernel's own word.

use super::Probe;
use crate::config::Perimeter;
use crate::policy::{self, PolicyError};

const LEG: &str = "perimeter";

/// One row if the policy is in force as configured, else one for each difference.
pub(super) fn probes(perimeter: &Perimeter) -> Vec<Probe> {
    let what = format!("policy of this {}", perimeter.plan.place.name());
    let status = match policy::check_capabilities().and_then(|()| policy::status(perimeter)) {
        Ok(status) => status,
        // A watch may ask, and has left what it was told.
        Err(PolicyError::Capabilities(_)) => return policy::probes(&perimeter.state_file),
        Err(error) => {
            return vec![Probe::failed(
                LEG,
                what,
                error.to_string(),
                "postern policy load",
            )];
        }
    };
    if status.in_force && status.mode == "monitor" {
        let why = "as configured, but mode = \"monitor\" drops nothing";
        return vec![Probe::warning(LEG, what, why, "")];
    }
    if status.in_force {
        return vec![Probe::ok(LEG, what, "in force, as configured")];
    }
    let drift = status.drift.into_iter();
    drift
        .map(|it| Probe::failed(LEG, what.clone(), it.what, it.cure))
        .collect()
}
