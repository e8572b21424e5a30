//! The agent's settings: flag over variable over file.

use crate::exit::Failure;
use crate::keys::Folder;
use crate::runtime::gossip::{self, GossipFlags, GossipSettings};
use crate::runtime::jobs::JobSettings;
use clap::Args;
use regrow_model::Name;
use regrow_model::duration::Span;
use regrow_store::tls::Tls;
use regrow_store::{Remote, RemoteOptions, Secret};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the HTTP door is when nothing else is said.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8500);

/// Where the etcd door is when nothing else is said: etcd's own port.
const ETCD_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

/// Where Serf's RPC is when nothing else is said: Serf's own port.
const RPC_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7373);

/// What the keys that list members begin with when nothing else is said.
const MEMBER_PREFIX_DEFAULT: &str = "/members/";
/// Longest such prefix: with a name well below what etcd takes for a key.
const MEMBER_PREFIX_BYTES_MAX: usize = 256;

/// The agent's flags, also keys of its file (`--config`) and `REGROW_…` variables.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Flags {
    /// This node's name. Default: the host's name
    #[arg(long, env = "REGROW_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Address that instances serve on and are checked at. Default: 127.0.0.1
    #[arg(long, env = "REGROW_ADDRESS", value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// The HTTP door as IP:PORT (port 0: any free one), or `off`. Default: 127.0.0.1:8500
    #[arg(long, env = "REGROW_HTTP", value_name = "IP:PORT")]
    pub(crate) http: Option<Door>,
    /// The etcd door as IP:PORT (port 0: any free one), or `off`. Default: 127.0.0.1:2379
    #[arg(long, env = "REGROW_ETCD", value_name = "IP:PORT")]
    pub(crate) etcd: Option<Door>,
    /// A second etcd door, for clients that look for etcd 2 on 127.0.0.1:4001. Default: off
    #[arg(long, env = "REGROW_ETCD_LEGACY", value_name = "IP:PORT")]
    #[serde(rename = "etcd-legacy")]
    pub(crate) etcd_legacy: Option<Door>,
    /// A store elsewhere, an etcd cluster or another agent's etcd door, as http://IP:PORT[,…]. Default: host one here
    #[arg(long, env = "REGROW_STORE", value_name = "URL[,URL]")]
    pub(crate) store: Option<Endpoints>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) access: Access,
    /// Host the store here; what an agent without --store does
    #[arg(long, env = "REGROW_SERVER", conflicts_with = "store")]
    #[serde(default)]
    pub(crate) server: bool,
    /// Gossip as IP:PORT, UDP and TCP alike (port 0: any free one), or `off`. Default: 127.0.0.1:7946
    #[arg(long, env = "REGROW_GOSSIP", value_name = "IP:PORT")]
    pub(crate) gossip: Option<Door>,
    /// Members to meet, as HOST[:PORT] with commas between
    #[arg(long, env = "REGROW_JOIN", value_name = "ADDR", value_delimiter = ',')]
    #[serde(default)]
    pub(crate) join: Vec<String>,
    /// A tag of this node as NAME=VALUE; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    #[serde(default)]
    pub(crate) tag: Vec<String>,
    /// Where other members reach this one, as IP[:PORT]. Default: where gossip listens
    #[arg(long, env = "REGROW_ADVERTISE", value_name = "IP")]
    pub(crate) advertise: Option<String>,
    /// What the keys that list living members in the store begin with, or `off`. Default: /members/
    #[arg(long, env = "REGROW_MEMBER_PREFIX", value_name = "PREFIX")]
    #[serde(rename = "member-prefix")]
    pub(crate) member_prefix: Option<String>,
    /// File of gossip keys, base64, one a line, the first seals. Default: keys/gossip.key in the data folder, if it is there
    #[arg(long, env = "REGROW_ENCRYPT", value_name = "FILE")]
    pub(crate) encrypt: Option<PathBuf>,
    /// A script to run for what happens, as SCRIPT or member-join,user:deploy=SCRIPT; may be given again
    #[arg(long, value_name = "HANDLER")]
    #[serde(default, rename = "handlers")]
    pub(crate) event_handler: Vec<String>,
    /// Serf's RPC as IP:PORT (port 0: any free one), or `off`. Default: 127.0.0.1:7373
    #[arg(long, env = "REGROW_RPC", value_name = "IP:PORT")]
    pub(crate) rpc: Option<Door>,
    /// What clients of the RPC have to show. Default: nothing
    #[arg(long, env = "REGROW_RPC_AUTH", value_name = "KEY", hide_env_values = true)]
    pub(crate) rpc_auth: Option<String>,
    /// Runs of jobs at a time on this node, 0 to 4096; 0: none. Default: 8 where the store is hosted, 0 with --store
    #[arg(long, env = "REGROW_JOBS", value_name = "N")]
    pub(crate) jobs: Option<u32>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) work: Work,
    /// Let doors listen beyond loopback without keys and tokens
    #[arg(long, env = "REGROW_INSECURE")]
    #[serde(default)]
    pub(crate) insecure: bool,
    /// YAML file with these settings by their flags' names
    #[arg(long, env = "REGROW_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
}

