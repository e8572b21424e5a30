//! The etcd door, spoken to by the remote store and by plain gRPC.

use std::{sync::Arc, time::Duration};

use futures_util::stream::poll_fn;
use regrow_serve::access::{Audit, Guard};
use regrow_serve::etcd::{Door, Identity, limits, serve};
use regrow_store::{
    BoxFuture, Engine, Options, PutRequest, Remote, Store,
    clock::ManualClock,
    proto::{
        etcdserverpb::{
            self as pb, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchResponse,
            kv_client::KvClient, watch_client::WatchClient, watch_request::RequestUnion,
        },
        health::{HealthCheckRequest, health_client::HealthClient},
    },
    suite::{self, Harness},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tonic::{Code, Streaming, transport::Channel};

/// An engine behind a door.
struct Member {
    _folder: TempDir,
    clock: ManualClock,
    engine: Engine,
    url: String,
    _serving: JoinSet<()>,
}

impl Member {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::default();
        let options = Options { clock: Arc::new(clock.clone()), ..Options::default() };
        let engine = Engine::open(folder.path(), options).expect("opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let identity = Identity::new("test", vec![url.clone()]);
        let store: Arc<dyn Store> = Arc::new(engine.clone());
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Door::new(store, identity, Guard::open(Audit::off()))));
        Self { _folder: folder, clock, engine, url, _serving: serving }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).expect("a URL").connect().await.expect("connects")
    }

    async fn put(&self, key: &str, value: impl Into<bytes::Bytes>) -> i64 {
        self.engine.put(PutRequest::new(key.to_owned(), value)).await.expect("put").revision.0
    }

    async fn watch(&self) -> Stream {
        let (requests, mut receiver) = mpsc::channel(100);
        let channel = self.channel().await;
        // The server answers with the first message only.
        let first = pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
        requests.send(first).await.expect("room");
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let answers = client.watch(poll_fn(move |context| receiver.poll_recv(context))).await.expect("a stream");
        let mut stream = Stream { requests, answers: answers.into_inner() };
        let answer = stream.next().await;
        assert_eq!((answer.watch_id, answer.events.len()), (-1, 0));
        stream
    }
}

/// A watch stream.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Stream {
    async fn ask(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.expect("the stream is open");
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let answer = self.next().await;
        assert!(answer.created, "{answer:?}");
        answer
    }

    async fn next(&mut self) -> WatchResponse {
        self.answers.message().await.expect("no error").expect("an answer")
    }
}

fn all() -> WatchCreateRequest {
    WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() }
}

impl Harness for Member {
    /// Connects anew each time.
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Remote::new([&self.url]).expect("an endpoint"))
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(time);
        Box::pin(std::future::ready(()))
    }
}

/// What holds for the embedded store holds through the door and the remote store too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_through_the_door() {
    suite::run(&Member::start().await).await;
}

/// Ids are chosen from 0 on unless the client does; one that is taken, and a range that is empty, are refused as etcd
/// refuses them, and the stream goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_on_one_stream_have_ids() {
    let member = Member::start().await;
    let mut stream = member.watch().await;
    assert_eq!(stream.create(all()).await.watch_id, 0);
    assert_eq!(stream.create(WatchCreateRequest { watch_id: 1, ..all() }).await.watch_id, 1);
    assert_eq!(stream.create(all()).await.watch_id, 2, "1 is taken");
    for (request, reason) in [
        (WatchCreateRequest { watch_id: 2, ..all() }, "mvcc: duplicate watch ID provided on the WatchStream"),
        (WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..all() }, "mvcc: watcher range is empty"),
    ] {
        let refused = stream.create(request).await;
        assert_eq!((refused.watch_id, refused.canceled, &refused.cancel_reason[..]), (-1, true, reason));
    }
    let revision = member.put("a", "1").await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let answer = stream.next().await;
        assert_eq!((answer.header.expect("a header").revision, answer.events.len()), (revision, 1));
        told.push(answer.watch_id);
    }
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2]);
}

