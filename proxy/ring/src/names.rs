//! Which services a program with the C library within asks for names: those that it has itself.
//!
//! `nsswitch.conf` of a machine may name others (`resolve`, `myhostname`, `systemd`), which are
//! libraries of that machine. Loading one brings the machine's own C library into a process that
//! has another one, and where their versions differ the process dies.
//! Source: nsswitch.conf(5), and glibc's `nss/nss_database.c`.
#![cfg_attr(
    all(target_env = "gnu", target_feature = "crt-static"),
    allow(unsafe_code, reason = "the C library is told by a foreign function")
)]

/// Has hosts and accounts looked up in files of the machine and by DNS, whatever `nsswitch.conf`
/// says, where the C library is linked into the program; elsewhere it does nothing. It comes
/// before anything is looked up.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn look_up_by_files_and_dns() {
    use std::ffi::{CStr, c_char, c_int};

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    const SERVICES: [(&CStr, &CStr); 5] = [
        (c"hosts", c"files dns"),
        (c"services", c"files"),
        (c"passwd", c"files"),
        (c"group", c"files"),
        (c"initgroups", c"files"),
    ];
    for (database, services) in SERVICES {
        // SAFETY: both are texts that end with NUL and are never freed, and the C library locks
        // what it changes.
        let refused = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        debug_assert_eq!(refused, 0, "{database:?} is a database of glibc's");
    }
}

/// The machine's own C library asks whom `nsswitch.conf` names.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn look_up_by_files_and_dns() {}
