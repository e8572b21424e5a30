//! Where a migration goes on after it was killed, and what it believes of a target that came back with less than it had.

mod world;

use std::fs::File;
use std::io::BufReader;

use anyhow::{Context, Result};
use regrow_redis::rdb::{Reader, Record, Value};
use regrow_redis::resp::Command;
use world::migrator::{Migrator, server, url};
use world::writers::Dice;
use world::{need_redis, open, send};

/// Killed right after a long value: the key after it is not taken for one that is there already.
#[tokio::test]
async fn right_after_a_long_value() -> Result<()> {
    need_redis!("right_after_a_long_value");
    let source = server(&[])?;
    let mut link = open(&source).await?;
    let mut dice = Dice::new(1);
    for index in 0..5 {
        // What a snapshot cannot make short.
        let items: Vec<String> = (0..100_000).map(|_| format!("{:016x}", dice.roll(u64::MAX))).collect();
        let push = Command::new("RPUSH").arg(format!("long:{index}")).args(&items);
        send(&mut link, &[push]).await?;
    }
    let set = |n| Command::new("SET").arg(format!("short:{n}")).arg("value");
    send(&mut link, &(0..1000).map(set).collect::<Vec<_>>()).await?;
    let target = server(&[])?;
    let mut migrator = Migrator::new(&url(&source), &url(&target), &["--rate", "200"])?;
    migrator.start()?;
    migrator.until("keys/s").await?;
    migrator.kill()?;

    let folder = migrator.state().join("feed-0");
    let mut reader = Reader::new(BufReader::new(File::open(folder.join("snapshot.rdb"))?))?;
    let (mut keys, mut place) = (0, None);
    let (bytes, loaded, next) = loop {
        let Record::Key(key) = reader.next_record()?.context("no key after a long one")? else { continue };
        if let Some((bytes, loaded)) = place {
            break (bytes, loaded, key.name);
        }
        keys += 1;
        reader.pass_over()?;
        place = (key.value == Value::Long).then(|| (reader.offset(), keys));
    };
    let journal = folder.join("journal.json");
    let mut read: serde_json::Value = serde_json::from_slice(&std::fs::read(&journal)?)?;
    assert_eq!(read["stage"], "loading");
    (read["loaded"], read["loaded_keys"]) = (bytes.into(), loaded.into());
    std::fs::write(&journal, serde_json::to_vec(&read)?)?;

    // As it was at that moment: what comes before is there, and nothing else.
    let mut there = open(&target).await?;
    send(&mut there, &[Command::new("FLUSHALL")]).await?;
    migrator.words.truncate(migrator.words.len() - 2);
    migrator.start()?;
    migrator.until("in step").await?;
    assert_eq!(there.int(&Command::new("EXISTS").arg(&next)).await?, 1, "{next:?}");
    let all =
        Command::new("EXISTS").args((0..5).map(|n| format!("long:{n}"))).args((0..1000).map(|n| format!("short:{n}")));
    assert_eq!(there.int(&all).await?, 1005 - loaded);
    Ok(())
}
