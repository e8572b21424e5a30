//! Sets of files: checked before they are placed, placed whole or not at all, kept, and put back.

use crate::bench::{Bench, skipped};
use crate::disk::SmallDisk;
use regrow_model::action::{File, Tell};
use regrow_model::observed::{Inputs, Stage, WorldError, WorldErrorKind};
use regrow_model::{Action, Digest, Name, Outcome};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn template() -> Name {
    Name::new("haproxy").unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of([text.as_bytes()])
}

fn file(destination: &Path, content: &str) -> File {
    File { destination: destination.display().to_string(), content: content.into(), mode: 0o640, owner: None }
}

fn install(set: &str, files: Vec<File>, check: &[&str]) -> Action {
    Action::Install {
        template: template(),
        digest: digest(set),
        files,
        inputs: Inputs::default(),
        last_good: None,
        check: check.iter().map(|word| (*word).to_owned()).collect(),
        directory: "/".to_owned(),
    }
}

fn failed(outcome: Outcome) -> (Stage, WorldError) {
    match outcome {
        Outcome::Failed { stage: Some(stage), error } => (stage, error),
        other => panic!("not failed: {other:?}"),
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Shows that a set is placed with its modes and owners, in folders that are made for it, and leaves nothing beside it.
#[tokio::test]
async fn places_a_set() {
    let bench = Bench::new();
    let folder = bench.data().join("etc/deep");
    let mut owned = file(&folder.join("b.map"), "bb");
    owned.owner = Some("65534:65533".to_owned());
    owned.mode = 0o604;
    let as_root = nix::unistd::geteuid().is_root();
    if !as_root {
        skipped("places_a_set", "the owner, which only root can give away");
        owned.owner = None;
    }
    let files = vec![file(&folder.join("a.cfg"), "aa"), owned];
    assert_eq!(bench.world().act(&install("1", files, &[])).await, Outcome::Installed);
    assert_eq!(names(&folder), ["a.cfg", "b.map"]);
    assert_eq!((read(&folder.join("a.cfg")), read(&folder.join("b.map"))), ("aa".to_owned(), "bb".to_owned()));
    let placed = fs::metadata(folder.join("b.map")).unwrap();
    assert_eq!(placed.permissions().mode() & 0o7777, 0o604);
    if as_root {
        assert_eq!((placed.uid(), placed.gid()), (65534, 65533));
    }
    let kept = bench.world().kept_set(&template(), &digest("1")).unwrap();
    assert_eq!(kept.iter().map(|text| &**text).collect::<Vec<_>>(), ["aa", "bb"]);
    assert_eq!(bench.world().kept_set(&template(), &digest("2")), None);
}

/// Shows that the check sees the staged files before anything is placed, and that its refusal changes nothing.
#[tokio::test]
async fn a_refused_set_touches_nothing() {
    let bench = Bench::new();
    let path = bench.data().join("a.cfg");
    let check = ["sh", "-c", "grep -q good $0 || { echo \"$0 is bad\"; exit 3; }", "{staged}"];
    assert_eq!(bench.world().act(&install("1", vec![file(&path, "good")], &check)).await, Outcome::Installed);
    let before = fs::metadata(&path).unwrap().ino();
    let (stage, error) = failed(bench.world().act(&install("2", vec![file(&path, "other")], &check)).await);
    assert_eq!((stage, error.kind), (Stage::Check, WorldErrorKind::Refused));
    assert!(error.text.contains("exited with code 3") && error.text.contains("a.cfg is bad"), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().ino(), before, "not even written again");
    assert_eq!(bench.world().kept_set(&template(), &digest("2")), None);
    let (stage, error) = failed(bench.world().act(&install("2", vec![file(&path, "x")], &["no-such-check"])).await);
    assert_eq!((stage, error.kind), (Stage::Check, WorldErrorKind::NotFound));
}

/// Shows that a set of which one file cannot be placed places none: those before it are taken back.
#[tokio::test]
async fn all_or_none() {
    let bench = Bench::new();
    let (one, new, folder) = (bench.data().join("one"), bench.data().join("new"), bench.data().join("folder"));
    fs::write(&one, "old").unwrap();
    fs::create_dir(&folder).unwrap();
    let files = vec![file(&one, "1"), file(&new, "1"), file(&folder, "1")];
    let (stage, error) = failed(bench.world().act(&install("1", files, &[])).await);
    assert_eq!(stage, Stage::Write);
    assert!(error.text.ends_with("folder: it is a folder"), "{error}");
    assert_eq!(read(&one), "old");
    assert!(!new.exists());
    assert!(!names(&bench.data()).iter().any(|name| name.contains(".regrow-")), "{:?}", names(&bench.data()));
}

/// Shows that the renames before one that fails are taken back: to what was there, or to nothing.
#[tokio::test]
async fn renames_are_taken_back() {
    let bench = Bench::new();
    let (one, new, fixed) = (bench.data().join("one"), bench.data().join("new"), bench.data().join("fixed"));
    fs::write(&one, "old").unwrap();
    fs::write(&fixed, "old").unwrap();
    // Immutable: not even root may replace it, and only the rename finds out.
    let chattr = |flag: &str| std::process::Command::new("chattr").arg(flag).arg(&fixed).output();
    match chattr("+i") {
        Ok(ran) if ran.status.success() => {}
        other => return skipped("renames_are_taken_back", &format!("cannot make a file immutable: {other:?}")),
    }
    let files = vec![file(&one, "1"), file(&new, "1"), file(&fixed, "1")];
    let outcome = bench.world().act(&install("1", files, &[])).await;
    chattr("-i").unwrap();
    let (stage, error) = failed(outcome);
    assert_eq!((stage, error.kind), (Stage::Write, WorldErrorKind::Permission), "{error}");
    assert_eq!((read(&one), new.exists(), read(&fixed)), ("old".to_owned(), false, "old".to_owned()));
    assert!(!names(&bench.data()).iter().any(|name| name.contains(".regrow-")), "{:?}", names(&bench.data()));
}

/// Shows that an unknown owner is named before anything is placed.
#[tokio::test]
async fn unknown_owner() {
    let bench = Bench::new();
    let path = bench.data().join("a.cfg");
    let wrong = File { owner: Some("nobody-here".to_owned()), ..file(&path, "x") };
    let (stage, error) = failed(bench.world().act(&install("1", vec![wrong], &[])).await);
    assert_eq!((stage, error.kind), (Stage::Write, WorldErrorKind::NotFound));
    assert!(error.text.contains("there is no user `nobody-here`"), "{error}");
    assert!(!path.exists());
}

/// Shows that a kept set is put back whole, and that one which is not kept is refused by name.
#[tokio::test]
async fn restores() {
    let bench = Bench::new();
    let path = bench.data().join("a.cfg");
    for set in ["1", "2"] {
        assert_eq!(bench.world().act(&install(set, vec![file(&path, set)], &[])).await, Outcome::Installed);
    }
    let restore = |set| Action::Restore {
        template: template(),
        digest: digest(set),
        tell: Tell::Nobody,
        directory: "/".to_owned(),
    };
    assert!(matches!(bench.world().act(&restore("1")).await, Outcome::Loaded { .. }));
    assert_eq!(read(&path), "1");
    let (stage, error) = failed(bench.world().act(&restore("9")).await);
    assert_eq!((stage, error.kind), (Stage::Write, WorldErrorKind::NotFound));
    assert_eq!(read(&path), "1");
}

/// Shows that old sets go, but never the loaded one, however many fail after it.
#[tokio::test]
async fn keeps_the_loaded_set() {
    let bench = Bench::new();
    let path = bench.data().join("a.cfg");
    for set in 0..20 {
        let set = set.to_string();
        assert_eq!(bench.world().act(&install(&set, vec![file(&path, &set)], &[])).await, Outcome::Installed);
        if set == "3" {
            let load = Action::Load {
                template: template(),
                digest: digest(&set),
                tell: Tell::Nobody,
                probe: None,
                directory: "/".to_owned(),
            };
            assert!(matches!(bench.world().act(&load).await, Outcome::Loaded { .. }));
        }
    }
    let kept: Vec<i32> =
        (0..20).filter(|set| bench.world().kept_set(&template(), &digest(&set.to_string())).is_some()).collect();
    assert_eq!(kept, [3, 15, 16, 17, 18, 19]);
}

/// Shows that a kept set which somebody changed is neither given out nor put in place.
#[tokio::test]
async fn a_changed_kept_set_is_none() {
    let bench = Bench::new();
    let path = bench.data().join("a.cfg");
    bench.world().act(&install("1", vec![file(&path, "good")], &[])).await;
    fs::write(sets(&bench).join(digest("1").to_string()).join("0"), "evil").unwrap();
    assert_eq!(bench.world().kept_set(&template(), &digest("1")), None);
    // Installed again it is whole again.
    bench.world().act(&install("1", vec![file(&path, "good")], &[])).await;
    assert!(bench.world().kept_set(&template(), &digest("1")).is_some());
}

/// Shows that old sets go and the record's last good one stays, though the node remembers no load of it.
#[tokio::test]
async fn the_last_good_set_stays_kept() {
    let bench = Bench::new();
    let path = bench.data().join("a.cfg");
    for set in 1..=9 {
        let mut action = install(&set.to_string(), vec![file(&path, &set.to_string())], &[]);
        let Action::Install { last_good, .. } = &mut action else { unreachable!() };
        *last_good = Some(digest("1"));
        assert_eq!(bench.world().act(&action).await, Outcome::Installed);
    }
    assert!(bench.world().kept_set(&template(), &digest("1")).is_some());
    assert_eq!(bench.world().kept_set(&template(), &digest("2")), None);
}

/// Shows that a swap which a crash cut short between two renames is completed by the next agent.
#[tokio::test]
async fn a_cut_swap_is_completed() {
    let mut bench = Bench::new();
    let (one, two) = (bench.data().join("one"), bench.data().join("two"));
    let set = |text: &str| vec![file(&one, text), file(&two, text)];
    bench.world().act(&install("new", set("new"), &[])).await;
    bench.world().act(&install("old", set("old"), &[])).await;
    // As a crash leaves it: the journal names the set that is coming, one file has come, one waits.
    fs::write(bench.data().join("templates/haproxy/journal.json"), format!("\"{}\"", digest("new"))).unwrap();
    fs::write(&one, "new").unwrap();
    fs::write(bench.data().join(".two.regrow-new"), "ne").unwrap();
    fs::write(bench.data().join(".two.regrow-old"), "old").unwrap();
    bench.reopen();
    assert_eq!((read(&one), read(&two)), ("new".to_owned(), "new".to_owned()));
    assert!(!bench.data().join("templates/haproxy/journal.json").exists());
    assert!(!names(&bench.data()).iter().any(|name| name.contains(".regrow-")), "{:?}", names(&bench.data()));
}

/// Shows that a full disk is named, leaves the good file as it is, and is over when there is room.
#[tokio::test]
async fn full_disk() {
    let Some(disk) = SmallDisk::new("full_disk") else { return };
    // Once where Regrow keeps its own, once where the files go.
    for bench in [Bench::new(), Bench::in_folder(disk.folder())] {
        let path = disk.path().join("a.cfg");
        assert_eq!(bench.world().act(&install("1", vec![file(&path, "good")], &[])).await, Outcome::Installed);
        disk.fill();
        let large = "x".repeat(64 << 10);
        let (stage, error) = failed(bench.world().act(&install("2", vec![file(&path, &large)], &["true"])).await);
        assert_eq!((stage, error.kind), (Stage::Write, WorldErrorKind::DiskFull), "{error}");
        assert_eq!(read(&path), "good");
        assert_eq!(names(disk.path()).iter().filter(|name| name.contains(".regrow-")).count(), 0);
        disk.free();
        assert_eq!(bench.world().act(&install("2", vec![file(&path, &large)], &["true"])).await, Outcome::Installed);
        assert_eq!(read(&path), large);
    }
}

fn sets(bench: &Bench) -> PathBuf {
    bench.data().join("templates/haproxy/sets")
}
