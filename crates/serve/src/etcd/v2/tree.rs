//! A directory, put together from keys in their order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use regrow_store::{KeyValue, LeaseId};

use super::{
    node::{Life, Node},
    path::{Path, Seen},
};

/// A directory as its keys make it.
#[derive(Debug)]
pub(super) struct Tree {
    path: Path,
    recursive: bool,
    top: Dir,
    /// Nodes so far.
    pub(super) nodes: usize,
    /// Bytes of names and values so far.
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
struct Dir {
    /// Its marker, or its first key.
    first: Option<KeyValue>,
    /// The marker's lease.
    lease: LeaseId,
    children: BTreeMap<Bytes, Child>,
}

#[derive(Debug)]
enum Child {
    File(KeyValue),
    Dir(Dir),
}

impl Tree {
    /// An empty one; `recursive`: with all beneath, not only what is in the directory itself.
    pub(super) fn new(path: Path, recursive: bool) -> Self {
        Self { path, recursive, top: Dir::default(), nodes: 1, bytes: 0 }
    }

    /// Adds a key; keys come in ascending order, the marker first. What is hidden or not seen is left out. Where a file
    /// and a directory have one name, the file is seen.
    ///
    /// Returns where to go on, if what follows this key is of no interest.
    pub(super) fn add(&mut self, kv: KeyValue) -> Option<Bytes> {
        let (path, is_marker) = match Path::of(&kv.key) {
            Some(Seen::File(path)) => (path, false),
            Some(Seen::Marker(path)) => (path, true),
            None => return None,
        };
        let parts = self.path.parts_to(&path);
        let Some(last) = parts.len().checked_sub(1) else {
            self.top.lease = kv.lease;
            self.top.first = Some(kv);
            return None;
        };
        let mut dir = &mut self.top;
        dir.first.get_or_insert_with(|| meta(&kv));
        for (depth, part) in parts.iter().enumerate() {
            if part.starts_with(b"_") {
                return None;
            }
            let is_file = depth == last && !is_marker;
            if !dir.children.contains_key(part) {
                self.nodes += 1;
                self.bytes += path.key().len() + if is_file { kv.value.len() } else { 0 };
                let lease = if depth == last { kv.lease } else { LeaseId::NONE };
                let child = match is_file {
                    true => Child::File(kv.clone()),
                    false => Child::Dir(Dir { first: Some(meta(&kv)), lease, children: BTreeMap::new() }),
                };
                dir.children.insert(part.clone(), child);
            }
            match dir.children.get_mut(part) {
                Some(Child::Dir(child)) if self.recursive => dir = child,
                Some(Child::Dir(_)) => return Some(self.path.child(part).after()),
                _ => return None,
            }
        }
        None
    }

    /// Whether there is a key at all.
    pub(super) fn is_there(&self) -> bool {
        self.top.first.is_some()
    }

    /// The leases that its nodes hang on.
    pub(super) fn leases(&self) -> BTreeSet<LeaseId> {
        fn visit(dir: &Dir, leases: &mut BTreeSet<LeaseId>) {
            leases.insert(dir.lease);
            for child in dir.children.values() {
                match child {
                    Child::File(kv) => drop(leases.insert(kv.lease)),
                    Child::Dir(dir) => visit(dir, leases),
                }
            }
        }
        let mut leases = BTreeSet::new();
        visit(&self.top, &mut leases);
        leases.remove(&LeaseId::NONE);
        leases
    }

