//! Names of nodes, and the keys they are kept under.
//!
//! | node | key |
//! |---|---|
//! | the file `/a/b` | `/a/b` |
//! | the directory `/a/b`, made by etcd 2's interface | `/a/b/`, its marker: its value means nothing |
//! | the directory `/a/b`, implied | any key that begins with `/a/b/` |
//!
//! A key that does not begin with `/`, has an empty part (`//`), a part `.` or `..`, or more than
//! [`DEPTH_MAX`] parts is not seen.

use std::fmt;

use bytes::Bytes;
use regrow_store::KeyRange;

use super::super::limits::V2_DEPTH_MAX as DEPTH_MAX;

/// The name of a node: empty for the root, else `/a/b`, clean.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Bytes);

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The key of a file.
    File(Path),
    /// The marker of a directory.
    Marker(Path),
}

impl Path {
    /// The root.
    pub(super) fn root() -> Self {
        Self(Bytes::new())
    }

    /// A name as clients write it: empty parts and `.` are left out, `..` takes the part before away. `None` if it is
    /// too deep.
    pub(super) fn clean(text: &[u8]) -> Option<Self> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in text.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        if parts.len() > DEPTH_MAX {
            return None;
        }
        let mut name = Vec::with_capacity(text.len() + 1);
        for part in parts {
            name.push(b'/');
            name.extend_from_slice(part);
        }
        Some(Self(name.into()))
    }

    /// The node that a key stands for, if it is seen.
    pub(super) fn of(key: &Bytes) -> Option<Seen> {
        let name = match key.strip_suffix(b"/") {
            Some(name) if !name.is_empty() => key.slice(..name.len()),
            _ => key.clone(),
        };
        let mut parts = name.split(|byte| *byte == b'/');
        if parts.next() != Some(&b""[..]) {
            return None;
        }
        let mut depth = 0;
        for part in parts {
            depth += 1;
            if matches!(part, b"" | b"." | b"..") || depth > DEPTH_MAX {
                return None;
            }
        }
        match (depth, name.len() == key.len()) {
            (0, _) => None,
            (_, true) => Some(Seen::File(Self(name))),
            (_, false) => Some(Seen::Marker(Self(name))),
        }
    }

    /// A node in this directory.
    pub(super) fn child(&self, part: &[u8]) -> Self {
        Self([&self.0[..], b"/", part].concat().into())
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of the file of this name.
    pub(super) fn key(&self) -> Bytes {
        self.0.clone()
    }

    /// The key that says that the directory is there.
    pub(super) fn marker(&self) -> Bytes {
        [&self.0[..], b"/"].concat().into()
    }

    /// The marker and everything beneath.
    pub(super) fn beneath(&self) -> KeyRange {
        KeyRange::new(self.marker(), self.after())
    }

    /// Everything beneath, without the marker.
    pub(super) fn inside(&self) -> KeyRange {
        KeyRange::new([&self.0[..], b"/\0"].concat(), self.after())
    }

    /// The first key after everything beneath.
    pub(super) fn after(&self) -> Bytes {
        [&self.0[..], b"0"].concat().into()
    }

    /// The directories on the way to this node, the topmost first, without the root.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = Path> + '_ {
        let slashes = self.0.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| Self(self.0.slice(..at)))
    }

    /// Whether `other` lies beneath this node.
    pub(super) fn is_above(&self, other: &Path) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0) && other.0[self.0.len()] == b'/'
    }

    /// The parts of `other` beneath this node.
    pub(super) fn parts_to(&self, other: &Path) -> Vec<Bytes> {
        let rest = other.0.slice(self.0.len()..);
        let parts = rest.split(|byte| *byte == b'/').skip(1);
        parts.map(|part| rest.slice_ref(part)).collect()
    }

    /// Whether `other`, beneath this node, is not told to who looks at this one: a part on the way begins with `_`.
    pub(super) fn hides(&self, other: &Path) -> bool {
        self.is_above(other) && self.parts_to(other).iter().any(|part| part.starts_with(b"_"))
    }

    /// As clients see it. What is not UTF-8 is replaced: JSON knows nothing else.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { f.write_str(&self.text()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::clean(text.as_bytes()).expect("not too deep")
    }

    /// Names are cleaned as Go's `path.Join` does.
    #[test]
    fn names_are_cleaned() {
        for (text, expect) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("//a//b/", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/…/ä b", "/…/ä b"),
        ] {
            assert_eq!(path(text).to_string(), expect, "{text}");
        }
        assert!(Path::clean("/a".repeat(DEPTH_MAX).as_bytes()).is_some());
        assert!(Path::clean("/a".repeat(DEPTH_MAX + 1).as_bytes()).is_none());
    }

    /// Keys and nodes belong together, and keys that no name leads to are not seen.
    #[test]
    fn keys_stand_for_nodes() {
        let of = |key: &str| Path::of(&Bytes::copy_from_slice(key.as_bytes()));
        for name in ["/a", "/a/b", "/_a/b c"] {
            assert_eq!(of(name), Some(Seen::File(path(name))));
            assert_eq!(of(&format!("{name}/")), Some(Seen::Marker(path(name))));
            assert_eq!((path(name).key(), path(name).marker()), (name.to_owned().into(), format!("{name}/").into()));
        }
        let deep = "/a".repeat(DEPTH_MAX + 1);
        for unseen in ["", "/", "a", "a/b", "//", "//a", "/a//", "/a//b", "/a/./b", "/a/..", "\0", &deep] {
            assert_eq!(of(unseen), None, "{unseen:?}");
        }
    }

    /// Who is above whom, and what lies between.
    #[test]
    fn names_form_a_tree() {
        let (top, deep, beside) = (path("/a"), path("/a/b/c"), path("/a-b"));
        assert!(top.is_above(&deep) && Path::root().is_above(&top) && !top.is_above(&top));
        assert!(!top.is_above(&beside) && !deep.is_above(&top));
        assert_eq!(top.parts_to(&deep), ["b", "c"]);
        assert_eq!(deep.ancestors().collect::<Vec<_>>(), [path("/a"), path("/a/b")]);
        assert!(
            top.beneath().contains(b"/a/") && top.beneath().contains(b"/a/b/c") && !top.beneath().contains(b"/a-b")
        );
        assert!(!top.inside().contains(b"/a/") && top.inside().contains(b"/a/b"));
        for (from, to, expect) in [
            ("/", "/_a", true),
            ("/", "/a/_b/c", true),
            ("/_a", "/_a/b", false),
            ("/a", "/a/b_", false),
            ("/a", "/a", false),
        ] {
            assert_eq!(path(from).hides(&path(to)), expect, "{from} {to}");
        }
    }
}