/// A cancelled watch says so and nothing after; its id may be used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_watch_is_silent() {
    let member = Member::start().await;
    let mut stream = member.watch().await;
    stream.create(WatchCreateRequest { watch_id: 7, ..all() }).await;
    stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await;
    let answer = stream.next().await;
    assert_eq!((answer.watch_id, answer.canceled, answer.compact_revision), (7, true, 0));
    member.put("a", "1").await;
    let answer = stream.create(WatchCreateRequest { watch_id: 7, ..all() }).await;
    assert_eq!((answer.watch_id, answer.canceled), (7, false));
}

/// A watch that begins in what is compacted is cancelled with the oldest revision that is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_the_compacted_past_is_cancelled() {
    let member = Member::start().await;
    member.put("a", "1").await;
    let revision = regrow_store::Revision(member.put("a", "2").await);
    let request = regrow_store::CompactRequest { revision, physical: true };
    member.engine.compact(request).await.expect("compacts");
    let mut stream = member.watch().await;
    let created = stream.create(WatchCreateRequest { start_revision: 1, ..all() }).await;
    let answer = stream.next().await;
    assert_eq!((answer.watch_id, answer.canceled, answer.compact_revision), (created.watch_id, true, revision.0));
    // Its id is free again at once, and the end of the first watch is not taken for that of the second.
    for round in 0..50 {
        let past = WatchCreateRequest { watch_id: 9, start_revision: 1, ..all() };
        stream.create(past).await;
        assert!(stream.next().await.canceled);
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 9 })).await;
        stream.ask(RequestUnion::CreateRequest(WatchCreateRequest { watch_id: 9, ..all() })).await;
        let mut answer = stream.next().await;
        if answer.canceled && !answer.created {
            answer = stream.next().await;
        }
        assert_eq!((answer.watch_id, answer.created, answer.canceled), (9, true, false));
        member.put("a", round.to_string()).await;
        assert_eq!(stream.next().await.events.len(), 1);
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 9 })).await;
        assert!(stream.next().await.canceled);
    }
}

/// Progress is told for all watches together, after the events that it covers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_after_what_it_covers() {
    let member = Member::start().await;
    let mut stream = member.watch().await;
    for _ in 0..10 {
        stream.create(all()).await;
    }
    for round in 0..20 {
        let revision = member.put("a", round.to_string()).await;
        stream.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
        let mut events = 0;
        loop {
            let answer = stream.next().await;
            if answer.watch_id == -1 {
                assert!(answer.header.expect("a header").revision >= revision);
                break;
            }
            events += answer.events.len();
        }
        assert_eq!(events, 10, "each watch has told of the put before");
    }
}

/// A revision too large for one message comes in fragments if they are wanted, and whole if not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_revisions_come_in_fragments() {
    let member = Member::start().await;
    let value = vec![b'v'; 1_000_000];
    for key in ["a", "b", "c"] {
        member.put(key, value.clone()).await;
    }
    let delete = regrow_store::DeleteRangeRequest::prefix("");
    let revision = member.engine.delete_range(delete).await.expect("deletes").revision.0;
    let mut stream = member.watch().await;
    // The values as they were make the deletion large.
    let past = WatchCreateRequest { start_revision: revision, prev_kv: true, ..all() };
    stream.create(past.clone()).await;
    let whole = stream.next().await;
    assert_eq!((whole.events.len(), whole.fragment), (3, false));
    stream.create(WatchCreateRequest { fragment: true, ..past }).await;
    let mut pieces = Vec::new();
    for _ in 0..3 {
        let piece = stream.next().await;
        pieces.push((piece.events.len(), piece.fragment));
    }
    assert_eq!(pieces, [(1, true), (1, true), (1, false)]);
}