    /// The node. `lives`: how long each lease has; `above`: the leases of the directories above, which a node that
    /// hangs on them does not tell as its own.
    pub(super) fn into_node(self, lives: &BTreeMap<LeaseId, Life>, mut above: Vec<LeaseId>) -> Node {
        let recursive = self.recursive;
        node(&self.path, self.top, lives, &mut above, true, recursive)
    }
}

fn node(
    path: &Path,
    dir: Dir,
    lives: &BTreeMap<LeaseId, Life>,
    above: &mut Vec<LeaseId>,
    list: bool,
    recursive: bool,
) -> Node {
    let life = |lease: LeaseId, above: &[LeaseId]| lives.get(&lease).filter(|_| !above.contains(&lease)).cloned();
    let mut told = Node::dir(path, dir.first.as_ref()).living(life(dir.lease, above));
    if list {
        above.push(dir.lease);
        told.nodes.reserve(dir.children.len());
        for (part, child) in dir.children {
            let path = path.child(&part);
            told.nodes.push(match child {
                Child::File(kv) => Node::file(&path, &kv).living(life(kv.lease, above)),
                Child::Dir(dir) => node(&path, dir, lives, above, recursive, recursive),
            });
        }
        above.pop();
    }
    told
}

/// All but the value.
fn meta(kv: &KeyValue) -> KeyValue {
    KeyValue { value: Bytes::new(), ..kv.clone() }
}

#[cfg(test)]
mod tests {
    use regrow_store::Revision;

    use super::*;

    fn tree(path: &str, recursive: bool, keys: &[(&str, i64)]) -> Tree {
        let mut tree = Tree::new(Path::clean(path.as_bytes()).expect("not too deep"), recursive);
        for (at, (key, lease)) in keys.iter().enumerate() {
            let revision = Revision(at as i64 + 2);
            let key = Bytes::copy_from_slice(key.as_bytes());
            let kv = KeyValue {
                value: "v".into(),
                create_revision: revision,
                mod_revision: revision,
                lease: LeaseId(*lease),
                key,
                version: 1,
            };
            tree.add(kv);
        }
        tree
    }

    fn names(node: &Node) -> Vec<String> {
        let own = format!("{}{}", node.key, if node.dir { "/" } else { "" });
        [own].into_iter().chain(node.nodes.iter().flat_map(names)).collect()
    }

    /// Directories are marked or implied, files go before directories of their name, hidden and odd keys are left out.
    #[test]
    fn keys_make_a_tree() {
        let keys = [
            ("/d/", 0),
            ("/d//x", 0),
            ("/d/_h", 0),
            ("/d/a", 0),
            ("/d/a/b", 0),
            ("/d/e/", 0),
            ("/d/i/j/k", 0),
            ("/d/i/_h/k", 0),
        ];
        let deep = tree("/d", true, &keys).into_node(&BTreeMap::new(), Vec::new());
        assert_eq!(names(&deep), ["/d/", "/d/a", "/d/e/", "/d/i/", "/d/i/j/", "/d/i/j/k"]);
        let flat = tree("/d", false, &keys).into_node(&BTreeMap::new(), Vec::new());
        assert_eq!(names(&flat), ["/d/", "/d/a", "/d/e/", "/d/i/"]);
        assert_eq!((flat.created, flat.nodes[2].created), (2, 8), "a marker's own revision, and that of the first key");
    }

    /// What hangs on a lease of a directory above does not tell a time of its own.
    #[test]
    fn inherited_leases_are_not_told() {
        let lives = BTreeMap::from([(LeaseId(1), Life::new(10)), (LeaseId(2), Life::new(20))]);
        let tree = tree("/d", true, &[("/d/", 1), ("/d/a", 1), ("/d/b", 2), ("/d/c/", 1), ("/d/c/x", 1)]);
        assert_eq!(tree.leases(), BTreeSet::from([LeaseId(1), LeaseId(2)]));
        let told = serde_json::to_value(tree.into_node(&lives, Vec::new())).expect("JSON");
        let ttl = |node: &serde_json::Value| node.get("ttl").cloned();
        assert_eq!(ttl(&told), Some(10.into()));
        let nodes = told["nodes"].as_array().expect("a list").iter().map(ttl).collect::<Vec<_>>();
        assert_eq!(nodes, [None, Some(20.into()), None]);
    }

    /// In a listing of one level, what lies deeper is passed over.
    #[test]
    fn a_flat_listing_passes_over_what_is_deeper() {
        let mut tree = tree("/d", false, &[]);
        let kv = |key: &'static str| KeyValue { key: key.into(), ..KeyValue::default() };
        assert_eq!(tree.add(kv("/d/a")), None);
        assert_eq!(tree.add(kv("/d/b/c/d")), Some("/d/b0".into()));
        assert_eq!(tree.add(kv("/d/e/")), Some("/d/e0".into()));
    }
}
