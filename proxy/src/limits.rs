//! Every limit of this crate that an operator does not set, with its unit and its reason.
//!
//! What an operator may change is in `config`, with its range beside the key.

mod audit;
mod cluster;
mod console;
mod door;
mod role_store;

use std::time::Duration;

pub(crate) use self::audit::{
    AUDIT_CLOSE_TIMEOUT, AUDIT_FREE_BYTES_AMPLE, AUDIT_FREE_BYTES_MIN, AUDIT_WAIT,
};
pub(crate) use self::cluster::{
    PEER_ASK_WAIT, PEER_ASKS_MAX, PEER_CALLS_MAX, PEER_CALLS_PER_ADDRESS_MAX, PEER_CONNECT_TIMEOUT,
    PEER_RETRY_AFTER, PEER_TIMEOUT, PEERS_MAX,
};
pub(crate) use self::console::{
    COMMAND_TIMEOUT, CONSOLE_IDLE_TIMEOUT, CONSOLE_OPEN_ANSWERS_MAX, CONSOLE_SEND_BYTES,
    CONSOLE_SEND_TIMEOUT, CONSOLE_SESSIONS_MAX, CONSOLE_SESSIONS_PER_ACCOUNT_MAX,
    CONSOLE_STATEMENTS_MAX, CONSOLE_STOP_WAIT, TRAFFIC_WAIT,
};
pub(crate) use self::door::{
    BUDGETS_MAX, BUDGETS_SWEEP_INTERVAL, LOGIN_RATE_WINDOW, PAUSE_WAIT, PAUSED_LOGINS_MAX,
    PAUSED_LOGINS_PER_ADDRESS_MAX,
};
pub(crate) use self::role_store::{
    MANAGED_LOGINS_PAGE, REVOKE_WAIT_MS, ROLE_STORE_CONNECTIONS_MAX, ROLE_STORE_GRACE_MS,
    ROLE_STORE_RETRY_BASE_MS, ROLE_STORE_TRIES_MAX, STORE_NOTICES_WAITING_MAX,
    STORE_PROBE_INTERVAL, STORE_RETRY_BASE, STORE_RETRY_MAX,
};

/// The longest configuration file, in bytes.
/// As many prefixes as a policy may have are two thirds of it; a device or a log given by mistake
/// is not read to its end.
pub(crate) const CONFIG_BYTES_MAX: usize = 4_194_304;

/// The longest value of the configuration that is repeated in an error, in bytes.
/// The reader only needs to recognise it.
pub(crate) const CONFIG_SHOWN_BYTES_MAX: usize = 80;

/// The longest secret in a file, in bytes, its line end included.
/// Passwords and keys are far shorter; PostgreSQL itself stops at 1,024.
pub(crate) const SECRET_FILE_BYTES_MAX: usize = 4_096;

/// The longest PEM file, in bytes.
/// The certificate authorities of a system are about 220 KB.
pub(crate) const PEM_BYTES_MAX: usize = 4_194_304;

/// The most TLS sessions of clients that are remembered for resumption.
/// An entry is about 1 KiB, and a client that is not remembered only makes a full handshake.
pub(crate) const TLS_SESSIONS_MAX: usize = 4_096;

/// How long before its end a certificate is warned about, in seconds: 30 days.
/// Certificates of an automatic authority are renewed at this age.
pub(crate) const CERTIFICATE_WARNING_S: u64 = 2_592_000;

/// The oldest kernel that the ring works with, major and minor: 6.1 has DEFER_TASKRUN.
pub(crate) const KERNEL_VERSION_MIN: (u32, u32) = (6, 1);

/// The least memory that the process should be allowed to lock, in bytes.
/// What systemd gives a service by default; buffers that are registered with a ring count.
pub(crate) const MEMLOCK_BYTES_MIN: u64 = 8_388_608;

/// File descriptors of a session: the client's socket and the backend's.
pub(crate) const DESCRIPTORS_OF_A_SESSION: u64 = 2;

/// File descriptors of one leg during a login: the socket, and the duplicate that the login
/// thread's ring has.
pub(crate) const DESCRIPTORS_OF_A_LEG: u64 = 2;

/// File descriptors of one login thread, and of the splice worker beside it: their rings and event
/// loops, a listener for each address, the one that is kept back for the last word, the
/// connections to the role store and the idle ones to the directory.
pub(crate) const DESCRIPTORS_OF_A_THREAD: u64 = 32;

/// File descriptors that the process has once: standard streams, the audit file, the control
/// thread with its connections to directory and role store, signals.
pub(crate) const DESCRIPTORS_OF_THE_PROCESS: u64 = 128;

