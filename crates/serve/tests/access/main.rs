//! The access matrix of the doors: everything that each door can be asked × nothing shown, garbage, an expired token, a revoked
//! one, each role, and roles that are narrowed. Over plain TCP: what TLS adds is in `tests/` of the workspace.

mod doors;
mod gateway;
mod mute;
mod rpc;

use std::time::Duration;

use doors::{Doors, callers, secret};
use futures_util::{StreamExt, stream};
use regrow_store::{
    LeaseGrantRequest, LeaseId, PutRequest, Store,
    proto::etcdserverpb::{
        self as pb, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
};
use rpc::Rpc;
use tokio::io::AsyncReadExt;
use tonic::{Code, Request, Status, transport::Channel};

fn shows<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if caller != "nobody" {
        request.metadata_mut().insert("token", secret(caller).parse().expect("ASCII"));
    }
    request
}

/// `+` went through, `-` denied, `x` not believed, `?` nothing shown: with etcd's own codes and texts.
fn letter<T>(result: Result<T, Status>) -> char {
    let Err(status) = result else { return '+' };
    match (status.code(), status.message()) {
        (Code::PermissionDenied, "etcdserver: permission denied") => '-',
        (Code::Unauthenticated, "etcdserver: invalid auth token") => 'x',
        (Code::InvalidArgument, "etcdserver: user name is empty") => '?',
        (Code::OutOfRange | Code::NotFound, _) => '+',
        _ => panic!("{status:?}"),
    }
}

fn compare(result: &[(String, String)], expect: &str) {
    let found: String = result.iter().map(|(name, row)| format!("{name:9} {row}\n")).collect();
    let expect: String = expect.trim().lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(found, expect, "found:\n{found}");
}

