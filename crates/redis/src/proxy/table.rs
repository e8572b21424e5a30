//! Which commands there are, and how each is carried. Pure.
//!
//! Where the keys stand comes from the server's own `COMMAND`; what that cannot say (keys that move, subcommands, what a
//! command means for a whole cluster) is in a table of ours. A command that is in neither is unknown and goes nowhere.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::resp::Value;

use super::merge::Merge;

/// Where the keys of a command stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// There are none.
    None,
    /// From, to (negative: from the end), every how many words; as `COMMAND` says it.
    Range { first: usize, last: i32, step: usize },
    /// The number of keys stands here, the keys follow it.
    Counted(usize),
    /// A key at 1, the number of further keys here, and these follow it.
    OneAndCounted(usize),
    /// The first half of what follows `STREAMS`.
    Streams,
    /// 1, and what follows `STORE`.
    Sort,
    /// 1, and what follows `STORE` or `STOREDIST`.
    Geo,
}

/// Where the timeout of a blocking command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// The first argument, in seconds.
    First,
    /// The last argument, in seconds.
    Last,
    /// What follows `BLOCK`, in milliseconds; without it the command does not block.
    Block,
}

/// How a command is carried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// To the master of its keys' slot; without keys to any master.
    Keyed,
    /// As `Keyed`, but keys of several slots are sent apart and the answers put together. The number: words for each key.
    Split(Merge, usize),
    /// To the master of its keys' slot, on a connection of its own.
    Blocking(Timeout),
    /// To every master; the answers are put together.
    All(Merge),
    /// `SCAN`: to one master after the other.
    Scan,
    /// By the proxy itself.
    Local(Local),
    /// By the first subcommand that fits, else by the last entry, whose name is empty.
    Container(&'static [(&'static str, Kind)]),
    /// Not at all, and why.
    Refused(&'static str),
}

/// What the proxy does itself, or with a connection of the client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    Auth,
    Client,
    Discard,
    Echo,
    Exec,
    Hello,
    Multi,
    Ping,
    Quit,
    Reset,
    Select,
    Subscribe,
    PSubscribe,
    SSubscribe,
    Unsubscribe,
    PUnsubscribe,
    SUnsubscribe,
    Unwatch,
    Wait,
    Watch,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spec {
    /// Words that it has with its name; negative: at least so many.
    pub(crate) arity: i32,
    /// Whether it may be repeated when its fate is unknown.
    pub(crate) readonly: bool,
    /// Where its keys are.
    pub(crate) keys: Keys,
    /// How it is carried.
    pub(crate) kind: Kind,
}

impl Spec {
    /// The way of this call, its subcommand looked at.
    pub(crate) fn kind_for(&self, subcommand: Option<&[u8]>) -> Kind {
        let Kind::Container(list) = self.kind else { return self.kind };
        let subcommand = subcommand.unwrap_or_default();
        list.iter()
            .find(|(name, _)| name.is_empty() || subcommand.eq_ignore_ascii_case(name.as_bytes()))
            .map_or(Kind::Keyed, |(_, kind)| *kind)
    }

    /// Whether a call may have so many words.
    pub(crate) fn takes(&self, words: usize) -> bool {
        match usize::try_from(self.arity) {
            Ok(exact) => words == exact,
            Err(_) => words >= self.arity.unsigned_abs() as usize,
        }
    }
}

/// FNV-1a. The table is looked into with words that a client sends, but none of them is ever put in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Letters of a command's name.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Commands of one server; the largest with all its modules has some 500.
const COMMANDS_MAX: usize = 10_000;

/// All commands of a server.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<Box<[u8]>, Spec, BuildHasherDefault<Fnv>>);

impl Table {
    /// Reads the answer of `COMMAND`. Entries that cannot be read are left out, and so are unknown to clients.
    pub(crate) fn parse(answer: &Value) -> Self {
        let mut table = Self::default();
        for entry in answer.array().unwrap_or_default().iter().take(COMMANDS_MAX) {
            if let Some((name, spec)) = entry.array().and_then(read) {
                table.0.insert(name.into_boxed_slice(), spec);
            }
        }
        table
    }

