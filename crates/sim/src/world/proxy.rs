//! A program that reads a template's files, as HAProxy does: what it has really loaded.

use std::collections::BTreeMap;

/// What a reading program runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// All lines but those of servers.
    rest: Vec<String>,
    /// Servers by `backend/name`.
    servers: BTreeMap<String, Server>,
}

/// One server as the program knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    place: String,
    /// It is sent traffic; the other servers are in maintenance.
    ready: bool,
}

impl Loaded {
    /// What a program that reads this file runs with.
    pub(crate) fn read(text: &str) -> Loaded {
        let mut loaded = Loaded::default();
        let mut section = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["server", name, place, ..] => {
                    let server = Server { place: (*place).to_owned(), ready: true };
                    loaded.servers.insert(format!("{section}/{name}"), server);
                }
                _ => {
                    if let ["backend", name] = words.as_slice() {
                        section = (*name).to_owned();
                    }
                    loaded.rest.push(line.to_owned());
                }
            }
        }
        loaded
    }

    /// Whether it sends traffic to an instance.
    pub fn names(&self, instance: &str) -> bool {
        let named = |key: &str| key.rsplit_once('/').is_some_and(|(_, name)| name == instance);
        self.servers.iter().any(|(key, server)| server.ready && named(key))
    }

    /// Whether it serves as it would if it had read `other`: what is in maintenance gets no traffic.
    pub fn serves_as(&self, other: &Loaded) -> bool {
        let ready = |loaded: &Loaded| -> BTreeMap<String, String> {
            let ready = loaded.servers.iter().filter(|(_, server)| server.ready);
            ready.map(|(key, server)| (key.clone(), server.place.clone())).collect()
        };
        self.rest == other.rest && ready(self) == ready(other)
    }

    /// Takes one line of the runtime socket. Errors: what the program would answer.
    pub(crate) fn command(&mut self, line: &str) -> Result<(), String> {
        let unknown = |name: &str| format!("No such server: {name}");
        match line.split_whitespace().collect::<Vec<&str>>().as_slice() {
            ["set", "server", name, "state", state] => {
                let server = self.servers.get_mut(*name).ok_or_else(|| unknown(name))?;
                server.ready = *state == "ready";
            }
            ["set", "server", name, "addr", address, "port", port] => {
                let server = self.servers.get_mut(*name).ok_or_else(|| unknown(name))?;
                server.place = format!("{address}:{port}");
            }
            ["add", "server", name, place, ..] => {
                if self.servers.contains_key(*name) {
                    return Err(format!("Already exists a server with the same name in backend: {name}"));
                }
                let server = Server { place: (*place).to_owned(), ready: false };
                self.servers.insert((*name).to_owned(), server);
            }
            ["enable", "health", name] | ["set", "server", name, "health", "up"] => {
                self.servers.get(*name).ok_or_else(|| unknown(name))?;
            }
            _ => return Err(format!("Unknown command: {line}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "backend web\n  balance roundrobin\n  server web-0 127.0.0.1:20000 check\n";

    /// Shows that servers taken out and put in through the socket end where reading the new file would.
    #[test]
    fn socket_and_file_agree() {
        let two = format!("{ONE}  server web-1 127.0.0.1:20001 check\n");
        let mut loaded = Loaded::read(ONE);
        assert!(loaded.names("web-0") && !loaded.names("web-1"));
        loaded.command("add server web/web-1 127.0.0.1:20001 check").unwrap();
        assert!(!loaded.serves_as(&Loaded::read(&two)), "a new server waits in maintenance");
        loaded.command("set server web/web-1 state ready").unwrap();
        assert!(loaded.serves_as(&Loaded::read(&two)));
        loaded.command("set server web/web-1 state maint").unwrap();
        assert!(loaded.serves_as(&Loaded::read(ONE)) && !loaded.names("web-1"));
        assert!(loaded.command("add server web/web-1 127.0.0.1:20001").is_err(), "a parked server is still known");
    }
}