/// A client that never reads holds up neither writers nor other clients, and finds everything when it reads at last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_up_nobody() {
    const PUTS: usize = 3000;
    let member = Member::start().await;
    let mut slow = member.watch().await;
    let mut quick = member.watch().await;
    slow.create(all()).await;
    quick.create(all()).await;
    let value = vec![b'v'; 10_000];
    let mut seen = 0;
    for _ in 0..PUTS {
        member.put("a", value.clone()).await;
    }
    while seen < PUTS {
        seen += quick.next().await.events.len();
    }
    let mut revisions = Vec::new();
    while revisions.len() < PUTS {
        let answer = slow.next().await;
        revisions.extend(answer.events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision));
    }
    let first = revisions[0];
    assert!(revisions.iter().copied().eq(first..first + PUTS as i64), "in order, once each");
}

/// One stream has a bound on its watches; beyond it they are refused, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_of_a_stream_are_bounded() {
    let member = Member::start().await;
    let mut stream = member.watch().await;
    let one = |id: usize| WatchCreateRequest { key: id.to_string().into(), ..Default::default() };
    for id in 0..limits::STREAM_WATCHES_MAX {
        assert!(!stream.create(one(id)).await.canceled);
    }
    let refused = stream.create(one(0)).await;
    assert_eq!((refused.canceled, &refused.cancel_reason[..]), (true, "etcdserver: too many requests"));
    member.put("77", "1").await;
    assert_eq!(stream.next().await.watch_id, 77);
}

/// A transaction of two million empty operations is refused as one of 129 is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_counted() {
    let member = Member::start().await;
    let mut client = KvClient::new(member.channel().await);
    for count in [2_000_000, 129] {
        let txn = pb::TxnRequest { success: vec![pb::RequestOp::default(); count], ..Default::default() };
        let refused = client.txn(txn).await.expect_err("too many");
        let expect = (Code::InvalidArgument, "etcdserver: too many operations in txn request");
        assert_eq!((refused.code(), refused.message()), expect, "{count}");
    }
}

/// The health of the server is told; of services by name nothing is known, as in etcd. A service that is not there is
/// refused with a sentence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_what_is_not_offered() {
    let member = Member::start().await;
    let mut client = HealthClient::new(member.channel().await);
    let answer = client.check(HealthCheckRequest::default()).await.expect("an answer").into_inner();
    assert_eq!(answer.status().as_str_name(), "SERVING");
    let unknown = client.check(HealthCheckRequest { service: "x".into() }).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let mut grpc = tonic::client::Grpc::new(member.channel().await);
    grpc.ready().await.expect("ready");
    let codec = tonic_prost::ProstCodec::<pb::StatusRequest, pb::StatusResponse>::default();
    let path = "/etcdserverpb.Auth/UserList".parse().expect("a path");
    let refused = grpc.unary(tonic::Request::new(pb::StatusRequest {}), path, codec).await.expect_err("not offered");
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("not offered"), "{refused:?}");
}

/// The same port answers HTTP/1.1: version and health as etcd tells them, nothing for a page that is not there, and
/// nothing to web pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_answered_too() {
    let member = Member::start().await;
    let address = member.url.trim_start_matches("http://");
    let ask = async |request: &str| {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(format!("{request}connection: close\r\n\r\n").as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        (head.split(' ').nth(1).expect("a status").to_owned(), body.to_owned())
    };
    let host = format!("host: {address}\r\n");
    for (line, more, status, body) in [
        ("GET /version", "", "200", r#"{"etcdserver":"3.5.21","etcdcluster":"3.5.0"}"#),
        ("GET /health", "", "200", r#"{"health":"true","reason":""}"#),
        ("POST /health", "", "405", ""),
        ("GET /x", "", "404", "404 page not found\n"),
        ("GET /version", "origin: http://page.example\r\n", "403", "regrow: web pages may not use the store"),
    ] {
        let (told, said) = ask(&format!("{line} HTTP/1.1\r\n{host}{more}")).await;
        assert!(told == status && said.starts_with(body), "{line} {more}: {told} {said}");
    }
    let (told, said) = ask("GET /version HTTP/1.1\r\nhost: page.example:2379\r\n").await;
    assert!(told == "403" && said.contains("by its address"), "{told} {said}");
    // And gRPC goes on beside it.
    let mut client = HealthClient::new(member.channel().await);
    client.check(HealthCheckRequest::default()).await.expect("an answer");
}
