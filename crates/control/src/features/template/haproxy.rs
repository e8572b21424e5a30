//! Two configurations of HAProxy that differ in servers only, as commands for its runtime socket.
//! Source: HAProxy 2.6's management guide, section 9.3, and its configuration manual, section 5.2.
//!
//! The file on disk always says the whole truth; the commands only spare the running process a reload. So whatever
//! is not understood here, or not certain to mean the same, is left to a reload:
//!
//! - taken out: `set server b/s state maint`. The server stays known to the process, *parked*, until a reload:
//!   `del server` is refused while connections are left, which is when nobody wants to wait.
//! - put back with the options that it was parked with: its address, `health up`, then `state ready`. A server that
//!   HAProxy checks is otherwise down until its checks have passed; it is only listed when Regrow's have, and a reload
//!   would begin with it up as well.
//! - new to the process: `add server`, in a backend whose balancing takes servers at any time and without
//!   `default-server`, which added servers do not inherit.
//! - another address, same options: the same as put back.
//!
//! Each command was tried on HAProxy 2.6.12; sent twice, it is accepted twice, except `add server`, whose refusal ends
//! in a reload.
//!
//! New and moved servers come before those that leave, so that no backend runs empty in between.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Most commands for one change: beyond it a reload is cheaper for all.
const COMMANDS_MAX: usize = 512;

/// Options that `add server` takes (HAProxy 2.6) and that mean the same as in a file, with whether a value follows.
const ADDABLE: [(&str, bool); 14] = [
    ("backup", false),
    ("check", false),
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
    let known = match loaded {
        Some(before) if before == server => return Some(Vec::new()),
        // Its options are the same words, and mean something else below another `default-server`.
        Some(before) if before.inherits != server.inherits => return None,
        Some(before) => Some(&before.options),
        None => parked.get(name),
    };
    let (address, port) = (&server.address, server.port);
    let checked = server.options.split(' ').any(|word| word == "check");
    let mut commands = match known {
        Some(options) if *options != server.options => return None,
        Some(_) => {
            let moved = format!("set server {name} addr {address} port {port}");
            let up = checked.then(|| format!("set server {name} health up"));
            [moved].into_iter().chain(up).collect::<Vec<String>>()
        }
        None if !wanted.takes_servers(name) || !addable(&server.options) => return None,
        None => {
            let colon = address.contains(':');
            let place = if colon { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
            let added = format!("add server {name} {place} {}", server.options).trim_end().to_owned();
            let health = checked.then(|| format!("enable health {name}"));
            [added].into_iter().chain(health).collect()
        }
    };
    commands.push(format!("set server {name} state ready"));
    Some(commands)
}

fn addable(options: &str) -> bool {
    let mut words = options.split(' ').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        match ADDABLE.iter().find(|(known, _)| *known == word) {
            Some((_, true)) if words.next().is_some() => {}
            Some((_, false)) => {}
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
    /// How many `default-server` lines come before it.
    inherits: usize,
}

/// A configuration taken apart: its servers by `backend/server`, and all else with their places left out.
#[derive(Debug, Default)]
struct Configuration {
    servers: BTreeMap<String, Server>,
    rest: Vec<String>,
    fixed: Vec<String>,
    inherits: usize,
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
                    let (id, server) = server(&words, configuration.inherits)?;
                    if configuration.servers.insert(format!("{name}/{id}"), server).is_some() {
                        return None;
                    }
                    continue;
                }
                "balance" if !words.get(1).is_some_and(|algorithm| DYNAMIC.contains(algorithm)) => {
                    let (name, pool) = section.as_ref()?;
                    configuration.fixed.push(if *pool { name.clone() } else { String::new() });
                }
                "default-server" => configuration.inherits += 1,
                // What a condition leaves out is HAProxy's to know.
                condition if condition.starts_with('.') => return None,
                _ => {}
            }
            if words.iter().any(|word| REFERRING.contains(word)) {
                return None;
            }
            // Within quotes a space more or less matters.
            let quoted = line.contains(['"', '\'', '\\']);
            configuration.rest.push(if quoted { line.trim().to_owned() } else { words.join(" ") });
        }
        Some(configuration)
    }

    /// Whether `add server` may be used for a server: in `defaults`, an empty name, it counts for all.
    fn takes_servers(&self, name: &str) -> bool {
        let backend = name.split('/').next().unwrap_or("");
        self.inherits == 0 && !self.fixed.iter().any(|fixed| fixed == backend || fixed.is_empty())
    }
}

