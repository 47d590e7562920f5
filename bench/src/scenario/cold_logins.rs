//! First logins: nobody has been in before.

use anyhow::Result;

use super::direct_rate::LIMIT;
use super::ldap::Directory;
use super::logins::{record, visits};
use super::{Extent, Point, Recorder, Scenario};
use crate::load::door::{Door, Tickets};
use crate::load::run;
use crate::route::{Encryption, Kind, Route};
use crate::stage::Stage;

/// How many clients log in at a time.
const CLIENTS: u64 = 4;

/// Each login asks the directory, makes a role and derives its keys.
#[derive(Debug)]
pub(super) struct ColdLogins;

impl Scenario for ColdLogins {
    fn name(&self) -> &'static str {
        "logins-cold"
    }

    fn shows(&self) -> &'static str {
        "first logins: Postern asks OpenLDAP, makes the role and derives its keys"
    }

    fn points(&self, _extent: Extent) -> Vec<Point> {
        vec![Point::clients(CLIENTS, Encryption::Tls)]
    }

    fn rounds(&self, extent: Extent) -> usize {
        match extent {
            Extent::Quick => 1,
            Extent::Full => 3,
        }
    }

    fn measures(&self, route: &Route) -> bool {
        route.kind == Kind::Postern
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let each = match stage.extent() {
            Extent::Quick => 15,
            Extent::Full => 100,
        };
        let directory = Directory::start(stage, CLIENTS * each)?;
        let route = directory.route(route)?;
        let door = Door::new(&route, point.encryption, Tickets::Forgotten)?;
        let clients = (0..CLIENTS).map(|client| {
            let people = client * each..(client + 1) * each;
            let doors = people.map(|index| door.for_login(directory.person(index)));
            doors.collect::<Vec<_>>().into_iter()
        });
        let found = run(LIMIT * 2, visits(clients))?;
        record(&found, recorder);
        Ok(())
    }
}
