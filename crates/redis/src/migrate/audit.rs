//! What is known of both sides before anything is done, and what speaks against a migration.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::connection::{Connection, Error};
use crate::info::Info;
use crate::resp::{Command, Value};

use super::error::MigrateError;
use super::options::Options;
use super::place::Side;

/// Keys looked at by chance on each master, for their size.
const SAMPLE_KEYS: usize = 200;
/// A value of this size is named.
const BIG_BYTES: u64 = 32 << 20;
/// Big keys named.
const BIG_NAMED_MAX: usize = 20;

/// Commands with several keys: where these are used, keys of one command may fall into several slots.
const SEVERAL_KEYS: [&str; 26] = [
    "mset",
    "msetnx",
    "mget",
    "del",
    "unlink",
    "rename",
    "renamenx",
    "smove",
    "lmove",
    "rpoplpush",
    "blmove",
    "brpoplpush",
    "sunionstore",
    "sinterstore",
    "sdiffstore",
    "zunionstore",
    "zinterstore",
    "zdiffstore",
    "zrangestore",
    "pfmerge",
    "bitop",
    "copy",
    "sort",
    "eval",
    "evalsha",
    "fcall",
];

/// A master.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Master {
    /// Where it is.
    pub address: Address,
    /// Its version, as it says.
    pub version: String,
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
    /// Bytes of memory used.
    pub memory: u64,
    /// Its limit of memory; 0: none.
    pub memory_max: u64,
    /// What it does at the limit.
    pub policy: String,
    /// Bytes of its backlog for replicas that come back.
    pub backlog: u64,
    /// Kilobytes a second that come in now.
    pub input_kbps: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// Scripts that clients have loaded.
    pub scripts: u64,
    /// Users of the ACL beside the default one; `None`: it does not tell.
    pub users: Option<u64>,
    /// Modules.
    pub modules: Vec<String>,
    /// Calls of commands with several keys.
    pub several_keys: BTreeMap<String, u64>,
    /// Big values met by chance: key, bytes.
    pub big_keys: Vec<(String, u64)>,
    /// Whether it has the command for replication.
    pub replication: bool,
    /// Whether fields of its hashes may expire.
    pub field_expiries: bool,
    /// Its `notify-keyspace-events`; `None`: it does not tell.
    pub events: Option<String>,
}

/// How much something weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Good to know.
    Note,
    /// May make trouble.
    Warning,
    /// Must be put right first.
    Blocker,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// What it is.
    pub text: String,
}

/// Both sides, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Audit {
    /// Masters of the source.
    pub source: Vec<Master>,
    /// Masters of the target.
    pub target: Vec<Master>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Whether anything must be put right first.
    pub fn blocked(&self) -> bool {
        self.findings.iter().any(|finding| finding.weight == Weight::Blocker)
    }
}

/// Looks at both sides. `resumed`: a migration goes on, so that the target has keys already.
pub async fn audit(source: &Side, target: &Side, options: &Options, resumed: bool) -> Result<Audit, Error> {
    let (from, to) = (masters(source).await?, masters(target).await?);
    for (side, masters) in [(source, &from), (target, &to)] {
        for master in masters {
            side.note_version(major_minor(&master.version));
            side.note_field_expiries(master.field_expiries);
        }
    }
    let findings = findings(&from, &to, source.cluster(), target.cluster(), options, resumed);
    Ok(Audit { source: from, target: to, findings })
}

async fn masters(side: &Side) -> Result<Vec<Master>, Error> {
    let mut masters = Vec::new();
    for mut link in side.links().await? {
        masters.push(look(&mut link).await?);
    }
    Ok(masters)
}

