//! A machine of QEMU's that has started from the image.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::process::run;
use postern_tests::raw::SSL_REQUEST;
use postern_tests::{Server, free_port, needs, wait_until};

use super::accelerator::Accelerator;
use crate::setup::{FIRMWARE, FIRMWARE_VARIABLES};

/// The machine's memory, in MiB.
pub(super) const MEMORY_MIB: u32 = 512;
/// How long a start may take without hardware's help on a busy machine.
pub(super) const START_LIMIT: Duration = Duration::from_secs(600);
/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at what the shell has written.
const READ_WAIT: Duration = Duration::from_millis(100);
/// How long the proxy may take to say that it speaks TLS, before it is asked again.
const ANSWER_WAIT: Duration = Duration::from_millis(250);
/// Where the shell is, in the guest.
const SHELL_PORT: &str = "/dev/virtio-ports/postern.shell";
/// What the machine knows itself by, as every machine does: its journal of before is found by it.
const IDENTITY: &str = "3d8a5e0c-6f1b-4c7d-9b42-5a0c1e7f2d86";
/// Where what is typed on its serial terminal goes, in its folder.
const TERMINAL: &str = "terminal";
/// The machine's disk, in its folder.
const DISK: &str = "disk.qcow2";
/// What its firmware remembers.
const VARIABLES: &str = "variables";
/// The port of the proxy, in the guest.
pub(super) const PROXY_PORT: u16 = 5050;

