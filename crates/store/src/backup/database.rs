//! Reading a bbolt database whose checksum has been checked.
//!
//! Source: the file format of go.etcd.io/bbolt 1.3; see `snapshot/bolt.rs`, which writes it.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use sha2::{Digest, Sha256};

use super::{BackupError, Result};

const MAGIC: u32 = 0xED0C_DAED;
const PAGE_HEAD: u64 = 16;
const BUCKET_HEAD: usize = 16;
const SHA_BYTES: u64 = 32;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const IS_BUCKET: u32 = 0x01;

/// Branches above a leaf. With at least two children each, more would be more pages than a disk has.
const DEPTH_MAX: usize = 64;

/// Bytes of one page with those that it runs over into: etcd's largest request is far below.
const RUN_BYTES_MAX: u64 = 256 << 20;

/// Bytes read at once for the checksum.
const PIECE: usize = 1 << 20;

/// A database, open.
pub(super) struct Database {
    file: File,
    bytes: u64,
    sha256: String,
    page_bytes: u64,
    root: u64,
}

/// Where a value is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    at: u64,
    len: u32,
}

/// What is told of each item: key, value, and where the value is.
pub(super) type Each<'a> = dyn FnMut(&[u8], &[u8], Place) -> Result<()> + 'a;

/// The same with the item's flags.
type Item<'a> = dyn FnMut(u32, &[u8], &[u8], Place) -> Result<()> + 'a;

/// A page with those it runs over into, or one within a value.
struct Page {
    bytes: Vec<u8>,
    /// Where it is in the file.
    at: u64,
}

impl Database {
    /// Opens a file and checks its checksum; `progress` is told bytes read, and of how many.
    pub(super) fn open(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Database> {
        let file = File::open(path).map_err(BackupError::Read)?;
        let all = file.metadata().map_err(BackupError::Read)?.len();
        // As etcd tells a copy with a checksum from one without: a database is of whole sectors.
        if all % 512 != SHA_BYTES {
            return Err(damaged("it does not end with a checksum: it is cut off, or no snapshot"));
        }
        let bytes = all - SHA_BYTES;
        let sha256 = checked(&file, bytes, progress)?;
        let mut database = Database { file, bytes, sha256, page_bytes: 0, root: 0 };
        database.meta()?;
        Ok(database)
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + SHA_BYTES
    }

    /// The checksum in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        self.sha256.clone()
    }

    /// Every item of a bucket, in order of the keys; none where the bucket is not there.
    pub(super) fn each(&self, bucket: &[u8], each: &mut Each<'_>) -> Result<()> {
        let mut found = None;
        self.walk(self.root, 0, &mut self.room(), &mut |flags, key, value, place| {
            if flags & IS_BUCKET != 0 && key == bucket {
                found = Some((value.to_vec(), place));
            }
            Ok(())
        })?;
        let Some((head, place)) = found else { return Ok(()) };
        let root = u64_at(&head, 0)?;
        let mut each = |_: u32, key: &[u8], value: &[u8], place: Place| each(key, value, place);
        if root != 0 {
            return self.walk(root, 0, &mut self.room(), &mut each);
        }
        // A small bucket is a leaf within its own value.
        let bytes = head.get(BUCKET_HEAD..).ok_or_else(|| damaged("a bucket is cut off"))?.to_vec();
        leaf(&Page { bytes, at: place.at + BUCKET_HEAD as u64 }, &mut each)
    }

    /// A value again.
    pub(super) fn value(&self, place: Place) -> Result<Vec<u8>> {
        let mut value = vec![0; place.len as usize];
        self.file.read_exact_at(&mut value, place.at).map_err(BackupError::Read)?;
        Ok(value)
    }

