//! What nodes say of themselves, each kept once: names, and profiles (name, address, tags, versions).
//!
//! A machine that knows 10,000 members holds 10,000 pointers into its [`Directory`]; machines of one process
//! that are handed the same one share what it holds, which is what lets a simulation hold 10,000 machines.
//! Nothing of it can be observed: with a directory of its own or a shared one, a machine does the same.
//!
//! An entry is there as long as somebody holds it; then its number goes to the next name. So a machine that
//! forgets a member frees it, and numbers stay as dense as the names that are in use.

#![expect(clippy::disallowed_types, reason = "a lock around what machines share and none can see: docs/design/0054")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::index::{HashKey, Index};

/// Names and profiles in use. A clone is the same directory.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<Table>>);

/// No setting: two configurations that differ in it alone are equal.
impl PartialEq for Directory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("names", &self.len()).finish()
    }
}

#[derive(Default)]
struct Table {
    /// By number.
    entries: Vec<Option<Entry>>,
    /// Numbers by the hash of the name, to find one soon.
    index: Index,
    hash: HashKey,
    /// Numbers by name, for their order.
    names: BTreeMap<Arc<str>, u32>,
    /// Numbers that are free, and those whose name is being dropped.
    free: Vec<u32>,
    /// Numbers in the order of names, until a name comes or goes.
    order: Option<Arc<[u32]>>,
}

struct Entry {
    text: Arc<str>,
    /// Of the text.
    hash: u64,
    name: Weak<Inner>,
    /// What was last said of it.
    profile: Weak<Profile>,
}

impl Table {
    fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    fn entry_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hash.of_text(text);
        self.index.get(hash, |id| self.entry(id).is_some_and(|entry| entry.hash == hash && *entry.text == *text))
    }

    fn insert(&mut self, id: u32, text: Arc<str>, name: &Arc<Inner>) {
        let hash = self.hash.of_text(&text);
        let name = Arc::downgrade(name);
        self.entries[id as usize] = Some(Entry { text: text.clone(), hash, name, profile: Weak::new() });
        self.index.insert(hash, id, |id| hash_of(&self.entries, id));
        self.names.insert(text, id);
        self.order = None;
    }

    /// Takes a name out. Its number is not free yet.
    fn remove(&mut self, id: u32) {
        let Some((text, hash)) = self.entry(id).map(|entry| (entry.text.clone(), entry.hash)) else { return };
        self.index.remove(hash, id, |id| hash_of(&self.entries, id));
        self.entries[id as usize] = None;
        self.names.remove(&text);
        self.order = None;
    }
}

/// The hash of a number's name.
fn hash_of(entries: &[Option<Entry>], id: u32) -> u64 {
    entries.get(id as usize).and_then(Option::as_ref).map_or(0, |entry| entry.hash)
}

/// A name, and its number while anybody holds it.
#[derive(Clone)]
pub(crate) struct Name(Arc<Inner>);

struct Inner {
    text: Arc<str>,
    id: u32,
    directory: Directory,
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0.text
    }

    /// A number that no other name has as long as this one is held.
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Name {}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut table = self.directory.lock();
        // Another may have come to the name between our last holder and now.
        if table.find(&self.text) == Some(self.id) {
            table.remove(self.id);
        }
        table.free.push(self.id);
    }
}

/// What a node says of itself.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: Name,
    pub(crate) address: SocketAddr,
    /// Encoded tags.
    pub(crate) meta: Box<[u8]>,
    pub(crate) versions: [u8; 6],
}