/// What a page begins with.
pub(super) const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// How a machine gets its settings.
#[derive(Debug, Clone)]
pub(super) enum Settings {
    /// A drive with a label and the files of a folder.
    Drive(&'static str, PathBuf),
    /// The same as a CD-ROM.
    CdRom(&'static str, PathBuf),
    /// Credentials in SMBIOS: a name and a text.
    Credentials(Vec<(String, String)>),
}

/// A running machine.
#[derive(Debug)]
pub(super) struct Guest {
    qemu: Server,
    folder: PathBuf,
    shell: Option<UnixStream>,
    /// The port of the proxy, on 127.0.0.1 of this machine.
    pub(super) port: u16,
    /// When it was switched on.
    pub(super) started: Instant,
}

impl Guest {
    /// Switches a machine on that starts from its own copy of a disk; the folder is empty.
    ///
    /// # Errors
    /// If QEMU cannot be started.
    pub(super) fn start(folder: &Path, image: &Path, settings: &Settings) -> Result<Self> {
        let accelerator = Accelerator::for_image(image)?;
        copy_disk(folder, image)?;
        let port = free_port()?;
        let mut command = machine(folder, accelerator)?;
        command.args(["-display", "none", "-serial", "chardev:serial", "-chardev"]);
        command.arg(format!(
            "socket,id=serial,path={},server=on,wait=off,logfile={}",
            folder.join(TERMINAL).display(),
            folder.join("console").display()
        ));
        command.arg("-nic").arg(format!(
            "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:{PROXY_PORT}"
        ));
        let socket = folder.join("shell");
        command.args(["-device", "virtio-serial-pci", "-chardev"]);
        command.arg(format!(
            "socket,id=shell,path={},server=on,wait=off",
            socket.display()
        ));
        command.args(["-device", "virtserialport,chardev=shell,name=postern.shell"]);
        let monitor = folder.join("monitor");
        command.arg("-monitor");
        command.arg(format!("unix:{},server=on,wait=off", monitor.display()));
        // Drives can be plugged into it while the machine runs.
        command.args(["-device", "virtio-scsi-pci"]);
        command.args(given(folder, settings)?);
        let log = folder.join("qemu.log");
        let started = Instant::now();
        let mut qemu = Server::spawn("QEMU", command, &log, Signal::SIGTERM)?;
        let mut shell = None;
        qemu.wait_ready(COMMAND_LIMIT, || {
            shell = UnixStream::connect(&socket).ok();
            Ok(shell.is_some())
        })?;
        let shell = shell.context("the shell's socket")?;
        shell.set_read_timeout(Some(READ_WAIT))?;
        Ok(Self {
            qemu,
            folder: folder.to_owned(),
            shell: Some(shell),
            port,
            started,
        })
    }

    /// Runs commands in the guest's shell, waits for it to come if need be, and returns what they
    /// print.
    ///
    /// # Errors
    /// If no answer comes.
    pub(super) fn run(&mut self, commands: &str) -> Result<String> {
        self.ask(commands, COMMAND_LIMIT)
    }

    /// Tells the guest to start again, and waits until its shell has.
    ///
    /// # Errors
    /// If it does not come back.
    pub(super) fn reboot(&mut self) -> Result<()> {
        self.reboot_by("systemctl reboot")
    }

    /// The same by another command.
    ///
    /// # Errors
    /// If it does not come back.
    pub(super) fn reboot_by(&mut self, command: &str) -> Result<()> {
        let before = self.boot_id()?;
        // The shell may end before it says that it has begun.
        let shell = self.shell.as_mut().context("no shell")?;
        shell.write_all(format!("{command}\n").as_bytes())?;
        self.started = Instant::now();
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            // A shell that ends takes the question with it.
            if self
                .ask("cat /proc/sys/kernel/random/boot_id", READ_WAIT * 50)
                .is_ok_and(|it| it.len() == before.len() && it != before)
            {
                return Ok(());
            }
        }
        bail!(
            "the machine does not start again; the console says:\n{}",
            self.console()?
        )
    }

    fn boot_id(&mut self) -> Result<String> {
        self.run("cat /proc/sys/kernel/random/boot_id")
    }

    fn ask(&mut self, commands: &str, limit: Duration) -> Result<String> {
        let mark = format!("mark-{}", self.started.elapsed().as_nanos());
        let shell = self.shell.as_mut().context("no shell")?;
        // The mark is put together by the shell, so that an echo of the question is no answer.
        let question = format!(
            "\n{{ {commands}\n}} 2>&1; echo \"{}\"'{}'\n",
            &mark[..6],
            &mark[6..]
        );
        shell.write_all(question.as_bytes())?;
        let mut said = Vec::new();
        let start = Instant::now();
        while start.elapsed() < limit {
            let mut part = [0; 4_096];
            match shell.read(&mut part) {
                Ok(0) => bail!("QEMU has ended"),
                Ok(count) => said.extend_from_slice(part.get(..count).unwrap_or_default()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("the shell"),
            }
            let text = String::from_utf8_lossy(&said);
            if let Some((answer, _)) = text.split_once(&mark) {
                // What is left of an earlier question that was given up comes first.
                let answer = answer
                    .rsplit_once("mark-")
                    .map_or(answer, |it| it.1.split_once('\n').map_or("", |it| it.1));
                return Ok(answer.trim().to_owned());
            }
        }
        bail!("no answer to {commands:?} within {limit:?}")
    }

    /// Whether a proxy answers on its port, which QEMU's network takes connections for from the
    /// beginning: it says that it speaks TLS.
    pub(super) fn answers(&self) -> bool {
        let ask = || -> std::io::Result<u8> {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            client.set_read_timeout(Some(ANSWER_WAIT))?;
            client.write_all(&8_u32.to_be_bytes())?;
            client.write_all(&SSL_REQUEST.to_be_bytes())?;
            let mut answer = [0];
            client.read_exact(&mut answer)?;
            Ok(answer[0])
        };
        // An error is an answer that does not come.
        ask().is_ok_and(|answer| answer == b'S')
    }

    /// Everything that the serial console has shown.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn console(&self) -> Result<String> {
        let bytes = match fs::read(self.folder.join("console")) {
            // QEMU makes it after the socket of the shell.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
    }

    /// Types on the serial terminal. The machine takes it a few bytes at a time, for as long as
    /// what is returned is kept.
    ///
    /// # Errors
    /// If QEMU is not there.
    pub(super) fn type_in(&self, text: &str) -> Result<UnixStream> {
        let mut terminal = UnixStream::connect(self.folder.join(TERMINAL))?;
        terminal.write_all(text.as_bytes())?;
        Ok(terminal)
    }

    /// The page that the console shows now.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn page(&self) -> Result<String> {
        let console = self.console()?;
        let mut pages = console.rsplit(CLEAR);
        let last = pages.next().unwrap_or_default();
        // The last one may be half written.
        let page = if last.ends_with('\n') {
            last
        } else {
            pages.next().unwrap_or_default()
        };
        Ok(page.to_owned())
    }

    /// Waits until the page has a text.
    ///
    /// # Errors
    /// If it does not come; the message has the page.
    pub(super) fn wait_for_page(&self, text: &str) -> Result<()> {
        let waited = wait_until("the console says so", START_LIMIT, || {
            Ok(self.page()?.contains(text))
        });
        waited.with_context(|| format!("not {text:?} but\n{}", self.page().unwrap_or_default()))
    }

    /// Waits until the serial console has shown a text.
    ///
    /// # Errors
    /// If it does not come; the message has the console.
    pub(super) fn wait_for_console(&self, text: &str) -> Result<()> {
        let waited = wait_until("the console says so", START_LIMIT, || {
            Ok(self.console()?.contains(text))
        });
        waited.with_context(|| format!("not {text:?} but\n{}", self.console().unwrap_or_default()))
    }

    /// Whether it is switched on.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        self.qemu.is_running()
    }

