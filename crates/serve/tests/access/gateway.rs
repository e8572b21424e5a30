//! etcd's JSON gateway, under the same rules as its gRPC.

use super::compare;
use super::doors::{Doors, callers};

/// `/app/a`, `/app/v`, `/web/a` and `/regrow/access/token/x`, as the gateway takes keys: in base64.
const REQUESTS: [(&str, &str); 12] = [
    ("POST /v3/kv/range", r#"{"key":"L2FwcC9h"}"#),
    ("POST /v3/kv/range", r#"{"key":"L3dlYi9h"}"#),
    ("POST /v3/kv/range", r#"{"key":"L3JlZ3Jvdy9hY2Nlc3MvdG9rZW4veA=="}"#),
    ("POST /v3/kv/put", r#"{"key":"L2FwcC92","value":"MQ=="}"#),
    ("POST /v3/kv/put", r#"{"key":"L3dlYi9h","value":"MQ=="}"#),
    ("POST /v3/kv/deleterange", r#"{"key":"L2FwcC92"}"#),
    ("POST /v3/kv/deleterange", r#"{"key":"L3dlYi9h"}"#),
    ("POST /v3/kv/txn", r#"{"success":[{"requestPut":{"key":"L2FwcC92"}},{"requestPut":{"key":"L3dlYi9h"}}]}"#),
    ("POST /v3/kv/compaction", r#"{"revision":"1"}"#),
    ("POST /v3/lease/grant", r#"{"TTL":"600"}"#),
    ("POST /v3/maintenance/status", "{}"),
    ("POST /v3/cluster/member/list", "{}"),
];

/// `+` went through, `-` denied, `x` not believed, `?` nothing shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_gateway() {
    let doors = Doors::open().await;
    let mut rows = Vec::new();
    for (caller, _) in callers() {
        let mut row = String::new();
        for (request, body) in REQUESTS {
            let (status, answer) = doors.ask(&doors.etcd, caller, request, body).await;
            row.push(match status {
                200 => '+',
                400 if answer.contains("etcdserver: user name is empty") => '?',
                401 if answer.contains("etcdserver: invalid auth token") => 'x',
                403 if answer.contains("etcdserver: permission denied") => '-',
                400 if answer.contains("required revision has been compacted") => '+',
                _ => panic!("{caller}: {request} {body}: {answer}"),
            });
        }
        rows.push((caller.to_owned(), row));
    }
    compare(
        &rows,
        "
        nobody    ????????????
        garbage   xxxxxxxxxxxx
        expired   xxxxxxxxxxxx
        revoked   xxxxxxxxxxxx
        reader    ++--------++
        operator  ++-+++++-+++
        admin     ++++++++++++
        app       +--+-+---+++
        groups    ----------++
        ",
    );
}