/// The most levels of nesting that a walk over groups follows.
/// Deeper nesting is a mistake more often than a wish; groups beyond it are not granted.
pub(crate) const NESTED_DEPTH_MAX: usize = 10;

/// How often the groups of an entry are read that is renamed meanwhile.
pub(crate) const READS_OF_RENAMED_MAX: u32 = 3;

/// The most distinguished names in one filter of the walk.
/// A hundred DNs of 250 bytes keep a request under 32 KiB, which every server accepts.
pub(crate) const WALK_BATCH_DNS_MAX: usize = 100;

/// The entries asked for in one page of a search (RFC 2696).
/// Active Directory returns at most 1,000 by default (`MaxPageSize`).
pub(crate) const LDAP_PAGE_ENTRIES: i32 = 500;

/// The most entries that one search may return in all pages together.
/// A search for one person's groups that returns more is refused, not truncated.
pub(crate) const LDAP_ENTRIES_MAX: usize = postern_core::limits::GROUPS_PER_PRINCIPAL_MAX;

/// The most members of a group that `check` counts before it says "at least".
pub(crate) const GROUP_MEMBERS_COUNTED_MAX: usize = 10_000;

/// The most idle connections of the service principal that a login thread keeps.
/// Each costs the directory a connection; more than a few at once are a burst.
pub(crate) const SERVICE_CONNECTIONS_IDLE_MAX: usize = 4;

/// How long a connection of the service principal is used before it is replaced.
/// It bounds how long a failed-over proxy stays away from its first server, and is under the
/// 15 minutes after which Active Directory drops an idle one (`MaxConnIdleTime`).
pub(crate) const SERVICE_CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// How long a directory server that failed is asked last instead of in its configured place,
/// so that a dead server costs its connect timeout to few logins and not to all of them.
pub(crate) const LDAP_SERVER_RETRY_AFTER: Duration = Duration::from_secs(30);

/// After this many calls in a row that found no directory server, one login at a time asks, and
/// the others share what it hears: where servers hang, each call costs its whole time limit.
pub(crate) const DIRECTORY_LOST_MAX: u32 = 3;

/// How long a closing directory connection may take to say goodbye.
/// Nobody waits for it; the socket must not stay open for ever.
pub(crate) const LDAP_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before the feed tries a directory again, at first; it doubles each time.
pub(crate) const FEED_RETRY_MIN: Duration = Duration::from_millis(250);

/// The longest such pause: a directory that is back is followed again within it.
pub(crate) const FEED_RETRY_MAX: Duration = Duration::from_secs(10);

/// How often the feed asks a server that it follows whether it is there.
/// With the time for an answer, a server that is cut off silently is noticed within 20 s.
pub(crate) const FEED_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to that may take.
pub(crate) const FEED_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to tell what has happened since the feed followed last.
/// A first refresh without a place to start from sends every entry's identifier; slapd sent
/// 100,000 in 1.2 s, seen once.
pub(crate) const FEED_REFRESH_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest cookie of a directory that is kept, in bytes.
/// OpenLDAP's has 41 for each of its providers, Active Directory's 24 for each domain controller
/// that ever was; with a longer one everybody is compared after each reconnect.
pub(crate) const FEED_COOKIE_BYTES_MAX: usize = 65_536;

/// How often DirSync is asked also when no notification came, which is not sent for everything.
pub(crate) const FEED_DIRSYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How soon after an answer DirSync is asked again when a notification comes, or when the server
/// has more to tell, which one that means ill always has.
/// Each question costs the server a look through its newest changes, and a domain where
/// everybody logs in at nine notifies by the hundred a second.
pub(crate) const FEED_DIRSYNC_SPACING: Duration = Duration::from_millis(200);

/// The longest answer that DirSync is asked for, in bytes; what is left comes in the next one.
pub(crate) const FEED_DIRSYNC_BYTES_MAX: i32 = 1_048_576;

/// How long a server that tells no changes is polled before it is looked whether it does now.
pub(crate) const FEED_POLL_AGE_MAX: Duration = Duration::from_secs(600);

/// The longest diagnostic text of a directory that is kept, in bytes; the rest is cut.
pub(crate) const LDAP_DIAGNOSTIC_BYTES_MAX: usize = 256;

/// The largest file of secrets, certificates or local accounts that is read, in bytes.
pub(crate) const DIRECTORY_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The longest answer to StartTLS, in bytes.
/// It has a result code and a sentence; whatever is longer does not come from a directory.
pub(crate) const STARTTLS_ANSWER_BYTES_MAX: usize = 4_096;

