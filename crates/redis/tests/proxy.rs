//! The proxy before real servers: what clients of one server may expect, they get from a cluster.

mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::proxy::{Config, Limits, Proxy, Remote, Secret, StartError};
use regrow_redis::resp::{Command, Value};
use regrow_redis::url::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use world::{Patience, Server, need_redis, regrow_ok};

/// How much of something: `small`, or `full` when the long run is asked for.
fn size(small: usize, full: usize) -> usize {
    if std::env::var("REGROW_FULL").is_ok_and(|full| full == "1") { full } else { small }
}

const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

fn cluster(replicas: usize) -> Result<Vec<Server>> {
    let hosts = HOSTS.iter().cycle().take(3 * (replicas + 1));
    let servers: Vec<Server> = hosts.map(|host| Server::node(host)).collect::<Result<_>>()?;
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let replicas = replicas.to_string();
    let mut words = vec!["create", "--replicas", &replicas, "--yes"];
    words.extend(addresses.iter().map(String::as_str));
    regrow_ok(&words)?;
    Ok(servers)
}

fn config(to: &str) -> Result<Config> {
    Ok(Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        to: to.parse::<Url>()?,
        backend_tls: None,
        password: None,
        tls: None,
        admin: None,
        metrics: None,
        threads: 2,
        limits: Limits::default(),
    })
}

async fn before(servers: &[Server]) -> Result<Proxy> {
    Ok(Proxy::start(config(&format!("redis-cluster://{}", servers[0].address))?).await?)
}

async fn client(proxy: &Proxy) -> Result<Connection> {
    let address = Address::new(proxy.address().ip().to_string(), proxy.address().port());
    let dialer = Dialer { timeout: Duration::from_secs(50), ..Dialer::default() };
    Ok(dialer.connect(&address).await?)
}

fn command(line: &str) -> Command {
    Command::of("command", line.split(' '))
}

/// Answers of a client that says these lines one after the other, as text; errors as they stand.
async fn say(client: &mut Connection, lines: &[&str]) -> Result<Vec<String>> {
    let commands: Vec<Command> = lines.iter().map(|line| command(line)).collect();
    Ok(client.pipeline(&commands).await?.iter().map(shown).collect())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Error(text) => format!("!{}", String::from_utf8_lossy(text)),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Value::Map(pairs) => {
            format!(
                "{{{}}}",
                pairs
                    .iter()
                    .map(|(key, value)| format!("{}:{}", shown(key), shown(value)))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        other => other.text().unwrap_or_default().to_owned(),
    }
}

/// Everything that needs no broken servers, on one cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_for_a_cluster() -> Result<()> {
    need_redis!("one_address_for_a_cluster");
    let servers = cluster(0)?;
    let proxy = before(&servers).await?;
    order(&proxy).await.context("order")?;
    whole_keyspace(&proxy).await.context("whole keyspace")?;
    refusals(&proxy).await.context("refusals")?;
    transactions(&proxy).await.context("transactions")?;
    blocking(&proxy).await.context("blocking")?;
    subscribers(&proxy).await.context("subscribers")?;
    hostile(&proxy).await.context("hostile input")?;
    slow_reader(&proxy).await.context("slow reader")
}

/// Answers of a pipeline come in its order, whatever slots its keys are of, and each sees what went before it.
async fn order(proxy: &Proxy) -> Result<()> {
    let mut one = client(proxy).await?;
    let mut commands = Vec::new();
    for round in 0..3000u32 {
        let key = format!("order:{}", round % 97);
        commands.push(Command::new("SET").arg(&key).number(round));
        commands.push(Command::new("GET").arg(&key));
        if round % 50 == 0 {
            commands.push(Command::new("MGET").arg(&key).arg("order:none").arg("order:1"));
            commands.push(Command::new("ECHO").number(round));
        }
    }
    let mut answers = one.pipeline(&commands).await?.into_iter();
    for round in 0..3000u32 {
        ensure!(answers.next().is_some_and(|answer| answer.is_ok()), "SET in round {round}");
        ensure!(answers.next().and_then(|answer| answer.int()) == Some(i64::from(round)), "GET in round {round}");
        if round % 50 == 0 {
            let many = answers.next().context("MGET")?;
            let many = many.array().context("a list")?;
            ensure!(many[0].int() == Some(i64::from(round)) && many[1] == Value::Null, "{many:?}");
            ensure!(answers.next().and_then(|answer| answer.int()) == Some(i64::from(round)), "ECHO in round {round}");
        }
    }
    Ok(())
}

