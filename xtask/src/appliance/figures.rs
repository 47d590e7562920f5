//! The figures that are promised of the image.

use std::fs;

use anyhow::{Context, Result};

use super::accelerator::Accelerator;
use super::build;
use super::test::World;

/// What is promised.
const IMAGE_MB_MAX: u64 = 200;
const FIRST_LOGIN_S_MAX: u64 = 15;
const IDLE_MB_MAX: u64 = 150;

/// Prints them beside what is promised.
///
/// # Errors
/// If the guest does not say, or the image is not there.
pub(super) fn print(world: &mut World) -> Result<()> {
    let packed = fs::metadata(build::folder()?.join(build::PACKED));
    let image_mb = packed.map_or(0, |it| it.len().div_ceil(1_000_000));
    let memory = world
        .guest
        .run("awk '/MemTotal|MemAvailable/ { print $2 }' /proc/meminfo")?;
    let mut memory = memory.lines().map(str::parse::<u64>);
    let (total, available) = (memory.next(), memory.next());
    let total = total.context("no memory")??;
    let used_mb = (total - available.context("no memory")??) * 1_024 / 1_000_000;
    let start = world.guest.run("systemd-analyze time | head -n 1")?;
    println!();
    println!("figure                         seen    promised");
    println!("image, compressed           {image_mb:>4} MB  {IMAGE_MB_MAX:>4} MB");
    let first_login = world.first_login.as_secs_f64();
    let how = Accelerator::for_image(&world.image)?.name();
    println!("first login, by {how}        {first_login:>5.1} s   {FIRST_LOGIN_S_MAX:>4} s");
    println!("memory in use              {used_mb:>5} MB  {IDLE_MB_MAX:>4} MB");
    println!("{start}");
    Ok(())
}
