//! `regrow store`: the store as a whole.

mod compact;
mod relocate;
mod restore;
mod snapshot;
mod status;

use super::Target;
use crate::exit::Failure;
use clap::{Args, Subcommand};

/// Show, copy, compact and move the store
#[derive(Args)]
pub(super) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Status(status::Status),
    Snapshot(snapshot::Snapshot),
    Restore(restore::Restore),
    Compact(compact::Compact),
    Move(relocate::Move),
}

impl Store {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let data = target.data.as_deref();
        match self.verb {
            Verb::Status(verb) => verb.run(&verb.reach.open(data)?).await,
            Verb::Snapshot(verb) => verb.run(&verb.reach.open(data)?).await,
            Verb::Restore(verb) => verb.run(target).await,
            Verb::Move(verb) => verb.run(&verb.reach.open(data)?, data).await,
            Verb::Compact(verb) => verb.run(&verb.reach.open(data)?).await,
        }
    }
}

/// Bytes for people: three figures and a binary unit.
pub(in crate::cli) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::size;

    /// Sizes have a unit that leaves few figures.
    #[test]
    fn sizes() {
        for (bytes, expect) in [
            (0, "0 B"),
            (999, "999 B"),
            (1024, "1.0 KiB"),
            (20_480, "20.0 KiB"),
            (1 << 31, "2.0 GiB"),
            (1 << 60, "1048576 TiB"),
        ] {
            assert_eq!(size(bytes), expect);
        }
    }
}