    /// Finds a command by its name in any case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Spec> {
        let mut upper = [0u8; NAME_BYTES_MAX];
        let upper = upper.get_mut(..name.len())?;
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        self.0.get(&*upper)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn read(entry: &[Value]) -> Option<(Vec<u8>, Spec)> {
    let name = entry.first()?.bytes()?.to_ascii_uppercase();
    let number = |at: usize| entry.get(at)?.int().and_then(|number| i32::try_from(number).ok());
    let flag = |wanted: &str| entry.get(2)?.array()?.iter().any(|flag| flag.text() == Some(wanted)).then_some(());
    let readonly = flag("readonly").is_some();
    let (first, last, step) = (number(3)?, number(4)?, number(5)?);
    let keys = match usize::try_from(first) {
        Ok(0) | Err(_) => Keys::None,
        Ok(first) => Keys::Range { first, last, step: usize::try_from(step).unwrap_or(1).max(1) },
    };
    let mut spec = Spec { arity: number(1)?, readonly, keys, kind: Kind::Keyed };
    if let Some((_, kind, keys)) = OWN.iter().find(|(own, ..)| own.as_bytes() == name) {
        spec.kind = *kind;
        if let Some(keys) = keys {
            spec.keys = *keys;
        }
        if matches!(name.as_slice(), b"OBJECT" | b"XINFO" | b"MEMORY") {
            spec.readonly = true;
        }
    } else if ["blocking", "pubsub", "admin", "no_multi"].iter().any(|word| flag(word).is_some()) {
        spec.kind = Kind::Refused("it is an administrative, blocking or pub/sub command that the proxy does not know");
    } else if keys == Keys::None {
        spec.kind = Kind::Refused("it names no key, and the proxy does not know which server it is meant for");
    }
    Some((name, spec))
}

const ONE_SERVER: &str = "it acts on one server; connect to that server";
const CONNECTION: &str = "it changes the state of a connection, and clients share the proxy's";
const DATABASES: &str = "there is database 0 only";
const MODULES: &str = "modules are an affair of each server; connect to it";

const SECOND: Option<Keys> = Some(Keys::Range { first: 2, last: 2, step: 1 });

/// What `COMMAND` does not say. `None`: the keys stand where it says.
const OWN: &[(&str, Kind, Option<Keys>)] = &[
    ("ACL", Kind::Container(ACL), None),
    ("ASKING", Kind::Refused("clients of the proxy need not know of clusters"), None),
    ("AUTH", Kind::Local(Local::Auth), None),
    ("BGREWRITEAOF", Kind::All(Merge::First), None),
    ("BGSAVE", Kind::All(Merge::First), None),
    ("BLMOVE", Kind::Blocking(Timeout::Last), None),
    ("BLMPOP", Kind::Blocking(Timeout::First), Some(Keys::Counted(2))),
    ("BLPOP", Kind::Blocking(Timeout::Last), None),
    ("BRPOP", Kind::Blocking(Timeout::Last), None),
    ("BRPOPLPUSH", Kind::Blocking(Timeout::Last), None),
    ("BZMPOP", Kind::Blocking(Timeout::First), Some(Keys::Counted(2))),
    ("BZPOPMAX", Kind::Blocking(Timeout::Last), None),
    ("BZPOPMIN", Kind::Blocking(Timeout::Last), None),
    ("CLIENT", Kind::Local(Local::Client), None),
    ("CLUSTER", Kind::Refused("clients of the proxy need not know of clusters"), None),
    ("COMMAND", Kind::Keyed, Some(Keys::None)),
    ("CONFIG", Kind::Container(CONFIG), None),
    ("DBSIZE", Kind::All(Merge::Sum), None),
    ("DEBUG", Kind::Refused(ONE_SERVER), None),
    ("DEL", Kind::Split(Merge::Sum, 1), None),
    ("DISCARD", Kind::Local(Local::Discard), None),
    ("ECHO", Kind::Local(Local::Echo), None),
    ("EVAL", Kind::Keyed, Some(Keys::Counted(2))),
    ("EVALSHA", Kind::Keyed, Some(Keys::Counted(2))),
    ("EVALSHA_RO", Kind::Keyed, Some(Keys::Counted(2))),
    ("EVAL_RO", Kind::Keyed, Some(Keys::Counted(2))),
    ("EXEC", Kind::Local(Local::Exec), None),
    ("EXISTS", Kind::Split(Merge::Sum, 1), None),
    ("FAILOVER", Kind::Refused(ONE_SERVER), None),
    ("FCALL", Kind::Keyed, Some(Keys::Counted(2))),
    ("FCALL_RO", Kind::Keyed, Some(Keys::Counted(2))),
    ("FLUSHALL", Kind::All(Merge::First), None),
    ("FLUSHDB", Kind::All(Merge::First), None),
    ("FUNCTION", Kind::Container(FUNCTION), None),
    ("GEORADIUS", Kind::Keyed, Some(Keys::Geo)),
    ("GEORADIUSBYMEMBER", Kind::Keyed, Some(Keys::Geo)),
    ("HELLO", Kind::Local(Local::Hello), None),
    ("INFO", Kind::All(Merge::Info), None),
    ("KEYS", Kind::All(Merge::Concat), None),
    ("LASTSAVE", Kind::Keyed, None),
    ("LATENCY", Kind::Keyed, None),
    ("LMPOP", Kind::Keyed, Some(Keys::Counted(1))),
    ("LOLWUT", Kind::Keyed, None),
    ("MEMORY", Kind::Keyed, SECOND),
    ("MGET", Kind::Split(Merge::Values, 1), None),
    ("MIGRATE", Kind::Refused(ONE_SERVER), None),
    ("MODULE", Kind::Refused(MODULES), None),
    ("MONITOR", Kind::Refused(ONE_SERVER), None),
    ("MOVE", Kind::Refused(DATABASES), None),
    ("MSET", Kind::Split(Merge::First, 2), None),
    ("MULTI", Kind::Local(Local::Multi), None),
    ("OBJECT", Kind::Keyed, SECOND),
    ("PFDEBUG", Kind::Refused(ONE_SERVER), None),
    ("PFSELFTEST", Kind::Refused(ONE_SERVER), None),
    ("PING", Kind::Local(Local::Ping), None),
    ("PSUBSCRIBE", Kind::Local(Local::PSubscribe), None),
    ("PSYNC", Kind::Refused(ONE_SERVER), None),
    ("PUBLISH", Kind::Keyed, None),
    ("PUBSUB", Kind::Container(PUBSUB), None),
    ("PUNSUBSCRIBE", Kind::Local(Local::PUnsubscribe), None),
    ("QUIT", Kind::Local(Local::Quit), None),
    ("RANDOMKEY", Kind::All(Merge::OneOf), None),
    ("READONLY", Kind::Refused("clients of the proxy need not know of clusters"), None),
    ("READWRITE", Kind::Refused("clients of the proxy need not know of clusters"), None),
    ("REPLCONF", Kind::Refused(ONE_SERVER), None),
    ("REPLICAOF", Kind::Refused(ONE_SERVER), None),
    ("RESET", Kind::Local(Local::Reset), None),
    ("RESTORE-ASKING", Kind::Refused("clients of the proxy need not know of clusters"), None),
    ("ROLE", Kind::Keyed, None),
    ("SAVE", Kind::All(Merge::First), None),
    ("SCAN", Kind::Scan, None),
    ("SCRIPT", Kind::Container(SCRIPT), None),
    ("SELECT", Kind::Local(Local::Select), None),
    ("SHUTDOWN", Kind::Refused(ONE_SERVER), None),
    ("SINTERCARD", Kind::Keyed, Some(Keys::Counted(1))),
    ("SLAVEOF", Kind::Refused(ONE_SERVER), None),
    ("SLOWLOG", Kind::Keyed, None),
    ("SORT", Kind::Keyed, Some(Keys::Sort)),
    ("SORT_RO", Kind::Keyed, None),
    ("SPUBLISH", Kind::Keyed, None),
    ("SSUBSCRIBE", Kind::Local(Local::SSubscribe), None),
    ("SUBSCRIBE", Kind::Local(Local::Subscribe), None),
    ("SUNSUBSCRIBE", Kind::Local(Local::SUnsubscribe), None),
    ("SWAPDB", Kind::Refused(DATABASES), None),
    ("SYNC", Kind::Refused(ONE_SERVER), None),
    ("TIME", Kind::Keyed, None),
    ("TOUCH", Kind::Split(Merge::Sum, 1), None),
    ("UNLINK", Kind::Split(Merge::Sum, 1), None),
    ("UNSUBSCRIBE", Kind::Local(Local::Unsubscribe), None),
    ("UNWATCH", Kind::Local(Local::Unwatch), None),
    ("WAIT", Kind::Local(Local::Wait), None),
    ("WAITAOF", Kind::Refused(CONNECTION), None),
    ("WATCH", Kind::Local(Local::Watch), None),
    ("XGROUP", Kind::Keyed, SECOND),
    ("XINFO", Kind::Keyed, SECOND),
    ("XREAD", Kind::Blocking(Timeout::Block), Some(Keys::Streams)),
    ("XREADGROUP", Kind::Blocking(Timeout::Block), Some(Keys::Streams)),
    ("ZDIFF", Kind::Keyed, Some(Keys::Counted(1))),
    ("ZDIFFSTORE", Kind::Keyed, Some(Keys::OneAndCounted(2))),
    ("ZINTER", Kind::Keyed, Some(Keys::Counted(1))),
    ("ZINTERCARD", Kind::Keyed, Some(Keys::Counted(1))),
    ("ZINTERSTORE", Kind::Keyed, Some(Keys::OneAndCounted(2))),
    ("ZMPOP", Kind::Keyed, Some(Keys::Counted(1))),
    ("ZUNION", Kind::Keyed, Some(Keys::Counted(1))),
    ("ZUNIONSTORE", Kind::Keyed, Some(Keys::OneAndCounted(2))),
];

const ACL: &[(&str, Kind)] = &[
    ("SETUSER", Kind::All(Merge::First)),
    ("DELUSER", Kind::All(Merge::First)),
    ("LOAD", Kind::All(Merge::First)),
    ("SAVE", Kind::All(Merge::First)),
    ("", Kind::Keyed),
];

const CONFIG: &[(&str, Kind)] = &[
    ("SET", Kind::All(Merge::First)),
    ("RESETSTAT", Kind::All(Merge::First)),
    ("REWRITE", Kind::All(Merge::First)),
    ("", Kind::Keyed),
];

const FUNCTION: &[(&str, Kind)] = &[
    ("LOAD", Kind::All(Merge::First)),
    ("DELETE", Kind::All(Merge::First)),
    ("FLUSH", Kind::All(Merge::First)),
    ("RESTORE", Kind::All(Merge::First)),
    ("KILL", Kind::All(Merge::AnyGood)),
    ("", Kind::Keyed),
];

const PUBSUB: &[(&str, Kind)] = &[
    ("CHANNELS", Kind::All(Merge::Union)),
    ("SHARDCHANNELS", Kind::All(Merge::Union)),
    ("NUMSUB", Kind::All(Merge::SumPairs)),
    ("SHARDNUMSUB", Kind::All(Merge::SumPairs)),
    ("NUMPAT", Kind::All(Merge::Sum)),
    ("", Kind::Keyed),
];

const SCRIPT: &[(&str, Kind)] = &[
    ("LOAD", Kind::All(Merge::First)),
    ("FLUSH", Kind::All(Merge::First)),
    ("EXISTS", Kind::All(Merge::Every)),
    ("KILL", Kind::All(Merge::AnyGood)),
    ("DEBUG", Kind::Refused(CONNECTION)),
    ("", Kind::Keyed),
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server's `COMMAND`, as far as tests need it: name, arity, flag, first, last, step.
    pub(crate) fn table() -> Table {
        let entries: &[(&'static str, i64, &'static str, i64, i64, i64)] = &[
            ("get", 2, "readonly", 1, 1, 1),
            ("set", -3, "write", 1, 1, 1),
            ("mget", -2, "readonly", 1, -1, 1),
            ("mset", -3, "write", 1, -1, 2),
            ("msetnx", -3, "write", 1, -1, 2),
            ("del", -2, "write", 1, -1, 1),
            ("rename", 3, "write", 1, 2, 1),
            ("eval", -3, "noscript", 0, 0, 0),
            ("zunionstore", -4, "write", 1, 1, 1),
            ("xread", -4, "readonly", 0, 0, 0),
            ("sort", -2, "write", 1, 1, 1),
            ("georadius", -6, "write", 1, 1, 1),
            ("blpop", -3, "blocking", 1, -2, 1),
            ("object", -2, "", 0, 0, 0),
            ("script", -2, "", 0, 0, 0),
            ("dbsize", 1, "readonly", 0, 0, 0),
            ("ping", -1, "fast", 0, 0, 0),
            ("scan", -2, "readonly", 0, 0, 0),
            ("monitor", 1, "admin", 0, 0, 0),
            ("mod.read", -2, "readonly", 1, 1, 1),
            ("mod.secret", -2, "admin", 1, 1, 1),
            ("mod.nokey", -2, "readonly", 0, 0, 0),
        ];
        let text = |text: &'static str| Value::Simple(text.into());
        Table::parse(&Value::Array(
            entries
                .iter()
                .map(|(name, arity, flag, first, last, step)| {
                    let mut entry = vec![text(name), Value::Int(*arity), Value::Set(vec![text(flag)])];
                    entry.extend([*first, *last, *step].map(Value::Int));
                    Value::Array(entry)
                })
                .collect(),
        ))
    }

    /// Names are found in any case; what our table says goes before the server's; unknown ones are not there.
    #[test]
    fn finds() {
        let table = table();
        assert_eq!(table.find(b"gEt").unwrap().keys, Keys::Range { first: 1, last: 1, step: 1 });
        assert_eq!(table.find(b"EVAL").unwrap().keys, Keys::Counted(2));
        assert!(table.find(b"nothing").is_none() && table.find(&[b'x'; 200]).is_none());
        assert!(matches!(table.find(b"monitor").unwrap().kind, Kind::Refused(_)));
        assert!(matches!(table.find(b"mod.secret").unwrap().kind, Kind::Refused(_)));
        assert!(matches!(table.find(b"mod.nokey").unwrap().kind, Kind::Refused(_)));
        assert_eq!(table.find(b"mod.read").unwrap().kind, Kind::Keyed);
        let script = table.find(b"script").unwrap();
        assert_eq!(script.kind_for(Some(b"exists")), Kind::All(Merge::Every));
        assert_eq!(script.kind_for(Some(b"help")), Kind::Keyed);
        assert!(script.takes(2) && !script.takes(1) && !table.find(b"get").unwrap().takes(3));
    }

    /// The list can be searched by people: it is in order, without doubles.
    #[test]
    fn in_order() {
        assert!(OWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
