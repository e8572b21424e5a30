//! What servers hold, read by the commands of each type: the judge of migrations, which knows nothing of how they work.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::resp::{Command, Value};

/// Every key of some servers, by database and name: its type, value and expiry as text.
pub(crate) type Contents = BTreeMap<(u32, Bytes), String>;

/// Reads all keys of some servers (the masters of a cluster, or one), in these databases.
pub(crate) async fn contents(servers: &[Address], databases: &[u32]) -> Result<Contents> {
    read_all(servers, databases, false).await
}

/// The same without expiries and what streams tell since 7.0, to be compared with what an older server holds.
pub(crate) async fn values(servers: &[Address], databases: &[u32]) -> Result<Contents> {
    read_all(servers, databases, true).await
}

async fn read_all(servers: &[Address], databases: &[u32], old: bool) -> Result<Contents> {
    let mut all = Contents::new();
    for server in servers {
        let mut link = Dialer::default().connect(server).await?;
        for db in databases {
            if *db != 0 {
                link.ok(&Command::new("SELECT").number(*db)).await?;
            }
            let mut cursor = Bytes::from_static(b"0");
            loop {
                let answer = link.call(&Command::new("SCAN").arg(&cursor).arg("COUNT").number(500)).await?;
                let parts = answer.array().context("SCAN")?;
                let keys: Vec<Bytes> =
                    parts[1].array().context("keys")?.iter().filter_map(Value::bytes).cloned().collect();
                for (key, content) in read(&mut link, &keys, old).await? {
                    let before = all.insert((*db, key.clone()), content);
                    anyhow::ensure!(servers.len() == 1 || before.is_none() || databases.len() > 1, "{key:?} is twice");
                }
                cursor = parts[0].bytes().context("cursor")?.clone();
                if cursor.as_ref() == b"0" {
                    break;
                }
            }
        }
    }
    Ok(all)
}

async fn read(link: &mut Connection, keys: &[Bytes], old: bool) -> Result<Vec<(Bytes, String)>> {
    let ask: Vec<Command> =
        keys.iter().flat_map(|key| [Command::new("TYPE").arg(key), Command::new("PEXPIRETIME").arg(key)]).collect();
    let heads = link.pipeline(&ask).await?;
    let kinds: Vec<String> = heads.iter().step_by(2).map(|kind| kind.text().unwrap_or_default().to_owned()).collect();
    let ask: Vec<Command> = keys
        .iter()
        .zip(&kinds)
        .map(|(key, kind)| match kind.as_str() {
            "string" => Command::new("GET").arg(key),
            "list" => Command::new("LRANGE").arg(key).args(["0", "-1"]),
            "set" => Command::new("SMEMBERS").arg(key),
            "zset" => Command::new("ZRANGE").arg(key).args(["0", "-1", "WITHSCORES"]),
            "hash" => Command::new("HGETALL").arg(key),
            "stream" => Command::new("XINFO STREAM").arg(key).args(["FULL", "COUNT", "0"]),
            _ => Command::new("TYPE").arg(key),
        })
        .collect();
    let values = link.pipeline(&ask).await?;
    let mut all = Vec::new();
    for (index, (key, value)) in keys.iter().zip(values).enumerate() {
        let kind = &kinds[index];
        if kind == "none" || matches!(value, Value::Null) {
            continue;
        }
        let text = match kind.as_str() {
            "set" => sorted(&value, 1),
            "hash" => sorted(&value, 2),
            "stream" => stream(&value, old),
            _ => format!("{value:?}"),
        };
        let expires = if old { String::new() } else { format!(" expires {:?}", heads[index * 2 + 1]) };
        all.push((key.clone(), format!("{kind}{expires}: {text}")));
    }
    Ok(all)
}

fn sorted(value: &Value, per: usize) -> String {
    let mut items: Vec<String> =
        value.array().unwrap_or_default().chunks(per).map(|chunk| format!("{chunk:?}")).collect();
    items.sort();
    items.join(" ")
}

/// All of a stream, but how it lies in memory and when consumers were last seen.
/// `old`: nor what servers before 7.0 do not know.
pub(crate) fn stream(value: &Value, old: bool) -> String {
    let mut text = String::new();
    for pair in value.array().unwrap_or_default().chunks(2) {
        let name = pair[0].text().unwrap_or_default();
        match name {
            "radix-tree-keys" | "radix-tree-nodes" => {}
            "max-deleted-entry-id" | "entries-added" | "recorded-first-entry-id" if old => {}
            "groups" => {
                for group in pair[1].array().unwrap_or_default() {
                    for part in group.array().unwrap_or_default().chunks(2) {
                        // Replicas of 7.0 itself do not learn of these two what XREADGROUP makes of them.
                        if matches!(part[0].text(), Some("entries-read" | "lag")) {
                            continue;
                        }
                        if part[0].text() != Some("consumers") {
                            text += &format!("{part:?} ");
                            continue;
                        }
                        for consumer in part[1].array().unwrap_or_default() {
                            let parts = consumer.array().unwrap_or_default().chunks(2);
                            let seen = ["seen-time", "active-time"];
                            for part in parts.filter(|part| !seen.contains(&part[0].text().unwrap_or_default())) {
                                text += &format!("{part:?} ");
                            }
                        }
                    }
                }
            }
            _ => text += &format!("{pair:?} "),
        }
    }
    text
}

/// What is different between two readings, shortened.
pub(crate) fn differences(source: &Contents, target: &Contents) -> Vec<String> {
    let cut = |text: Option<&String>| text.map_or("nothing".to_owned(), |text| text.chars().take(300).collect());
    let mut keys: Vec<_> = source.keys().chain(target.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| source.get(*key) != target.get(*key))
        .map(|key| format!("{key:?}: {} | {}", cut(source.get(key)), cut(target.get(key))))
        .collect()
}
