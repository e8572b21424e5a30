//! All keys of a range at one revision, a bounded number at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{KeyValue, RangeRequest, Result, Revision, Store};

/// Keys asked for at once. With values of 1.5 MiB, the largest there are, 96 MiB.
const KEYS_MAX: i64 = 64;

/// Most keys asked for at once, when what came before was small.
const KEYS_SMALL_MAX: i64 = 2_048;

/// Bytes that an answer should have at most, by what the one before had.
const BYTES_WANTED: usize = 4 << 20;

/// The keys of a range at one revision, in their order.
pub struct Pages<'a> {
    store: &'a dyn Store,
    request: RangeRequest,
    page: VecDeque<KeyValue>,
    more: bool,
}

impl<'a> Pages<'a> {
    /// The keys with a prefix, at a revision; 0 is that of the first look.
    pub fn of(store: &'a dyn Store, prefix: impl Into<Bytes>, revision: Revision) -> Pages<'a> {
        Pages::over(store, RangeRequest { revision, ..RangeRequest::prefix(prefix) })
    }

    /// The keys of any range. Its limit and order are not asked for.
    pub fn over(store: &'a dyn Store, request: RangeRequest) -> Pages<'a> {
        let request = RangeRequest { limit: KEYS_MAX, ..request };
        Pages { store, request, page: VecDeque::new(), more: true }
    }

    /// The revision that all of them are of; known when the first has been asked for.
    pub fn revision(&self) -> Revision {
        self.request.revision
    }

    /// The next key.
    ///
    /// # Errors
    /// Those of a range; what comes behind it is not known.
    pub async fn next(&mut self) -> Result<Option<KeyValue>> {
        if self.page.is_empty() && self.more {
            let answer = self.store.range(self.request.clone()).await?;
            self.more = answer.more;
            if self.request.revision.0 <= 0 {
                self.request.revision = answer.revision;
            }
            if let Some(last) = answer.kvs.last() {
                // The least key after it.
                self.request.key = [&last.key[..], b"\0"].concat().into();
            }
            let bytes: usize = answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
            let each = bytes / answer.kvs.len().max(1) + 1;
            let wanted = i64::try_from(BYTES_WANTED / each).unwrap_or(KEYS_MAX);
            self.request.limit = wanted.clamp(KEYS_MAX.min(8), KEYS_SMALL_MAX);
            self.page = answer.kvs.into();
        }
        Ok(self.page.pop_front())
    }
}
