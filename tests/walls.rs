//! The walls of the house: which crate may know which, and that pure crates touch nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may depend on whom among our own crates: one way, and nothing on the binary. `sim` is for tests.
const MAY_KNOW: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("gossip", &["model"]),
    ("store", &["model"]),
    ("control", &["model"]),
    ("effects", &["model", "control"]),
    ("serve", &["model", "control", "store", "gossip"]),
    ("redis", &[]),
    ("jobs", &["model", "control", "store", "redis"]),
    ("sim", &["model", "control", "gossip", "store"]),
    ("regrow", &["model", "control", "effects", "serve", "store", "gossip", "redis", "jobs"]),
];

/// Crates that read no clock, no randomness, no environment, no file and no socket.
const PURE: [&str; 3] = ["model", "gossip", "control"];

/// What a pure crate's sources may not name, and why.
const BANNED: [(&str, &str); 13] = [
    ("std::fs", "files"),
    ("std::net::Tcp", "sockets"),
    ("std::net::Udp", "sockets"),
    ("std::env", "the environment"),
    ("std::process::", "processes"),
    ("std::thread", "threads"),
    ("std::io::std", "standard streams"),
    ("SystemTime", "the clock"),
    ("Instant", "the clock"),
    ("HashMap", "unordered maps"),
    ("HashSet", "unordered maps"),
    ("tokio::", "the runtime"),
    ("getrandom", "randomness"),
];

/// Crates that a pure crate may not depend on.
const BANNED_CRATES: [&str; 8] = ["tokio", "rand", "getrandom", "hyper", "axum", "rustix", "nix", "mio"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/").to_path_buf()
}

fn dependencies(krate: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(crates().join(krate).join("Cargo.toml")).expect("its manifest");
    let mut in_dependencies = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line == "[dependencies]";
        } else if in_dependencies && !line.trim_start().starts_with('#') {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
            if !name.is_empty() {
                names.insert(name);
            }
        }
    }
    names
}

fn sources(folder: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            all.insert(path, text);
        }
    }
}

#[test]
fn every_crate_is_in_the_table() {
    let mut found: Vec<String> = std::fs::read_dir(crates())
        .expect("crates/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut known: Vec<String> = MAY_KNOW.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn dependencies_point_one_way() {
    for (krate, may_know) in MAY_KNOW {
        for dependency in dependencies(krate) {
            if let Some(other) = dependency.strip_prefix("regrow-") {
                assert!(may_know.contains(&other), "{krate} may not depend on {other}");
            }
            assert_ne!(dependency, "regrow", "{krate} depends on the binary");
        }
    }
}

#[test]
fn pure_crates_touch_nothing() {
    for krate in PURE {
        for dependency in dependencies(krate) {
            assert!(!BANNED_CRATES.contains(&dependency.as_str()), "{krate} is pure and may not use {dependency}");
        }
        let mut all = BTreeMap::new();
        sources(&crates().join(krate).join("src"), &mut all);
        assert!(!all.is_empty(), "{krate} has sources");
        for (path, text) in all {
            // What stands behind `#[cfg(test)]` at the end of a file is not part of the crate.
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text);
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or(line);
                for (banned, what) in BANNED {
                    assert!(
                        !line.contains(banned),
                        "{}:{}: {krate} is pure and may not use {what} ({banned})",
                        path.display(),
                        number + 1
                    );
                }
            }
        }
    }
}
