//! Is there one order of all operations that explains every answer?
//!
//! Wing and Gong's search with Lowe's memory of what was tried ("Testing for Linearizability", 2017): calls and answers
//! are a list in the order of time. The first calls of the list, up to the first answer, may have happened next; one that
//! explains its answer is taken out of the list together with it, and the search goes on from the front. An answer whose
//! call is still in the list is a dead end: the last one taken out is put back, and the next is tried. A set of
//! operations that was reached before in the same state is not searched again.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Wrong,
    history::{Call, Operation},
    model::State,
};

/// States visited before the search gives up: far beyond what histories of this size take.
const VISITED_MAX: usize = 20_000_000;

/// Checks each group of a history by itself.
pub fn check(history: &[Operation]) -> Result<(), Wrong> {
    let mut groups: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        groups.entry(operation.group).or_default().push(operation);
    }
    groups.iter().try_for_each(|(group, operations)| {
        Search::new(operations).run().map_err(|text| Wrong::new("linearizable", format!("group {group}: {text}")))
    })
}

/// The lease that a call names.
fn lease(operation: &Operation) -> Option<i64> {
    match operation.call {
        Call::Put { lease, .. } => (lease != 0).then_some(lease),
        Call::Grant { lease } | Call::Revoke { lease } => Some(lease),
        _ => None,
    }
}

/// The list's front, which is no operation.
const FRONT: usize = 0;

/// Calls and answers in the order of time, as a linked list that what was taken out can be put back into.
struct Search<'a> {
    operations: &'a [&'a Operation],
    /// Of each place: the operation, and whether it is the call.
    places: Vec<(usize, bool)>,
    /// Of each operation: the place of its answer.
    answers: Vec<usize>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The operations that are taken out, 64 in a word.
    taken: Vec<u64>,
    /// All before this word are taken out.
    low: usize,
    /// Operations in the list that name a lease.
    naming: HashMap<i64, usize>,
}

/// One operation that was taken out.
struct Taken {
    place: usize,
    state: State,
    /// The next of the states after it that is to be tried.
    branch: usize,
}

/// Operations told of before the one that is not explained.
const TOLD: usize = 8;

/// The farthest dead end.
struct Stuck {
    depth: usize,
    state: State,
    last: Vec<usize>,
    at: usize,
    /// What might have happened instead.
    others: Vec<usize>,
}

/// What has been tried: which operations were taken out (the first word that is not full, and those behind it) and the
/// state then.
type Visited = (usize, Box<[u64]>, State);

impl<'a> Search<'a> {
    fn new(operations: &'a [&'a Operation]) -> Search<'a> {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            moments.push((operation.begin, true, at));
            moments.push((operation.end, false, at));
        }
        // Of those that may still happen the order does not matter.
        moments.sort_by_key(|(moment, call, at)| (*moment, !*call, *at));
        let mut places = vec![(usize::MAX, false)];
        let mut answers = vec![0; operations.len()];
        for (_, call, at) in moments {
            if !call {
                answers[at] = places.len();
            }
            places.push((at, call));
        }
        let count = places.len();
        Search {
            operations,
            places,
            answers,
            next: (1..=count).collect(),
            previous: (0..count).map(|place| place.saturating_sub(1)).collect(),
            taken: vec![0; operations.len().div_ceil(64)],
            low: 0,
            naming: operations.iter().filter_map(|one| lease(one)).fold(HashMap::new(), |mut naming, lease| {
                *naming.entry(lease).or_default() += 1;
                naming
            }),
        }
    }

    fn run(mut self) -> Result<(), String> {
        let (mut state, mut stack) = (State::default(), Vec::<Taken>::new());
        let (mut visited, mut deepest) = (HashSet::<Visited>::new(), None::<Stuck>);
        let mut place = self.next[FRONT];
        let mut branch = 0;
        while self.next[FRONT] < self.places.len() {
            let (at, call) = self.places[place];
            if call {
                let operation = self.operations[at];
                let after = state.step(&operation.call, &operation.answer).into_iter().nth(branch);
                if let Some(mut after) = after {
                    self.lift(place);
                    // Whether a lease is in force that nothing names any more makes no difference, but two states.
                    if let Some(lease) = lease(operation)
                        && self.naming[&lease] == 0
                    {
                        after.forget(lease);
                    }
                    if visited.insert(self.visited(&after)) {
                        stack.push(Taken { place, state: std::mem::replace(&mut state, after), branch: branch + 1 });
                        (place, branch) = (self.next[FRONT], 0);
                    } else {
                        self.put_back(place);
                        branch += 1;
                    }
                    if visited.len() > VISITED_MAX {
                        return Err(format!("not decided after {VISITED_MAX} states"));
                    }
                } else {
                    (place, branch) = (self.next[place], 0);
                }
                continue;
            }
            if deepest.as_ref().is_none_or(|deepest| deepest.depth < stack.len()) {
                deepest = Some(self.stuck(&state, at, &stack));
            }
            let Some(last) = stack.pop() else {
                return Err(deepest.map_or_else(String::new, |stuck| self.explain(&stuck)));
            };
            self.put_back(last.place);
            (place, state, branch) = (last.place, last.state, last.branch);
        }
        Ok(())
    }

    fn visited(&mut self, state: &State) -> Visited {
        while self.taken.get(self.low) == Some(&u64::MAX) {
            self.low += 1;
        }
        let words = &self.taken[self.low..];
        let len = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        (self.low, words[..len].into(), state.clone())
    }

    fn lift(&mut self, place: usize) {
        let at = self.places[place].0;
        for place in [place, self.answers[at]] {
            let (before, behind) = (self.previous[place], self.next[place]);
            self.next[before] = behind;
            if behind < self.places.len() {
                self.previous[behind] = before;
            }
        }
        self.taken[at / 64] |= 1 << (at % 64);
        if let Some(naming) = self.named(at) {
            *naming -= 1;
        }
    }

    fn put_back(&mut self, place: usize) {
        let at = self.places[place].0;
        for place in [self.answers[at], place] {
            let (before, behind) = (self.previous[place], self.next[place]);
            self.next[before] = place;
            if behind < self.places.len() {
                self.previous[behind] = place;
            }
        }
        self.taken[at / 64] &= !(1 << (at % 64));
        self.low = self.low.min(at / 64);
        if let Some(naming) = self.named(at) {
            *naming += 1;
        }
    }

    /// How many in the list name the lease that an operation names.
    fn named(&mut self, at: usize) -> Option<&mut usize> {
        self.naming.get_mut(&lease(self.operations[at])?)
    }

    fn stuck(&self, state: &State, at: usize, stack: &[Taken]) -> Stuck {
        let last = &stack[stack.len().saturating_sub(TOLD)..];
        let mut others = Vec::new();
        let mut place = self.next[FRONT];
        while place < self.places.len() && self.places[place].1 {
            others.push(self.places[place].0);
            place = self.next[place];
        }
        let last = last.iter().map(|taken| self.places[taken.place].0).collect();
        Stuck { depth: stack.len(), state: state.clone(), last, at, others }
    }

    fn explain(&self, stuck: &Stuck) -> String {
        let list =
            |all: &[usize]| -> String { all.iter().map(|at| format!("  {:?}\n", self.operations[*at])).collect() };
        format!(
            "after {} operations the store is {:?}\nlast explained:\n{}and this is not:\n{}nor, before it, any of:\n{}",
            stuck.depth,
            stuck.state,
            list(&stuck.last),
            list(&[stuck.at]),
            list(&stuck.others)
        )
    }
}
