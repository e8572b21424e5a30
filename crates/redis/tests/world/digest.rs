//! What servers hold, in their own word: `DEBUG DIGEST-VALUE` and the expiry of each key, and of streams what that leaves out. For data
//! sets that are too large to be held as text.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::resp::{Command, Value};

use super::Patience;
use super::content::stream;

/// A key's digest with its expiry, behind it what its stream's groups are.
type Digests = HashMap<Bytes, String>;

/// Keys read at once.
const SOME: usize = 1000;

/// A digest of half a gigabyte takes its time.
fn dialer() -> Dialer {
    Dialer { timeout: Duration::from_secs(300), ..Dialer::default() }
}

async fn digests(servers: &[Address]) -> Result<Digests> {
    let mut all = Digests::new();
    for server in servers {
        let mut link = dialer().connect(server).await?;
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let answer = link.call(&Command::new("SCAN").arg(&cursor).arg("COUNT").number(SOME as u32)).await?;
            let parts = answer.array().context("SCAN")?;
            let keys: Vec<Bytes> = parts[1].array().context("keys")?.iter().filter_map(Value::bytes).cloned().collect();
            all.extend(read(&mut link, &keys).await?);
            cursor = parts[0].bytes().context("cursor")?.clone();
            if cursor.as_ref() == b"0" {
                break;
            }
        }
    }
    Ok(all)
}

/// Keys that are not there, or belong to another server, are left out.
async fn read(link: &mut Connection, keys: &[Bytes]) -> Result<Vec<(Bytes, String)>> {
    let mut found = Vec::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let mut asked = vec![Command::new("DEBUG DIGEST-VALUE").args(keys)];
    asked.extend(keys.iter().flat_map(|key| [Command::new("PEXPIRETIME").arg(key), Command::new("TYPE").arg(key)]));
    let answers = link.pipeline(&asked).await?;
    let values = answers[0].array().with_context(|| format!("{:?}", answers[0]))?;
    for (index, key) in keys.iter().enumerate() {
        let (expiry, Value::Simple(kind)) = (answers[1 + 2 * index].int(), &answers[2 + 2 * index]) else { continue };
        if kind.as_ref() == b"none" {
            continue;
        }
        let mut text = format!("{} {expiry:?}", values[index].text().context("a digest")?);
        if kind.as_ref() == b"stream" {
            text +=
                &stream(&link.call(&Command::new("XINFO STREAM").arg(key).args(["FULL", "COUNT", "0"])).await?, false);
        }
        found.push((key.clone(), text));
    }
    Ok(found)
}

/// Both sides hold the same; how many keys. Those that expire between the two readings are read again.
pub(crate) async fn same(source: &[Address], target: &[Address]) -> Result<usize> {
    let (mut a, mut b) = (digests(source).await?, digests(target).await?);
    let count = a.len();
    a.retain(|key, digest| match b.get(key) {
        Some(other) if other == digest => b.remove(key).is_none(),
        _ => true,
    });
    let mut different: Vec<Bytes> = a.into_keys().chain(b.into_keys()).collect();
    let patience = Patience::new("both sides the same");
    while !different.is_empty() {
        let (mut here, mut there) = (Digests::new(), Digests::new());
        for (side, servers) in [(&mut here, source), (&mut there, target)] {
            for server in servers {
                let mut link = dialer().connect(server).await?;
                for keys in different.chunks(SOME) {
                    side.extend(read(&mut link, keys).await?);
                }
            }
        }
        different.sort();
        different.dedup();
        different.retain(|key| here.get(key) != there.get(key));
        if let Err(error) = patience.or_fail() {
            let shown = |key| format!("{key:?}: {:?} | {:?}", here.get(key), there.get(key));
            let some: Vec<String> = different.iter().take(20).map(shown).collect();
            anyhow::bail!("{error}: {} of {count} keys differ:\n{}", different.len(), some.join("\n"));
        }
    }
    Ok(count)
}
