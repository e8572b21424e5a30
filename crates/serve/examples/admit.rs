//! What it costs a put to be let in: the same puts at an open door and, with a token and the audit log, at one that asks for
//! credentials. Rounds alternate; the median of each is told.
//!
//!     cargo run --release -p regrow-serve --example admit

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use regrow_model::{
    Time,
    access::{Grant, Role, Seal, Token},
};
use regrow_serve::{
    access::{Audit, Guard, audit::Queue},
    etcd::{Door, Identity, serve},
};
use regrow_store::{Engine, Options, Store, proto::etcdserverpb as pb, proto::etcdserverpb::kv_client::KvClient};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{Request, transport::Channel};

const TOKEN: &str = "rgw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const CLIENTS: usize = 64;
const PUTS: usize = 500;
const ROUNDS: usize = 9;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(folder.path(), Options::default()).expect("opens");
    let queue = Arc::new(Queue::default());
    let closed = Guard::closed(0, Audit::into(queue.clone()));
    let grant = Grant { role: Role::Operator, prefixes: vec!["bench/".to_owned()], kinds: Vec::new() };
    let (seal, created) = (Seal::of(TOKEN), Time(0));
    let token =
        Token { seal, grant, note: String::new(), created, created_by: String::new(), expires: None, revoked: None };
    closed.know("bench", Some(token), 1);
    // As the agent's writer does, but for the disk.
    tokio::spawn(async move {
        loop {
            let (entries, _) = queue.take().await;
            let mut text = String::new();
            entries.iter().for_each(|entry| regrow_serve::access::audit::write(entry, &mut text));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut serving = JoinSet::new();
    let mut channels = Vec::new();
    for (guard, shows) in [(Guard::open(Audit::off()), false), (closed, true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let store: Arc<dyn Store> = Arc::new(engine.clone());
        serving.spawn(serve(listener, Door::new(store, Identity::new("bench", Vec::new()), guard)));
        channels.push((Channel::from_shared(url).expect("a URL").connect().await.expect("connects"), shows));
    }
    let (mut open, mut guarded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (channel, shows) in &channels {
            let seconds = round(channel, *shows).await;
            if *shows { &mut guarded } else { &mut open }.push(seconds);
        }
    }
    for (name, all) in [("open", &mut open), ("guarded", &mut guarded)] {
        all.sort_by(f64::total_cmp);
        let (least, middle, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
        let puts = (CLIENTS * PUTS) as f64;
        println!(
            "{name:8} {:8.0} puts/s (of {ROUNDS} rounds: {:.0} to {:.0})",
            puts / middle,
            puts / most,
            puts / least
        );
    }
}

async fn round(channel: &Channel, shows: bool) -> f64 {
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut kv = KvClient::new(channel.clone());
        clients.spawn(async move {
            for put in 0..PUTS {
                let key = format!("bench/{client}/{put}");
                let message = pb::PutRequest { key: key.into(), value: vec![7; 256].into(), ..Default::default() };
                let mut request = Request::new(message);
                if shows {
                    request.metadata_mut().insert("token", TOKEN.parse().expect("ASCII"));
                }
                kv.put(request).await.expect("put");
            }
        });
    }
    clients.join_all().await;
    begin.elapsed().as_secs_f64()
}