async fn look(link: &mut Connection) -> Result<Master, Error> {
    let info = Info::parse(&link.text(&Command::new("INFO everything")).await?);
    let bytes = |name: &str| info.number(name).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let keys: BTreeMap<u32, u64> =
        (0..).take(16_384).filter_map(|db| Some((db, keys_of(info.text(&format!("db{db}"))?)?))).collect();
    // What may not be asked is not known; that is no reason to stop.
    let count = |answer: Result<Value, Error>| answer.ok().and_then(|list| Some(list.array()?.len() as u64));
    let functions = count(link.call(&Command::new("FUNCTION LIST")).await).unwrap_or(0);
    let users = count(link.call(&Command::new("ACL USERS")).await).map(|users| users.saturating_sub(1));
    let modules = match link.call(&Command::new("MODULE LIST")).await {
        Ok(list) => list.array().unwrap_or_default().iter().filter_map(module_name).collect(),
        Err(_) => Vec::new(),
    };
    let several_keys = SEVERAL_KEYS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), calls(info.text(&format!("cmdstat_{name}"))?)?)))
        .collect();
    Ok(Master {
        address: link.address().clone(),
        version: info.text("redis_version").unwrap_or("?").to_owned(),
        keys,
        memory: bytes("used_memory"),
        memory_max: bytes("maxmemory"),
        policy: info.text("maxmemory_policy").unwrap_or("?").to_owned(),
        backlog: bytes("repl_backlog_size"),
        input_kbps: info.text("instantaneous_input_kbps").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0)
            as u64,
        functions,
        scripts: bytes("number_of_cached_scripts"),
        users,
        modules,
        several_keys,
        big_keys: big_keys(link).await?,
        replication: has(link, "psync").await,
        field_expiries: has(link, "hpexpire").await,
        events: match link.call(&Command::new("CONFIG GET").arg("notify-keyspace-events")).await {
            Ok(found) => found.array().and_then(|pair| Some(pair.get(1)?.text()?.to_owned())),
            Err(_) => None,
        },
    })
}

/// Whether a server has a command. One that does not tell may have it.
async fn has(link: &mut Connection, command: &'static str) -> bool {
    match link.call(&Command::new("COMMAND INFO").arg(command)).await {
        Ok(found) => found.array().and_then(<[Value]>::first) != Some(&Value::Null),
        Err(_) => true,
    }
}

/// Whether these events are all that writes of keys tell, by the names of commands (`E`).
fn tells_all(events: &str) -> bool {
    events.contains('E') && (events.contains('A') || "g$lshzxet".chars().all(|kind| events.contains(kind)))
}

/// `keys=5,expires=1,avg_ttl=0`.
pub(super) fn keys_of(text: &str) -> Option<u64> {
    text.strip_prefix("keys=")?.split(',').next()?.parse().ok()
}

/// `calls=5,usec=…`.
pub(super) fn calls(text: &str) -> Option<u64> {
    text.strip_prefix("calls=")?.split(',').next()?.parse().ok()
}

fn module_name(module: &Value) -> Option<String> {
    let parts = module.array()?;
    let at = parts.iter().position(|part| part.text() == Some("name"))?;
    parts.get(at + 1)?.text().map(str::to_owned)
}

async fn big_keys(link: &mut Connection) -> Result<Vec<(String, u64)>, Error> {
    let ask: Vec<Command> = (0..SAMPLE_KEYS).map(|_| Command::new("RANDOMKEY")).collect();
    let mut keys: Vec<_> = link.pipeline(&ask).await?.iter().filter_map(Value::bytes).cloned().collect();
    keys.sort();
    keys.dedup();
    let ask: Vec<Command> =
        keys.iter().map(|key| Command::new("MEMORY USAGE").arg(key).arg("SAMPLES").arg("1")).collect();
    let sizes = link.pipeline(&ask).await?;
    let mut big: Vec<(String, u64)> = keys
        .iter()
        .zip(sizes)
        .filter_map(|(key, size)| Some((super::board::shown(key), u64::try_from(size.int()?).ok()?)))
        .filter(|(_, size)| *size >= BIG_BYTES)
        .collect();
    big.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    big.truncate(BIG_NAMED_MAX);
    Ok(big)
}