impl Directory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names that are held by somebody.
    pub fn len(&self) -> usize {
        self.lock().names.len()
    }

    /// Whether nobody holds a name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes by this key from now on, unless names are held already.
    pub(crate) fn key(&self, hash: HashKey) {
        let mut table = self.lock();
        if table.names.is_empty() {
            table.hash = hash;
        }
    }

    /// The number of a name, when anybody holds it.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.lock().find(text)
    }

    pub(crate) fn name(&self, text: &str) -> Name {
        let mut table = self.lock();
        let known = table.find(text);
        if let Some(name) = known.and_then(|id| table.entry(id)?.name.upgrade()) {
            return Name(name);
        }
        // Its last holder is about to say so.
        known.into_iter().for_each(|id| table.remove(id));
        let id = table.free.pop().unwrap_or_else(|| {
            table.entries.push(None);
            (table.entries.len() - 1) as u32
        });
        let text: Arc<str> = Arc::from(text);
        let name = Arc::new(Inner { text: text.clone(), id, directory: self.clone() });
        table.insert(id, text, &name);
        Name(name)
    }

    /// A profile, shared with whoever was told the same of that node.
    pub(crate) fn profile(&self, name: &Name, address: SocketAddr, meta: &[u8], versions: [u8; 6]) -> Arc<Profile> {
        // Dropped after the lock is: it may be the last of its name.
        let known = self.lock().entry(name.id()).and_then(|entry| entry.profile.upgrade());
        if let Some(known) = known
            && known.address == address
            && *known.meta == *meta
            && known.versions == versions
        {
            return known;
        }
        let profile = Arc::new(Profile { name: name.clone(), address, meta: meta.into(), versions });
        let mut table = self.lock();
        let old = table.entry_mut(name.id()).map(|entry| {
            let last = Arc::downgrade(&profile);
            std::mem::replace(&mut entry.profile, last)
        });
        drop(table);
        drop(old);
        profile
    }

    /// The numbers of all names, by name.
    pub(crate) fn order(&self) -> Arc<[u32]> {
        let mut table = self.lock();
        if let Some(order) = &table.order {
            return order.clone();
        }
        let order: Arc<[u32]> = table.names.values().copied().collect();
        table.order = Some(order.clone());
        order
    }

    /// Up to `count` numbers that pass `choose`, of the names that follow `name`, round the end.
    pub(crate) fn following(&self, name: &Name, count: usize, choose: impl Fn(u32) -> bool) -> Vec<u32> {
        let table = self.lock();
        let after = table.names.range::<str, _>((Excluded(name.as_str()), Unbounded));
        let before = table.names.range::<str, _>((Unbounded, Excluded(name.as_str())));
        after.chain(before).map(|(_, id)| *id).filter(|id| choose(*id)).take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that a name has one number while it is held, that a freed number is given again, and that names go
    /// when nobody holds them.
    #[test]
    fn names_are_kept_once_and_freed() {
        let directory = Directory::new();
        let (a, b) = (directory.name("a"), directory.name("b"));
        assert_eq!(a, directory.name("a"));
        assert_ne!(a.id(), b.id());
        assert_eq!(directory.id("b"), Some(b.id()));
        let freed = a.id();
        drop(a);
        assert_eq!((directory.id("a"), directory.len()), (None, 1));
        let c = directory.name("c");
        assert_eq!(c.id(), freed);
        assert_eq!(*directory.order(), [b.id(), c.id()]);
    }

    /// Shows that the same profile is kept once, another one replaces it, and both free their name at the end.
    #[test]
    fn profiles_are_shared() {
        let directory = Directory::new();
        let address = SocketAddr::from(([10, 0, 0, 1], 7946));
        let make = |meta: &[u8]| directory.profile(&directory.name("a"), address, meta, [1; 6]);
        let first = make(b"x");
        assert!(Arc::ptr_eq(&first, &make(b"x")));
        let second = make(b"y");
        assert!(!Arc::ptr_eq(&first, &second) && first.name == second.name);
        assert!(Arc::ptr_eq(&second, &make(b"y")));
        drop((first, second));
        assert!(directory.is_empty());
    }

    /// Shows that those that follow a name go round the end.
    #[test]
    fn names_follow_each_other() {
        let directory = Directory::new();
        let names = ["a", "b", "c", "d"].map(|name| directory.name(name));
        let ids = |names: &[&Name]| names.iter().map(|name| name.id()).collect::<Vec<_>>();
        let [a, b, c, d] = &names;
        assert_eq!(directory.following(c, 2, |_| true), ids(&[d, a]));
        assert_eq!(directory.following(c, 9, |id| id != a.id()), ids(&[d, b]));
    }
}
