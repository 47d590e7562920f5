//! The figures that are promised of the image.

use std::fs;

use anyhow::{Context, Result};

use super::accelerator::Accelerator;
use super::build;
use super::test::World;

/// What is promised.
const IMAGE_MB_MAX: u64 = 200;
const FIRST_LOGIN_S_MAX: f64 = 15.0;
const ANSWER_S_MAX: f64 = 1.0;
const IDLE_MB_MAX: u64 = 150;

/// How many times longer a machine may take whose processors are translated, while other programs
/// run beside it.
const TRANSLATED: f64 = 2.0;

/// Prints them beside what is promised, each that is more with a mark, and returns how many of
/// them fail the test.
///
/// # Errors
/// If the guest does not say, or the image is not there.
pub(super) fn print(world: &mut World) -> Result<usize> {
    let packed = build::folder()?.join(build::PACKED);
    let packed = fs::metadata(&packed).with_context(|| packed.display().to_string())?;
    let image_mb = packed.len().div_ceil(1_000_000);
    let used_mb = used_mb(world)?;
    println!();
    println!("figure                         seen    promised");
    let (seen, promised) = (format!("{image_mb} MB"), format!("{IMAGE_MB_MAX} MB"));
    let is_large = row(
        "image, compressed",
        (&seen, &promised),
        image_mb > IMAGE_MB_MAX,
    );
    let (seen, promised) = (format!("{used_mb} MB"), format!("{IDLE_MB_MAX} MB"));
    let is_greedy = row("memory in use", (&seen, &promised), used_mb > IDLE_MB_MAX);
    let accelerator = Accelerator::for_image(&world.image)?;
    let slack = match accelerator {
        Accelerator::Kvm => 1.0,
        Accelerator::Tcg => TRANSLATED,
    };
    let first_login = format!("first login, by {}", accelerator.name());
    let times = [
        (
            first_login.as_str(),
            Some(world.first_login.as_secs_f64()),
            FIRST_LOGIN_S_MAX,
        ),
        ("answer after kill -9", world.restart_s, ANSWER_S_MAX),
    ];
    let mut slow = 0;
    for (what, seconds, max) in times {
        let Some(seconds) = seconds else { continue };
        let (seen, promised) = (format!("{seconds:.1} s"), format!("{max:.0} s"));
        row(what, (&seen, &promised), seconds > max);
        slow += usize::from(seconds > max * slack);
    }
    let start = world.guest.run("systemd-analyze time | head -n 1")?;
    println!("{start}");
    Ok(usize::from(is_large) + usize::from(is_greedy) + slow)
}

/// One line of the table; returns whether the promise is missed.
fn row(what: &str, (seen, promised): (&str, &str), is_missed: bool) -> bool {
    let mark = if is_missed { "  MISSED" } else { "" };
    println!("{what:<24}  {seen:>9}   {promised:>8}{mark}");
    is_missed
}

fn used_mb(world: &mut World) -> Result<u64> {
    let memory = world
        .guest
        .run("awk '/MemTotal|MemAvailable/ { print $2 }' /proc/meminfo")?;
    let mut memory = memory.lines().map(str::parse::<u64>);
    let (total, available) = (memory.next(), memory.next());
    let total = total.context("no memory")??;
    Ok((total - available.context("no memory")??) * 1_024 / 1_000_000)
}
