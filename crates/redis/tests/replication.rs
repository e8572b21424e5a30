//! We are a replica of a real server: snapshot, live writes, and going on after a cut.

mod world;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::rdb::{Key, Reader, Record};
use regrow_redis::replication::{Begin, Entry, Feed, Position, attach, pipe};
use regrow_redis::resp::Command;
use world::{Server, need_redis};

/// The keys of a snapshot, by database.
async fn keys(feed: &mut Feed) -> Result<BTreeMap<u32, Vec<Bytes>>> {
    let (writer, reader) = pipe();
    let reading = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::new(reader)?;
        let mut keys: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
        while let Some(record) = reader.next_record()? {
            if let Record::Key(Key { db, name, .. }) = record {
                keys.entry(db).or_default().push(name);
            }
        }
        anyhow::Ok((keys, reader.offset()))
    });
    let size = feed.snapshot(&writer).await?;
    drop(writer);
    let (keys, read) = reading.await??;
    assert_eq!(read, size, "the snapshot ends where its checksum is");
    Ok(keys)
}

/// Entries up to the write of a key named `end`, as text, without it.
async fn until_end(feed: &mut Feed) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    loop {
        if let Entry::Write { db, words, .. } = feed.next_entry().await? {
            let text: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            if text.get(1).is_some_and(|key| key == "end") {
                return Ok(seen);
            }
            seen.push(format!("{db}: {}", text.join(" ")));
        }
    }
}

async fn do_all(link: &mut Connection, lines: &[&str]) -> Result<()> {
    for line in lines {
        let (first, rest) = line.split_once(' ').context("a command")?;
        let name: &'static str = match first {
            "SET" => "SET",
            "SELECT" => "SELECT",
            "INCR" => "INCR",
            "PEXPIREAT" => "PEXPIREAT",
            other => bail!("{other}"),
        };
        link.call(&Command::new(name).args(rest.split(' '))).await?;
    }
    Ok(())
}

/// Snapshot with and without a known length; then every write once, in order, also over a cut.
async fn follow(settings: &[&str]) -> Result<()> {
    let server = Server::start("127.0.0.1", settings)?;
    let dialer = Dialer::default();
    let mut link = dialer.connect(&server.address).await?;
    do_all(&mut link, &["SET a 1", "SET b 2", "SELECT 5", "SET c 3"]).await?;

    let (begin, mut feed) = attach(&dialer, &server.address, None).await?;
    assert_eq!(begin, Begin::Full);
    let keys = keys(&mut feed).await?;
    assert_eq!(keys.keys().copied().collect::<Vec<_>>(), [0, 5]);
    assert_eq!(keys[&5], ["c"]);

    do_all(&mut link, &["INCR c", "SELECT 0", "SET a x", "PEXPIREAT a 4102444800123", "SET end 1"]).await?;
    assert_eq!(until_end(&mut feed).await?, ["5: INCR c", "0: SET a x", "0: PEXPIREAT a 4102444800123"]);
    // The master sees a replica that has everything.
    let position = feed.position();
    loop {
        let info = link.info().await?;
        if info.text("slave0").is_some_and(|line| line.contains(&format!("offset={}", position.offset))) {
            break;
        }
        tokio::time::timeout(std::time::Duration::from_millis(50), feed.next_entry()).await.ok().transpose()?;
    }

    let position = feed.position();
    drop(feed);
    do_all(&mut link, &["SET missed 1", "SELECT 5", "SET missed 2", "SET end 2"]).await?;
    let (begin, mut feed) = attach(&dialer, &server.address, Some(&position)).await?;
    assert_eq!(begin, Begin::Onwards);
    assert_eq!(until_end(&mut feed).await?, ["0: SET missed 1", "5: SET missed 2"]);

    // Another history, or one too long ago, is a full copy again.
    drop(feed);
    let strange = Position { history: "f".repeat(40), ..position };
    assert_eq!(attach(&dialer, &server.address, Some(&strange)).await?.0, Begin::Full);
    Ok(())
}

#[tokio::test]
async fn follows_a_master_that_sends_from_memory() -> Result<()> {
    need_redis!("follows_a_master_that_sends_from_memory");
    follow(&["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]).await
}

#[tokio::test]
async fn follows_a_master_that_sends_a_file() -> Result<()> {
    need_redis!("follows_a_master_that_sends_a_file");
    follow(&["--repl-diskless-sync", "no"]).await
}
