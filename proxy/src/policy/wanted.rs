//! What should stand in the kernel, by the configuration and by what there is of the machine.

use std::collections::BTreeMap;

use postern_core::perimeter::Place;
use postern_ebpf::abi::{ANSWERS_MAX, Settings};

use super::error::PolicyError;
use super::hook::Hook;
use super::machine::{self, Cgroups, Interfaces};
use super::maps::Bank;
use crate::config::Perimeter;

/// What should stand in the kernel.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where programs should stand.
    pub(super) hooks: Vec<Hook>,
    /// The interfaces that are there, and those that are awaited.
    pub(super) interfaces: Interfaces,
    /// The cgroups of a proxy's host.
    pub(super) cgroups: Option<Cgroups>,
}

impl Wanted {
    /// As of now; nothing is changed.
    ///
    /// # Errors
    ///
    /// The kernel does not say what there is.
    pub(super) fn now(perimeter: &Perimeter) -> Result<Self, PolicyError> {
        let interfaces = machine::interfaces(&perimeter.plan)?;
        let cgroups = match perimeter.plan.place {
            Place::ProxyHost => Some(machine::cgroups(perimeter)?),
            Place::Gateway | Place::DatabaseHost => None,
        };
        let hooks = Hook::all(perimeter.plan.place, &interfaces, cgroups.as_ref());
        Ok(Self {
            hooks,
            interfaces,
            cgroups,
        })
    }

    /// What a bank should say, as of a generation.
    pub(super) fn bank(&self, perimeter: &Perimeter, generation: u64) -> Bank {
        let plan = &perimeter.plan;
        let cgroup = self.cgroups.as_ref();
        let present = self.interfaces.present.iter();
        let answers = plan.answers();
        Bank {
            settings: Settings {
                mode: perimeter.mode as u32,
                answers_len: u32::try_from(answers.len()).unwrap_or_default(),
                answers: array(&answers),
                cgroup: cgroup.and_then(|it| it.proxy_id).unwrap_or_default(),
                cgroup_level: cgroup.map_or(0, |it| it.level),
                reserved: 0,
                generation,
                digest: plan.digest(perimeter.mode),
            },
            protected: plan.protected.clone(),
            allowed: plan.allowed.clone(),
            interfaces: present
                .map(|(index, it)| (*index, it.entry))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    /// The interfaces where programs stand, by the kernel's numbers.
    pub(super) fn covered(&self) -> Vec<u32> {
        self.interfaces.present.keys().copied().collect()
    }
}

/// The ports as the maps have them: as many as there are, then zeros.
fn array(ports: &[u16]) -> [u16; ANSWERS_MAX] {
    let mut array = [0; ANSWERS_MAX];
    for (place, port) in array.iter_mut().zip(ports) {
        *place = *port;
    }
    array
}