/// What workers and whoever submits runs are told of the queue.
// Not `deny_unknown_fields`, as `Access`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Work {
    /// A label of this worker, for jobs that ask for it; may be given again
    #[arg(long, value_name = "NAME")]
    pub(crate) label: Vec<String>,
    /// The queue of runs: `store`, or a Redis as redis://HOST:PORT[/DB]. One with a password goes into --queue-file or REGROW_QUEUE, where `ps` does not show it. Default: store
    #[arg(long, env = "REGROW_QUEUE", value_name = "PLACE", hide_env_values = true)]
    pub(crate) queue: Option<Masked>,
    /// File with what --queue would say
    #[arg(long, env = "REGROW_QUEUE_FILE", value_name = "FILE")]
    pub(crate) queue_file: Option<PathBuf>,
    /// How long runs may go on when the worker is to end; then they go to others as their jobs say. Default: 30s
    #[arg(long, env = "REGROW_DRAIN", value_name = "DURATION", value_parser = span)]
    pub(crate) drain: Option<Span>,
}

impl Work {
    /// What is not said here is taken from there.
    pub(crate) fn or(self, other: Work) -> Work {
        let said = self.queue.is_some() || self.queue_file.is_some();
        let (queue, queue_file) = if said { (self.queue, self.queue_file) } else { (other.queue, other.queue_file) };
        Work {
            label: if self.label.is_empty() { other.label } else { self.label },
            queue,
            queue_file,
            drain: self.drain.or(other.drain),
        }
    }
}

/// A text that may have a password in it, and is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Masked(pub(crate) String);

impl FromStr for Masked {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Masked, std::convert::Infallible> {
        Ok(Masked(text.to_owned()))
    }
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[masked]")
    }
}

/// A door: an address, or shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Door {
    Off,
    At(SocketAddr),
}

impl Door {
    /// Where it is to be opened, unless that would let other machines in without credentials.
    fn open(self, name: &str, flag: &str, guard: &Guarded) -> Result<Option<SocketAddr>, Failure> {
        match self {
            Door::At(address) if !address.ip().is_loopback() && !guard.is_enough() => Err(Failure::usage(format!(
                "the {name} door at {address} would be open to other machines without credentials: there are no \
                 keys\n  {}\n  or listen on loopback, as {flag} 127.0.0.1:{}, or say --insecure if the network around \
                 is yours alone",
                guard.fix(address.ip()),
                address.port()
            ))),
            Door::At(address) => Ok(Some(address)),
            Door::Off => Ok(None),
        }
    }
}

/// What stands between the doors and other machines.
pub(crate) struct Guarded {
    pub(crate) data: PathBuf,
    node: Name,
    keyed: bool,
    pub(crate) insecure: bool,
}

impl Guarded {
    fn is_enough(&self) -> bool {
        self.keyed || self.insecure
    }

    /// The command that makes it so.
    pub(crate) fn fix(&self, address: IpAddr) -> String {
        let reached = if address.is_unspecified() { host() } else { address.to_string() };
        format!("regrow init --data {} --node {} --address {reached}", self.data.display(), self.node)
    }
}

impl FromStr for Door {
    type Err = String;
    fn from_str(text: &str) -> Result<Door, String> {
        if text == "off" {
            return Ok(Door::Off);
        }
        text.parse().map(Door::At).map_err(|_| format!("`{text}` is not IP:PORT or `off`"))
    }
}

impl TryFrom<String> for Door {
    type Error = String;
    fn try_from(text: String) -> Result<Door, String> {
        text.parse()
    }
}

/// Where a store elsewhere is: all endpoints are of one store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Endpoints(pub(crate) Vec<String>);

