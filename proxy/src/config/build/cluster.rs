//! `[cluster]`.

use crate::config::Cluster;
use crate::config::section::{Reading, Section};
use crate::limits::PEERS_MAX;

/// `[cluster]`.
pub(in crate::config) fn cluster(section: &Section, reading: &mut Reading<'_>) -> Option<Cluster> {
    let valid = "\"postern-2.corp.example:5051\", \"10.0.0.2:5051\", \"[2001:db8::2]:5051\"";
    let text = section.text("listen")?;
    let listen = text.parse();
    if listen.is_err() {
        let why = format!("\"{text}\" is not an address and a port");
        reading.problem(section.problem("listen", why).valid("\"10.0.0.1:5051\""));
    }
    let peers = section.list("peers")?;
    for peer in &peers {
        if !is_host_and_port(peer) {
            let why = format!("\"{peer}\" is not a host and a port");
            reading.problem(section.problem("peers", why).valid(valid));
        }
    }
    if peers.len() > PEERS_MAX {
        let why = format!("has {} entries, more than {PEERS_MAX}", peers.len());
        reading.problem(section.problem("peers", why));
    }
    Some(Cluster {
        listen: listen.ok()?,
        peers,
    })
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_bare = !host.contains([':', '[', ']']) && !host.is_empty();
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    (is_bare || is_bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_and_a_port() {
        for right in ["postern-2.corp.example:5051", "10.0.0.2:5051", "[::1]:5051"] {
            assert!(is_host_and_port(right), "{right}");
        }
        for wrong in ["postern-2", ":5051", "a:0", "a:70000", "::1:5051", "a:", ""] {
            assert!(!is_host_and_port(wrong), "{wrong}");
        }
    }
}
