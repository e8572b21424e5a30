//! Keeps the data of a server or cluster in files, and brings it back.
//!
//! Flow of a backup: each master (or one server) gives its snapshot by the replication protocol ([`crate::replication`]), which
//! goes to a file; the file is read again from its first byte to its last ([`examine`]); what was found is in the [`Manifest`], which
//! is written last. Of a restore: manifest and files are examined before the first write; the keys go to the target, of any shape
//! ([`restore`]); they are compared with the files ([`compare`]).
//!
//! Guarantees: the files are snapshots as servers write and read them; what is damaged, missing or unfinished is named and never
//! restored in part; nothing of another backup is overwritten; expiries are kept to the millisecond. A backup of a cluster is
//! of each master at its own moment: keys of different masters may be some seconds apart.
//!
//! Layout: a folder of mode 0700 with `shard-<slots>.rdb` for each master and `manifest.json`, of mode 0600.

mod compare;
mod error;
mod examine;
mod manifest;
mod restore;
mod stream;
mod take;

pub use compare::Compared;
pub use error::BackupError;
pub use examine::{Found, examine};
pub use manifest::{MANIFEST, Manifest, ShardFile, utc};
pub use restore::{Checked, Progress, Restore, Restored, check};
pub use take::{Survey, survey, take};
