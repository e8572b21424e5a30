//! Two configurations of HAProxy that differ in servers only, as commands for its runtime socket.
//! Source: HAProxy 2.6's management guide, section 9.3, and its configuration manual, section 5.2.
//!
//! The file on disk always says the whole truth; the commands only spare the running process a reload. So whatever
//! is not understood here, or not certain to mean the same, is left to a reload:
//!
//! - taken out: `set server b/s state maint`. The server stays known to the process, *parked*, until a reload:
//!   `del server` is refused while connections are left, which is when nobody wants to wait.
//! - put back with the options that it was parked with: its address, then `state ready`.
//! - new to the process: `add server`, in a backend whose balancing takes servers at any time and without
//!   `default-server`, which added servers do not inherit.
//! - another address, same options: `set server b/s addr … port …`.
//!
//! New and moved servers come before those that leave, so that no backend runs empty in between.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Most commands for one change: beyond it a reload is cheaper for all.
const COMMANDS_MAX: usize = 512;

/// Options that `add server` takes (HAProxy 2.6) and that mean the same as in a file, with whether a value follows.
const ADDABLE: [(&str, bool); 15] = [
    ("backup", false),
    ("check", false),
    ("disabled", false),
    ("downinter", true),
    ("fall", true),
    ("fastinter", true),
    ("inter", true),
    ("maxconn", true),
    ("maxqueue", true),
    ("minconn", true),
    ("rise", true),
    ("send-proxy", false),
    ("send-proxy-v2", false),
    ("slowstart", true),
    ("weight", true),
];

/// Balancing that takes servers at any time.
const DYNAMIC: [&str; 3] = ["leastconn", "random", "roundrobin"];

/// Words that refer to a server by name or by order: parking it is not the same as its absence.
const REFERRING: [&str; 4] = ["use-server", "track", "server-template", "server-state-file-name"];

/// What the process knows beyond the loaded file: `backend/server` to options.
pub(super) type Parked = BTreeMap<String, String>;

/// The commands that lead from the loaded files to the wanted ones; `None` when a reload is needed.
///
/// No commands at all is an answer too: the files differ in comments or in nothing that the process reads.
pub(super) fn commands(loaded: &[Arc<str>], wanted: &[Arc<str>], parked: Option<&Parked>) -> Option<Vec<String>> {
    if loaded.len() != wanted.len() {
        return None;
    }
    let nothing = Parked::new();
    let parked = parked.unwrap_or(&nothing);
    let (mut coming, mut going) = (Vec::new(), Vec::new());
    for (loaded, wanted) in loaded.iter().zip(wanted).filter(|(loaded, wanted)| loaded != wanted) {
        let loaded = Configuration::read(loaded)?;
        let wanted = Configuration::read(wanted)?;
        if loaded.rest != wanted.rest {
            return None;
        }
        for (name, server) in &wanted.servers {
            coming.extend(bring(name, server, loaded.servers.get(name), &wanted, parked)?);
        }
        for name in loaded.servers.keys().filter(|name| !wanted.servers.contains_key(*name)) {
            going.push(format!("set server {name} state maint"));
        }
    }
    coming.append(&mut going);
    (coming.len() <= COMMANDS_MAX).then_some(coming)
}

/// Brings what is known to be parked up to date after `commands` were taken.
pub(super) fn park(parked: &mut Parked, commands: &[String], loaded: &[Arc<str>]) {
    let configurations: Vec<Configuration> = loaded.iter().filter_map(|text| Configuration::read(text)).collect();
    for command in commands {
        match command.split(' ').collect::<Vec<&str>>().as_slice() {
            ["set", "server", name, "state", "maint"] => {
                let server = configurations.iter().find_map(|configuration| configuration.servers.get(*name));
                if let Some(server) = server {
                    parked.insert((*name).to_owned(), server.options.clone());
                }
            }
            ["set", "server", name, "state", "ready"] => drop(parked.remove(*name)),
            _ => {}
        }
    }
}