/// etcd 3: every call of every service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3() {
    let doors = Doors::open().await;
    let channel = doors.channel().await;
    let (mut kv, mut lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
    let (mut care, mut cluster) = (MaintenanceClient::new(channel.clone()), ClusterClient::new(channel.clone()));
    let range = |key: &'static str, end: &'static str| pb::RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    };
    let put = |key: &'static str| pb::PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
    let delete = |key: &'static str, end: &'static str| pb::DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let nested = |key: &'static str| {
        let inner =
            pb::TxnRequest { failure: vec![op(request_op::Request::RequestPut(put(key)))], ..Default::default() };
        pb::TxnRequest {
            success: vec![
                op(request_op::Request::RequestPut(put("/app/n"))),
                op(request_op::Request::RequestTxn(inner)),
            ],
            ..Default::default()
        }
    };
    let reading = |key: &'static str, end: &'static str| pb::TxnRequest {
        success: vec![op(request_op::Request::RequestRange(range(key, end)))],
        ..Default::default()
    };
    let mut rows = Vec::new();
    for (caller, _) in callers() {
        let mut row = String::new();
        for (key, end) in [
            ("/app/a", ""),
            ("/app/", "/app0"),
            ("/web/a", ""),
            ("\0", "\0"),
            ("/regrow/desired/group/web", ""),
            ("/regrow/access/token/x", ""),
            ("/regrow/access/", "/regrow/access0"),
        ] {
            row.push(letter(kv.range(shows(caller, range(key, end))).await));
        }
        row.push(' ');
        for key in [
            "/app/b",
            "/web/b",
            "/regrow/desired/group/b",
            "/regrow/access/token/b",
            "/regrow/staged/a/1/access/token/b",
        ] {
            row.push(letter(kv.put(shows(caller, put(key))).await));
        }
        row.push(' ');
        for (key, end) in [("/app/c", ""), ("/app/c", "/web/d"), ("/", "0"), ("/regrow/access/token/b", "")] {
            row.push(letter(kv.delete_range(shows(caller, delete(key, end))).await));
        }
        row.push(' ');
        for txn in [
            nested("/app/m"),
            nested("/web/m"),
            nested("/regrow/access/token/m"),
            reading("/app/a", ""),
            reading("\0", "\0"),
        ] {
            row.push(letter(kv.txn(shows(caller, txn)).await));
        }
        row.push(' ');
        // Leases: one of its own, and two that others' keys hang on.
        let grant = pb::LeaseGrantRequest { ttl: 600, id: 0 };
        row.push(letter(lease.lease_grant(shows(caller, grant)).await));
        row.push(letter(lease.lease_leases(shows(caller, pb::LeaseLeasesRequest {})).await));
        for key in ["/app/l", "/web/l", "/regrow/agent/n"] {
            let granted =
                doors.engine.lease_grant(LeaseGrantRequest { id: LeaseId(0), ttl: 600 }).await.expect("granted");
            let id = granted.id;
            doors.engine.put(PutRequest { lease: id, ..PutRequest::new(key, "v") }).await.expect("put");
            let told = pb::LeaseTimeToLiveRequest { id: id.0, keys: true };
            row.push(letter(lease.lease_time_to_live(shows(caller, told)).await));
            let alive = stream::iter([pb::LeaseKeepAliveRequest { id: id.0 }]);
            let alive = match lease.lease_keep_alive(shows(caller, alive)).await {
                Ok(answers) => answers.into_inner().next().await.expect("an answer"),
                Err(status) => Err(status),
            };
            row.push(letter(alive));
            row.push(letter(lease.lease_revoke(shows(caller, pb::LeaseRevokeRequest { id: id.0 })).await));
        }
        row.push(' ');
        row.push(letter(kv.compact(shows(caller, pb::CompactionRequest { revision: 2, physical: false })).await));
        row.push(letter(care.hash(shows(caller, pb::HashRequest {})).await));
        row.push(letter(care.hash_kv(shows(caller, pb::HashKvRequest { revision: 0 })).await));
        row.push(letter(care.defragment(shows(caller, pb::DefragmentRequest {})).await));
        row.push(match care.snapshot(shows(caller, pb::SnapshotRequest {})).await {
            Ok(parts) => letter(parts.into_inner().next().await.expect("a part")),
            Err(status) => letter::<()>(Err(status)),
        });
        let disarm =
            pb::AlarmRequest { action: pb::alarm_request::AlarmAction::Deactivate.into(), ..Default::default() };
        row.push(letter(care.alarm(shows(caller, disarm)).await));
        let get = pb::AlarmRequest::default();
        row.push(letter(care.alarm(shows(caller, get)).await));
        row.push(letter(care.status(shows(caller, pb::StatusRequest {})).await));
        row.push(letter(cluster.member_list(shows(caller, pb::MemberListRequest { linearizable: false })).await));
        row.push(' ');
        for (key, end) in [("/app/", "/app0"), ("/web/a", ""), ("\0", "\0"), ("/regrow/access/", "/regrow/access0")] {
            let create = pb::WatchCreateRequest { key: key.into(), range_end: end.into(), ..Default::default() };
            let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
            let asks = stream::iter([first]).chain(stream::pending());
            let answers = WatchClient::new(channel.clone()).watch(shows(caller, asks)).await.expect("a stream");
            let answer = answers.into_inner().message().await.expect("no error").expect("an answer");
            assert!(answer.created, "{answer:?}");
            row.push(match answer.cancel_reason.as_str() {
                "" => '+',
                "rpc error: code = PermissionDenied desc = etcdserver: permission denied" => '-',
                "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token" => 'x',
                "rpc error: code = InvalidArgument desc = etcdserver: user name is empty" => '?',
                other => panic!("{other}"),
            });
        }
        rows.push((caller.to_owned(), row));
    }
    compare(
        &rows,
        "
        nobody    ??????? ????? ???? ????? ??????????? ????????? ????
        garbage   xxxxxxx xxxxx xxxx xxxxx xxxxxxxxxxx xxxxxxxxx xxxx
        expired   xxxxxxx xxxxx xxxx xxxxx xxxxxxxxxxx xxxxxxxxx xxxx
        revoked   xxxxxxx xxxxx xxxx xxxxx xxxxxxxxxxx xxxxxxxxx xxxx
        reader    +++++-- ----- ---- ---+- -++--+--+-- ------+++ +++-
        operator  +++++-- ++--- +--- ++-+- +++++++++-- ------+++ +++-
        admin     +++++++ +++++ ++++ +++++ +++++++++++ +++++++++ ++++
        app       ++----- +---- +--- +--+- +++++------ ------+++ +---
        groups    ------- ----- ---- ----- ----------- ------+++ ----
        ",
    );
}

async fn keys(kv: &mut KvClient<Channel>, caller: &str, request: pb::RangeRequest) -> (String, i64, bool) {
    let answer = kv.range(shows(caller, request)).await.expect("read").into_inner();
    let keys = answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect::<Vec<_>>();
    (keys.join(" "), answer.count, answer.more)
}

