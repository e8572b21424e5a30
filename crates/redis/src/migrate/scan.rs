//! Steps through all keys of one side, at a pace that the clients of its servers do not notice.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::address::Address;
use crate::resp::{Command, Value};
use crate::slot_set::SlotSet;

use super::carrier::Carrier;
use super::error::MigrateError;
use super::lane::own;
use super::load::in_db;

/// Keys asked for in one step of a SCAN.
const SCAN_COUNT: usize = 1000;
/// The least number of keys asked for at once: a tenth of a millisecond of a server, which does nothing else meanwhile.
const BEARABLE_MIN: usize = 50;
/// A way of this length to a server takes so many.
const BEARABLE_WAY: Duration = Duration::from_micros(200);
/// Bytes of values asked for at once, for each key that is: a server compresses what it dumps.
const BEARABLE_BYTES: u64 = 2 << 10;
/// How often the way is measured.
const WAYS: usize = 5;

/// How many keys are asked for at once of a server that others use: few where the way is short, so that they notice nothing; more where
/// much would be spent on the way, up to 1000.
pub(super) async fn bearable(carrier: &mut Carrier) -> Result<usize, MigrateError> {
    let mut way = Duration::MAX;
    // The first has to connect.
    for _ in 0..=WAYS {
        let since = Instant::now();
        carrier.values(0, vec![Command::new("PING")]).await?;
        way = way.min(since.elapsed());
    }
    Ok(bearable_on(way))
}

/// Bytes of values that are asked for at once, of so many keys.
pub(super) fn bearable_bytes(at_once: usize) -> u64 {
    at_once as u64 * BEARABLE_BYTES
}

fn bearable_on(way: Duration) -> usize {
    let times = way.as_secs_f64() / BEARABLE_WAY.as_secs_f64();
    ((BEARABLE_MIN as f64 * times) as usize).clamp(BEARABLE_MIN, SCAN_COUNT)
}

/// Steps through the keys of one side, master by master.
#[derive(Debug)]
pub(super) struct Scan {
    databases: Vec<u32>,
    /// Only of the master that has these slots.
    slots: Option<SlotSet>,
    /// Keys in one step, about.
    count: usize,
    places: Vec<(Address, u32)>,
    cursor: Bytes,
}

impl Scan {
    /// Over all masters of a carrier's side, in these databases.
    pub(super) async fn new(carrier: &Carrier, databases: &[u32]) -> Result<Self, MigrateError> {
        Self::of(carrier, databases, None).await
    }

    /// The same, of one master alone if these are its slots.
    pub(super) async fn of(
        carrier: &Carrier,
        databases: &[u32],
        slots: Option<&SlotSet>,
    ) -> Result<Self, MigrateError> {
        let mut shards = carrier.side().shards().await?;
        shards.retain(|shard| slots.is_none_or(|slots| *slots == shard.slots));
        if slots.is_some() && shards.is_empty() {
            return Err(MigrateError::Behind);
        }
        let places = shards.into_iter().flat_map(|shard| databases.iter().map(move |db| (shard.address.clone(), *db)));
        Ok(Self {
            places: places.collect(),
            databases: databases.to_vec(),
            slots: slots.cloned(),
            count: SCAN_COUNT,
            cursor: Bytes::from_static(b"0"),
        })
    }

    /// The same with so many keys in one step, about.
    pub(super) fn in_steps_of(self, count: usize) -> Self {
        Self { count, ..self }
    }

    /// Some keys with their database; `None` at the end. A key may come twice, and not at all if it came or went meanwhile.
    pub(super) async fn next(&mut self, carrier: &mut Carrier) -> Result<Option<(u32, Vec<Bytes>)>, MigrateError> {
        let Some((address, db)) = self.places.last().cloned() else { return Ok(None) };
        let scan = Command::new("SCAN").arg(&self.cursor).arg("COUNT").number(self.count as u64);
        let answers = match carrier.at(&address, &in_db(db, vec![scan])).await {
            // Another master has taken over: from the start, because places in a scan are each server's own.
            Err(MigrateError::Behind) => {
                *self = Self::of(carrier, &self.databases, self.slots.as_ref()).await?.in_steps_of(self.count);
                return Ok(Some((db, Vec::new())));
            }
            answers => answers?,
        };
        let answer = answers.into_iter().nth(usize::from(db != 0)).unwrap_or(Value::Null);
        let parts = answer.array().map(<[Value]>::to_vec).unwrap_or_default();
        let (Some(cursor), Some(keys)) = (parts.first().and_then(Value::bytes), parts.get(1).and_then(Value::array))
        else {
            return Err(MigrateError::refused(format!("{address} does not answer SCAN"), "look at its log"));
        };
        self.cursor = cursor.clone();
        if self.cursor.as_ref() == b"0" {
            self.places.pop();
        }
        Ok(Some((db, keys.iter().filter_map(Value::bytes).filter(|key| !own(key)).cloned().collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the way is nothing, few; where it is long, as many as ever.
    #[test]
    fn bearable_at_once() {
        for (way_us, keys) in [(0, 50), (100, 50), (400, 100), (4000, 1000), (u64::MAX, 1000)] {
            assert_eq!(bearable_on(Duration::from_micros(way_us)), keys, "{way_us}");
        }
    }
}