    /// Finds the newer of the two metas that are whole.
    fn meta(&mut self) -> Result<()> {
        let first = self.read(0, 4096.min(self.bytes))?;
        let claimed = u64::from(u32_at(&first, PAGE_HEAD as usize + 8).unwrap_or(0));
        let mut newest = None;
        for page_bytes in [claimed, 4096, 8192, 16_384, 65_536] {
            if !(512..=1 << 20).contains(&page_bytes) {
                continue;
            }
            for at in [0, page_bytes] {
                let Ok(bytes) = self.read(at + PAGE_HEAD, 64) else { continue };
                let fields = |at| u64_at(&bytes, at);
                let whole = u32_at(&bytes, 0)? == MAGIC && fields(56)? == fnv(&bytes[..56]);
                if whole && u64::from(u32_at(&bytes, 8)?) == page_bytes {
                    newest = newest.max(Some((fields(48)?, page_bytes, fields(16)?)));
                }
            }
            if newest.is_some() {
                break;
            }
        }
        let (_, page_bytes, root) = newest.ok_or_else(|| damaged("it is no bbolt database"))?;
        (self.page_bytes, self.root) = (page_bytes, root);
        Ok(())
    }

    /// Pages that one walk may visit: more means that it goes in circles.
    fn room(&self) -> u64 {
        self.bytes / self.page_bytes
    }

    fn walk(&self, page: u64, depth: usize, room: &mut u64, each: &mut Item<'_>) -> Result<()> {
        *room = room.checked_sub(1).ok_or_else(|| damaged("its pages go in circles"))?;
        let page = self.page(page)?;
        match u16_at(&page.bytes, 8)? {
            LEAF => leaf(&page, each),
            BRANCH if depth < DEPTH_MAX => {
                let count = usize::from(u16_at(&page.bytes, 10)?);
                for at in 0..count {
                    let child = u64_at(&page.bytes, PAGE_HEAD as usize + 16 * at + 8)?;
                    self.walk(child, depth + 1, room, each)?;
                }
                Ok(())
            }
            _ => Err(damaged("a page is neither branch nor leaf")),
        }
    }

    fn page(&self, number: u64) -> Result<Page> {
        let at = number.checked_mul(self.page_bytes).ok_or_else(|| damaged("a page lies outside"))?;
        let head = self.read(at, PAGE_HEAD)?;
        let run = (u64::from(u32_at(&head, 12)?) + 1) * self.page_bytes;
        if u64_at(&head, 0)? != number || run > RUN_BYTES_MAX {
            return Err(damaged("a page is not what it says"));
        }
        Ok(Page { bytes: self.read(at, run)?, at })
    }

    fn read(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        if at.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err(damaged("a page lies outside"));
        }
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, at).map_err(BackupError::Read)?;
        Ok(bytes)
    }
}

fn leaf(page: &Page, each: &mut Item<'_>) -> Result<()> {
    let bytes = &page.bytes;
    if u16_at(bytes, 8)? != LEAF {
        return Err(damaged("a page is no leaf"));
    }
    for number in 0..usize::from(u16_at(bytes, 10)?) {
        let at = PAGE_HEAD as usize + 16 * number;
        let field = |place: usize| u32_at(bytes, at + 4 * place);
        let (flags, start, key, value) = (field(0)?, at + field(1)? as usize, field(2)? as usize, field(3)?);
        let cut = || damaged("an item lies outside its page");
        let end = start + key + value as usize;
        let item = bytes.get(start..end).ok_or_else(cut)?;
        let place = Place { at: page.at + (start + key) as u64, len: value };
        each(flags, &item[..key], &item[key..], place)?;
    }
    Ok(())
}

fn checked(file: &File, bytes: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < bytes {
        let some = (bytes - at).min(PIECE as u64) as usize;
        read_exact(file, &mut piece[..some], at)?;
        hasher.update(&piece[..some]);
        at += some as u64;
        progress(at, bytes);
    }
    let mut expected = [0; SHA_BYTES as usize];
    read_exact(file, &mut expected, bytes)?;
    let found = hasher.finalize();
    if found[..] != expected {
        return Err(damaged("its checksum is wrong: it was changed, or is not whole"));
    }
    Ok(found.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read_exact(file: &File, buffer: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it became shorter while it was read"),
        _ => BackupError::Read(error),
    })
}

pub(super) fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end));
    found.and_then(|found| found.try_into().ok()).ok_or_else(|| damaged("a page is cut off"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// FNV-1a, 64 bits. Source: draft-eastlake-fnv.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
