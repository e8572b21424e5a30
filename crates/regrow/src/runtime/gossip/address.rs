//! Addresses: what we tell others, and what people write.

use super::settings::PORT;
use crate::exit::Failure;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// `IP` or `IP:PORT`, for `--advertise`.
pub(super) fn parse(text: &str) -> Result<SocketAddr, Failure> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)))
        .map_err(|_| Failure::usage(format!("--advertise: `{text}` is not IP or IP:PORT")))
}

/// Where others reach us: what was said, else where we listen, else the address that the default route leaves by.
pub(super) fn advertised(bound: SocketAddr, said: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    if let Some(said) = said {
        let port = if said.port() == 0 { bound.port() } else { said.port() };
        return Ok(SocketAddr::new(said.ip(), port));
    }
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    let outward = || -> std::io::Result<IpAddr> {
        // Nothing is sent: connecting a datagram socket only looks the route up. TEST-NET-1 (RFC 5737) is nobody.
        let (from, to) = if bound.is_ipv4() { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    let ip = outward().map_err(|error| {
        Failure::usage(format!(
            "gossip listens on every address and none can be chosen to tell others ({error})\n  name it with --advertise IP"
        ))
    })?;
    Ok(SocketAddr::new(ip, bound.port()))
}

/// Looks up `host[:port]`.
pub(super) async fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, PORT)]);
    }
    let with_port = if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        text.to_owned()
    } else {
        format!("{text}:{PORT}")
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host(with_port).await.map_err(|error| error.to_string())?.collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Shows what is told for each way to listen.
    #[test]
    fn told() {
        assert_eq!(advertised(at("10.0.0.1:7946"), None).expect("told"), at("10.0.0.1:7946"));
        let said = parse("10.9.9.9").expect("an IP");
        assert_eq!(advertised(at("0.0.0.0:7000"), Some(said)).expect("told"), at("10.9.9.9:7000"));
        let said = parse("10.9.9.9:1").expect("an address");
        assert_eq!(advertised(at("0.0.0.0:7000"), Some(said)).expect("told"), at("10.9.9.9:1"));
        assert!(parse("somewhere").is_err());
    }

    /// Shows each form of an address to join, without any name server.
    #[tokio::test]
    async fn forms() {
        assert_eq!(resolve("10.0.0.1").await, Ok(vec![at("10.0.0.1:7946")]));
        assert_eq!(resolve("10.0.0.1:5").await, Ok(vec![at("10.0.0.1:5")]));
        assert_eq!(resolve("::1").await, Ok(vec![at("[::1]:7946")]));
        assert_eq!(resolve("[::1]:5").await, Ok(vec![at("[::1]:5")]));
        assert!(resolve("a b").await.is_err());
    }
}