    /// Plugs a drive in.
    ///
    /// # Errors
    /// If QEMU is not there to do it.
    pub(super) fn plug_in(&self, name: &str, image: &Path) -> Result<()> {
        self.plug(name, image, ",readonly=on")
    }

    /// Plugs a drive in that the machine may write.
    ///
    /// # Errors
    /// If QEMU is not there to do it.
    pub(super) fn plug_in_writable(&self, name: &str, image: &Path) -> Result<()> {
        self.plug(name, image, "")
    }

    fn plug(&self, name: &str, image: &Path, more: &str) -> Result<()> {
        let image = image.display();
        self.order(&format!(
            "drive_add 0 if=none,id={name},format=raw{more},file={image}\n\
             device_add scsi-hd,drive={name},id={name}-device\n"
        ))
    }

    /// Makes the machine's disk larger.
    ///
    /// # Errors
    /// If QEMU is not there to do it.
    pub(super) fn resize_disk(&self, mib: u64) -> Result<()> {
        // QEMU's own name of the first drive.
        self.order(&format!("block_resize virtio0 {mib}M\n"))
    }

    /// Pulls a drive out.
    ///
    /// # Errors
    /// If QEMU is not there to do it.
    pub(super) fn pull_out(&self, name: &str) -> Result<()> {
        self.order(&format!("device_del {name}-device\n"))
    }

    /// Tells QEMU's monitor something.
    fn order(&self, text: &str) -> Result<()> {
        let mut monitor = UnixStream::connect(self.folder.join("monitor"))?;
        monitor.set_read_timeout(Some(COMMAND_LIMIT))?;
        monitor.write_all(text.as_bytes())?;
        // It answers each line with a prompt, and is done with the last one then.
        let mut answer = [0; 4_096];
        let mut prompts = 0;
        while prompts <= text.lines().count() {
            let count = monitor.read(&mut answer).context("QEMU's monitor")?;
            let said = String::from_utf8_lossy(answer.get(..count).unwrap_or_default());
            prompts += said.matches("(qemu) ").count();
        }
        Ok(())
    }

    /// Switches it off, without a word to it.
    ///
    /// # Errors
    /// If QEMU does not end.
    pub(super) fn switch_off(mut self) -> Result<()> {
        self.shell = None;
        self.qemu.kill()
    }
}

