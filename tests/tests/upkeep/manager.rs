//! What a service manager gives to the process and hears from it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Result, ensure};
use command_fds::{CommandFdExt as _, FdMapping};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{RawClient, World, wait_until};

use crate::reload::reload;

/// The watchdog's time: a busy machine stalls for seconds.
const WATCHDOG_US: u64 = 20_000_000;

/// Starts the Postern that allows plaintext with a socket that is open already.
fn start_with_socket(world: &World, socket: &TcpListener, name: &str) -> Result<()> {
    world.plain.start_with(|command| {
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
        let parent_fd: OwnedFd = socket.try_clone()?.into();
        command.fd_mappings(vec![FdMapping {
            parent_fd,
            child_fd: 3,
        }])?;
        Ok(())
    })
}

pub(crate) fn who_connects_while_no_process_runs_is_served_by_the_next(
    world: &World,
) -> Result<()> {
    let person = world.person("patient", &[HR_GROUP])?;
    world.plain.stop()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, world.plain.port()))?;
    for _ in 0..3 {
        start_with_socket(world, &socket, "client")?;
        drop(world.raw(&person)?);
        world.plain.stop()?;
        let mut waiting = RawClient::connect(world.plain.port())?;
        let parameters = [("user", person.login.as_str()), ("database", HR_DATABASE)];
        waiting.startup(PROTOCOL_3_0, &parameters)?;
        start_with_socket(world, &socket, "client")?;
        ensure!(waiting.read()?.tag == b'R', "nobody asks for the password");
        waiting.password(person.password.as_bytes())?;
        waiting.read_until_ready()?;
        ensure!(waiting.query("select 1")? == "1");
        world.plain.stop()?;
    }
    drop(socket);
    world.plain.start_again()
}

pub(crate) fn a_socket_that_nobody_can_place_is_refused_by_name(world: &World) -> Result<()> {
    world.plain.stop()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let started = start_with_socket(world, &socket, "postern.socket");
    let log = world.plain.log()?;
    world.plain.start_again()?;
    ensure!(started.is_err(), "it started");
    ensure!(log.contains("FileDescriptorName="), "{log}");
    Ok(())
}

/// Everything that the service manager has been told so far is read away.
struct Manager {
    socket: UnixDatagram,
    heard: String,
}

impl Manager {
    fn hears(&mut self, text: &str) -> Result<()> {
        let mut buffer = [0; 1_024];
        wait_until(text, CHANGE_LIMIT, || {
            while let Ok(length) = self.socket.recv(&mut buffer) {
                self.heard += &String::from_utf8_lossy(&buffer[..length]);
            }
            Ok(self.heard.contains(text))
        })
    }

    fn forget(&mut self) {
        self.heard.clear();
    }
}

/// Runs a claim with a Postern that has a service manager.
fn managed(world: &World, claim: impl FnOnce(&mut Manager) -> Result<()>) -> Result<()> {
    let path = world.scratch.path().join("notify.sock");
    // Left over from a claim before, if at all.
    drop(std::fs::remove_file(&path));
    let socket = UnixDatagram::bind(&path)?;
    socket.set_nonblocking(true)?;
    let mut manager = Manager {
        socket,
        heard: String::new(),
    };
    world.plain.stop()?;
    world.plain.start_with(|command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG_US.to_string());
        Ok(())
    })?;
    let outcome = claim(&mut manager);
    if world.plain.is_running()? {
        world.plain.stop()?;
    }
    world.plain.start_again()?;
    outcome
}

pub(crate) fn a_service_manager_hears_of_every_state(world: &World) -> Result<()> {
    managed(world, |manager| {
        manager.hears("READY=1")?;
        manager.hears("WATCHDOG=1")?;
        manager.forget();
        reload(&world.plain)?;
        manager.hears("RELOADING=1\nMONOTONIC_USEC=")?;
        manager.hears("READY=1\nSTATUS=The configuration was reloaded")?;
        world.plain.stop()?;
        manager.hears("STOPPING=1")
    })
}

pub(crate) fn a_process_that_stands_still_is_not_called_alive(world: &World) -> Result<()> {
    managed(world, |manager| {
        manager.hears("WATCHDOG=1")?;
        world.plain.pause()?;
        manager.hears("READY=1")?;
        manager.forget();
        let waited = wait_until(
            "it is silent",
            Duration::from_micros(WATCHDOG_US / 2),
            || Ok(manager.socket.recv(&mut [0; 64]).is_ok()),
        );
        world.plain.resume()?;
        ensure!(
            waited.is_err(),
            "a process that stands still is called alive"
        );
        manager.hears("WATCHDOG=1")
    })
}