impl FromStr for Endpoints {
    type Err = String;
    fn from_str(text: &str) -> Result<Endpoints, String> {
        let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
        match urls.iter().find(|url| url.is_empty()) {
            Some(_) => Err(format!("`{text}` is not URL[,URL]")),
            None => Ok(Endpoints(urls)),
        }
    }
}

impl TryFrom<String> for Endpoints {
    type Error = String;
    fn try_from(text: String) -> Result<Endpoints, String> {
        text.parse()
    }
}

/// What a store elsewhere, or another agent, is shown by whoever asks it.
// Not `deny_unknown_fields`: these are keys among those of `Flags`, which refuses what neither knows.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Access {
    /// PEM file of the CA that https endpoints must come from
    #[arg(long, env = "REGROW_TLS_CA", value_name = "FILE", global = true)]
    pub(crate) tls_ca: Option<PathBuf>,
    /// PEM file of the certificate to show there
    #[arg(long, env = "REGROW_TLS_CERT", value_name = "FILE", global = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, env = "REGROW_TLS_KEY", value_name = "FILE", global = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// File with the token to show there
    #[arg(long, env = "REGROW_TOKEN_FILE", value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
}

impl Access {
    /// A store elsewhere. `flag`: where its endpoints were named.
    pub(crate) fn open(&self, endpoints: &Endpoints, flag: &str) -> Result<Remote, Failure> {
        // A token is for https, and refused for anything else; certificates do not come into play there.
        let options = RemoteOptions { tls: self.tls(), token: self.token()? };
        Remote::with_options(&endpoints.0, &options).map_err(|error| Failure::usage(format!("{flag}: {error}")))
    }

    /// What is not said here is that of the keys of a data folder, if it has some.
    pub(crate) fn or_of(mut self, data: &Path) -> Access {
        let Some(folder) = Folder::found(data).filter(|_| self.tls_ca.is_none()) else { return self };
        let tls = folder.tls();
        self.tls_ca = tls.ca;
        if self.tls_cert.is_none() && self.tls_key.is_none() && self.token_file.is_none() {
            (self.tls_cert, self.tls_key) = (tls.cert, tls.key);
        }
        self
    }

    /// The files for TLS.
    pub(crate) fn tls(&self) -> Tls {
        Tls { ca: self.tls_ca.clone(), cert: self.tls_cert.clone(), key: self.tls_key.clone() }
    }

    /// The token, if one is named.
    pub(crate) fn token(&self) -> Result<Option<Secret>, Failure> {
        let read = |path: &PathBuf| {
            Secret::read(path).map_err(|error| Failure::usage(format!("--token-file {}: {error}", path.display())))
        };
        self.token_file.as_ref().map(read).transpose()
    }

    /// What is not said here is taken from there.
    fn or(self, other: Access) -> Access {
        Access {
            tls_ca: self.tls_ca.or(other.tls_ca),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            token_file: self.token_file.or(other.token_file),
        }
    }
}

/// The settings that an agent runs with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node: Name,
    pub(crate) address: IpAddr,
    pub(crate) data: PathBuf,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) etcd: Option<SocketAddr>,
    pub(crate) etcd_legacy: Option<SocketAddr>,
    /// `None`: hosted here.
    pub(crate) store: Option<Endpoints>,
    pub(crate) access: Access,
    pub(crate) gossip: Option<GossipSettings>,
    /// What the keys that list members begin with; `None`: there are none.
    pub(crate) member_prefix: Option<String>,
    pub(crate) rpc: Option<SocketAddr>,
    pub(crate) rpc_auth: Option<String>,
    pub(crate) jobs: JobSettings,
    /// `None`: nobody is asked for credentials.
    pub(crate) keys: Option<Folder>,
}

