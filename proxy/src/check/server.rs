//! Whether a PostgreSQL server can be reached, and its TLS: the role store and each backend.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustls::ClientConnection;

use super::{Outcome, Probe, certificate_outcome};
use crate::config::{Endpoint, SslMode};
use crate::tls::{certificate_facts, explain, postgres_client_config, server_name};

/// SSLRequest: its length, and the code in the place of a protocol version,
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What was seen of a server.
pub(super) struct Seen {
    /// The rows.
    pub(super) probes: Vec<Probe>,
    /// Its certificate in DER, where TLS was used.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Connects to a PostgreSQL server, asks for TLS and shakes hands, without a login.
pub(super) fn look(leg: &str, endpoint: &Endpoint) -> Seen {
    let mut certificate = None;
    let probes = probes(leg, endpoint, &mut certificate);
    Seen {
        probes,
        certificate,
    }
}

fn probes(leg: &str, endpoint: &Endpoint, certificate: &mut Option<Vec<u8>>) -> Vec<Probe> {
    let mut socket = match connect(endpoint) {
        Ok(socket) => socket,
        Err(why) => {
            let cure = "look at host and port, at the server's listen_addresses, and at firewalls";
            return vec![Probe::failed(leg, "reachable", why, cure)];
        }
    };
    let mut probes = vec![Probe::ok(leg, "reachable", "connected")];
    if endpoint.sslmode != SslMode::Disable {
        probes.extend(tls(&mut socket, endpoint, (leg, certificate)));
    }
    probes
}

fn tls(
    socket: &mut TcpStream,
    endpoint: &Endpoint,
    (leg, certificate): (&str, &mut Option<Vec<u8>>),
) -> Vec<Probe> {
    let insists = match endpoint.sslmode {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => false,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    match offered(socket) {
        Ok(true) => {}
        Ok(false) if insists => {
            let cure = "set ssl = on in the server's postgresql.conf";
            return vec![Probe::failed(leg, "TLS", "the server has none", cure)];
        }
        Ok(false) => return vec![Probe::ok(leg, "TLS", "the server has none")],
        Err(why) => {
            let cure = "look whether a PostgreSQL server listens there";
            return vec![Probe::failed(leg, "TLS", why, cure)];
        }
    }
    let connection = match shake(socket, endpoint) {
        Ok(connection) => connection,
        Err(why) => {
            let cure = "give the authority that signed the certificate as tls_ca_file, and the \
                        name in the certificate as host";
            return vec![Probe::failed(leg, "TLS", why, cure)];
        }
    };
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    let mut probes = vec![Probe::ok(leg, "TLS", version)];
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    *certificate = leaf.map(|leaf| leaf.to_vec());
    if let Some(facts) = leaf.and_then(|leaf| certificate_facts(leaf)) {
        let outcome = match certificate_outcome(&facts) {
            // A mode that does not look at certificates goes on with one that is over.
            Outcome::Failed { why, cure } => Outcome::Warning { why, cure },
            outcome @ (Outcome::Ok { .. } | Outcome::Warning { .. }) => outcome,
        };
        probes.push(Probe::new(leg, "certificate", outcome));
    }
    probes
}

fn connect(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, endpoint.port).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, endpoint.connect_timeout) {
            Ok(socket) => return bounded(socket, endpoint.connect_timeout),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

fn bounded(socket: TcpStream, timeout: Duration) -> Result<TcpStream, String> {
    let set = socket
        .set_read_timeout(Some(timeout))
        .and_then(|()| socket.set_write_timeout(Some(timeout)));
    set.map(|()| socket).map_err(|error| error.to_string())
}

/// Asks for TLS; whether the server has it.
fn offered(socket: &mut TcpStream) -> Result<bool, String> {
    let mut answer = [0];
    socket
        .write_all(&SSL_REQUEST)
        .and_then(|()| socket.read_exact(&mut answer))
        .map_err(|error| format!("no answer to SSLRequest: {error}"))?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        [other] => Err(format!("answers SSLRequest with byte {other}")),
    }
}

fn shake(socket: &mut TcpStream, endpoint: &Endpoint) -> Result<ClientConnection, String> {
    let config = postgres_client_config(endpoint).map_err(|error| error.to_string())?;
    let config = config.ok_or("TLS is disabled")?;
    let name = server_name(&endpoint.host).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection
            .complete_io(socket)
            .map_err(|error| explain(&error))?;
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What `probes` says of a server that answers SSLRequest with these bytes.
    fn probe(sslmode: SslMode, answer: &'static [u8]) -> std::io::Result<Vec<Outcome>> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept()?;
            let mut request = [0; 8];
            socket.read_exact(&mut request)?;
            socket.write_all(answer)
        });
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
            sslmode,
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(5),
        };
        let outcomes = look("backend", &endpoint)
            .probes
            .into_iter()
            .map(|probe| probe.outcome)
            .collect();
        // The server may see a reset when the probe has its answer.
        let _ = server.join();
        Ok(outcomes)
    }

    fn text(outcomes: &[Outcome]) -> String {
        let each = outcomes.iter().map(|outcome| match outcome {
            Outcome::Ok { detail } => format!("ok {detail}"),
            Outcome::Warning { why, .. } => format!("warn {why}"),
            Outcome::Failed { why, .. } => format!("failed {why}"),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_server_without_tls_fails_only_where_tls_is_required() -> std::io::Result<()> {
        let prefer = probe(SslMode::Prefer, b"N")?;
        assert_eq!(text(&prefer), "ok connected, ok the server has none");
        let require = probe(SslMode::Require, b"N")?;
        assert_eq!(text(&require), "ok connected, failed the server has none");
        let other = probe(SslMode::Require, b"HTTP")?;
        assert_eq!(
            text(&other),
            "ok connected, failed answers SSLRequest with byte 72"
        );
        let closed = text(&probe(SslMode::Require, b"")?);
        assert!(
            closed.contains("failed no answer to SSLRequest"),
            "{closed}"
        );
        Ok(())
    }
}
