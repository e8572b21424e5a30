//! Writing a bbolt database from front to back, without going back and without holding it.
//!
//! **Shape** (all little-endian; pages of 4 KiB, one after the other, a long one takes several numbers):
//! - page: number u64, flags u16, count u16, further pages u32; then elements; then keys and values.
//! - element of a branch: place of the key u32, its length u32, page u64. Of a leaf: flags u32, place of the key u32,
//!   lengths of key and value u32 each. A place counts from the start of its element.
//! - pages 0 and 1: meta. 2: the list of free pages, empty. 3: the root, a leaf of buckets, each with its own root's
//!   page u64 and a sequence u64. Then the buckets' trees.
//!
//! The meta names pages at the end of the file, so sizes must be known first: [`Plan`] goes through the items once and
//! cuts them into leaves as [`Tree`] will. A branch has a fixed number of children, so their count follows.
//!
//! **Memory**: one leaf, which is as long as its longest item, and one branch for each level.
//!
//! Source: the file format of go.etcd.io/bbolt 1.3, `page.go`, `db.go` (`meta`), `bucket.go`.

/// Bytes of a page: what bbolt takes on most machines; it reads the size from the meta.
pub(crate) const PAGE_BYTES: usize = 4096;

const PAGE_HEAD: usize = 16;
const ELEMENT: usize = 16;
const BUCKET_VALUE: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREE: u16 = 0x10;
const BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// The longest key in a tree of more than one leaf: a revision of etcd with the mark of a deletion.
const BRANCH_KEY_MAX: usize = 18;

/// Children of a branch: as many as fit if all keys are of the longest kind.
const CHILDREN: usize = (PAGE_BYTES - PAGE_HEAD) / (ELEMENT + BRANCH_KEY_MAX);

/// The pages before the first tree: two metas, the free list, the root.
pub(crate) const FIRST_TREE: u64 = 4;

/// The size of a tree, found before it is written: the same items in the same order give the same pages.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Plan {
    leaves: u64,
    /// Of closed leaves.
    pages: u64,
    open: usize,
}

impl Plan {
    /// Adds an item of these lengths.
    pub(crate) fn push(&mut self, key: usize, value: usize) {
        let item = ELEMENT + key + value;
        if self.open > 0 && self.open + item > PAGE_BYTES {
            self.close();
        }
        self.open = self.open.max(PAGE_HEAD) + item;
    }

    /// The pages of the whole tree.
    pub(crate) fn finish(mut self) -> u64 {
        if self.open > 0 || self.leaves == 0 {
            self.close();
        }
        let mut level = self.leaves;
        while level > 1 {
            level = level.div_ceil(CHILDREN as u64);
            self.pages += level;
        }
        self.pages
    }

    fn close(&mut self) {
        self.leaves += 1;
        self.pages += pages(self.open);
        self.open = 0;
    }
}

fn pages(bytes: usize) -> u64 {
    bytes.max(1).div_ceil(PAGE_BYTES) as u64
}

/// A tree being written, in order of its keys.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The number of the page that comes next.
    next: u64,
    leaf: Leaf,
    levels: Vec<Vec<Child>>,
}

#[derive(Debug, Default)]
struct Leaf {
    elements: Vec<(u32, usize, usize)>,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Child {
    key: Vec<u8>,
    page: u64,
}

impl Tree {
    /// A tree whose first page is `next`.
    pub(crate) fn new(next: u64) -> Self {
        Self { next, leaf: Leaf::default(), levels: Vec::new() }
    }

    /// Adds an item whose key is greater than all before.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if !self.leaf.elements.is_empty() && self.leaf.bytes() + ELEMENT + key.len() + value.len() > PAGE_BYTES {
            self.close(out);
        }
        self.leaf.push(0, key, value);
    }

    /// Writes what is still held; returns the root's page, and the page after the tree.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) -> (u64, u64) {
        if !self.leaf.elements.is_empty() || self.levels.is_empty() {
            self.close(out);
        }
        let mut level = 0;
        loop {
            let is_root = level + 1 == self.levels.len() && self.levels[level].len() == 1;
            if is_root {
                return (self.levels[level][0].page, self.next);
            }
            self.branch(level, out);
            level += 1;
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let leaf = std::mem::take(&mut self.leaf);
        let key = leaf.elements.first().map_or(&[][..], |(_, key, _)| &leaf.data[..*key]).to_vec();
        let page = self.next;
        self.next += leaf.write(page, out);
        self.add(0, Child { key, page }, out);
    }

    /// Adds a child to a level; the level's branch is written when it is full and one more comes.
    fn add(&mut self, level: usize, child: Child, out: &mut Vec<u8>) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        if self.levels[level].len() == CHILDREN {
            self.branch(level, out);
        }
        self.levels[level].push(child);
    }

    fn branch(&mut self, level: usize, out: &mut Vec<u8>) {
        let children = std::mem::take(&mut self.levels[level]);
        let page = self.next;
        self.next += 1;
        let start = head(page, BRANCH, children.len(), 1, out);
        let mut place = children.len() * ELEMENT;
        for (at, child) in children.iter().enumerate() {
            out.extend_from_slice(&((place - at * ELEMENT) as u32).to_le_bytes());
            out.extend_from_slice(&(child.key.len() as u32).to_le_bytes());
            out.extend_from_slice(&child.page.to_le_bytes());
            place += child.key.len();
        }
        children.iter().for_each(|child| out.extend_from_slice(&child.key));
        out.resize(start + PAGE_BYTES, 0);
        let key = children.into_iter().next().map(|child| child.key).unwrap_or_default();
        self.add(level + 1, Child { key, page }, out);
    }
}

