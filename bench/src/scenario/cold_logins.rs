//! First logins: nobody has been in before.

use anyhow::Result;

use super::direct_rate::LIMIT;
use super::ldap::{Directory, person};
use super::logins::{record, visits};
use super::{Extent, Point, Recorder, Scenario};
use crate::load::door::{Door, Tickets};
use crate::load::run;
use crate::route::{Encryption, Kind, Route};
use crate::stage::Stage;

/// How many clients log in at a time.
const CLIENTS: u64 = 4;
/// The people of this scenario are called `cold1` and so on.
const NAME: &str = "cold";

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
        // Nobody who has been in in an earlier round.
        let name = format!("{NAME}{}_", recorder.round);
        let directory = Directory::start(stage, &name, CLIENTS * each)?;
        let route = directory.route(route, person(&name, 1))?;
        let door = Door::new(&route, point.encryption, Tickets::Forgotten)?;
        let clients = (0..CLIENTS).map(|client| {
            let people = client * each + 1..=(client + 1) * each;
            let (door, name) = (door.clone(), name.clone());
            people.map(move |number| door.for_login(person(&name, number)))
        });
        let found = run(LIMIT * 2, visits(clients))?;
        record(&found, recorder);
        Ok(())
    }
}
