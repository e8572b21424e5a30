//! How far all watches of a stream are.

use std::collections::BTreeSet;

use regrow_store::Revision;

/// A question to all watches of a stream, answered when the last of them has told; then everything up to the lowest
/// revision told has been sent. A question asked while one is under way begins it anew, and both have one answer.
#[derive(Default)]
pub(super) struct Progress {
    waiting: BTreeSet<i64>,
    lowest: Option<Revision>,
}

impl Progress {
    /// Asks these watches.
    pub(super) fn begin(&mut self, watches: impl Iterator<Item = i64>) {
        *self = Self { waiting: watches.collect(), lowest: None };
    }

    /// A watch tells where it is. `None`: it was not asked; `Some(Some(_))`: it was the last.
    pub(super) fn tell(&mut self, watch: i64, revision: Revision) -> Option<Option<Revision>> {
        self.waiting.remove(&watch).then(|| {
            self.lowest = Some(self.lowest.map_or(revision, |lowest| lowest.min(revision)));
            self.answered()
        })
    }

    /// A watch is gone. The answer, if all others have told.
    pub(super) fn forget(&mut self, watch: i64) -> Option<Revision> {
        self.waiting.remove(&watch).then(|| self.answered()).flatten()
    }

    fn answered(&self) -> Option<Revision> {
        if self.waiting.is_empty() { self.lowest } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer is the lowest revision told, and comes once, with the last watch that tells or goes.
    #[test]
    fn the_last_watch_answers_for_all() {
        let mut progress = Progress::default();
        assert_eq!(progress.tell(1, Revision(5)), None, "nobody asked");
        progress.begin([1, 2, 3].into_iter());
        assert_eq!(progress.tell(1, Revision(9)), Some(None));
        assert_eq!(progress.tell(1, Revision(10)), None, "told already");
        assert_eq!(progress.tell(3, Revision(7)), Some(None));
        assert_eq!(progress.forget(2), Some(Revision(7)));
        assert_eq!(progress.forget(2), None);
        progress.begin([4].into_iter());
        assert_eq!(progress.tell(4, Revision(11)), Some(Some(Revision(11))));
    }
}
