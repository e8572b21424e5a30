//! Compares big values range by range, so that no server stands still and no memory is filled.

use bytes::Bytes;

use crate::resp::{Command, Value};

use super::board::shown;
use super::carrier::Carrier;
use super::error::MigrateError;
use super::load::in_db;

/// Bytes of a string compared at once.
const STRING_STEP: i64 = 4 << 20;
/// Elements compared at once.
const STEP: i64 = 2000;

struct End<'a> {
    carrier: &'a mut Carrier,
    db: u32,
}

impl End<'_> {
    async fn ask(&mut self, key: &Bytes, command: Command) -> Result<Value, MigrateError> {
        let lane = self.carrier.lanes().of(key);
        let values = self.carrier.values(lane, in_db(self.db, vec![command])).await?;
        Ok(values.into_iter().nth(usize::from(self.db != 0)).unwrap_or(Value::Null))
    }
}

/// The first difference of a key's values; `None`: there is none.
pub(super) async fn difference(
    source: &mut Carrier,
    from: u32,
    target: &mut Carrier,
    to: u32,
    key: &Bytes,
) -> Result<Option<String>, MigrateError> {
    let (mut a, mut b) = (End { carrier: source, db: from }, End { carrier: target, db: to });
    let kind = Command::new("TYPE").arg(key);
    let (kind_a, kind_b) = (a.ask(key, kind.clone()).await?, b.ask(key, kind).await?);
    let (kind_a, kind_b) = (kind_a.text().unwrap_or_default(), kind_b.text().unwrap_or_default());
    if kind_a != kind_b {
        return Ok(Some(format!("{kind_a} on the source, {kind_b} on the target")));
    }
    let length = match kind_a {
        "string" => "STRLEN",
        "list" => "LLEN",
        "set" => "SCARD",
        "zset" => "ZCARD",
        "hash" => "HLEN",
        "stream" => "XLEN",
        _ => return Ok(Some(format!("a big value of type {kind_a} cannot be compared"))),
    };
    let count = a.ask(key, Command::new(length).arg(key)).await?.int().unwrap_or(-1);
    let other = b.ask(key, Command::new(length).arg(key)).await?.int().unwrap_or(-1);
    if count != other {
        return Ok(Some(format!("{kind_a} of {count} on the source, {other} on the target")));
    }
    match kind_a {
        "string" => ranges(&mut a, &mut b, key, "GETRANGE", count, STRING_STEP).await,
        "list" => ranges(&mut a, &mut b, key, "LRANGE", count, STEP).await,
        "stream" => stream(&mut a, &mut b, key).await,
        // The same number on both sides, and each of the one is in the other: they are the same.
        kind => members(&mut a, &mut b, key, kind).await,
    }
}

async fn ranges(
    a: &mut End<'_>,
    b: &mut End<'_>,
    key: &Bytes,
    command: &'static str,
    count: i64,
    step: i64,
) -> Result<Option<String>, MigrateError> {
    let mut at = 0;
    while at < count {
        let range = Command::new(command).arg(key).number(at).number(at + step - 1);
        if a.ask(key, range.clone()).await? != b.ask(key, range).await? {
            return Ok(Some(format!("another value from place {at} on")));
        }
        at += step;
    }
    Ok(None)
}

