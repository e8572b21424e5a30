//! The embedded engine passes the suite that every store must pass.

use std::{sync::Arc, time::Duration};

use regrow_store::{
    BoxFuture, Engine, Options, Store,
    clock::ManualClock,
    suite::{self, Harness},
};
use tempfile::TempDir;

struct Embedded {
    folder: TempDir,
    clock: ManualClock,
    options: Options,
}

impl Embedded {
    fn new(options: Options) -> Self {
        let clock = ManualClock::default();
        let options = Options { clock: Arc::new(clock.clone()), ..options };
        Self { folder: tempfile::tempdir().expect("a folder"), clock, options }
    }

    fn store(&self) -> Engine {
        Engine::open(self.folder.path(), self.options.clone()).expect("opens")
    }
}

impl Harness for Embedded {
    /// Opens the same folder again each time, so that each case runs behind what the others left.
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(time);
        Box::pin(std::future::ready(()))
    }
}

/// All cases on one folder with the usual options.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_passes() {
    suite::run(&Embedded::new(Options::default())).await;
}

/// The same with segments so small that every case crosses many, and no value kept in memory, so that all are read
/// back from disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_passes_with_small_segments() {
    let options = Options { segment_bytes: 64 * 1024, inline_bytes_max: 0, ..Options::default() };
    suite::run(&Embedded::new(options)).await;
}
