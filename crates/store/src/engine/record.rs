//! What is in a frame's payload: records, one after the other.
//!
//! Bytes, little-endian, after one byte of kind:
//! put = key length u32, value length u32, place in its revision u32, revision, create revision, version, lease (i64
//! each), key, CRC-32 of the value u32, value; delete = key length u32, place u32, revision i64, key;
//! grant = id i64, seconds i64; revoke = id i64; compact = revision i64; end, seal = nothing;
//! head (of a base) = revision i64, compacted i64, next sequence u64; foot = number of puts u64.

use super::frame::{u32_at, u64_at};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const GRANT: u8 = 3;
const REVOKE: u8 = 4;
const COMPACT: u8 = 5;
const END: u8 = 6;
const SEAL: u8 = 7;
const BASE_HEAD: u8 = 8;
const BASE_FOOT: u8 = 9;

const PUT_HEAD: usize = 45;
const DELETE_HEAD: usize = 17;

/// One record, borrowing from a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A key was put.
    Put(Put<'a>),
    /// A key was deleted.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Its place in the revision.
        sub: u32,
        /// When.
        rev: i64,
    },
    /// A lease was granted.
    Grant {
        /// Its id.
        id: i64,
        /// Its seconds.
        ttl: i64,
    },
    /// A lease ended; the deletions of its keys are records of their own beside this one.
    Revoke {
        /// Its id.
        id: i64,
    },
    /// History below was given up.
    Compact {
        /// The oldest revision kept.
        rev: i64,
    },
    /// The log goes on in the next segment.
    End,
    /// Nothing; shows that what is before was synced.
    Seal,
    /// The start of a base.
    BaseHead {
        /// The state is as of this revision.
        rev: i64,
        /// The oldest revision kept when it was written.
        compacted: i64,
        /// The sequence of the first frame that follows it in the log.
        next_seq: u64,
    },
    /// The end of a base.
    BaseFoot {
        /// How many puts it has.
        puts: u64,
    },
}

/// A put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Put<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) sub: u32,
    pub(crate) rev: i64,
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// Appends a record; for a put returns where in `out` its value's CRC is.
pub(crate) fn encode(record: Record<'_>, out: &mut Vec<u8>) -> usize {
    match record {
        Record::Put(put) => {
            out.push(PUT);
            // A request is far below 4 GiB, so lengths fit.
            out.extend_from_slice(&(put.key.len() as u32).to_le_bytes());
            out.extend_from_slice(&(put.value.len() as u32).to_le_bytes());
            out.extend_from_slice(&put.sub.to_le_bytes());
            for field in [put.rev, put.create, put.version, put.lease] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(put.key);
            let at = out.len();
            out.extend_from_slice(&crc32fast::hash(put.value).to_le_bytes());
            out.extend_from_slice(put.value);
            return at;
        }
        Record::Delete { key, sub, rev } => {
            out.push(DELETE);
            out.extend_from_slice(&(key.len() as u32).to_le_bytes());
            out.extend_from_slice(&sub.to_le_bytes());
            out.extend_from_slice(&rev.to_le_bytes());
            out.extend_from_slice(key);
        }
        Record::Grant { id, ttl } => numbers(out, GRANT, &[id as u64, ttl as u64]),
        Record::Revoke { id } => numbers(out, REVOKE, &[id as u64]),
        Record::Compact { rev } => numbers(out, COMPACT, &[rev as u64]),
        Record::End => out.push(END),
        Record::Seal => out.push(SEAL),
        Record::BaseHead { rev, compacted, next_seq } => {
            numbers(out, BASE_HEAD, &[rev as u64, compacted as u64, next_seq]);
        }
        Record::BaseFoot { puts } => numbers(out, BASE_FOOT, &[puts]),
    }
    out.len()
}

fn numbers(out: &mut Vec<u8>, kind: u8, fields: &[u64]) {
    out.push(kind);
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
}

/// The records of a payload, each with the offset in the payload of its value's CRC (for a put).
///
/// The payload's checksum was right, so a record that does not parse was written by a newer version, or by a bug; it
/// ends the iteration with an `Err` of its offset.
pub(crate) struct Records<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.payload.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    fn parse(&mut self) -> Option<(Record<'a>, usize)> {
        let kind = self.take(1)?[0];
        let int = |bytes: &[u8], at: usize| u64_at(bytes, at) as i64;
        let record = match kind {
            PUT => {
                let head = self.take(PUT_HEAD - 1)?;
                let key = self.take(u32_at(head, 0) as usize)?;
                let at = self.at;
                let crc = self.take(4)?;
                let value = self.take(u32_at(head, 4) as usize)?;
                let put = Put {
                    key,
                    value,
                    sub: u32_at(head, 8),
                    rev: int(head, 12),
                    create: int(head, 20),
                    version: int(head, 28),
                    lease: int(head, 36),
                };
                // The frame's checksum covers this one too; it only has to be the value's.
                return (crc.len() == 4).then_some((Record::Put(put), at));
            }
            DELETE => {
                let head = self.take(DELETE_HEAD - 1)?;
                let key = self.take(u32_at(head, 0) as usize)?;
                Record::Delete { key, sub: u32_at(head, 4), rev: int(head, 8) }
            }
            GRANT => {
                let fields = self.take(16)?;
                Record::Grant { id: int(fields, 0), ttl: int(fields, 8) }
            }
            REVOKE => Record::Revoke { id: int(self.take(8)?, 0) },
            COMPACT => Record::Compact { rev: int(self.take(8)?, 0) },
            END => Record::End,
            SEAL => Record::Seal,
            BASE_HEAD => {
                let fields = self.take(24)?;
                Record::BaseHead { rev: int(fields, 0), compacted: int(fields, 8), next_seq: u64_at(fields, 16) }
            }
            BASE_FOOT => Record::BaseFoot { puts: u64_at(self.take(8)?, 0) },
            _ => return None,
        };
        Some((record, self.at))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Record<'a>, usize), usize>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let start = self.at;
        let item = self.parse().ok_or(start);
        if item.is_err() {
            self.at = self.payload.len();
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of record comes back as it went in, and no cut of the bytes makes the reader panic.
    #[test]
    fn records_survive_the_way_to_disk() {
        let put = Put { key: b"k", value: b"vv", sub: 3, rev: 9, create: 7, version: 2, lease: -5 };
        let all = [
            Record::Put(put),
            Record::Delete { key: b"gone", sub: 1, rev: 10 },
            Record::Grant { id: -1, ttl: 60 },
            Record::Revoke { id: 4 },
            Record::Compact { rev: 8 },
            Record::End,
            Record::Seal,
            Record::BaseHead { rev: 1, compacted: 2, next_seq: 3 },
            Record::BaseFoot { puts: 4 },
        ];
        let mut bytes = Vec::new();
        let crc_at = encode(all[0], &mut bytes);
        all[1..].iter().for_each(|record| {
            encode(*record, &mut bytes);
        });
        let read: Vec<_> = Records::new(&bytes).map(|item| item.expect("parses")).collect();
        assert_eq!(read.iter().map(|(record, _)| *record).collect::<Vec<_>>(), all);
        assert_eq!(read[0].1, crc_at);
        assert_eq!(u32_at(&bytes, crc_at), crc32fast::hash(b"vv"));
        for cut in 0..bytes.len() {
            assert!(Records::new(&bytes[..cut]).count() <= all.len());
        }
    }
}