/// How many days before its end a directory's certificate is called out by `check`.
pub(crate) const CERTIFICATE_WARNING_DAYS: u64 = 30;

/// One read from a socket during the login, in bytes, while the peer has more to say than
/// [`FIRST_READ_BYTES`]: a TLS record and its header fit.
pub(crate) const READ_BYTES: usize = 17 * 1024;

/// One read from a socket during the login, in bytes, while the peer says little: a ClientHello, a
/// startup packet or a password. This is what a connection that waits has for itself.
pub(crate) const FIRST_READ_BYTES: usize = 2 * 1024;

/// All that a client may send before its TLS handshake is done, in bytes.
/// A ClientHello with the key shares of today is less than 2 KiB; the library itself would keep 64.
pub(crate) const CLIENT_HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

/// How long a connection that was refused is read on, so that the refusal is not lost to a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// How much of a refused connection is read on, in bytes.
pub(crate) const LINGER_BYTES_MAX: usize = 64 * 1024;

/// A refusal of a credential is not answered sooner than this after the password came, so that
/// the time does not tell an unknown login from a wrong password.
pub(crate) const REFUSAL_DELAY: Duration = Duration::from_millis(300);

/// How long a client may take from its connection to its startup packet, a handshake of TLS
/// included. Nobody has to type anything until then; the password has `login_timeout_ms`.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that have not yet reached the splice, for each login that may be under way.
/// The ones above `logins_max` are told why inside TLS; above this it is said at once and in the
/// clear, which costs no handshake.
/// By default several addresses have to take all that they may before there is no place left.
pub(crate) const CONNECTIONS_PER_LOGIN_MAX: usize = 8;

/// How late a login thread may be with the first thing that it does for a connection while more
/// are on their way than may ask the directory.
/// A thread that is later falls behind, and a handshake costs far more than saying at once, in the
/// clear, that there are too many. Fewer connections just wait, however busy the machine is.
pub(crate) const FIRST_TURN_WAIT: Duration = Duration::from_millis(250);

/// Connections over the limit that are told so at once, each for at most [`LINGER`].
/// Above this they are closed without a word: a flood must not cost more than it has to.
pub(crate) const TURNED_AWAY_MAX: usize = 1_024;

/// Cancel requests under way at once.
/// They carry no authentication, so they must not be a way to flood a backend.
pub(crate) const CANCELS_MAX: usize = 64;

/// Those of them for one server: one that does not answer holds each for [`CANCEL_TIMEOUT`].
pub(crate) const CANCELS_PER_SERVER_MAX: usize = 32;

/// How long a cancel request waits for one of those places; then it is dropped.
pub(crate) const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// Connections without a place whose first packet is looked at before they are told so: it may be a
/// cancel request, which must not need a place that those whom it would end may hold.
pub(crate) const CANCELS_WITHOUT_PLACE_MAX: usize = 64;

/// Those of them that may be of one address, so that no address has all others told unheard.
pub(crate) const CANCELS_WITHOUT_PLACE_PER_ADDRESS_MAX: usize = 8;

/// How long their first packet is waited for. A client that cancels sends it at once.
pub(crate) const CANCEL_WITHOUT_PLACE_WAIT: Duration = Duration::from_millis(250);

/// How long the exchange of a service account may take, the database included: programs do not
/// type, and each holds one of [`SERVICE_EXCHANGES_MAX`] places.
pub(crate) const SERVICE_EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Exchanges of service accounts under way at once; the next ones wait for their turn.
/// Each holds a backend before anything is proved, of 100 by default, for milliseconds if honest.
pub(crate) const SERVICE_EXCHANGES_MAX: usize = 32;

/// Cancel requests of Postern's own under way at once, for sessions that it ends: beside those of
/// clients, because they must not wait for these. PostgreSQL makes a process for each.
pub(crate) const ENDED_CANCELS_MAX: usize = 32;

/// How long it goes on to ask for the queries of ended sessions to be cancelled. With a database
/// that answers, thousands take a second; one that does not has to notice their end by itself.
pub(crate) const ENDED_CANCELS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a cancel request may take to reach its backend.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read of a client that is told at once that no descriptor is left, in bytes: a startup
/// packet or a ClientHello, so that the refusal is not lost to a reset.
pub(crate) const LAST_WORD_READ_BYTES: usize = 2_048;

/// The pause after an accept that failed for want of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Connections that wait in the kernel to be accepted, a login thread.
pub(crate) const LISTEN_BACKLOG: i32 = 4_096;

/// How many of a role's credentials are kept, so that a warm login runs no PBKDF2.
pub(crate) const SYNCED_ROLES_MAX: usize = 10_000;

