//! The guest's start, its files that are not of its image, and its end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::archive::Archive;
use postern_tests::{Server, needs, postern, wait_until};

use super::Plan;
use super::image::{Image, tail};
use crate::peers;
use crate::stage::{self, Stage};

/// The emulator.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// The guest executes 150 to 200 million instructions a second on a core of its own, and all loads
/// together have 200,000 million.
const LIMIT: Duration = Duration::from_secs(7_200);

/// The memory of the guest, in MiB: its files twice while they are unpacked, PostgreSQL with 256
/// sessions, and what is transferred.
const MEMORY_MIB: &str = "3072";

/// Rows of a short bulk transfer, each about 1,000 bytes; a long one has three times as many.
const ROWS: u64 = 16_000;

/// The guest counts one instruction for each word that a string instruction moves, where a
/// processor counts one in all: neither the kernel nor the C library uses them on a processor that
/// does not advertise them.
const PROCESSOR: &str = "max,-erms,-fsrm";

/// One instruction takes one nanosecond of the guest's clock, and idle time is passed over.
const COUNT: &str = "shift=0,sleep=off";

/// The mitigations for faults of processors are left out, as they are in the hardware of newer
/// ones. Addresses are the same in each start. Debian's kernel finds its clock to be exact.
const KERNEL_OPTIONS: &str = "console=ttyS0 quiet rdinit=/init mitigations=off nokaslr \
                              norandmaps clocksource=tsc tsc=reliable panic=-1 \
                              clearcpuid=rep_good,erms,fsrm";

/// The ports of the guest, as its script has them.
const PORT_POSTGRES: u16 = 5432;
const PORT_PGBOUNCER: u16 = 6001;
const PORT_HAPROXY: u16 = 6002;
const PORT_NGINX: u16 = 6003;

/// The first process of the guest, and what it starts.
const INIT: &str = include_str!("../../emulator/init.sh");
const MEASURE: &str = include_str!("../../emulator/measure.sh");
/// The configurations that are not of the bench's own servers.
const POSTERN: &str = include_str!("../../emulator/postern.toml");
const POSTGRESQL: &str = include_str!("../../emulator/postgresql.conf");
const HBA: &str = include_str!("../../emulator/pg_hba.conf");

/// Where nginx has its modules in Debian.
const NGINX_MODULE: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n";
/// The files that a process of the guest may have open.
const FILES: u64 = 65_536;

/// Runs the guest to its end and returns what it printed.
///
/// # Errors
/// If it does not start, does not run all loads within its time, or we are interrupted.
pub(super) fn run(image: &Image, stage: &Stage, plan: &Plan<'_>) -> Result<String> {
    let folder = stage.scratch().subfolder("emulator")?;
    let files = files(image, stage, plan, &folder)?;
    let log = folder.join("log");
    let mut guest = Server::spawn("QEMU", command(image, &files)?, &log, Signal::SIGTERM)?;
    let mut said = 0;
    wait_until("the guest has counted everything", LIMIT, || {
        let output = read(&log)?;
        for line in output.get(said..).unwrap_or_default().split_inclusive('\n') {
            if !line.ends_with('\n') {
                break;
            }
            said += line.len();
            if let Some(figure) = line.strip_prefix("figure ") {
                eprintln!("         counted: {}", figure.trim_end());
            }
        }
        Ok(!guest.is_running()?)
    })?;
    guest.stop()?;
    // They are as large as all files of the guest.
    fs::remove_file(&files)?;
    let output = read(&log)?;
    if !output.lines().any(|it| it == "end") {
        bail!("the guest ended early; it said:\n{}", tail(&log));
    }
    Ok(output)
}