/// What a reader who may read everything is shown: all but credentials, whichever way it asks; and what is open ends with
/// the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_left_out_and_the_open_ends() {
    let doors = Doors::open().await;
    let channel = doors.channel().await;
    let mut kv = KvClient::new(channel.clone());
    let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let seen = keys(&mut kv, "reader", all.clone()).await;
    assert_eq!(seen, ("/app/a /regrow/desired/group/web /web/a".to_owned(), 3, false));
    assert_eq!(keys(&mut kv, "admin", all.clone()).await.1, 4);
    let two = pb::RangeRequest { limit: 2, ..all.clone() };
    assert_eq!(keys(&mut kv, "reader", two).await, ("/app/a /regrow/desired/group/web".to_owned(), 3, true));
    let newest = pb::RangeRequest {
        sort_order: pb::range_request::SortOrder::Descend.into(),
        sort_target: pb::range_request::SortTarget::Mod.into(),
        limit: 1,
        ..all.clone()
    };
    assert_eq!(keys(&mut kv, "reader", newest).await, ("/regrow/desired/group/web".to_owned(), 3, true));

    let create = pb::WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let asks = stream::iter([first]).chain(stream::pending());
    let mut watch =
        WatchClient::new(channel.clone()).watch(shows("reader", asks)).await.expect("a stream").into_inner();
    assert!(watch.message().await.expect("no error").expect("an answer").created);
    doors.engine.put(PutRequest::new("/regrow/access/token/new", "hidden")).await.expect("put");
    doors.engine.put(PutRequest::new("/seen", "v")).await.expect("put");
    let told = watch.message().await.expect("no error").expect("an answer");
    assert_eq!(told.events.len(), 1);
    assert_eq!(told.events[0].kv.as_ref().expect("a key").key, "/seen");
    doors.guard.know("reader", None, 100);
    // Not the watch alone: clients that pass over a cancellation would wait for ever.
    let ended = watch.message().await.expect_err("the stream ends");
    assert_eq!((ended.code(), ended.message()), (Code::Unauthenticated, "etcdserver: invalid auth token"));
    let refused = kv.range(shows("reader", all)).await.expect_err("refused");
    assert_eq!(letter::<()>(Err(refused.clone())), 'x');
    assert!(refused.metadata().get("regrow-reason").is_some(), "{refused:?}");
}

/// A token is a password for etcd's clients, and only a good one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_passwords() {
    let doors = Doors::open().await;
    let mut auth = AuthClient::new(doors.channel().await);
    let ask = |caller: &str| pb::AuthenticateRequest { name: "anybody".to_owned(), password: secret(caller) };
    let answer = auth.authenticate(ask("reader")).await.expect("let in").into_inner();
    assert_eq!(answer.token, secret("reader"));
    for caller in ["garbage", "expired", "revoked"] {
        let status = auth.authenticate(ask(caller)).await.expect_err("refused");
        assert_eq!(status.message(), "etcdserver: authentication failed, invalid user ID or password", "{caller}");
    }
    assert!(auth.auth_status(pb::AuthStatusRequest {}).await.expect("told").into_inner().enabled);
}

/// etcd 2 and Regrow's own HTTP interface: the status of each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http() {
    let doors = Doors::open().await;
    let etcd = [
        ("GET /v2/keys/app/a", ""),
        ("GET /v2/keys/app?recursive=true", ""),
        ("GET /v2/keys/web/a", ""),
        ("GET /v2/keys/?recursive=true", ""),
        ("GET /v2/keys/regrow/access/token/x", ""),
        ("PUT /v2/keys/app/v", "value=1"),
        ("PUT /v2/keys/web/v", "value=1"),
        ("DELETE /v2/keys/regrow?recursive=true", ""),
        ("GET /v2/stats/self", ""),
        ("GET /health", ""),
        ("GET /version", ""),
    ];
    let api = [
        ("GET /api/health", ""),
        ("GET /api/status", ""),
        ("POST /api/plan", "{}"),
        ("POST /api/apply", "{}"),
        ("POST /api/groups/web/scale", "{\"size\":1}"),
        ("POST /api/instances/web-0/restart", ""),
        ("GET /api/instances/web-0/logs", ""),
        ("POST /api/pause", "{\"why\":\"x\"}"),
        ("GET /api/explain/group/web", ""),
        ("GET /api/explain/job/x", ""),
        ("GET /api/templates/t", ""),
        ("GET /api/events", ""),
        ("GET /api/members", ""),
        ("POST /api/join", "{\"addresses\":[]}"),
        ("POST /api/leave", ""),
        ("POST /api/gossip/event", "{\"name\":\"x\"}"),
        ("POST /api/gossip/force-leave", "{\"name\":\"x\"}"),
        ("POST /api/gossip/keys", "{\"op\":\"list\"}"),
        ("GET /api/tokens", ""),
        ("GET /api/unheard-of", ""),
    ];
    let mut rows = Vec::new();
    for (caller, _) in callers() {
        let mut row = String::new();
        for (door, requests) in [(&doors.etcd, &etcd[..]), (&doors.http, &api[..])] {
            for (request, body) in requests {
                let (status, answer) = doors.ask(door, caller, request, body).await;
                row.push(match status {
                    401 if answer.contains("no such token")
                        || answer.contains("was revoked")
                        || answer.contains("has expired") =>
                    {
                        'x'
                    }
                    401 if answer.contains("credentials are needed") => '?',
                    // etcd 2 has one number for both.
                    401 | 403 if answer.contains(" may not ") || answer.contains("credentials are beneath") => '-',
                    401 | 403 => panic!("{answer}"),
                    _ => '+',
                });
            }
            row.push(' ');
        }
        rows.push((caller.to_owned(), row.trim_end().to_owned()));
    }
    compare(
        &rows,
        "
        nobody    ?????????++ +???????????????????
        garbage   xxxxxxxxx++ +xxxxxxxxxxxxxxxxxxx
        expired   xxxxxxxxx++ +xxxxxxxxxxxxxxxxxxx
        revoked   xxxxxxxxx++ +xxxxxxxxxxxxxxxxxxx
        reader    ++++----+++ +++---+-+++++-------
        operator  ++++-++-+++ ++++++++++++++-+----
        admin     +++++++++++ ++++++++++++++++++++
        app       ++---+--+++ +-------------------
        groups    --------+++ +---+++-+-----------
        ",
    );
}

