//! What a write is decided on: a node, and the directories above it, as they are at one revision.

use bytes::Bytes;
use regrow_store::{
    Compare, CompareOp, CompareTarget, Error, KeyValue, LeaseId, Op, PutRequest, RangeRequest, Revision, Store,
};

use super::{path::Path, read::keys};

/// A name: what is kept as a file, and what as a directory.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) file: Option<KeyValue>,
    pub(super) marker: Option<KeyValue>,
}

/// A node and what is above it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: Revision,
    /// From the top, without the root.
    pub(super) above: Vec<(Path, Level)>,
    pub(super) path: Path,
    pub(super) here: Level,
    /// The first key beneath, if neither file nor marker is there.
    pub(super) first: Option<KeyValue>,
}

/// What a name is.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    Missing,
    File(&'a KeyValue),
    Dir,
}

impl State {
    /// Reads a node's.
    pub(super) async fn read(store: &dyn Store, path: &Path) -> Result<Self, Error> {
        let mut names: Vec<Path> = path.ancestors().collect();
        names.push(path.clone());
        let both = names.iter().flat_map(|name| [name.key(), name.marker()]);
        let (revision, mut found) = keys(store, Revision(0), both).await?;
        let levels = found.chunks_exact_mut(2);
        let levels = levels.map(|pair| Level { file: pair[0].take(), marker: pair[1].take() });
        let mut above: Vec<(Path, Level)> = names.into_iter().zip(levels).collect();
        let (path, here) = above.pop().unwrap_or((Path::root(), Level::default()));
        let mut first = None;
        if here.file.is_none() && here.marker.is_none() && !path.is_root() {
            let request = RangeRequest {
                key: path.marker(),
                range_end: path.after(),
                limit: 1,
                keys_only: true,
                revision,
                ..RangeRequest::default()
            };
            first = store.range(request).await?.kvs.pop();
        }
        Ok(Self { revision, above, path, here, first })
    }

    /// A node in this directory that nobody has a name for yet.
    pub(super) fn child(mut self, part: &[u8]) -> Self {
        let path = self.path.child(part);
        if !self.path.is_root() {
            self.above.push((self.path, self.here));
        }
        self.here = Level::default();
        Self { path, first: None, ..self }
    }

    pub(super) fn kind(&self) -> Kind<'_> {
        match &self.here.file {
            Some(kv) => Kind::File(kv),
            None if self.path.is_root() || self.here.marker.is_some() || self.first.is_some() => Kind::Dir,
            None => Kind::Missing,
        }
    }

    /// The topmost directory above that is a file instead.
    pub(super) fn file_above(&self) -> Option<&Path> {
        self.above.iter().find(|(_, level)| level.file.is_some()).map(|(path, _)| path)
    }

    /// The leases of the directories above.
    pub(super) fn leases_above(&self) -> Vec<LeaseId> {
        let markers = self.above.iter().filter_map(|(_, level)| level.marker.as_ref());
        markers.map(|kv| kv.lease).filter(|lease| *lease != LeaseId::NONE).collect()
    }

    /// What must still hold of the leases above when a node is put that may hang on one.
    pub(super) fn same_leases(&self) -> Vec<Compare> {
        let marked = self.above.iter().filter_map(|(path, level)| Some((path, level.marker.as_ref()?)));
        let leased = marked.filter(|(_, kv)| kv.lease != LeaseId::NONE);
        leased.map(|(path, kv)| equal(path.marker(), CompareTarget::Lease(kv.lease))).collect()
    }

    /// What must still hold, and what must be put, for a new node to have its directories: all of them are marked,
    /// those not marked yet hang on `lease`.
    pub(super) fn way_here(&self, lease: LeaseId) -> (Vec<Compare>, Vec<Op>) {
        let (mut compare, mut ops) = (self.same_leases(), Vec::new());
        for (path, level) in &self.above {
            compare.push(absent(path.key()));
            if level.marker.is_none() {
                compare.push(absent(path.marker()));
                ops.push(Op::Put(PutRequest { lease, ..PutRequest::new(path.marker(), "") }));
            }
        }
        let deepest = self.above.iter().rev().find_map(|(path, level)| Some((path, level.marker.as_ref()?)));
        if let Some((path, kv)) = deepest {
            compare.push(equal(path.marker(), CompareTarget::CreateRevision(kv.create_revision)));
        }
        (compare, ops)
    }
}

/// A condition that a key is as it was seen.
pub(super) fn equal(key: Bytes, target: CompareTarget) -> Compare {
    Compare::new(key, CompareOp::Equal, target)
}

/// A condition that a key is not there.
pub(super) fn absent(key: Bytes) -> Compare {
    equal(key, CompareTarget::Version(0))
}

/// A condition that no key is in a node's range.
pub(super) fn empty(range: &regrow_store::KeyRange) -> Compare {
    let end = range.end().map(Bytes::copy_from_slice).unwrap_or_default();
    Compare { range_end: end, ..absent(range.start().clone()) }
}