/// Commands on many keys, and on all.
async fn whole_keyspace(proxy: &Proxy) -> Result<()> {
    let mut one = client(proxy).await?;
    let said = say(
        &mut one,
        &[
            "FLUSHALL",
            "MSET a 1 b 2 c 3 d 4 e 5",
            "MGET e a x b",
            "EXISTS a b x",
            "DBSIZE",
            "DEL a b x",
            "TOUCH c d",
            "UNLINK c",
            "DBSIZE",
            "SCRIPT LOAD return'a'",
            "SCRIPT EXISTS 3ca8edc8dd13d1e32a9ea1a7b33dcd6d6a5d2d4d",
        ],
    )
    .await?;
    assert_eq!(said[..9], ["OK", "OK", "[5 1 - 2]", "2", "5", "2", "2", "1", "2"]);
    let hash = &said[9];
    for key in ["k1", "k2", "k3", "k4"] {
        assert_eq!(say(&mut one, &[&format!("EVALSHA {hash} 1 {key}")]).await?, ["a"]);
    }
    let keys: Vec<String> = (0..500).map(|index| format!("scan:{index}")).collect();
    for key in &keys {
        say(&mut one, &[&format!("SET {key} 1")]).await?;
    }
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    for _ in 0..1000 {
        let answer = one.call(&command(&format!("SCAN {cursor} MATCH scan:* COUNT 50"))).await?;
        let parts = answer.array().context("two parts")?;
        seen.extend(parts[1].array().context("keys")?.iter().map(shown));
        cursor = shown(&parts[0]);
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    let mut all = keys.clone();
    all.sort();
    assert_eq!((cursor.as_str(), seen), ("0", all));
    let listed = one.call(&Command::new("KEYS").arg("scan:*")).await?;
    assert_eq!(listed.array().map(<[Value]>::len), Some(500));
    let random = say(&mut one, &["RANDOMKEY"]).await?;
    assert_eq!(say(&mut one, &[&format!("EXISTS {}", random[0])]).await?, ["1"]);
    let info = say(&mut one, &["INFO"]).await?;
    assert!(info[0].contains("redis_mode:standalone") && info[0].contains("db0:keys=502"), "{info:?}");
    Ok(())
}

/// What cannot be carried is refused with words that say why, and the connection goes on.
async fn refusals(proxy: &Proxy) -> Result<()> {
    let mut one = client(proxy).await?;
    let said = say(
        &mut one,
        &[
            "RENAME a b",
            "SELECT 1",
            "MONITOR",
            "NOSUCH thing",
            "GET",
            "CLUSTER NODES",
            "BLPOP a b 1",
            "CLIENT REPLY OFF",
            "SDIFFSTORE a b c",
            "SWAPDB 0 1",
            "SCAN 5x",
            "AUTH secret",
            "CONFIG SET requirepass x",
            "CONFIG SET maxmemory 0 masterauth x",
            "ACL SETUSER default off",
            "ACL LOAD",
            "CONFIG SET maxmemory 0",
            "PING",
        ],
    )
    .await?;
    let starts = [
        "!CROSSSLOT",
        "!ERR regrow: the proxy carries database 0",
        "!ERR regrow: MONITOR is not carried",
        "!ERR unknown command 'NOSUCH'",
        "!ERR wrong number of arguments for 'get'",
        "!ERR regrow: CLUSTER is not",
        "!CROSSSLOT",
        "!ERR regrow: CLIENT REPLY",
        "!CROSSSLOT",
        "!ERR regrow: SWAPDB",
        "!ERR invalid cursor",
        "!ERR AUTH <password> called",
        "!ERR regrow: CONFIG SET requirepass is not",
        "!ERR regrow: CONFIG SET masterauth is not",
        "!ERR regrow: ACL SETUSER for this user is not",
        "!ERR regrow: ACL LOAD is not",
        "OK",
        "PONG",
    ];
    for (said, start) in said.iter().zip(starts) {
        ensure!(said.starts_with(start), "{said} instead of {start}");
    }
    Ok(())
}

/// `MULTI` in one slot is atomic, across slots refused as a whole; `WATCH` sees changes by others.
async fn transactions(proxy: &Proxy) -> Result<()> {
    let (mut one, mut two) = (client(proxy).await?, client(proxy).await?);
    assert_eq!(
        say(&mut one, &["MULTI", "PING", "SET {t}a 1", "INCR {t}a", "GET {t}a", "EXEC", "GET {t}a"]).await?,
        ["OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "[PONG OK 2 2]", "2"]
    );
    let crossed = say(&mut one, &["MULTI", "SET {t}a 9", "SET {u}a 9", "EXEC", "MGET {t}a {u}a"]).await?;
    ensure!(crossed[2].starts_with("!CROSSSLOT") && crossed[3].starts_with("!EXECABORT"), "{crossed:?}");
    assert_eq!(crossed[4], "[2 -]");
    let spoilt = say(&mut one, &["MULTI", "GET", "EXEC", "DISCARD", "EXEC"]).await?;
    ensure!(spoilt[1].starts_with("!ERR wrong") && spoilt[2].starts_with("!EXECABORT"), "{spoilt:?}");
    ensure!(spoilt[3].starts_with("!ERR DISCARD without") && spoilt[4].starts_with("!ERR EXEC without"), "{spoilt:?}");
    assert_eq!(say(&mut one, &["WATCH {t}a"]).await?, ["OK"]);
    assert_eq!(say(&mut two, &["SET {t}a 7"]).await?, ["OK"]);
    assert_eq!(say(&mut one, &["MULTI", "SET {t}a 8", "EXEC", "GET {t}a"]).await?, ["OK", "QUEUED", "-", "7"]);
    assert_eq!(say(&mut one, &["WATCH {t}a", "GET {t}a", "MULTI", "SET {t}a 8", "EXEC"]).await?[4], "[OK]");
    assert_eq!(
        say(&mut one, &["MULTI", "LPUSH {t}a x", "GET {t}a", "EXEC"]).await?[3].split(' ').next(),
        Some("[!WRONGTYPE")
    );
    assert_eq!(say(&mut one, &["MULTI", "EXEC", "MULTI", "DISCARD"]).await?, ["OK", "[]", "OK", "OK"]);
    Ok(())
}

/// A blocked client waits without holding others up, and gets what comes; one that goes leaves nothing taken.
async fn blocking(proxy: &Proxy) -> Result<()> {
    let mut two = client(proxy).await?;
    let mut waiting = Vec::new();
    for index in 0..20 {
        let mut one = client(proxy).await?;
        waiting.push(tokio::spawn(async move {
            say(&mut one, &["SET before 1", &format!("BLPOP list:{index} 0"), "GET before"]).await
        }));
    }
    for index in 0..20 {
        assert_eq!(say(&mut two, &[&format!("RPUSH list:{index} v{index}")]).await?, ["1"]);
    }
    for (index, one) in waiting.into_iter().enumerate() {
        assert_eq!(one.await??, ["OK".to_owned(), format!("[list:{index} v{index}]"), "1".to_owned()]);
    }
    assert_eq!(say(&mut two, &["BLPOP list:none 0.05", "XREAD BLOCK 50 STREAMS st $"]).await?, ["-", "-"]);
    let mut gone = TcpStream::connect(proxy.address()).await?;
    gone.write_all(b"*3\r\n$5\r\nBLPOP\r\n$4\r\nleft\r\n$1\r\n0\r\n").await?;
    drop(gone);
    let patience = Patience::new("the server knows of no blocked client");
    loop {
        let info = say(&mut two, &["INFO clients"]).await?;
        if info[0].contains("blocked_clients:0") {
            break;
        }
        patience.or_fail()?;
    }
    Ok(())
}

/// Channels, patterns and sharded channels, in both versions of the protocol.
async fn subscribers(proxy: &Proxy) -> Result<()> {
    for three in [false, true] {
        let mut raw = TcpStream::connect(proxy.address()).await?;
        let mut input = String::new();
        if three {
            raw.write_all(b"HELLO 3\r\n").await?;
            until(&mut raw, &mut input, "modules").await?;
        }
        raw.write_all(b"SUBSCRIBE one two\r\nPSUBSCRIBE p*\r\nSSUBSCRIBE s1 s2 s3\r\n").await?;
        until(&mut raw, &mut input, "$2\r\ns3\r\n:3\r\n").await?;
        ensure!(input.contains("$3\r\ntwo\r\n:2\r\n") && input.contains("$2\r\np*\r\n:3\r\n"), "{input}");
        let mut two = client(proxy).await?;
        assert_eq!(say(&mut two, &["PUBLISH one m1", "PUBLISH px m2"]).await?, ["1", "1"]);
        for channel in ["s1", "s2", "s3"] {
            assert_eq!(say(&mut two, &[&format!("SPUBLISH {channel} m-{channel}")]).await?, ["1"]);
        }
        for wanted in ["m1\r\n", "m2\r\n", "m-s1\r\n", "m-s2\r\n", "m-s3\r\n"] {
            until(&mut raw, &mut input, wanted).await?;
        }
        input.clear();
        raw.write_all(b"GET a\r\nPING\r\nUNSUBSCRIBE\r\nPUNSUBSCRIBE p*\r\nSUNSUBSCRIBE\r\nECHO end\r\n").await?;
        until(&mut raw, &mut input, "end\r\n").await?;
        let refused = input.contains("-ERR Can't execute 'get'");
        ensure!(refused != three, "{input}");
        let (numsub, numpat) = ("PUBSUB NUMSUB one", "PUBSUB NUMPAT");
        let patience = Patience::new("nobody subscribes any more");
        while say(&mut two, &[numsub, numpat]).await? != ["[one 0]", "0"] {
            patience.or_fail()?;
        }
    }
    Ok(())
}

async fn until(raw: &mut TcpStream, input: &mut String, wanted: &str) -> Result<()> {
    let mut bytes = [0; 4096];
    while !input.contains(wanted) {
        let count =
            tokio::time::timeout(Duration::from_secs(50), raw.read(&mut bytes)).await.context(wanted.to_owned())??;
        ensure!(count > 0, "closed before {wanted:?}: {input:?}");
        input.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    Ok(())
}

/// Whoever does not speak the protocol is told and closed, and nobody else feels it.
async fn hostile(proxy: &Proxy) -> Result<()> {
    let mut honest = client(proxy).await?;
    let inputs: [&[u8]; 9] = [
        b"*1\r\n$999999999999\r\n",
        b"*2\r\n$3\r\nGET\r\n$-5\r\n",
        b"*99999999\r\n",
        b"*2\r\n$3\r\nGETxy",
        b"*-7\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"*1\r\n:5\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nabcde\r\n",
        b"\"unbalanced\r\n",
    ];
    for input in inputs {
        let mut raw = TcpStream::connect(proxy.address()).await?;
        raw.write_all(input).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(50), raw.read_to_end(&mut answer)).await??;
        ensure!(
            answer.starts_with(b"-ERR"),
            "{:?}: {:?}",
            String::from_utf8_lossy(input),
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(say(&mut honest, &["PING"]).await?, ["PONG"]);
    }
    // Half a command, then gone: it is not carried out.
    let mut raw = TcpStream::connect(proxy.address()).await?;
    raw.write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$5\r\nab").await?;
    drop(raw);
    assert_eq!(say(&mut honest, &["GET half"]).await?, ["-"]);
    Ok(())
}

/// A client that does not read its answers is read from no more, and others do not wait for it.
async fn slow_reader(proxy: &Proxy) -> Result<()> {
    let mut honest = client(proxy).await?;
    honest.call(&Command::new("SET").arg("big").arg(vec![b'x'; 1 << 20])).await?;
    let mut slow = TcpStream::connect(proxy.address()).await?;
    let request = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(1_000_000);
    let written = tokio::time::timeout(Duration::from_secs(2), slow.write_all(&request)).await;
    ensure!(written.is_err(), "the proxy has taken a million commands for a terabyte of answers");
    for _ in 0..100 {
        assert_eq!(say(&mut honest, &["PING", "EXISTS big"]).await?, ["PONG", "1"]);
    }
    Ok(())
}

/// Counts up keys of all slots until told to stop; gives back how often each was acknowledged, and how often refused.
async fn count_up(
    mut one: Connection,
    prefix: String,
    stopped: watch::Receiver<bool>,
) -> Result<(Vec<i64>, Vec<String>)> {
    let mut counts = vec![0i64; 64];
    let mut refused = Vec::new();
    while !*stopped.borrow() {
        let commands: Vec<Command> =
            (0..counts.len()).map(|index| Command::new("INCR").arg(format!("{prefix}:{index}"))).collect();
        for (count, answer) in counts.iter_mut().zip(one.pipeline(&commands).await?) {
            match answer {
                Value::Int(_) => *count += 1,
                other => refused.push(shown(&other)),
            }
        }
    }
    Ok((counts, refused))
}

/// Slots move while clients write through the proxy: no command fails, and each is carried out once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load() -> Result<()> {
    need_redis!("slots_move_under_load");
    let servers = cluster(0)?;
    let proxy = before(&servers).await?;
    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for index in 0..4 {
        writers.push(tokio::spawn(count_up(client(&proxy).await?, format!("w{index}"), stopped.clone())));
    }
    let (seed, target) = (servers[0].address.to_string(), servers[1].address.to_string());
    let slots = size(400, 3000).to_string();
    tokio::task::spawn_blocking(move || regrow_ok(&["reshard", &seed, "--to", &target, "--slots", &slots, "--yes"]))
        .await??;
    stop.send(true)?;
    let mut reader = client(&proxy).await?;
    for (index, writer) in writers.into_iter().enumerate() {
        let (counts, refused) = writer.await??;
        assert_eq!(refused, Vec::<String>::new());
        for (key, count) in counts.iter().enumerate() {
            assert_eq!(say(&mut reader, &[&format!("GET w{index}:{key}")]).await?, [count.to_string()]);
        }
    }
    Ok(())
}

/// A master is killed: what was in flight to it is refused as unknown, everything else waits for the new master.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_over_with_only_in_flight_errors() -> Result<()> {
    need_redis!("fail_over_with_only_in_flight_errors");
    let mut servers = cluster(1)?;
    let proxy = before(&servers).await?;
    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for index in 0..4 {
        writers.push(tokio::spawn(count_up(client(&proxy).await?, format!("w{index}"), stopped.clone())));
    }
    let mut subscriber = TcpStream::connect(proxy.address()).await?;
    let mut input = String::new();
    subscriber.write_all(b"SUBSCRIBE news\r\n").await?;
    until(&mut subscriber, &mut input, "news\r\n:1\r\n").await?;
    let mut reader = client(&proxy).await?;
    let patience = Patience::new("the writers have begun");
    while say(&mut reader, &["EXISTS w0:0 w1:0 w2:0 w3:0"]).await? != ["4"] {
        patience.or_fail()?;
    }
    // Slot 0 is that of commands without keys, so its master is the one that subscribers listen to.
    servers[0].kill()?;
    // A read of the dead master's slots is answered by the new one.
    let lost_slot = "GET {06S}x";
    assert_eq!(regrow_redis::slot::Slot::of_key(b"{06S}x").number(), 0);
    assert_eq!(say(&mut reader, &[lost_slot, "SET {06S}x 1", lost_slot]).await?, ["-", "OK", "1"]);
    let patience = Patience::new("the subscriber hears again");
    while !input.contains("hello") {
        patience.or_fail()?;
        say(&mut reader, &["PUBLISH news hello"]).await?;
        let mut bytes = [0; 4096];
        if let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(50), subscriber.read(&mut bytes)).await {
            ensure!(count > 0, "the subscriber was cut off");
            input.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
    stop.send(true)?;
    for (index, writer) in writers.into_iter().enumerate() {
        let (_, refused) = writer.await??;
        ensure!(refused.len() <= 64, "more than what one client has in flight: {}", refused.len());
        for text in refused {
            ensure!(text.contains("whether the command was carried out is unknown"), "client {index}: {text}");
        }
    }
    Ok(())
}

/// The backend is changed under load, with a client blocked, one subscribed and one watching: no command fails, each is
/// carried out by exactly one of the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switch_under_load() -> Result<()> {
    need_redis!("switch_under_load");
    let (old, new) = (Server::start("127.0.0.1", &[])?, Server::start("127.0.0.1", &["--requirepass", "sesame"])?);
    let folder = tempfile::tempdir()?;
    let admin = folder.path().join("admin.sock");
    let proxy =
        Proxy::start(Config { admin: Some(admin.clone()), ..config(&format!("redis://{}", old.address))? }).await?;
    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for index in 0..4 {
        writers.push(tokio::spawn(count_up(client(&proxy).await?, format!("w{index}"), stopped.clone())));
    }
    let mut blocked = client(&proxy).await?;
    let blocked = tokio::spawn(async move { say(&mut blocked, &["BLPOP gift 0"]).await });
    let mut subscriber = TcpStream::connect(proxy.address()).await?;
    let mut input = String::new();
    subscriber.write_all(b"SUBSCRIBE news\r\n").await?;
    until(&mut subscriber, &mut input, "news\r\n:1\r\n").await?;
    let mut watcher = client(&proxy).await?;
    assert_eq!(say(&mut watcher, &["WATCH w", "MULTI", "SET w 1"]).await?, ["OK", "OK", "QUEUED"]);
    let patience = Patience::new("the blocked client waits and the writers write");
    while !old.cli(&["INFO", "clients"])?.contains("blocked_clients:1") || old.cli(&["EXISTS", "w3:63"])? != "1" {
        patience.or_fail()?;
    }

    let remote = Remote::new(&admin);
    let to: Url = format!("redis://:sesame@{}", new.address).parse()?;
    let wrong: Url = format!("redis://:wrong@{}", new.address).parse()?;
    let refused = remote.switch(&wrong, Duration::from_secs(5)).await.unwrap_err().to_string();
    ensure!(refused.contains("does not let the proxy in") && !refused.contains("wrong@"), "{refused}");
    ensure!(remote.switch_paused(&to).await.is_err(), "there is no pause yet");
    // By steps, as a migration does.
    remote.pause(Duration::from_secs(20), Duration::from_secs(20)).await?;
    ensure!(remote.pause(Duration::from_secs(1), Duration::from_secs(1)).await.is_err(), "paused twice");
    let at_switch: Vec<String> =
        (0..4).map(|index| old.cli(&["GET", &format!("w{index}:7")])).collect::<Result<_>>()?;
    remote.switch_paused(&to).await?;
    let held = remote.resume().await?;
    ensure!(held > Duration::ZERO);
    let status = remote.status().await?;
    assert_eq!((status.to, status.paused), (format!("redis://{}", new.address), false));

    let mut two = client(&proxy).await?;
    let patience = Patience::new("the writers write to the new one");
    while say(&mut two, &["EXISTS w0:63 w1:63 w2:63 w3:63"]).await? != ["4"] {
        patience.or_fail()?;
    }
    assert_eq!(say(&mut two, &["RPUSH gift g"]).await?, ["1"]);
    assert_eq!(blocked.await??, ["[gift g]"]);
    assert_eq!(say(&mut watcher, &["EXEC", "GET w"]).await?, ["-", "-"]);
    let patience = Patience::new("the subscriber hears of the new one");
    while !input.contains("hello") {
        patience.or_fail()?;
        say(&mut two, &["PUBLISH news hello"]).await?;
        let mut bytes = [0; 4096];
        if let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(50), subscriber.read(&mut bytes)).await {
            ensure!(count > 0, "the subscriber was cut off");
            input.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
    stop.send(true)?;
    let mut on_old = Dialer::default().connect(&old.address).await?;
    let mut on_new = Dialer { credentials: to.credentials.clone(), ..Dialer::default() }.connect(&new.address).await?;
    for (index, writer) in writers.into_iter().enumerate() {
        let (counts, refused) = writer.await??;
        assert_eq!(refused, Vec::<String>::new());
        let keys = (0..counts.len()).map(|key| format!("w{index}:{key}"));
        let commands: Vec<Command> = keys.map(|key| Command::new("GET").arg(key)).collect();
        let (there, here) = (on_old.pipeline(&commands).await?, on_new.pipeline(&commands).await?);
        for (key, count) in counts.iter().enumerate() {
            let (there, here) = (there[key].int().context("a count")?, here[key].int().context("a count")?);
            assert_eq!(there + here, *count, "w{index}:{key}");
        }
        assert_eq!(old.cli(&["GET", &format!("w{index}:7")])?, at_switch[index], "nothing was written after the pause");
    }
    Ok(())
}

/// Nobody gets in without the password, the proxy opens itself to nobody by mistake, and limits hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doors() -> Result<()> {
    need_redis!("doors");
    let server = Server::start("127.0.0.1", &["--requirepass", "inner"])?;
    let url = format!("redis://:inner@{}", server.address);
    let open = Config { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..config(&url)? };
    ensure!(matches!(Proxy::start(open).await, Err(StartError::Open(_))), "open to everybody");
    let metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let limits = Limits { clients_max: 3, idle: None, ..Limits::default() };
    let proxy = Proxy::start(Config { password: Secret::new("outer"), metrics, limits, ..config(&url)? }).await?;
    let mut one = client(&proxy).await?;
    let said =
        say(&mut one, &["GET a", "AUTH inner", "AUTH user outer", "HELLO 3", "AUTH outer", "SET a 1", "GET a"]).await?;
    for (said, start) in said.iter().zip(["!NOAUTH", "!WRONGPASS", "!WRONGPASS", "!NOAUTH", "OK", "OK", "1"]) {
        ensure!(said.starts_with(start), "{said} instead of {start}");
    }
    let mut two = client(&proxy).await?;
    let said = say(&mut two, &["HELLO 3 AUTH default outer SETNAME me", "CLIENT GETNAME", "HGETALL none"]).await?;
    ensure!(said[0].contains("proto:3") && said[0].contains("mode:standalone"), "{said:?}");
    assert_eq!(said[1..], ["me", "{}"]);
    // Nobody changes the locks through the door.
    let said = say(&mut two, &["MULTI", "ACL SETUSER default nopass", "CONFIG SET requirepass mine", "EXEC"]).await?;
    ensure!(
        said[1].contains("lock out") && said[2].contains("lock out") && said[3].starts_with("!EXECABORT"),
        "{said:?}"
    );
    assert_eq!(
        server.cli(&["-a", "inner", "--no-auth-warning", "CONFIG", "GET", "requirepass"])?,
        "requirepass\ninner"
    );
    // A stranger may not make the proxy hold anything.
    let mut stranger = TcpStream::connect(proxy.address()).await?;
    stranger.write_all(b"*1000\r\n").await?;
    let mut answer = String::new();
    until(&mut stranger, &mut answer, "Protocol error").await?;
    drop(stranger);
    let mut crowd = Vec::new();
    let patience = Patience::new("one is turned away");
    loop {
        let mut next = TcpStream::connect(proxy.address()).await?;
        let mut text = String::new();
        next.write_all(b"QUITTER\r\n").await?;
        until(&mut next, &mut text, "\r\n").await?;
        if text.contains("max number of clients") {
            break;
        }
        crowd.push(next);
        patience.or_fail()?;
    }
    drop(crowd);

    let address = proxy.metrics_address().context("an address")?;
    let http = |request: &'static str| async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let text = http("GET /metrics HTTP/1.1\r\n\r\n").await?;
    ensure!(text.starts_with("HTTP/1.1 200") && text.contains("regrow_redis_proxy_bad_passwords_total 2"), "{text}");
    ensure!(http("GET /health HTTP/1.1\r\n\r\n").await?.starts_with("HTTP/1.1 200"));
    ensure!(http("POST /pause HTTP/1.1\r\n\r\n").await?.starts_with("HTTP/1.1 403"));
    ensure!(http("GET /x HTTP/1.1\r\n\r\n").await?.starts_with("HTTP/1.1 404"));
    drop(server);
    ensure!(http("GET /health HTTP/1.1\r\n\r\n").await?.starts_with("HTTP/1.1 503"));
    ensure!(Remote::new(Path::new("/nonexistent/x.sock")).status().await.is_err());
    Ok(())
}
