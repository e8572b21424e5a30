//! The embedded engine. See `docs/design/0002-store-engine.md`.

mod base;
mod eval;
mod frame;
mod hash;
mod history;
mod housekeeper;
mod index;
mod leases;
mod log;
mod options;
mod places;
mod record;
mod recover;
pub(crate) mod restore;
mod scan;
mod shared;
mod signal;
mod snapshot;
mod watcher;
mod writer;

use std::{
    any::Any,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::{Semaphore, oneshot};

pub use self::options::{AutoCompaction, Options};
use self::{
    eval::Evaluation,
    log::{Log, Spare},
    scan::Scan,
    shared::Shared,
    signal::lock,
    writer::{Command, Envelope, Reply, Writer},
};
use crate::{
    BoxFuture, CompactRequest, CompactResponse, DeleteRangeRequest, DeleteRangeResponse, Error, HashRequest,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, LeasesResponse, Op, OpResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Result, Revision, Snapshot, Status, Store, TxnRequest, TxnResponse, Watch,
    WatchRequest, check,
    disk::{Disk, RealDisk},
    limits::{QUEUE_KIB_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN},
};

/// The embedded store: one data folder, one process, every write durable before it is answered.
///
/// A handle is cheap to clone; the engine stops, and lets go of the folder, when the last one is dropped or
/// [`Engine::close`] is called.
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    commands: Sender<Envelope>,
    queue: Arc<Semaphore>,
    running: Mutex<Option<Running>>,
}

/// The threads, and the lock on the folder, which goes last.
struct Running {
    threads: Vec<JoinHandle<()>>,
    _folder: Box<dyn Any + Send + Sync>,
}

impl Engine {
    /// Opens a data folder, creating it if need be, and reads its index into memory. Blocks.
    ///
    /// # Errors
    /// `Locked` if another process has it; `Corrupt`, naming file and offset, if it is damaged: then nothing of it is
    /// changed; `NoSpace`, `Disk`.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        let folder = folder.as_ref();
        let disk = RealDisk::open(folder);
        let disk = disk.map_err(|error| Error::disk("open", &folder.display().to_string(), error))?;
        Self::start(Arc::new(disk), folder.to_owned(), options)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Self> {
        Self::start(disk, PathBuf::new(), options)
    }

    fn start(disk: Arc<dyn Disk>, path: PathBuf, mut options: Options) -> Result<Self> {
        options.segment_bytes = options.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let folder = disk.lock().map_err(|error| Error::disk("lock", "the data folder", error))?;
        let folder = folder.map_err(|pid| Error::Locked { path, pid })?;
        let found = recover::recover(&*disk, &options)?;
        let active = found.state.segments.last().expect("recovery leaves a segment").clone();
        let shared = Arc::new(Shared::new(options, disk.clone(), found.state));
        let spare = Arc::new(Spare::new(shared.housekeeping.clone()));
        let segment_bytes = shared.options.segment_bytes;
        let log = Log::new(disk, active, found.seq, found.ended, segment_bytes, spare.clone());
        let (commands, receiver) = channel();
        let wake = commands.clone();
        shared.options.clock.on_change(Box::new(move || {
            // A closed engine has no use for the time.
            let _ = wake.send(Envelope { command: Command::Wake, _room: None });
        }));
        let writer = Writer::new(shared.clone(), log, receiver);
        let keeper = shared.clone();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|error| Error::disk("start", "a thread", error))
        };
        let threads = vec![
            spawn("store-writer", Box::new(move || writer.run()))?,
            spawn("store-keeper", Box::new(move || housekeeper::run(&keeper, &spare)))?,
        ];
        let running = Mutex::new(Some(Running { threads, _folder: folder }));
        let queue = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        Ok(Self(Arc::new(Handle { shared, commands, queue, running })))
    }

    /// Finishes what is being written, stops and lets go of the folder; waits until this is done. Watches end with
    /// `Closed`. Doing it twice does nothing.
    pub fn close(&self) {
        self.0.stop();
    }

    async fn send<T>(&self, bytes: usize, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let kib = bytes.div_ceil(1024).clamp(1, QUEUE_KIB_MAX) as u32;
        let room = self.0.queue.clone().acquire_many_owned(kib).await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { command: command(reply), _room: Some(room) };
        self.0.commands.send(envelope).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn op(&self, op: Op) -> Result<OpResponse> {
        self.send(check::op_bytes(&op), |reply| Command::Op(op, reply)).await
    }

    async fn read_range(&self, request: RangeRequest) -> Result<RangeResponse> {
        check::range(&request)?;
        let pin = self.0.shared.pin(request.revision.0)?;
        let mut scan = Scan::new(request, pin.rev);
        while !scan.step(&self.0.shared) {
            tokio::task::yield_now().await;
        }
        scan.finish(pin.current)
    }

    fn lease<T>(&self, id: LeaseId, get: impl FnOnce(&leases::Lease, std::time::Duration) -> T) -> Result<T> {
        let now = self.0.shared.options.clock.now();
        let leases = lock(&self.0.shared.leases);
        let lease = leases.all.get(&id.0).filter(|lease| lease.durable && lease.expires > now);
        lease.map(|lease| get(lease, lease.expires - now)).ok_or(Error::LeaseNotFound(id))
    }

    /// Whether the key of [`Options::fence`] exists. Whoever has read something and then finds this false has read it before
    /// there was a fence.
    pub fn is_fenced(&self) -> bool {
        self.0.shared.fenced.load(Ordering::Acquire)
    }

    fn revision(&self) -> Revision {
        Revision(self.0.shared.revision())
    }
}