/// A serial line ends lines as a terminal does.
fn read(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

fn command(image: &Image, files: &Path) -> Result<Command> {
    let qemu = needs::program(QEMU).with_context(|| format!("{QEMU} is not installed"))?;
    let mut command = Account::own().command(&qemu, "KILL");
    command.args(["-accel", "tcg", "-icount", COUNT, "-cpu", PROCESSOR]);
    command.args(["-machine", "q35", "-smp", "1", "-m", MEMORY_MIB]);
    command.args(["-nodefaults", "-nic", "none", "-display", "none"]);
    command.args(["-serial", "stdio", "-no-reboot"]);
    // The same numbers in each start are random numbers, and the same time is the time of day.
    command.args(["-seed", "1", "-rtc", "base=2026-01-01,clock=vm"]);
    command.arg("-kernel").arg(&image.kernel);
    command.arg("-initrd").arg(files);
    command.args(["-append", KERNEL_OPTIONS]);
    Ok(command)
}

/// The files of the image and after them ours, in one file.
fn files(image: &Image, stage: &Stage, plan: &Plan<'_>, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("files.cpio");
    let mut file = File::create(&path)?;
    let mut root = File::open(&image.root).with_context(|| image.root.display().to_string())?;
    io::copy(&mut root, &mut file)?;
    let mut archive = Archive::new(io::BufWriter::new(file));
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.folder("bench")?;
    archive.file("bench/measure.sh", 0o644, MEASURE.as_bytes())?;
    archive.file("bench/plan", 0o644, text_of(plan).as_bytes())?;
    archive.file("bench/postern", 0o755, &fs::read(postern::binary()?)?)?;
    let certificate = stage.certificates().issue("guest", &Account::own())?;
    let ca_file = stage.certificates().ca_file();
    archive.file("bench/ca.pem", 0o644, &fs::read(ca_file)?)?;
    archive.file("bench/cert.pem", 0o644, &fs::read(certificate.cert_file)?)?;
    archive.file("bench/key.pem", 0o600, &fs::read(certificate.key_file)?)?;
    for (name, text) in configurations() {
        archive.file(&format!("bench/{name}"), 0o644, text.as_bytes())?;
    }
    archive.end()?.flush()?;
    Ok(path)
}

/// The peers are configured as outside of the guest, for its one processor.
fn configurations() -> [(&'static str, String); 6] {
    let pgbouncer = peers::pgbouncer::Place {
        port: PORT_PGBOUNCER,
        backend_port: PORT_POSTGRES,
        users: Path::new("/run/pgbouncer/users.txt"),
        ca_file: Path::new("/bench/ca.pem"),
        cert_file: Path::new("/bench/cert.pem"),
        key_file: Path::new("/run/pgbouncer/key.pem"),
    };
    let nginx = peers::nginx::Place {
        port: PORT_NGINX,
        backend_port: PORT_POSTGRES,
        folder: Path::new("/run/nginx"),
        load_modules: NGINX_MODULE,
        files: FILES,
    };
    let haproxy = peers::haproxy::configuration(PORT_HAPROXY, PORT_POSTGRES, 1);
    [
        ("postern.toml", POSTERN.to_owned()),
        ("postgresql.conf", stage::SETTINGS.to_owned() + POSTGRESQL),
        ("pg_hba.conf", HBA.to_owned()),
        ("pgbouncer.ini", pgbouncer.configuration()),
        ("haproxy.cfg", haproxy),
        ("nginx.conf", nginx.configuration()),
    ]
}

/// What the guest is to do, as variables of its shell.
fn text_of(plan: &Plan<'_>) -> String {
    let clients: Vec<String> = plan.clients.iter().map(u64::to_string).collect();
    format!(
        "ROUTES='{}'\nROUTES_TLS='{}'\nCLIENTS='{}'\nSEED={}\nROWS={ROWS}\n\
         PERSON={}\nDIRECT_USER={}\nPGPASSWORD={}\nGROUP={}\n",
        plan.routes.join(" "),
        plan.routes_tls.join(" "),
        clients.join(" "),
        plan.seed,
        stage::PERSON,
        stage::DIRECT_USER,
        stage::PASSWORD,
        stage::GROUP,
    )
}