fn major_minor(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// What is said of a master whose version lacks what is needed: on the source a pause of writers alone, which came with 6.2; on the
/// target expiries as times (PEXPIRETIME), which came with 7.0.
fn too_old(side: &str, address: &Address, version: &str) -> Option<String> {
    let (oldest, why) = match side {
        "source" => ((6, 2), "older ones cannot pause writers alone (CLIENT PAUSE … WRITE)"),
        _ => ((7, 0), "older ones do not tell when a key expires (PEXPIRETIME)"),
    };
    (major_minor(version) < oldest).then(|| {
        let (major, minor) = oldest;
        format!("the {side} {address} has version {version}; {major}.{minor} is the oldest that works, because {why}: upgrade it first")
    })
}

/// Refuses sides of which a master is too old even to be compared.
pub async fn old_enough(source: &Side, target: &Side) -> Result<(), MigrateError> {
    for (name, side) in [("source", source), ("target", target)] {
        for mut link in side.links().await? {
            let info = Info::parse(&link.text(&Command::new("INFO").arg("server")).await?);
            let version = info.text("redis_version").unwrap_or("?");
            side.note_version(major_minor(version));
            if let Some(why) = too_old(name, link.address(), version) {
                return Err(MigrateError::refused(why, "nothing was changed"));
            }
        }
    }
    Ok(())
}

/// What speaks against it. Pure.
fn findings(
    source: &[Master],
    target: &[Master],
    from_cluster: bool,
    to_cluster: bool,
    options: &Options,
    resumed: bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |weight, text: String| found.push(Finding { weight, text });
    let version = |master: &Master| major_minor(&master.version);
    for master in target {
        if let Some(why) = too_old("target", &master.address, &master.version) {
            add(Weight::Blocker, why);
        }
        if source.iter().any(|other| version(other) > version(master)) {
            add(
                Weight::Blocker,
                format!(
                    "the target {} (version {}) is older than the source and may not read its values",
                    master.address, master.version
                ),
            );
        }
        let keys: u64 = master.keys.values().sum();
        if keys > 0 && !resumed {
            add(Weight::Blocker, format!("the target {} is not empty: it has {keys} keys", master.address));
        }
        if master.memory_max > 0 && master.policy != "noeviction" {
            add(
                Weight::Blocker,
                format!(
                    "the target {} would throw keys away when it is full: set its maxmemory-policy from {} to noeviction for the time being",
                    master.address, master.policy
                ),
            );
        }
    }
    for master in source {
        if let Some(why) = too_old("source", &master.address, &master.version) {
            add(Weight::Blocker, why);
        }
        for (db, keys) in &master.keys {
            if !options.databases.contains_key(db) && !options.left.contains(db) {
                add(
                    Weight::Blocker,
                    format!(
                        "database {db} of the source ({keys} keys) has no place: give --db {db}=TO or --leave-db {db}"
                    ),
                );
            }
        }
        if master.users.unwrap_or(0) > 0 {
            add(
                Weight::Warning,
                format!(
                    "{} user(s) of the source {} are not carried over: set them up on the target",
                    master.users.unwrap_or(0),
                    master.address
                ),
            );
        }
        if master.scripts > 0 {
            add(
                Weight::Note,
                format!(
                    "{} script(s) were loaded at {}: clients that use EVALSHA must be ready to load them again",
                    master.scripts, master.address
                ),
            );
        }
        if !master.modules.is_empty() {
            add(
                Weight::Warning,
                format!(
                    "modules at {}: {}; their values are not carried over",
                    master.address,
                    master.modules.join(", ")
                ),
            );
        }
        match (&master.events, options.by_scan) {
            (Some(events), true) if !tells_all(events) => add(
                Weight::Blocker,
                format!(
                    "{} does not tell which keys are written: set its notify-keyspace-events from {events:?} to \"AE\" (CONFIG SET, or the provider's parameter group)",
                    master.address
                ),
            ),
            (None, true) => add(
                Weight::Warning,
                format!(
                    "{} does not tell its notify-keyspace-events: unless they are \"AE\", live writes are missed",
                    master.address
                ),
            ),
            (_, false) if !master.replication => add(
                Weight::Blocker,
                format!("{} has no command for replication (PSYNC): give --by scan", master.address),
            ),
            _ => {}
        }
        if !options.by_scan && master.input_kbps > 0 && master.backlog / 1024 / master.input_kbps < 60 {
            add(
                Weight::Warning,
                format!(
                    "the backlog of {} ({} KiB) holds {} s of what comes in now ({} KiB/s): after a longer break a new snapshot is needed; raise repl-backlog-size",
                    master.address,
                    master.backlog / 1024,
                    master.backlog / 1024 / master.input_kbps,
                    master.input_kbps
                ),
            );
        }
        for (key, bytes) in &master.big_keys {
            add(Weight::Note, format!("big value at {}: \"{key}\", {} MiB", master.address, bytes >> 20));
        }
        if to_cluster && !from_cluster && !master.several_keys.is_empty() {
            let list: Vec<String> = master.several_keys.iter().map(|(name, calls)| format!("{name} {calls}")).collect();
            add(
                Weight::Note,
                format!(
                    "commands with several keys used at {}: {}; a cluster refuses them where the keys are in several slots",
                    master.address,
                    list.join(", ")
                ),
            );
        }
    }
    let used: u64 = source.iter().map(|master| master.memory).sum();
    let room: u64 = target.iter().map(|master| master.memory_max).sum();
    if target.iter().all(|master| master.memory_max > 0) && room < used {
        add(Weight::Warning, format!("the source uses {} MiB, the target may use {} MiB", used >> 20, room >> 20));
    }
    for (from, to) in &options.databases {
        if to_cluster && *to != 0 {
            add(Weight::Blocker, format!("a cluster has database 0 only: database {from} cannot go to {to}"));
        }
        if options.databases.iter().any(|(other, same)| other < from && same == to) {
            add(Weight::Blocker, format!("two databases go to database {to}, where their keys could clash"));
        }
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> Master {
        Master {
            address: Address::new("h", 1),
            version: "7.0.15".into(),
            keys: BTreeMap::new(),
            memory: 5 << 20,
            memory_max: 0,
            policy: "noeviction".into(),
            backlog: 1 << 20,
            input_kbps: 0,
            functions: 0,
            scripts: 0,
            users: Some(0),
            modules: Vec::new(),
            several_keys: BTreeMap::new(),
            big_keys: Vec::new(),
            replication: true,
            field_expiries: false,
            events: Some(String::new()),
        }
    }

    /// Each thing that can be wrong is found, alone.
    #[test]
    fn each_finding() {
        let full = BTreeMap::from([(0, 3)]);
        for (source, target, text) in [
            (master(), Master { version: "6.2.7".into(), ..master() }, "7.0 is the oldest"),
            (Master { version: "7.2.1".into(), ..master() }, master(), "older than the source"),
            (master(), Master { keys: full, ..master() }, "not empty"),
            (master(), Master { memory_max: 9 << 20, policy: "allkeys-lru".into(), ..master() }, "throw keys away"),
            (
                Master { version: "6.0.16".into(), ..master() },
                master(),
                "the source h:1 has version 6.0.16; 6.2 is the",
            ),
            (Master { keys: BTreeMap::from([(3, 1)]), ..master() }, master(), "database 3 of the source"),
            (Master { users: Some(2), ..master() }, master(), "2 user(s)"),
            (Master { input_kbps: 100, ..master() }, master(), "holds 10 s"),
            (master(), Master { memory_max: 4 << 20, ..master() }, "may use 4 MiB"),
            (Master { several_keys: BTreeMap::from([("mset".into(), 7)]), ..master() }, master(), "mset 7"),
        ] {
            let found = findings(&[source], &[target], false, true, &Options::default(), false);
            assert!(found.iter().any(|finding| finding.text.contains(text)), "{text}: {found:?}");
        }
        assert_eq!(findings(&[master()], &[master()], false, true, &Options::default(), false), []);
    }

    /// Which versions are too old, on either side, also when a migration goes on.
    #[test]
    fn versions() {
        for (version, blocked) in [
            ("2.8.24", true),
            ("5.0.1", true),
            ("6.0.16", true),
            ("6.2.0", true),
            ("6.2.14", true),
            ("?", true),
            ("7.0.0", false),
            ("7.0.15", false),
            ("7.2", false),
            ("10.0.1", false),
        ] {
            let of = |version: &str| Master { version: version.into(), ..master() };
            for resumed in [false, true] {
                let found = findings(&[of(version)], &[of("10.0.1")], false, false, &Options::default(), resumed);
                let found = found.iter().any(|finding| finding.weight == Weight::Blocker);
                assert_eq!(found, blocked && !version.starts_with("6.2"), "source {version}");
            }
            assert_eq!(too_old("target", &Address::new("h", 1), version).is_some(), blocked, "target {version}");
        }
    }

    #[test]
    fn mappings() {
        let options =
            |pairs: &[(u32, u32)]| Options { databases: pairs.iter().copied().collect(), ..Options::default() };
        let texts = |pairs: &[(u32, u32)], cluster| -> Vec<String> {
            let found = findings(&[master()], &[master()], false, cluster, &options(pairs), false);
            found.into_iter().map(|finding| finding.text).collect()
        };
        assert!(texts(&[(0, 0), (1, 1)], false).is_empty());
        assert_eq!(texts(&[(1, 1)], true), ["a cluster has database 0 only: database 1 cannot go to 1"]);
        assert_eq!(texts(&[(0, 0), (1, 0)], true), ["two databases go to database 0, where their keys could clash"]);
    }
}
