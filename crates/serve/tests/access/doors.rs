//! All doors over one store, and who comes to them.

use std::{sync::Arc, time::SystemTime};

use regrow_model::{
    Kind, Time,
    access::{Grant, Revoked, Role, Seal, Token},
};
use regrow_serve::{
    access::{Audit, Guard, audit::Queue},
    api,
    etcd::{Door, Identity, serve},
    membership, serf,
};
use regrow_store::{Engine, Options, PutRequest, Store};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::transport::Channel;

use crate::mute::Mute;

/// A token for each caller; 43 characters behind the mark.
pub(crate) fn secret(caller: &str) -> String {
    format!("rgw_{caller:A<43}")
}

/// What is shown, and what it is: `-` in the grant's place for tokens that nobody may use.
pub(crate) fn callers() -> Vec<(&'static str, Option<Token>)> {
    let token = |name: &str, role, prefixes: &[&str], kinds: &[Kind]| Token {
        seal: Seal::of(&secret(name)),
        grant: Grant {
            role,
            prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            kinds: kinds.to_vec(),
        },
        note: String::new(),
        created: Time(0),
        created_by: "the test".to_owned(),
        expires: None,
        revoked: None,
    };
    let hour = 3_600_000;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let soon = Token { expires: Some(Time(now + hour)), ..token("operator", Role::Operator, &[], &[]) };
    let expired = Token { expires: Some(Time(now - hour)), ..token("expired", Role::Admin, &[], &[]) };
    let revoked = Some(Revoked { at: Time(1), by: "the test".to_owned() });
    vec![
        ("nobody", None),
        ("garbage", None),
        ("expired", Some(expired)),
        ("revoked", Some(Token { revoked, ..token("revoked", Role::Admin, &[], &[]) })),
        ("reader", Some(token("reader", Role::Reader, &[], &[]))),
        ("operator", Some(soon)),
        ("admin", Some(token("admin", Role::Admin, &[], &[]))),
        ("app", Some(token("app", Role::Operator, &["/app/"], &[]))),
        ("groups", Some(token("groups", Role::Operator, &[], &[Kind::Group]))),
    ]
}

/// All doors over one store.
pub(crate) struct Doors {
    _folder: TempDir,
    pub(crate) engine: Engine,
    pub(crate) guard: Guard,
    pub(crate) queue: Arc<Queue>,
    pub(crate) etcd: String,
    pub(crate) http: String,
    pub(crate) rpc: String,
    _serving: JoinSet<()>,
}

impl Doors {
    pub(crate) async fn open() -> Doors {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::open(folder.path(), Options::default()).expect("opens");
        for key in ["/app/a", "/web/a", "/regrow/desired/group/web", "/regrow/access/token/x"] {
            engine.put(PutRequest::new(key, "v")).await.expect("put");
        }
        let queue = Arc::new(Queue::default());
        let guard = Guard::closed(4_000_000, Audit::into(queue.clone()));
        for (name, token) in callers() {
            guard.know(name, token, 1);
        }
        let listen = async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            (listener, address)
        };
        let ((one, etcd), (two, http), (three, rpc)) = (listen().await, listen().await, listen().await);
        let store: Arc<dyn Store> = Arc::new(engine.clone());
        let mut serving = JoinSet::new();
        serving.spawn(serve(one, Door::new(store, Identity::new("test", Vec::new()), guard.clone())));
        let routes = membership::http::router(Arc::new(Mute));
        serving.spawn(api::serve(two, api::router(Arc::new(Mute), routes, guard.clone())));
        serving.spawn(serf::serve(three, serf::Door { membership: Arc::new(Mute), auth: None, guard: guard.clone() }));
        Doors { _folder: folder, engine, guard, queue, etcd, http, rpc, _serving: serving }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.etcd)).expect("a URL").connect().await.expect("connects")
    }

    /// One request by HTTP/1.1: the status of its answer, and the answer.
    pub(crate) async fn ask(&self, door: &str, caller: &str, request: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(door).await.expect("connects");
        let shown =
            if caller == "nobody" { String::new() } else { format!("authorization: Bearer {}\r\n", secret(caller)) };
        let kind = if request.contains(" /v2/") { "application/x-www-form-urlencoded" } else { "application/json" };
        let text = format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\n{shown}content-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, answer)
    }
}
