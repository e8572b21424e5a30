//! Reads Redis snapshots (RDB), as files or as the first part of a replication stream.
//!
//! Flow: [`Reader::next_record`] gives one record after another. A key of up to [`Reader::whole_bytes_max`] bytes comes with its
//! value as the server wrote it, which [`dump`] turns into what `RESTORE` takes: nothing is decoded, so nothing can be lost.
//! A longer value is decoded piece by piece ([`Reader::pieces`], [`Piece`]), so that memory stays bounded.
//!
//! Guarantees: what is cut off or damaged is named, with the place in the snapshot and the key; no length in a snapshot makes
//! us allocate before the bytes have come; nothing panics. The checksum at the end is checked when the snapshot has one: a
//! reader must not treat what it has read as good before [`Reader::next_record`] has given `None`.
//!
//! Versions: 1 to 11 (Redis 2.4 to 7.2). Types that came later are refused by name.
//! Source: Redis' `rdb.c`, `rdb.h`, `listpack.c`, `ziplist.c`, `zipmap.c`, `intset.c`, `t_stream.c`.

mod crc64;
mod error;
mod input;
mod listpack;
mod lzf;
mod packed;
mod reader;
mod stream;
mod value;
mod ziplist;

pub use crc64::crc64;
pub use error::{Fault, RdbError};
pub use reader::{Key, Reader, Record, Value};
pub use stream::{StreamId, StreamPiece};
pub use value::{Kind, Piece, dump, pieces_of};