async fn members(a: &mut End<'_>, b: &mut End<'_>, key: &Bytes, kind: &str) -> Result<Option<String>, MigrateError> {
    let (scan, ask) = match kind {
        "set" => ("SSCAN", "SMISMEMBER"),
        "zset" => ("ZSCAN", "ZMSCORE"),
        _ => ("HSCAN", "HMGET"),
    };
    let mut cursor = Bytes::from_static(b"0");
    loop {
        let answer = a.ask(key, Command::new(scan).arg(key).arg(&cursor).arg("COUNT").number(STEP)).await?;
        let parts = answer.array().unwrap_or_default();
        let items = parts.get(1).and_then(Value::array).unwrap_or_default();
        let items: Vec<Bytes> = items.iter().filter_map(Value::bytes).cloned().collect();
        let per = if kind == "set" { 1 } else { 2 };
        let names: Vec<&Bytes> = items.iter().step_by(per).collect();
        if !names.is_empty() {
            let found = b.ask(key, Command::new(ask).arg(key).args(&names)).await?;
            let found = found.array().unwrap_or_default();
            for (index, name) in names.iter().enumerate() {
                let good = match (kind, found.get(index)) {
                    ("set", Some(found)) => found.int() == Some(1),
                    ("zset", Some(found)) => {
                        let score = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
                        let wanted = score(items.get(index * 2 + 1).and_then(|score| std::str::from_utf8(score).ok()));
                        wanted.is_some() && score(found.text()) == wanted
                    }
                    (_, Some(found)) => found.bytes() == items.get(index * 2 + 1),
                    _ => false,
                };
                if !good {
                    return Ok(Some(format!("member \"{}\" is missing or different on the target", shown(name))));
                }
            }
        }
        cursor = parts.first().and_then(Value::bytes).cloned().unwrap_or_else(|| Bytes::from_static(b"0"));
        if cursor.as_ref() == b"0" {
            return Ok(None);
        }
    }
}

async fn stream(a: &mut End<'_>, b: &mut End<'_>, key: &Bytes) -> Result<Option<String>, MigrateError> {
    let mut from = Bytes::from_static(b"-");
    loop {
        let range = Command::new("XRANGE").arg(key).arg(&from).arg("+").arg("COUNT").number(STEP);
        let (left, right) = (a.ask(key, range.clone()).await?, b.ask(key, range).await?);
        if left != right {
            return Ok(Some("another entry in the stream".to_owned()));
        }
        let last = left
            .array()
            .unwrap_or_default()
            .last()
            .and_then(Value::array)
            .and_then(|entry| entry.first()?.bytes().cloned());
        match last {
            Some(last) if left.array().is_some_and(|entries| entries.len() as i64 == STEP) => {
                from = [&b"("[..], &last].concat().into();
            }
            _ => break,
        }
    }
    let groups = Command::new("XINFO GROUPS").arg(key);
    let (left, right) = (a.ask(key, groups.clone()).await?, b.ask(key, groups).await?);
    let (left, right) = (group_list(&left), group_list(&right));
    if left != right {
        return Ok(Some("other groups of the stream".to_owned()));
    }
    for (name, ..) in &left {
        let mut from = Bytes::from_static(b"-");
        loop {
            let range = Command::new("XPENDING").arg(key).arg(name).arg(&from).arg("+").number(STEP);
            let (left, right) = (a.ask(key, range.clone()).await?, b.ask(key, range).await?);
            let (left, right) = (pending(&left), pending(&right));
            if left != right {
                return Ok(Some(format!("other entries pending in group \"{}\"", shown(name))));
            }
            match left.last() {
                Some((id, ..)) if left.len() as i64 == STEP => from = [&b"("[..], id].concat().into(),
                _ => break,
            }
        }
    }
    Ok(None)
}

/// Groups: name, consumers, what is pending, the last entry given. How many were given is not told to replicas by every server.
fn group_list(answer: &Value) -> Vec<(Bytes, i64, i64, Bytes)> {
    let group = |group: &Value| {
        let parts = group.array()?;
        let field = |name: &str| {
            let at = parts.iter().step_by(2).position(|part| part.text() == Some(name))?;
            parts.get(at * 2 + 1)
        };
        let name = field("name")?.bytes()?.clone();
        Some((name, field("consumers")?.int()?, field("pending")?.int()?, field("last-delivered-id")?.bytes()?.clone()))
    };
    answer.array().unwrap_or_default().iter().filter_map(group).collect()
}

/// What is pending: entry, consumer, how often given. The time since then goes on while we ask.
fn pending(answer: &Value) -> Vec<(Bytes, Bytes, i64)> {
    let entry = |entry: &Value| {
        let parts = entry.array()?;
        Some((parts.first()?.bytes()?.clone(), parts.get(1)?.bytes()?.clone(), parts.get(3)?.int()?))
    };
    answer.array().unwrap_or_default().iter().filter_map(entry).collect()
}