/// Gives a machine a disk that begins as an image and leaves that as it is, and what its firmware
/// remembers.
///
/// # Errors
/// If they cannot be made.
pub(super) fn copy_disk(folder: &Path, image: &Path) -> Result<()> {
    let mut make = Command::new("qemu-img");
    make.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    run(make.arg(fs::canonicalize(image)?).arg(folder.join(DISK)))?;
    fs::copy(FIRMWARE_VARIABLES, folder.join(VARIABLES))?;
    Ok(())
}

/// The machine without what belongs to one use of it.
///
/// # Errors
/// If QEMU is not installed.
pub(super) fn machine(folder: &Path, accelerator: Accelerator) -> Result<Command> {
    let qemu = needs::program("qemu-system-x86_64").context("QEMU is not installed")?;
    let mut command = Account::own().command(&qemu, "KILL");
    // As in a cloud: disks are virtio's, and there is no controller of another kind to be searched.
    command.args(["-machine", "q35,sata=off", "-smp", "2", "-uuid", IDENTITY]);
    command.args(accelerator.arguments());
    command.args(["-m", &MEMORY_MIB.to_string(), "-nodefaults"]);
    let pflash =
        |file: &Path, more: &str| format!("if=pflash,format=raw,file={}{more}", file.display());
    command.args(["-drive", &pflash(Path::new(FIRMWARE), ",readonly=on")]);
    command.args(["-drive", &pflash(&folder.join(VARIABLES), "")]);
    let disk = folder.join(DISK);
    command.arg("-drive").arg(format!(
        "if=virtio,format=qcow2,cache=unsafe,file={}",
        disk.display()
    ));
    Ok(command)
}

/// The arguments that give a machine its settings, and ask it for a shell at its port.
fn given(folder: &Path, settings: &Settings) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    match settings {
        Settings::Drive(label, files) => {
            let file = folder.join("settings.img");
            make_drive(&file, label, files)?;
            arguments.push("-drive".to_owned());
            arguments.push(format!(
                "if=virtio,format=raw,readonly=on,file={}",
                file.display()
            ));
        }
        Settings::CdRom(label, files) => {
            let file = folder.join("settings.iso");
            let mut make = Command::new("xorrisofs");
            make.args(["-quiet", "-V", label, "-J", "-r", "-o"]);
            run(make.arg(&file).arg(files))?;
            let drive = format!("if=none,id=cd,media=cdrom,file={}", file.display());
            let cd = [
                "-device",
                "ahci,id=sata",
                "-device",
                "ide-cd,bus=sata.0,drive=cd",
                "-drive",
            ];
            arguments.extend(cd.map(str::to_owned));
            arguments.push(drive);
        }
        Settings::Credentials(credentials) => {
            for (name, text) in credentials {
                // Of a file, because a text could have commas.
                let file = folder.join(name);
                fs::write(&file, format!("io.systemd.credential:{name}={text}"))?;
                arguments.push("-smbios".to_owned());
                arguments.push(format!("type=11,path={}", file.display()));
            }
        }
    }
    Ok(arguments)
}

/// Makes a drive with a FAT file system of the files of a folder.
///
/// # Errors
/// If a tool fails.
pub(super) fn make_drive(file: &Path, label: &str, files: &Path) -> Result<()> {
    let mut format = Command::new("mkfs.vfat");
    format.args(["-C", "-n", label]);
    run(format.arg(file).arg("4096"))?;
    for entry in fs::read_dir(files)? {
        let mut copy = Command::new("mcopy");
        copy.arg("-s").arg("-i").arg(file);
        run(copy.arg(entry?.path()).arg("::"))?;
    }
    Ok(())
}

/// The text of the setting that asks for the test's shell.
pub(super) fn shell_setting() -> String {
    format!("{SHELL_PORT}\n")
}