/// Serf's RPC: the key that clients show is a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serf_rpc() {
    let doors = Doors::open().await;
    let requests: [(&str, &[(&str, &str)]); 8] = [
        ("members", &[]),
        ("stats", &[]),
        ("event", &[("Name", "x")]),
        ("tags", &[]),
        ("force-leave", &[("Node", "x")]),
        ("list-keys", &[]),
        ("install-key", &[("Key", "x")]),
        ("leave", &[]),
    ];
    let mut rows = Vec::new();
    for (caller, _) in callers() {
        let mut client = Rpc::connect(&doors.rpc).await;
        let key = secret(caller);
        if caller != "nobody" {
            client.ask("auth", &[("AuthKey", &key)]).await;
        }
        let mut row = String::new();
        for (command, fields) in requests {
            let error = client.ask(command, fields).await;
            row.push(match error.as_str() {
                "Authentication required" => '?',
                error if error.starts_with("Permission denied: ") => '-',
                _ => '+',
            });
        }
        rows.push((caller.to_owned(), row));
    }
    compare(
        &rows,
        "
        nobody    ????????
        garbage   ????????
        expired   ????????
        revoked   ????????
        reader    ++------
        operator  ++++----
        admin     ++++++++
        app       --------
        groups    --------
        ",
    );
    let mut client = Rpc::connect(&doors.rpc).await;
    assert_eq!(client.ask("auth", &[("AuthKey", &secret("garbage"))]).await, "Invalid authentication token");
    assert_eq!(client.ask("auth", &[("AuthKey", &secret("reader"))]).await, "");
    doors.guard.know("reader", None, 100);
    let ended = tokio::time::timeout(Duration::from_secs(60), client.stream.read_u8()).await.expect("it ends");
    assert!(ended.is_err(), "a connection ends with its token");
}

/// What is done and what is refused is written down, with who and to what, and never with a value or a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_tells() {
    let doors = Doors::open().await;
    let mut kv = KvClient::new(doors.channel().await);
    let put = |key: &'static str| pb::PutRequest { key: key.into(), value: "a-value".into(), ..Default::default() };
    kv.put(shows("app", put("/app/x"))).await.expect("put");
    kv.put(shows("app", put("/web/x"))).await.expect_err("denied");
    kv.put(shows("garbage", put("/web/x"))).await.expect_err("refused");
    doors.ask(&doors.http, "operator", "POST /api/resume", "").await;
    let (entries, lost) = doors.queue.take_now();
    let mut text = String::new();
    entries.iter().for_each(|entry| regrow_serve::access::audit::write(entry, &mut text));
    let short: Vec<String> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            ["who", "door", "did", "outcome"].map(|name| line[name].as_str().unwrap_or("").to_owned()).join(" ")
                + " "
                + line["to"][0].as_str().unwrap_or("")
        })
        .collect();
    assert_eq!(
        short,
        [
            "token/app etcd put done /app/x",
            "token/app etcd put refused /web/x",
            "anonymous etcd put refused /web/x",
            "token/operator http POST failed /api/resume",
        ]
    );
    assert!(lost == 0 && !text.contains("a-value") && !text.contains("rgw_"), "{text}");
}
