//! `postern policy watch`: denials as they come, and programs at interfaces that come.

mod denial;

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use postern_core::audit::Record;
use postern_ebpf::abi::map;

use self::denial::{Denial, Names};
use super::attach::Tc;
use super::clock::{self, Boot};
use super::error::PolicyError;
use super::finding::Finding;
use super::load;
use super::machine;
use super::maps::{self, Maps};
use super::netlink::Changes;
use super::pins::Pins;
use super::status::status;
use crate::audit::{AuditLog, OF_THE_PROCESS};
use crate::config::Perimeter;
use crate::limits::{POLICY_FINDING_INTERVAL, WATCH_INTERVAL};

/// How denials are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    /// One JSON object a line.
    pub(crate) json: bool,
    /// Ends after this time without a denial.
    pub(crate) once_idle: Option<Duration>,
    /// How programs are attached to interfaces that come.
    pub(crate) tc: Tc,
}

/// SIGINT and SIGTERM, as something that can be waited for.
#[derive(Debug)]
pub(crate) struct Stop(SignalFd);

/// What a watch reads, as long as the same set of maps is in force.
struct Source {
    ring: RingBuf<MapData>,
    maps: Maps,
    /// Tells one set from the next.
    folder: (u64, u64),
    /// The kernel hands each event out once: the others are kept out.
    _lock: Flock<File>,
}

/// The life of a watch.
struct Watch<'a> {
    perimeter: &'a Perimeter,
    options: Options,
    audit: Option<&'a AuditLog>,
    names: Names,
    /// What had not been reported when it was last looked.
    unreported: (u64, u64),
    /// Interfaces may have come at which no program stands yet.
    is_behind: bool,
    /// When what the kernel says was last left for the proxy.
    found: Option<Instant>,
    /// Nobody reads what is printed any more.
    is_unread: bool,
    /// What was last said to be going wrong, so that it is said once.
    trouble: String,
}

/// Shows denials until SIGINT or SIGTERM, records them, and attaches programs to interfaces that
/// come.
///
/// # Errors
///
/// No policy is loaded, another watch is running, or the kernel refuses.
pub(crate) fn watch(
    perimeter: &Perimeter,
    options: Options,
    stop: &Stop,
    audit: Option<&AuditLog>,
) -> Result<(), PolicyError> {
    machine::check_capabilities()?;
    let changes = Changes::listen();
    let changes = changes.map_err(|error| PolicyError::kernel("tell of interfaces", &error))?;
    let mut watch = Watch {
        perimeter,
        options,
        audit,
        names: Names::new(perimeter),
        unreported: (0, 0),
        is_behind: true,
        found: None,
        is_unread: false,
        trouble: String::new(),
    };
    watch.leave_finding();
    let mut source = Source::open(perimeter)?;
    watch.unreported = source.unreported()?;
    watch.attach_new()?;
    let mut seen = Instant::now();
    let mut asked = Instant::now();
    loop {
        let rest = WATCH_INTERVAL.saturating_sub(asked.elapsed());
        let wait = options
            .once_idle
            .map_or(rest, |idle| rest.min(idle.saturating_sub(seen.elapsed())));
        wait_for(&source, &changes, &stop.0, wait)?;
        if watch.drain(&mut source)? {
            seen = Instant::now();
        }
        let is_changed = changes.seen();
        if is_changed.map_err(|error| PolicyError::kernel("tell of interfaces", &error))? {
            watch.names.forget_interfaces();
            watch.is_behind = true;
            watch.attach_new()?;
        }
        if asked.elapsed() >= WATCH_INTERVAL {
            asked = Instant::now();
            watch.attach_new()?;
            watch.tell_unreported(&source)?;
            watch.leave_finding();
            source = source.renewed(perimeter).inspect_err(|_| {
                watch.found = None;
                watch.leave_finding();
            })?;
        }
        let is_over = options.once_idle.is_some_and(|idle| seen.elapsed() >= idle);
        if is_over || stop.has_come()? || watch.is_unread {
            return Ok(());
        }
    }
}

impl Source {
    fn open(perimeter: &Perimeter) -> Result<Self, PolicyError> {
        let pins = Pins::new(&perimeter.pins);
        let set = pins.current();
        let path = set.maps();
        let folder = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(PolicyError::NotLoaded(perimeter.pins.clone()));
            }
            folder => folder.map_err(|error| PolicyError::file("open", &path, error))?,
        };
        let facts = folder
            .metadata()
            .map_err(|error| PolicyError::file("look at", &path, error))?;
        let lock = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(PolicyError::Watched),
            Err((_, errno)) => return Err(PolicyError::file("lock", &path, errno)),
        };
        let events = set.map(map::EVENTS);
        let ring = RingBuf::try_from(maps::pinned(&events)?);
        let ring = ring
            .map_err(|error| PolicyError::kernel(format!("open {}", events.display()), &error))?;
        Ok(Self {
            ring,
            maps: Maps::open(&set)?,
            folder: (facts.dev(), facts.ino()),
            _lock: lock,
        })
    }

    /// The same, or that of the set which is in force now.
    fn renewed(self, perimeter: &Perimeter) -> Result<Self, PolicyError> {
        let pins = Pins::new(&perimeter.pins);
        let facts = std::fs::metadata(pins.current().maps());
        match facts.map(|it| (it.dev(), it.ino())) {
            Ok(folder) if folder == self.folder => Ok(self),
            // Another set is just taking its place.
            Err(_) if pins.record().is_some() => Ok(self),
            Ok(_) | Err(_) => Self::open(perimeter),
        }
    }

    fn unreported(&self) -> Result<(u64, u64), PolicyError> {
        let counts = self.maps.counts()?;
        Ok((counts.suppressed, counts.lost))
    }
}