/// Passwords that the directory refused and that are remembered as such.
pub(crate) const REFUSED_PASSWORDS_MAX: usize = 10_000;

/// The least time that each address of a backend is given to accept a connection.
/// A lost SYN is sent again after a second.
pub(crate) const CONNECT_SHARE_MIN: Duration = Duration::from_secs(1);

/// How long the logins under way, and then the live sessions, may take to end at a stop.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer of the directory is its present word, on which a role may be changed.
/// Many first logins of one person share an answer, and reach the role store one after the other.
pub(crate) const ANSWER_IS_CURRENT: Duration = Duration::from_secs(1);

/// How many times a revocation asks whether backends are left; each waits [`REVOKE_WAIT_MS`].
pub(crate) const REVOKE_ROUNDS_MAX: usize = 8;
/// How long the login threads may take to end when the process is told to stop.
/// Their logins are cut off after [`STOP_TIMEOUT`]; a thread that is not done soon then hangs.
pub(crate) const LOGIN_THREADS_STOP_TIMEOUT: Duration = Duration::from_secs(7);

/// How often is looked for what the process waits for while it stops.
pub(crate) const STOP_POLL: Duration = Duration::from_millis(5);

/// The longest line on the control socket, in bytes.
pub(crate) const CONTROL_LINE_BYTES_MAX: usize = 4_096;

/// How long a login waits for its turn with the directory.
/// A client that would wait longer is told that there are too many, within a second from its
/// connection: the rest of the second is for the network and for a busy machine.
pub(crate) const DIRECTORY_QUEUE_WAIT: Duration = Duration::from_millis(400);

/// The longest password that is read from standard input, in bytes.
pub(crate) const PASSWORD_INPUT_BYTES_MAX: u64 = 16_384;

/// How long a command about the policy waits for another one to end.
/// A load takes a fraction of a second; what takes longer hangs, and the operator should know.
pub(crate) const POLICY_LOCK_WAIT: Duration = Duration::from_secs(3);

/// How often is looked whether another command has ended, or a program has gone.
pub(crate) const POLICY_POLL: Duration = Duration::from_millis(5);

/// How long an unload waits for the kernel to detach what was removed; it takes milliseconds.
pub(crate) const POLICY_DETACH_WAIT: Duration = Duration::from_secs(2);

/// How long a bank that is not in force any more is left alone where the kernel cannot say that
/// the last program has ended that reads it. Programs run for microseconds.
pub(crate) const POLICY_GRACE: Duration = Duration::from_millis(200);

/// How often `postern policy watch` compares the kernel with the configuration, and leaves what it
/// found where the proxy reads it. It takes some ten milliseconds with 10,000 prefixes.
pub(crate) const POLICY_FINDING_INTERVAL: Duration = Duration::from_secs(5);

/// A finding that is older says nothing any more: six intervals.
pub(crate) const POLICY_FINDING_AGE_MAX: Duration = Duration::from_secs(30);

/// The longest finding that is read, in bytes. A difference is a line of at most some hundred.
pub(crate) const POLICY_FINDING_BYTES_MAX: u64 = 65_536;

/// Changes of the directory that may wait to be looked at; more become one comparison.
pub(crate) const FEED_NOTICES_MAX: usize = 1_024;

/// Changes of the role store that may wait to be looked at.
pub(crate) const STORE_NOTICES_MAX: usize = 1_024;

/// What logins and operators may ask of the watch before it has taken it.
pub(crate) const ORDERS_MAX: usize = 1_024;

/// People that are looked at between logins at the same time: a conversation with the directory
/// and one with the role store each, beside those of the logins.
pub(crate) const PEOPLE_AT_ONCE_MAX: usize = 8;

/// How often everybody is compared with the directory though nothing was heard: what makes no
/// event, as the end of an account, is found by it.
pub(crate) const COMPARE_INTERVAL: Duration = Duration::from_secs(300);

/// While changes come one after the other, everybody is left alone between two comparisons for four
/// times as long as the last one took, and for at most this long.
pub(crate) const COMPARE_REST_MAX: Duration = Duration::from_secs(20);

/// How often is looked whether the file of local accounts is another one.
pub(crate) const LOCAL_FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Many changes at once become one comparison of everybody after this time.
pub(crate) const COMPARE_PAUSE: Duration = Duration::from_millis(200);

/// After this time somebody is looked at again, whose entry or role could not be.
pub(crate) const SETTLE_RETRY: Duration = Duration::from_secs(2);

/// The longest duration that is counted as it was: whatever takes longer counts as this.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(3_600);