/// Takes a `server` line apart; `None` when its address is not an IP address with a port.
fn server(words: &[&str], inherits: usize) -> Option<(String, Server)> {
    let [_, id, place, options @ ..] = words else { return None };
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    // Quotes, escapes, variables and comments are HAProxy's to read.
    if !plain(id) || !options.iter().all(plain) || REFERRING.iter().any(|word| options.contains(word)) {
        return None;
    }
    let (address, port) = place.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = address.parse().ok()?;
    let server =
        Server { address: address.to_string(), port: port.parse().ok()?, options: options.join(" "), inherits };
    Some(((*id).to_owned(), server))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "defaults\n  mode http\nfrontend f\n  bind :80\n  default_backend web\n\nbackend web\n";

    fn set(servers: &str) -> Vec<Arc<str>> {
        vec![format!("{HEAD}{servers}").into()]
    }

    fn parked(servers: &[(&str, &str)]) -> Parked {
        servers.iter().map(|(name, options)| ((*name).to_owned(), (*options).to_owned())).collect()
    }

    /// The commands between two lists of servers, one a line, or `reload`.
    fn between(loaded: &str, wanted: &str, parked: &Parked) -> String {
        commands(&set(loaded), &set(wanted), Some(parked)).map_or("reload".to_owned(), |all| all.join("\n"))
    }

    #[test]
    fn servers_that_come_go_and_move() {
        let none = Parked::new();
        let two = "  server a 10.0.0.1:80 check\n  server b 10.0.0.2:80\n";
        for (what, wanted, expect) in [
            ("the same", two, ""),
            ("another order", "  server b 10.0.0.2:80\n  server a 10.0.0.1:80 check\n", ""),
            ("spaces and comments", "# hello\n\n  server a   10.0.0.1:80 check\n  server b 10.0.0.2:80\n", ""),
            ("one leaves", "  server a 10.0.0.1:80 check\n", "set server web/b state maint"),
            (
                "one moves",
                "  server a 10.0.0.1:80 check\n  server b 10.0.0.9:81\n",
                "set server web/b addr 10.0.0.9 port 81\nset server web/b state ready",
            ),
            (
                "one with a check moves: it begins up, as it would after a reload",
                "  server a 10.0.0.1:81 check\n  server b 10.0.0.2:80\n",
                "set server web/a addr 10.0.0.1 port 81\nset server web/a health up\nset server web/a state ready",
            ),
            (
                "one comes as another leaves: the new one first",
                "  server a 10.0.0.1:80 check\n  server c [::1]:82 check weight 5\n",
                "add server web/c [::1]:82 check weight 5\nenable health web/c\nset server web/c state ready\n\
                 set server web/b state maint",
            ),
        ] {
            assert_eq!(between(two, wanted, &none), expect, "{what}");
        }
    }

    #[test]
    fn what_is_not_certain_is_a_reload() {
        let none = Parked::new();
        let one = "  server a 10.0.0.1:80\n";
        for (what, wanted) in [
            ("an option changes", "  server a 10.0.0.1:80 weight 2\n"),
            ("another line changes", "  balance leastconn\n  server a 10.0.0.1:80\n"),
            ("a name in place of an address", "  server a web.example:80\n"),
            ("no port", "  server a 10.0.0.1\n"),
            ("an option that cannot be added", "  server a 10.0.0.1:80\n  server b 10.0.0.2:80 cookie b\n"),
            ("an option without its value", "  server a 10.0.0.1:80\n  server b 10.0.0.2:80 weight\n"),
            ("a quoted option", "  server a 10.0.0.1:80\n  server b 10.0.0.2:80 \"check\"\n"),
            ("a name twice", "  server a 10.0.0.1:80\n  server a 10.0.0.2:80\n"),
            ("a condition", "  .if streq(a,a)\n  server a 10.0.0.1:80\n  .endif\n"),
        ] {
            assert_eq!(between(one, wanted, &none), "reload", "{what}");
        }
        assert_eq!(commands(&set(one), &[], None), None, "another number of files");
        for (what, backend, expect) in [
            ("balancing that is fixed", "  balance source\n", "reload"),
            ("inherited options", "  default-server inter 1s\n", "reload"),
            ("a reference to a server", "  use-server a if TRUE\n", "reload"),
            (
                "balancing that is not fixed",
                "  balance leastconn\n",
                "add server web/b 10.0.0.2:80\nset server web/b state ready",
            ),
        ] {
            let both = format!("{backend}{one}  server b 10.0.0.2:80\n");
            assert_eq!(between(&format!("{backend}{one}"), &both, &none), expect, "{what}");
        }
        let quoted = |text: &str| format!("  http-response set-header X \"{text}\"\n{one}");
        assert_eq!(between(&quoted("a b"), &quoted("a  b"), &none), "reload", "spaces within quotes");
        let inherits = |after: bool| match after {
            true => format!("  default-server weight 2\n{one}"),
            false => format!("{one}  default-server weight 2\n"),
        };
        assert_eq!(between(&inherits(true), &inherits(false), &none), "reload", "options inherited no more");
    }

    #[test]
    fn servers_of_other_sections_are_not_touched() {
        let peers = "peers p\n  server me 10.0.0.1:1\n";
        assert!(Configuration::read(peers).is_none(), "not a pool");
        assert!(Configuration::read("  server a 10.0.0.1:80\n").is_none(), "no section at all");
    }

    #[test]
    fn a_server_that_left_is_put_back_as_it_was() {
        let mut known = Parked::new();
        let (both, one) = ("  server a 10.0.0.1:80\n  server b 10.0.0.2:80 weight 3\n", "  server a 10.0.0.1:80\n");
        let left = commands(&set(both), &set(one), Some(&known)).unwrap();
        park(&mut known, &left, &set(both));
        assert_eq!(known, parked(&[("web/b", "weight 3")]));
        let back = between(one, "  server a 10.0.0.1:80\n  server b 10.0.0.7:80 weight 3\n", &known);
        assert_eq!(back, "set server web/b addr 10.0.0.7 port 80\nset server web/b state ready");
        let changed = between(one, "  server a 10.0.0.1:80\n  server b 10.0.0.7:80 weight 4\n", &known);
        assert_eq!(changed, "reload", "it is known with other options");
        let commands: Vec<String> = back.lines().map(str::to_owned).collect();
        park(&mut known, &commands, &set(one));
        assert_eq!(known, Parked::new());
    }

    #[test]
    fn very_many_changes_are_a_reload() {
        let many: String = (0..300).map(|n| format!("  server s{n} 10.0.{}.{}:80\n", n / 250, n % 250)).collect();
        assert_eq!(between("", &many, &Parked::new()), "reload");
    }
}
