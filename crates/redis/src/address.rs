//! Where a server listens.

use std::fmt;
use std::str::FromStr;

/// A host and a TCP port.
///
/// Shape: `10.0.0.1:6379`, `db.example:6379`, `[::1]:6379`; the port is 1 to 65535. The host is kept as written, because
/// it is also what two servers are compared by when replicas are kept off their master's host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Name or IP, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A text that is not an address; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: {why} (write HOST:PORT, with brackets around an IPv6 host)")]
pub struct BadAddress {
    /// The text as given.
    pub text: String,
    /// Which part is wrong.
    pub why: &'static str,
}

impl Address {
    /// An address from its two halves.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host[:port]`, with `port` taken where none is written. `None`: a port must be written.
    pub fn parse(text: &str, port: Option<u16>) -> Result<Self, BadAddress> {
        let bad = |why| BadAddress { text: text.to_owned(), why };
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or_else(|| bad("the bracket is not closed"))?;
                (
                    host,
                    if rest.is_empty() {
                        None
                    } else {
                        Some(rest.strip_prefix(':').ok_or_else(|| bad("only a port may follow the bracket"))?)
                    },
                )
            }
            None => match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(bad("an IPv6 host needs brackets"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err(bad("the host is empty"));
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | ',' | '[' | ']')) {
            return Err(bad("the host holds a character that no host has"));
        }
        let port = match rest {
            Some(digits) => digits.parse().map_err(|_| bad("the port is not a number from 1 to 65535"))?,
            None => port.ok_or_else(|| bad("the port is missing"))?,
        };
        if port == 0 {
            return Err(bad("the port is not a number from 1 to 65535"));
        }
        Ok(Self::new(host, port))
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Self::parse(text, None)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every accepted shape is written back as it was read; every refusal names its part.
    #[test]
    fn addresses() {
        for text in ["10.0.0.1:6379", "db.example:1", "[::1]:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("db", Some(6379)).unwrap(), Address::new("db", 6379));
        assert_eq!(Address::parse("[::1]", Some(6379)).unwrap(), Address::new("::1", 6379));
        for (text, why) in [
            ("", "host is empty"),
            (":1", "host is empty"),
            ("h", "port is missing"),
            ("h:", "not a number"),
            ("h:0", "not a number"),
            ("h:65536", "not a number"),
            ("::1:6379", "needs brackets"),
            ("[::1:6379", "not closed"),
            ("[::1]6379", "only a port"),
            ("a b:1", "character"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
