//! Output: kept within its bound, whatever the instance prints and whatever the disk does.

use crate::bench::{Bench, id, is_alive, process, sh, shim_of, until};
use crate::disk::SmallDisk;
use regrow_model::process::{LogKeep, Process};

/// Shows that a flood is bounded on disk, and that the newest lines are kept.
#[tokio::test]
async fn a_flood_is_bounded() {
    let bench = Bench::new();
    let keep = LogKeep { bytes: 64 << 10, files: 2 };
    // About 20 MB in lines of 40 bytes.
    let flood = "yes 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' | head -n 500000; echo the-last-one; exec sleep 1000";
    bench.started("web-0", 1, Process { logs: keep, ..sh(flood) }).await;
    bench.printed("web-0", "the-last-one").await;
    let files = bench.world().log_files(&id("web-0"));
    assert_eq!(files.len(), 3);
    let sizes: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
}

/// Shows that a line without end neither grows the shim nor is lost: it comes in pieces.
#[tokio::test]
async fn an_endless_line_comes_in_pieces() {
    let bench = Bench::new();
    bench.started("web-0", 1, sh("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo done; exec sleep 1000")).await;
    let all = bench.printed("web-0", "\"done\"").await;
    let pieces = all.lines().filter(|line| line.ends_with(r#","more":true}"#)).count();
    assert!(pieces > 10, "{pieces}");
    let shim = shim_of(&bench.data(), "web-0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.pid)).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 20_000, "the shim has needed {peak} KiB");
}

/// Shows that the reader gives the last lines first, and then what comes, across rotations, each line once.
#[tokio::test]
async fn reading_follows_rotation() {
    let bench = Bench::new();
    let keep = LogKeep { bytes: 4 << 10, files: 50 };
    let script = "i=0; while [ $i -lt 300 ]; do echo line-$i-; i=$((i+1)); [ $((i % 20)) -gt 0 ] || sleep 0.02; done; exec sleep 1000";
    bench.started("web-0", 1, Process { logs: keep, ..sh(script) }).await;
    bench.printed("web-0", "line-10-").await;
    let mut reader = bench.world().logs(&id("web-0"), 5).unwrap();
    let mut lines = reader.more().unwrap();
    let complete = |lines: &[String]| lines.last().is_some_and(|line| line.contains("line-299-"));
    until(
        || {
            lines.extend(reader.more().unwrap());
            complete(&lines).then_some(())
        },
        || "the last line".to_owned(),
    )
    .await;
    let number = |line: &String| -> Option<u32> { line.split("line-").nth(1)?.split('-').next()?.parse().ok() };
    let numbers: Vec<u32> = lines.iter().filter_map(number).collect();
    let expect: Vec<u32> = (numbers[0]..300).collect();
    assert_eq!(numbers, expect, "each once and in order");
    assert!(bench.world().log_files(&id("web-0")).len() > 3, "there was a rotation");
}

/// Shows that the tail asked for is exact, also across files.
#[tokio::test]
async fn tail_is_exact() {
    let mut bench = Bench::new();
    let keep = LogKeep { bytes: 4 << 10, files: 9 };
    bench.started("web-0", 1, Process { logs: keep, ..sh("for i in $(seq 200); do echo $i; sleep 0.001; done") }).await;
    bench.exited().await;
    bench.printed("web-0", "exited with code 0").await;
    let tail = |lines| {
        let mut reader = bench.world().logs(&id("web-0"), lines).unwrap();
        std::iter::from_fn(move || Some(reader.more().unwrap()).filter(|more| !more.is_empty())).flatten().count()
    };
    // One line of the start and one of the end besides.
    assert_eq!([tail(0), tail(1), tail(100), tail(202), tail(1000)], [0, 1, 100, 202, 202]);
}

/// Shows that a full disk stops neither the instance nor the note of how it ends, and that the lost lines are counted.
#[tokio::test]
async fn a_full_disk_stops_nothing() {
    let Some(disk) = SmallDisk::new("a_full_disk_stops_nothing") else { return };
    let mut bench = Bench::in_folder(disk.folder());
    let go = bench.data().join("instances/go");
    let script =
        format!("echo before; while [ ! -e {0} ]; do sleep 0.01; done; seq 100000; echo why >&2; exit 6", go.display());
    let started = bench.started("web-0", 1, sh(&script)).await;
    bench.printed("web-0", "before").await;
    disk.fill();
    // An empty file needs no block.
    std::fs::File::create(&go).unwrap();
    let (_, _, exit) = bench.exited().await;
    assert_eq!((exit.code, exit.tail.as_str()), (Some(6), "why"));
    assert!(!is_alive(started));
    disk.free();
    bench.started("web-0", 2, process(&["sleep", "1000"])).await;
}

/// Shows that a start on a full disk is refused by that name, with nothing left running.
#[tokio::test]
async fn a_start_on_a_full_disk_is_refused() {
    let Some(disk) = SmallDisk::new("a_start_on_a_full_disk_is_refused") else { return };
    let bench = Bench::in_folder(disk.folder());
    disk.fill();
    match bench.start("web-0", 1, process(&["sleep", "1000"])).await {
        regrow_model::Outcome::Failed { error, .. } => {
            assert_eq!(error.kind, regrow_model::observed::WorldErrorKind::DiskFull, "{error}");
        }
        other => panic!("{other:?}"),
    }
    disk.free();
    bench.started("web-0", 1, process(&["sleep", "1000"])).await;
}
