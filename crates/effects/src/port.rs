//! Whether a port is free, and who has it.

use crate::error::error;
use regrow_model::observed::{WorldError, WorldErrorKind};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};

/// Most open files of other processes that are looked at to find who has a port.
const OPEN_FILES_LOOKED_AT_MAX: usize = 200_000;
/// State `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Refuses when `address:port` cannot be bound as servers bind it, with SO_REUSEADDR: connections that linger from a
/// life before do not count. Only a taken port is refused here; whatever else is wrong, the program will say better.
pub(crate) fn must_be_free(address: &str, port: u16, what: &str) -> Result<(), WorldError> {
    let Some(at) = (address, port).to_socket_addrs().ok().and_then(|mut all| all.next()) else { return Ok(()) };
    if !is_taken(at) {
        return Ok(());
    }
    let by = match holder(port) {
        Some(pid) => format!(" by pid {pid} ({})", crate::proc::name(pid).unwrap_or_default()),
        None => String::new(),
    };
    let text = format!("{what}: port {port} of {address} is taken{by}: stop that, or give another port");
    Err(error(WorldErrorKind::PortInUse, text))
}

fn is_taken(at: SocketAddr) -> bool {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let Ok(socket) = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None) else { return false };
    let _ = sockopt::set_socket_reuseaddr(&socket, true);
    // Bound but not listening: nobody can connect to it by mistake.
    bind(&socket, &at) == Err(rustix::io::Errno::ADDRINUSE)
}

/// The process that listens on `port`.
fn holder(port: u16) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().find_map(|line| listener(line, port)))?;
    let wanted = format!("socket:[{inode}]");
    let mut looked_at = 0;
    for stat in crate::proc::all() {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", stat.id.pid)) else { continue };
        for file in files.flatten() {
            looked_at += 1;
            if fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()) {
                return Some(stat.id.pid);
            }
        }
        if looked_at > OPEN_FILES_LOOKED_AT_MAX {
            return None;
        }
    }
    None
}

/// The inode of the socket in a line of `/proc/net/tcp`, when it listens on `port`.
fn listener(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let listens = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
    listens.then(|| fields.get(9)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Shows that a taken port is named with the process that has it, and is free again once let go.
    #[test]
    fn names_the_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = must_be_free("127.0.0.1", port, "cannot start web-0").unwrap_err();
        assert_eq!(refused.kind, WorldErrorKind::PortInUse);
        let own = std::process::id();
        let expect = format!("cannot start web-0: port {port} of 127.0.0.1 is taken by pid {own} (");
        assert!(refused.text.starts_with(&expect), "{}", refused.text);
        drop(listener);
        assert_eq!(must_be_free("127.0.0.1", port, "cannot start web-0"), Ok(()));
    }

    /// Shows that a server on every address takes the port of each.
    #[test]
    fn sees_wildcards() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(must_be_free("127.0.0.1", port, "x").is_err());
    }
}
