//! A command on many hosts: which hosts, in which order, what came of it. Decided here, carried out elsewhere.
//!
//! - [`hosts`]: `web[1-3]` and back.
//! - [`inventory`]: the hosts and groups of an Ansible inventory, and its patterns.
//! - [`rollout`]: who is next, in batches, until all are done or too many have failed.
//! - [`report`]: what came of each host, and equal results together.

pub mod hosts;
pub mod inventory;
pub mod report;
pub mod rollout;

/// A host to reach. What is not given is left to the user's ssh configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// What people call it.
    pub name: String,
    /// Where it is, when that is not its name.
    pub address: Option<String>,
    /// User to log in as.
    pub user: Option<String>,
    /// Port, 1 to 65,535.
    pub port: Option<u16>,
    /// File of the private key.
    pub identity: Option<String>,
}

impl Target {
    /// A host as it is written on a command line: `name`, `user@name`, `name:port`. An IPv6 address has no port.
    ///
    /// # Errors
    /// When it is no host ([`hosts::is_host`]).
    pub fn of(text: &str) -> Result<Target, hosts::HostsError> {
        let wrong = || hosts::HostsError::Name(text.to_owned());
        if !hosts::is_host(text) {
            return Err(wrong());
        }
        let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
        let (name, port) = match place.split_once(':') {
            Some((name, port)) if !port.contains(':') => {
                (name, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
            }
            _ => (place, None),
        };
        if name.is_empty() {
            return Err(wrong());
        }
        Ok(Target { name: name.to_owned(), user: user.map(str::to_owned), port, ..Target::default() })
    }
}

/// Words as one line for a remote POSIX shell, each exactly as it is: `ssh` joins its arguments with spaces and has a
/// shell of the other side take them apart again.
pub fn quoted(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c));
    let quote = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target = |text: &str| Target::of(text).map(|t| (t.user.unwrap_or_default(), t.name, t.port.unwrap_or(0)));
        assert_eq!(target("db1"), Ok((String::new(), "db1".into(), 0)));
        assert_eq!(target("me@db1:2200"), Ok(("me".into(), "db1".into(), 2200)));
        assert_eq!(target("fe80::1"), Ok((String::new(), "fe80::1".into(), 0)));
        for wrong in ["db1:0", "db1:x", "db1:70000", ":22", "me@:22", "-x"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_stay_words() {
        let quoted = |words: &[&str]| quoted(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(quoted(&["uptime"]), "uptime");
        assert_eq!(
            quoted(&["echo", "a b", "$HOME", "it's", "", ";reboot"]),
            r"echo 'a b' '$HOME' 'it'\''s' '' ';reboot'"
        );
    }
}