impl Handle {
    fn stop(&self) {
        let running = lock(&self.running).take();
        let Some(running) = running else { return };
        self.queue.close();
        // The writer may have ended by itself if it panicked.
        let _ = self.commands.send(Envelope { command: Command::Stop, _room: None });
        self.shared.housekeeping.stop();
        for thread in running.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Store for Engine {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(self.read_range(request))
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(async move {
            check::put(&request)?;
            match self.op(Op::Put(request)).await? {
                OpResponse::Put(response) => Ok(response),
                _ => unreachable!("a put is answered as a put"),
            }
        })
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        Box::pin(async move {
            check::delete_range(&request)?;
            match self.op(Op::DeleteRange(request)).await? {
                OpResponse::DeleteRange(response) => Ok(response),
                _ => unreachable!("a deletion is answered as a deletion"),
            }
        })
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move {
            check::txn(&request, self.0.shared.options.txn_ops_max)?;
            let response = if check::is_read_only(&request) {
                let pin = self.0.shared.pin(0)?;
                Evaluation::new(&self.0.shared, pin.rev).run(&Op::Txn(request))
            } else {
                self.op(Op::Txn(request)).await
            };
            match response? {
                OpResponse::Txn(response) => Ok(response),
                _ => unreachable!("a transaction is answered as a transaction"),
            }
        })
    }

    fn compact(&self, request: CompactRequest) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(async move {
            let revision = self.send(0, |reply| Command::Compact(request.revision, reply)).await?;
            if request.physical {
                let mut pruned = self.0.shared.pruned.subscribe();
                let closed = || self.0.shared.closed.load(Ordering::Acquire);
                let done = pruned.wait_for(|pruned| *pruned >= request.revision.0 || closed()).await;
                if done.map_err(|_| Error::Closed).map(|pruned| *pruned)? < request.revision.0 {
                    return Err(Error::Closed);
                }
            }
            Ok(CompactResponse { revision })
        })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(async move {
            let (id, ttl, revision) = self.send(0, |reply| Command::Grant(request, reply)).await?;
            Ok(LeaseGrantResponse { revision, id, ttl })
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(async move {
            let revision = self.send(0, |reply| Command::Revoke(id, reply)).await?;
            Ok(LeaseRevokeResponse { revision })
        })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(async move {
            let now = self.0.shared.options.clock.now();
            let ttl = lock(&self.0.shared.leases).keep_alive(id.0, now).ok_or(Error::LeaseNotFound(id))?;
            Ok(LeaseKeepAliveResponse { revision: self.revision(), id, ttl })
        })
    }

    fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(async move {
            let revision = self.revision();
            self.lease(request.id, |lease, left| LeaseTimeToLiveResponse {
                revision,
                id: request.id,
                ttl: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                granted_ttl: lease.ttl,
                keys: lease.keys.iter().filter(|_| request.keys).map(|key| key.to_vec().into()).collect(),
            })
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeasesResponse>> {
        Box::pin(async move {
            let leases = lock(&self.0.shared.leases);
            let durable = leases.all.iter().filter(|(_, lease)| lease.durable);
            let mut by_end: Vec<_> = durable.map(|(id, lease)| (lease.expires, *id)).collect();
            by_end.sort_unstable();
            let leases = by_end.into_iter().map(|(_, id)| LeaseId(id)).collect();
            Ok(LeasesResponse { revision: self.revision(), leases })
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        Box::pin(async move { watcher::watch(&self.0.shared, request) })
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        Box::pin(async move { Ok(self.0.shared.status()) })
    }

    fn hash(&self, request: HashRequest) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(async move { hash::hash(&self.0.shared, request.revision.0).await })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot>> {
        Box::pin(async move {
            let ask = self.send(0, Command::Leases);
            snapshot::snapshot(self.0.shared.clone(), ask).await
        })
    }
}