impl Leaf {
    fn bytes(&self) -> usize {
        PAGE_HEAD + self.elements.len() * ELEMENT + self.data.len()
    }

    fn push(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        self.elements.push((flags, key.len(), value.len()));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn write(&self, page: u64, out: &mut Vec<u8>) -> u64 {
        let pages = pages(self.bytes());
        let start = head(page, LEAF, self.elements.len(), pages, out);
        let mut place = self.elements.len() * ELEMENT;
        for (at, (flags, key, value)) in self.elements.iter().enumerate() {
            for field in [*flags, (place - at * ELEMENT) as u32, *key as u32, *value as u32] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            place += key + value;
        }
        out.extend_from_slice(&self.data);
        out.resize(start + pages as usize * PAGE_BYTES, 0);
        pages
    }
}

/// What comes before the trees. `buckets`: names in ascending order with the pages of their roots; `pages`: how many
/// the whole file has; `transaction`: the number that the last write to the database would have had.
pub(crate) fn front(buckets: &[(&str, u64)], pages: u64, transaction: u64, out: &mut Vec<u8>) {
    for page in [0, 1] {
        let start = head(page, META, 0, 1, out);
        // The newer of the two counts; bbolt writes them in turn.
        meta(pages, transaction + page, out);
        out.resize(start + PAGE_BYTES, 0);
    }
    let start = head(2, FREE, 0, 1, out);
    out.resize(start + PAGE_BYTES, 0);
    let mut root = Leaf::default();
    for (name, page) in buckets {
        let mut value = [0; BUCKET_VALUE];
        value[..8].copy_from_slice(&page.to_le_bytes());
        root.push(BUCKET, name.as_bytes(), &value);
    }
    root.write(3, out);
}

fn meta(pages: u64, transaction: u64, out: &mut Vec<u8>) {
    let start = out.len();
    for field in [MAGIC, VERSION, PAGE_BYTES as u32, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    // The root's page and sequence, the free list's page, the page after the last, the transaction.
    for field in [3, 0, 2, pages, transaction] {
        out.extend_from_slice(&u64::to_le_bytes(field));
    }
    let checksum = fnv(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// FNV-1a, 64 bits. Source: draft-eastlake-fnv.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Writes the head of a page; returns where the page starts.
fn head(page: u64, flags: u16, count: usize, pages: u64, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&page.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    // A page of 4 KiB has at most 255 elements, a longer one has one.
    out.extend_from_slice(&(count as u16).to_le_bytes());
    out.extend_from_slice(&(pages as u32 - 1).to_le_bytes());
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is planned is what is written, for few and many items, short and long ones, and the root is the last page
    /// of its tree.
    #[test]
    fn trees_are_as_large_as_planned() {
        for (items, value) in [(0, 0), (1, 10), (1, 5000), (3, 4000), (200, 100), (20_000, 300), (700, 9000)] {
            let (mut plan, mut tree, mut out) = (Plan::default(), Tree::new(FIRST_TREE), Vec::new());
            for item in 0..items {
                // Values of many lengths, some of none.
                let value = vec![b'v'; value * (item % 7) / 3];
                let key = format!("{item:017}");
                plan.push(key.len(), value.len());
                tree.push(key.as_bytes(), &value, &mut out);
            }
            let (root, next) = tree.finish(&mut out);
            assert_eq!(next - FIRST_TREE, plan.finish(), "{items} items");
            assert_eq!(out.len() as u64, (next - FIRST_TREE) * PAGE_BYTES as u64, "{items} items");
            let at = (root - FIRST_TREE) as usize * PAGE_BYTES;
            assert_eq!(out[at..at + 8], root.to_le_bytes(), "{items} items");
        }
    }
}