/// What one server of the wanted file needs.
fn bring(
    name: &str,
    server: &Server,
    loaded: Option<&Server>,
    wanted: &Configuration,
    parked: &Parked,
) -> Option<Vec<String>> {
    let (address, port) = (&server.address, server.port);
    let known = match loaded {
        Some(before) if before == server => return Some(Vec::new()),
        Some(before) => Some(&before.options),
        None => parked.get(name),
    };
    let ready = format!("set server {name} state ready");
    match known {
        Some(options) if *options != server.options => None,
        Some(_) => Some(vec![format!("set server {name} addr {address} port {port}"), ready]),
        None if !wanted.takes_servers(name) || !addable(&server.options) => None,
        None => {
            let place =
                if server.address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
            let mut commands = vec![format!("add server {name} {place} {}", server.options).trim_end().to_owned()];
            if server.options.split(' ').any(|word| word == "check") {
                commands.push(format!("enable health {name}"));
            }
            commands.push(ready);
            Some(commands)
        }
    }
}

fn addable(options: &str) -> bool {
    let mut words = options.split(' ').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        match ADDABLE.iter().find(|(known, _)| *known == word) {
            Some((_, true)) if words.next().is_some() => {}
            Some((_, false)) if word != "disabled" => {}
            _ => return false,
        }
    }
    true
}

/// One `server` line.
#[derive(Debug, PartialEq)]
struct Server {
    address: String,
    port: u16,
    options: String,
}

/// A configuration taken apart: its servers by `backend/server`, and all else with their places left out.
#[derive(Debug, Default)]
struct Configuration {
    servers: BTreeMap<String, Server>,
    rest: Vec<String>,
    fixed: Vec<String>,
    inherits: bool,
}

impl Configuration {
    /// `None` when something in it is not understood, or refers to servers in ways that commands do not keep.
    fn read(text: &str) -> Option<Configuration> {
        let mut configuration = Configuration::default();
        let mut section: Option<(String, bool)> = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(first) = words.first().filter(|word| !word.starts_with('#')) else { continue };
            match *first {
                "global" | "defaults" | "frontend" | "backend" | "listen" | "peers" | "resolvers" | "userlist"
                | "mailers" | "cache" | "program" | "ring" | "http-errors" | "fcgi-app" | "log-forward" => {
                    let pool = matches!(*first, "backend" | "listen");
                    section = Some((words.get(1).copied().unwrap_or("").to_owned(), pool));
                }
                "server" => {
                    let (name, true) = section.as_ref()? else { return None };
                    let (id, server) = server(&words)?;
                    if configuration.servers.insert(format!("{name}/{id}"), server).is_some() {
                        return None;
                    }
                    continue;
                }
                "balance" if !words.get(1).is_some_and(|algorithm| DYNAMIC.contains(algorithm)) => {
                    let (name, pool) = section.as_ref()?;
                    configuration.fixed.push(if *pool { name.clone() } else { String::new() });
                }
                "default-server" => configuration.inherits = true,
                _ => {}
            }
            if words.iter().any(|word| REFERRING.contains(word)) {
                return None;
            }
            configuration.rest.push(words.join(" "));
        }
        Some(configuration)
    }

    /// Whether `add server` may be used for a server: in `defaults`, an empty name, it counts for all.
    fn takes_servers(&self, name: &str) -> bool {
        let backend = name.split('/').next().unwrap_or("");
        !self.inherits && !self.fixed.iter().any(|fixed| fixed == backend || fixed.is_empty())
    }
}

/// Takes a `server` line apart; `None` when its address is not an IP address with a port.
fn server(words: &[&str]) -> Option<(String, Server)> {
    let [_, id, place, options @ ..] = words else { return None };
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    // Quotes, escapes, variables and comments are HAProxy's to read.
    if !plain(id) || !options.iter().all(plain) || REFERRING.iter().any(|word| options.contains(word)) {
        return None;
    }
    let (address, port) = place.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = address.parse().ok()?;
    let server = Server { address: address.to_string(), port: port.parse().ok()?, options: options.join(" ") };
    Some(((*id).to_owned(), server))
}