/// Decimal places of a duration that are kept: 1 in 1,000.
pub(crate) const DURATION_FIGURES: u8 = 3;

/// Requests for metrics that are answered at the same time.
pub(crate) const METRICS_CLIENTS_MAX: usize = 16;

/// The longest head of a request for metrics, in bytes.
pub(crate) const METRICS_REQUEST_BYTES_MAX: usize = 16_384;

/// How long the head of a request for metrics may take: silent clients hold the places of others.
pub(crate) const METRICS_HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one request for metrics may take, its answer included.
pub(crate) const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

/// How often every worker is asked whether it is alive, where no watchdog says how often.
pub(crate) const PULSE_INTERVAL: Duration = Duration::from_secs(5);

/// A worker that has not answered after this time is named in the log. A login thread may be busy
/// with handshakes and password hashes for a second.
pub(crate) const LATE_AFTER: Duration = Duration::from_secs(10);

/// Reloads and upgrades that wait for the one under way.
pub(crate) const UPKEEP_WAITING_MAX: usize = 16;

/// How many changes of a reload are told one by one.
pub(crate) const CHANGES_SHOWN_MAX: usize = 50;

/// How long a process that is to take over may need until it serves: a second, usually.
pub(crate) const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a process that did not take over may need to be gone, when it is ended.
pub(crate) const CHILD_END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the service manager is tried to be told which process is the main one.
pub(crate) const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest line between the two, in bytes.
pub(crate) const HANDOVER_LINE_BYTES_MAX: u64 = 64;

/// The longest line of a cancel request between the two, in bytes: a key has 256 at most.
pub(crate) const CANCEL_LINE_BYTES_MAX: u64 = 1_024;

/// How often a process that has handed over starts another one in the place of one that died.
pub(crate) const SUCCESSOR_STARTS_MAX: u32 = 5;

/// How long it waits after one that did not take over.
pub(crate) const SUCCESSOR_RETRY: Duration = Duration::from_secs(2);

/// How often a process that has handed over looks whether its last session has ended.
pub(crate) const DRAIN_POLL: Duration = Duration::from_millis(200);

/// Questions on the control socket that are answered at the same time.
pub(crate) const CONTROL_ASKERS_MAX: usize = 16;

/// How long a revocation waits for the splice threads to have ended its sessions, before the
/// database ends their backends.
pub(crate) const OBEYED_WAIT: Duration = Duration::from_millis(500);

/// How long a login waits for another one of the same person that brings another password, or
/// another spelling of the name; such logins are few, and a directory answers in milliseconds.
pub(crate) const PERSON_QUEUE_WAIT: Duration = Duration::from_secs(5);

/// How often one login starts over because the person has lost something meanwhile.
pub(crate) const OUTDATED_MAX: usize = 8;

/// How long it is remembered that somebody lost something: longer than any login takes, so that
/// none that began before is let in on what the directory said then.
pub(crate) const FENCE_LIFE: Duration = Duration::from_secs(600);

/// How often the running process looks whether it is well.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// What was seen longer ago says nothing any more: six intervals, of which each look may wait
/// [`AUDIT_WAIT`] for the disk.
pub(crate) const HEALTH_AGE_MAX: Duration = Duration::from_secs(30);

/// How often it asks the database for backends of strangers, which takes a connection.
pub(crate) const STRANGERS_INTERVAL: Duration = Duration::from_secs(30);

/// How often `postern policy watch` asks for counts, and whether the policy is still there.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The buffer for answers over netlink, in bytes; the kernel's own datagrams are at most 32 KiB.
pub(crate) const NETLINK_BYTES: usize = 65_536;

/// How long an answer over netlink may take; the kernel answers within the call.
pub(crate) const NETLINK_TIMEOUT: Duration = Duration::from_secs(5);

/// Denials that may wait for the audit file of the perimeter, in records: the programs send at
/// most 200 a second and processor, and a disk that is busy for seconds must not stop the watch.
pub(crate) const WATCH_RECORDS_MAX: usize = 10_000;

/// The longest reason of the kernel that is repeated, in bytes.
/// The verifier explains a refused program on pages; its first lines say what it is about.
pub(crate) const POLICY_WHY_BYTES_MAX: usize = 2_048;

/// The cgroups whose paths a watch remembers; services come and go, and each is an entry.
pub(crate) const CGROUPS_NAMED_MAX: usize = 1_024;

/// The cgroups among which the path of one is looked for; a host of containers has some hundreds.
pub(crate) const CGROUPS_WALKED_MAX: usize = 8_192;

/// The strangers that `check` names one by one.
pub(crate) const STRANGERS_NAMED_MAX: usize = 5;