impl Flags {
    /// Fills what the flags and variables leave open from the file and the defaults.
    pub(crate) fn settle(self, data: PathBuf) -> Result<Settings, Failure> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Flags::default(),
        };
        let node = node_name(self.node.or(file.node).as_deref())?;
        let keys = Folder::found(&data);
        let insecure = self.insecure || file.insecure;
        let guard = &Guarded { data: data.clone(), node: node.clone(), keyed: keys.is_some(), insecure };
        let http = self.http.or(file.http).unwrap_or(Door::At(HTTP_DEFAULT)).open("HTTP", "--http", guard)?;
        let etcd_legacy =
            self.etcd_legacy.or(file.etcd_legacy).unwrap_or(Door::Off).open("etcd", "--etcd-legacy", guard)?;
        if file.server && file.store.is_some() {
            return Err(Failure::usage(
                "the settings have both `server` and `store`: host the store here, or elsewhere",
            ));
        }
        let hosted = self.server || file.server && self.store.is_none();
        let store = self.store.or(file.store).filter(|_| !hosted);
        // The store's own door is where its clients go.
        let etcd = if store.is_some() { Door::Off } else { Door::At(ETCD_DEFAULT) };
        let etcd = self.etcd.or(file.etcd).unwrap_or(etcd).open("etcd", "--etcd", guard)?;
        let access = self.access.or(file.access).or_of(&data);
        let address = self.address.or(file.address).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let gossip = match self.gossip.or(file.gossip).unwrap_or(Door::At(gossip::DEFAULT)) {
            Door::Off => None,
            Door::At(at) => {
                let either = |flags: Vec<String>, file| if flags.is_empty() { file } else { flags };
                let said = GossipFlags {
                    join: either(self.join, file.join),
                    tags: either(self.tag, file.tag),
                    advertise: self.advertise.or(file.advertise),
                    encrypt: self.encrypt.or(file.encrypt),
                    handlers: either(self.event_handler, file.event_handler),
                };
                Some(said.settle(at, guard)?)
            }
        };
        let member_prefix = member_prefix(self.member_prefix.or(file.member_prefix))?;
        let rpc_auth = self.rpc_auth.or(file.rpc_auth);
        let rpc = self.rpc.or(file.rpc).unwrap_or(Door::At(RPC_DEFAULT));
        let guard = &Guarded {
            insecure: insecure || rpc_auth.is_some(),
            keyed: keys.is_some(),
            data: data.clone(),
            node: node.clone(),
        };
        let rpc = rpc.open("RPC", "--rpc", guard)?.filter(|_| gossip.is_some());
        let jobs = self.work.or(file.work).settle(self.jobs.or(file.jobs), store.is_none())?;
        Ok(Settings {
            node,
            address,
            data,
            http,
            etcd,
            etcd_legacy,
            store,
            access,
            gossip,
            member_prefix,
            rpc,
            rpc_auth,
            jobs,
            keys,
        })
    }
}

/// A duration with its unit.
fn span(text: &str) -> Result<Span, String> {
    let read = humantime::parse_duration(text).map(Span);
    read.map_err(|_| format!("`{text}` is not a duration: write it with a unit, as 500ms, 10s or 2m"))
}

/// What the keys that list members begin with.
fn member_prefix(said: Option<String>) -> Result<Option<String>, Failure> {
    let prefix = said.unwrap_or_else(|| MEMBER_PREFIX_DEFAULT.to_owned());
    if prefix == "off" {
        return Ok(None);
    }
    if prefix.is_empty() || prefix.len() > MEMBER_PREFIX_BYTES_MAX {
        return Err(Failure::usage(format!(
            "--member-prefix: a prefix has 1 to {MEMBER_PREFIX_BYTES_MAX} bytes, this one has {}: write it as {MEMBER_PREFIX_DEFAULT}, or `off`",
            prefix.len()
        )));
    }
    if prefix.starts_with(regrow_model::key::ROOT) {
        return Err(Failure::usage(format!(
            "--member-prefix: `{prefix}` is among Regrow's own records: choose one outside {}, as {MEMBER_PREFIX_DEFAULT}",
            regrow_model::key::ROOT
        )));
    }
    Ok(Some(prefix))
}

fn read(path: &Path) -> Result<Flags, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read the settings {}: {error}", path.display())))?;
    serde_saphyr::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// This node's name: the one given, else the host's.
pub(crate) fn node_name(given: Option<&str>) -> Result<Name, Failure> {
    match given {
        Some(name) => Name::new(name).map_err(|error| Failure::usage(format!("--node: {error}"))),
        None => Ok(host_name()),
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// The host's name up to its first dot, as far as it makes a name.
fn host_name() -> Name {
    let host = host();
    let label: String = host.split('.').next().unwrap_or("").chars().take(63).collect();
    let clean: String =
        label.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '-' }).collect();
    Name::new(clean.trim_matches('-')).unwrap_or_else(|_| Name::new("node").expect("a name"))
}

/// The data folder: `--data` or `REGROW_DATA`, else `.regrow` here if it is there or an agent is to be started here,
/// else the system's.
pub(crate) fn data_folder(given: Option<&Path>, starting: bool) -> PathBuf {
    let here = Path::new(".regrow");
    match given {
        Some(path) => path.to_path_buf(),
        None if starting || here.exists() => here.to_path_buf(),
        None => PathBuf::from("/var/lib/regrow"),
    }
}
