//! What a group is, by the rules of etcd's interface: the specification that answers are held against.

use super::history::{Answer, Call, Cell, KEYS};

/// A group between two operations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The store has reached at least this revision.
    now: i64,
    keys: [Option<Cell>; KEYS],
    /// In force, ascending.
    leases: Vec<i64>,
}

impl Default for State {
    fn default() -> State {
        State { now: 1, keys: [None; KEYS], leases: Vec::new() }
    }
}

/// The revision of a write that nobody was told of: later than `now`. It becomes known when a read tells it.
fn unknown(now: i64) -> i64 {
    -now
}

/// Whether a revision told can be the one that is known; learns it.
fn meets(known: &mut i64, told: i64) -> bool {
    let met = if *known < 0 { told > -*known } else { told == *known };
    *known = told;
    met
}

impl State {
    /// The states that the group may be in if this operation happens now; none: it cannot have been answered so.
    pub fn step(&self, call: &Call, answer: &Answer) -> Vec<State> {
        match answer {
            // It has happened, or it never will.
            Answer::Unknown => {
                let mut after = self.clone();
                after.apply(call, None);
                if after == *self { vec![after] } else { vec![after, self.clone()] }
            }
            Answer::Over => {
                let mut after = self.clone();
                after.apply(call, None);
                vec![after]
            }
            answer => {
                let mut after = self.clone();
                if after.explains(call, answer) { vec![after] } else { Vec::new() }
            }
        }
    }

    /// Takes the answer in; `false`: it cannot be.
    fn explains(&mut self, call: &Call, answer: &Answer) -> bool {
        match (call, answer) {
            (Call::ReadAll, Answer::Found { revision, cells }) => self.read(*revision, 0..KEYS, cells),
            (Call::Read { key }, Answer::Found { revision, cells }) => self.read(*revision, *key..*key + 1, cells),
            (Call::Put { lease, .. }, Answer::NoLease) => !self.leases.contains(lease),
            (Call::Revoke { lease }, Answer::NoLease) => !self.leases.contains(lease),
            (Call::Put { key, lease, .. }, Answer::Done { revision, before }) => {
                (*lease == 0 || self.leases.contains(lease))
                    && self.is(*key, before.as_ref())
                    && self.write(call, *revision)
            }
            (Call::Delete { key }, Answer::Done { revision, before }) => {
                self.is(*key, before.as_ref()) && self.write(call, *revision)
            }
            (Call::Swap { key, expect, .. }, Answer::Succeeded { revision }) => {
                self.keys[*key].map(|cell| cell.value) == *expect && self.write(call, *revision)
            }
            (Call::Swap { key, expect, .. }, Answer::Found { revision, cells }) => {
                self.keys[*key].map(|cell| cell.value) != *expect && self.read(*revision, 0..KEYS, cells)
            }
            (Call::Grant { lease }, Answer::Succeeded { revision }) => {
                !self.leases.contains(lease) && self.write(call, *revision)
            }
            (Call::Revoke { lease }, Answer::Succeeded { revision }) => {
                self.leases.contains(lease) && self.write(call, *revision)
            }
            _ => false,
        }
    }

    /// A write with its revision: a new one if it changes a key, where the store was if not.
    fn write(&mut self, call: &Call, revision: i64) -> bool {
        let changes = self.changes(call);
        if revision < self.now || (changes && revision == self.now) {
            return false;
        }
        self.apply(call, Some(revision));
        self.now = revision;
        true
    }

    fn read(&mut self, revision: i64, mut keys: std::ops::Range<usize>, cells: &[(usize, Cell)]) -> bool {
        let told = |key: usize| cells.iter().find(|(told, _)| *told == key).map(|(_, cell)| cell);
        if revision < self.now || !keys.all(|key| self.is(key, told(key))) {
            return false;
        }
        self.now = revision;
        cells.iter().all(|(_, cell)| cell.modified <= revision)
    }

    /// Whether a key can be as told; learns revisions that were not known.
    fn is(&mut self, key: usize, told: Option<&Cell>) -> bool {
        match (&mut self.keys[key], told) {
            (None, None) => true,
            (Some(cell), Some(told)) => {
                (cell.value, cell.version, cell.lease) == (told.value, told.version, told.lease)
                    && meets(&mut cell.created, told.created)
                    && meets(&mut cell.modified, told.modified)
            }
            _ => false,
        }
    }

    fn changes(&self, call: &Call) -> bool {
        match call {
            Call::ReadAll | Call::Read { .. } | Call::Grant { .. } => false,
            Call::Put { .. } => true,
            Call::Delete { key } => self.keys[*key].is_some(),
            Call::Swap { puts, .. } => !puts.is_empty(),
            Call::Revoke { lease } => self.keys.iter().flatten().any(|cell| cell.lease == *lease),
        }
    }

    /// Does what was asked, if it can be done. Without a revision, at one that is not known.
    fn apply(&mut self, call: &Call, revision: Option<i64>) {
        let at = revision.unwrap_or(unknown(self.now));
        let before = self.keys;
        match call {
            Call::ReadAll | Call::Read { .. } => {}
            Call::Put { key, value, lease } => {
                if *lease == 0 || self.leases.contains(lease) {
                    self.put(*key, *value, *lease, at);
                }
            }
            Call::Delete { key } => self.keys[*key] = None,
            Call::Swap { key, expect, puts } => {
                if self.keys[*key].map(|cell| cell.value) == *expect {
                    puts.iter().for_each(|(key, value)| self.put(*key, *value, 0, at));
                }
            }
            Call::Grant { lease } => {
                if let Err(place) = self.leases.binary_search(lease) {
                    self.leases.insert(place, *lease);
                }
            }
            Call::Revoke { lease } => {
                if let Ok(place) = self.leases.binary_search(lease) {
                    self.leases.remove(place);
                    for cell in &mut self.keys {
                        cell.take_if(|cell| cell.lease == *lease);
                    }
                }
            }
        }
        if revision.is_none() && before != self.keys {
            self.now += 1;
        }
    }

    /// Takes a lease for gone that nothing will be asked about.
    pub fn forget(&mut self, lease: i64) {
        self.leases.retain(|id| *id != lease);
    }

    fn put(&mut self, key: usize, value: u64, lease: i64, at: i64) {
        let (version, created) = self.keys[key].map_or((1, at), |cell| (cell.version + 1, cell.created));
        self.keys[key] = Some(Cell { value, version, created, modified: at, lease });
    }
}
