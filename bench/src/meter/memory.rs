//! Memory of single processes, and of the kernel for them.

use std::fs;

use anyhow::{Context, Result};

use super::family;

/// The size of a page, in bytes: x86-64, and Arm as Debian builds it.
const PAGE_BYTES: u64 = 4_096;
/// The kernel's stack of a thread, in bytes (`THREAD_SIZE` of both).
const STACK_BYTES: u64 = 16_384;

/// Caches of the kernel's allocator in which a session has objects: its sockets, their inodes and
/// files, what waits for them, and what is queued. General caches are among them because io_uring
/// and epoll use them too; what other programs do shows in those.
const CACHES: [&str; 13] = [
    "TCP",
    "TCPv6",
    "tcp_bind_bucket",
    "tcp_bind2_bucket",
    "sock_inode_cache",
    "filp",
    "eventpoll_epi",
    "eventpoll_pwq",
    "io_kiocb",
    "skbuff_head_cache",
    "skbuff_small_head",
    "skbuff_fclone_cache",
    "fsnotify_mark",
];
const GENERAL_CACHES: [&str; 2] = ["kmalloc-", "kmalloc-cg-"];
/// Every socket has a directory entry too. Those are counted by the sockets' inodes: builds and
/// other readers of files fill and empty this cache by the hundred thousand.
const SOCKET_CACHE: &str = "sock_inode_cache";
const ENTRY_CACHE: &str = "dentry";

/// Memory of processes and their children that is their own, in bytes: anonymous or shared
/// between them, but not pages of files. Memory that several share is counted once.
///
/// # Errors
/// If the system does not say.
pub fn user_bytes(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in family(pids)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        for name in ["Pss_Anon:", "Pss_Shmem:"] {
            let value = field(&text, name).with_context(|| format!("{path} has no {name}"))?;
            sum += value * 1_024;
        }
    }
    Ok(sum)
}

/// Memory of the kernel: what sessions of the whole machine have in its allocator, and the page
/// tables and stacks of processes and their children, in bytes.
///
/// # Errors
/// If the system does not say: only root may read it.
pub fn kernel_bytes(pids: &[u32]) -> Result<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").context("/proc/slabinfo")?;
    let mut sum = slab_bytes(&slabs);
    for pid in family(pids)? {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        sum += field(&text, "VmPTE:").unwrap_or(0) * 1_024;
        sum += field(&text, "Threads:").unwrap_or(0) * STACK_BYTES;
    }
    Ok(sum)
}

/// A number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The objects in use times what each takes of its slab,
/// <https://man7.org/linux/man-pages/man5/slabinfo.5.html>.
fn slab_bytes(text: &str) -> u64 {
    let mut sum = 0;
    let (mut sockets, mut entry_bytes) = (0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|it| it.parse().ok()).collect();
        let [objects, _, _, objects_per_slab, pages_per_slab, ..] = numbers.as_slice() else {
            continue;
        };
        let slab_bytes = pages_per_slab * PAGE_BYTES;
        let object_bytes = slab_bytes.checked_div(*objects_per_slab).unwrap_or(0);
        if name == SOCKET_CACHE {
            sockets = *objects;
        }
        if name == ENTRY_CACHE {
            entry_bytes = object_bytes;
        }
        let general = GENERAL_CACHES.iter().any(|it| name.starts_with(it));
        if general || CACHES.contains(&name) {
            sum += objects * object_bytes;
        }
    }
    sum + sockets * entry_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_count_with_their_share_of_the_slab() {
        let text = "slabinfo - version: 2.1\n\
            # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
            TCP        100  143 2368 13 8 : tunables 0 0 0 : slabdata 11 11 0\n\
            sock_inode_cache 200 247 832 19 4 : tunables 0 0 0 : slabdata 13 13 0\n\
            dentry  431325 431739 192 21 1 : tunables 0 0 0 : slabdata 1 1 0\n\
            inode_cache 9999 9999 600 13 2 : tunables 0 0 0 : slabdata 1 1 0\n\
            kmalloc-96    10 42 96 42 1 : tunables 0 0 0 : slabdata 1 1 0\n";
        let expected = 100 * (32_768 / 13) + 200 * (16_384 / 19) + 10 * (4_096 / 42);
        assert_eq!(slab_bytes(text), expected + 200 * (4_096 / 21));
    }

    #[test]
    fn memory_that_is_written_to_is_counted() -> Result<()> {
        let own = [std::process::id()];
        let before = user_bytes(&own)?;
        let memory = std::hint::black_box(vec![1_u8; 50_000_000]);
        assert!(user_bytes(&own)? > before + 40_000_000);
        drop(memory);
        Ok(())
    }
}