impl Watch<'_> {
    /// Shows and records what has come; whether there was anything.
    fn drain(&mut self, source: &mut Source) -> Result<bool, PolicyError> {
        let boot = Boot::now();
        let mut has_any = false;
        while let Some(item) = source.ring.next() {
            let Some(denial) = Denial::read(&item, boot) else {
                continue;
            };
            drop(item);
            has_any = true;
            let named = self.names.name(denial);
            let line = match self.options.json {
                true => named.json(),
                false => named.text(&clock::local(named.at_ms())),
            };
            self.print(&line)?;
            self.record(named.record());
        }
        Ok(has_any)
    }

    /// Says how many denials have not been reported since it was last said.
    fn tell_unreported(&mut self, source: &Source) -> Result<(), PolicyError> {
        let (suppressed, lost) = source.unreported()?;
        let more = (
            suppressed.saturating_sub(self.unreported.0),
            lost.saturating_sub(self.unreported.1),
        );
        self.unreported = (suppressed, lost);
        let (suppressed, lost) = more;
        if more == (0, 0) {
            return Ok(());
        }
        let line = match self.options.json {
            true => serde_json::json!({
                "event": "denials_unreported",
                "suppressed": suppressed,
                "lost": lost,
            })
            .to_string(),
            false => format!(
                "{} more denials were counted and not shown ({suppressed} came too fast, {lost} \
                 found no room)",
                suppressed + lost
            ),
        };
        self.print(&line)?;
        self.record(Record::DenialsUnreported { suppressed, lost });
        Ok(())
    }

    /// Attaches programs to interfaces that have come. What fails is tried again: until then
    /// they are shut, and denials are shown nonetheless.
    fn attach_new(&mut self) -> Result<(), PolicyError> {
        if !self.is_behind || !self.perimeter.plan.place.has_interfaces() {
            return Ok(());
        }
        let names = match load::attach_new(self.perimeter, self.options.tc) {
            Ok(names) => names,
            Err(error) => {
                self.say(&error.to_string());
                return Ok(());
            }
        };
        self.is_behind = false;
        self.trouble.clear();
        for name in names {
            let line = match self.options.json {
                true => serde_json::json!({"event": "attached", "interface": name}).to_string(),
                false => format!("{name} has come: the programs stand there now"),
            };
            self.print(&line)?;
        }
        Ok(())
    }

    /// Leaves what the kernel says where the proxy reads it. What cannot be left is said, and the
    /// watch goes on: an old finding says by its age that it is none.
    fn leave_finding(&mut self) {
        let age = self.found.map(|at| at.elapsed());
        if age.is_some_and(|age| age < POLICY_FINDING_INTERVAL) {
            return;
        }
        self.found = Some(Instant::now());
        let finding = match status(self.perimeter) {
            Ok(status) => Finding::of(&status),
            Err(error) => Finding::unknown(error.to_string()),
        };
        let path = &self.perimeter.state_file;
        if let Err(error) = finding.write(path) {
            self.say(&format!(
                "perimeter.state_file: {}: {error}",
                path.display()
            ));
        }
    }

    /// Hands a denial to the audit file. One that cannot be written is counted there when that
    /// works again; the watch goes on.
    fn record(&mut self, record: Record) {
        let Some(audit) = self.audit else {
            return;
        };
        if let Err(error) = audit.write_detached(OF_THE_PROCESS, record) {
            self.say(&format!("perimeter.audit_file: {error}"));
        }
    }

    /// Says what goes wrong, once as long as it is the same.
    fn say(&mut self, trouble: &str) {
        if self.trouble != trouble {
            eprintln!("postern: {trouble}");
            trouble.clone_into(&mut self.trouble);
        }
    }

    fn print(&mut self, line: &str) -> Result<(), PolicyError> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            // Whoever read has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_unread = true;
                Ok(())
            }
            result => result.map_err(|error| {
                PolicyError::file("write", std::path::Path::new("standard output"), error)
            }),
        }
    }
}

impl Stop {
    /// Takes the signals over from here on; to be called before there is another thread, which
    /// would be ended by them.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn take_over() -> Result<Self, PolicyError> {
        let failed = |errno: Errno| PolicyError::kernel("hand signals over", &errno);
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        signals.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&signals, flags)
            .map(Self)
            .map_err(failed)
    }

    fn has_come(&self) -> Result<bool, PolicyError> {
        let signal = self.0.read_signal();
        let signal = signal.map_err(|errno| PolicyError::kernel("hand signals over", &errno))?;
        Ok(signal.is_some())
    }
}

fn wait_for(
    source: &Source,
    changes: &Changes,
    stop: &SignalFd,
    wait: Duration,
) -> Result<(), PolicyError> {
    let mut waited = [source.ring.as_fd(), changes.as_fd(), stop.as_fd()]
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
    let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    match poll(&mut waited, wait) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(PolicyError::kernel("tell of denials", &errno)),
    }
}
