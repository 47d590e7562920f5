//! The names by which the bars find figures, for scenarios and bars alike.

/// `pgbench -S -M prepared`.
pub const SELECT_PREPARED: &str = "select-prepared";
/// `COPY ... TO STDOUT`.
pub const COPY_OUT: &str = "copy-out";
/// `COPY ... FROM STDIN`.
pub const COPY_IN: &str = "copy-in";
/// What an emulator counts: its points are those of [`SELECT_PREPARED`], and [`COPY_OUT`] and
/// [`COPY_IN`].
pub const INSTRUCTIONS: &str = "instructions";
/// Sessions that do nothing.
pub const IDLE: &str = "idle";
/// A client that asks for much and reads nothing.
pub const SLOW_READER: &str = "slow-reader";
/// New sessions of people who have just been in.
pub const LOGINS: &str = "logins";
/// Logins of strangers while the directory is stopped.
pub const STORM: &str = "storm";
/// The policy programs.
pub const PERIMETER: &str = "perimeter";
/// Access that the directory takes away from a person with live sessions.
pub const REVOCATION: &str = "revocation";

/// The point of a scenario that has one without a name.
pub const ONLY_POINT: &str = "";
/// One client.
pub const CLIENTS_1: &str = "1 client";
/// Four clients.
pub const CLIENTS_4: &str = "4 clients";
/// 16 clients.
pub const CLIENTS_16: &str = "16 clients";
/// 64 clients.
pub const CLIENTS_64: &str = "64 clients";
/// 256 clients.
pub const CLIENTS_256: &str = "256 clients";

/// What one slow reader makes a proxy keep.
pub const ONE_SLOW_READER: &str = "one slow reader";
/// Others, without a slow reader.
pub const OTHERS_ALONE: &str = "16 others alone";
/// Others, beside a slow reader.
pub const OTHERS_BESIDE: &str = "16 others beside it";

/// Four clients whose TLS is resumed.
pub const CLIENTS_4_RESUMING: &str = "4 clients that resume TLS";

/// Running sessions without strangers.
pub const WITHOUT_STORM: &str = "alone";
/// Running sessions while strangers log in.
pub const IN_STORM: &str = "while strangers log in";
/// Running sessions while strangers connect to something else: what the strangers' own work costs
/// the machine.
pub const STORM_ELSEWHERE: &str = "while strangers log in elsewhere";
/// Strangers who were told that there are too many.
pub const TOO_MANY: &str = "answered 53300";

/// One packet, and the policy itself.
pub const PACKET: &str = "10,000 prefixes";
/// Reads through a gateway without a policy.
pub const GATEWAY_OPEN: &str = "reads, open gateway";
/// Reads through a gateway with one.
pub const GATEWAY: &str = "reads, guarded gateway";
/// Reads through a gateway with the programs and without the default drop of nftables.
pub const GATEWAY_PROGRAMS: &str = "reads, programs alone";
/// The same with a connection for each.
pub const GATEWAY_OPEN_CONNECTIONS: &str = "connections, open gateway";
/// As above.
pub const GATEWAY_PROGRAMS_CONNECTIONS: &str = "connections, programs alone";
/// As above.
pub const GATEWAY_CONNECTIONS: &str = "connections, guarded gateway";

/// From the directory's answer to the last backend gone, where OpenLDAP tells its changes.
pub const OPENLDAP: &str = "OpenLDAP";
/// The same where Samba AD tells them, and another of its processes made the change.
pub const SAMBA: &str = "Samba AD";
/// The same where the change was made through the process that tells it.
pub const SAMBA_ITSELF: &str = "Samba AD, by the same process";
/// The same where OpenLDAP is polled at the default interval.
pub const POLLED: &str = "OpenLDAP, polled every 30 s";
/// The same in a quick run, which has no time for that.
pub const POLLED_QUICKLY: &str = "OpenLDAP, polled every 5 s";
/// From when Postern heard of it to the last backend gone.
pub const OPENLDAP_HEARD: &str = "OpenLDAP: from hearing of it on";
/// As above.
pub const SAMBA_HEARD: &str = "Samba AD: from hearing of it on";
/// Logins that began after the loss was on record, and were accepted.
pub const OPENLDAP_TOO_LATE: &str = "OpenLDAP: accepted too late";
/// As above.
pub const SAMBA_TOO_LATE: &str = "Samba AD: accepted too late";
/// As above.
pub const POLLED_TOO_LATE: &str = "OpenLDAP, polled every 30 s: accepted too late";
