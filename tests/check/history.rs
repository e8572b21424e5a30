//! What clients asked and were told.

/// The keys of one group, by number.
pub const KEYS: usize = 4;

/// A key as a client was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Each write has a value of its own.
    pub value: u64,
    pub version: i64,
    pub created: i64,
    pub modified: i64,
    pub lease: i64,
}

/// What was asked of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// All keys of the group at once.
    ReadAll,
    Read {
        key: usize,
    },
    /// Asks for the key as it was.
    Put {
        key: usize,
        value: u64,
        lease: i64,
    },
    /// Asks for the key as it was.
    Delete {
        key: usize,
    },
    /// If `key` has the value (none: does not exist), every one of `puts` gets its new one; else all keys are read.
    Swap {
        key: usize,
        expect: Option<u64>,
        puts: Vec<(usize, u64)>,
    },
    Grant {
        lease: i64,
    },
    /// By hand, or because its time is over.
    Revoke {
        lease: i64,
    },
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a read, or to a swap that did not find what it expected.
    Found { revision: i64, cells: Vec<(usize, Cell)> },
    /// To a put or a deletion, with the key as it was.
    Done { revision: i64, before: Option<Cell> },
    /// To a swap that found what it expected, to a grant, to a revocation.
    Succeeded { revision: i64 },
    /// The lease is not in force.
    NoLease,
    /// To the end of a lease by itself: it has happened, unless the lease had ended before.
    Over,
    /// The connection died: it may have happened.
    Unknown,
}

/// One call and its answer. Moments are numbers of one counter: a call that began after another had ended has a
/// greater `begin` than the other's `end`.
#[derive(Debug, Clone)]
pub struct Operation {
    pub client: usize,
    pub group: usize,
    pub call: Call,
    pub answer: Answer,
    pub begin: u64,
    /// `u64::MAX`: it may still happen.
    pub end: u64,
}

/// The name of a key in the store.
pub fn name(group: usize, key: usize) -> String {
    format!("lin/{group}/{key}")
}

/// The group and number of a key; `None`: it is none of ours.
pub fn number(name: &[u8]) -> Option<(usize, usize)> {
    let (group, key) = std::str::from_utf8(name).ok()?.strip_prefix("lin/")?.split_once('/')?;
    Some((group.parse().ok()?, key.parse().ok()?))
}

/// The bytes of a value: its number, and more, so that some are kept in memory and some are read from disk.
pub fn bytes(value: u64) -> Vec<u8> {
    format!("{value} {}", "x".repeat(value as usize * 37 % 700)).into_bytes()
}

/// The number of a value.
pub fn value(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).expect("text");
    let number: u64 = text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(bytes == self::bytes(number), "a value that nobody wrote: {text}");
    number
}
