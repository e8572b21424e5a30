//! Exact expiries from sources before 7.0.
//!
//! They tell replicas what is left of a life, not when it ends, and nobody knows how long that was on its way. So after such a write
//! the source is asked when the key expires now. What it says may be of a later write; that one comes, too, and is looked into
//! likewise, so the last word is right. Meanwhile a key may have an expiry from its future, or lack one, and pass that on when it is
//! renamed or copied: so the receiver of each is asked about, too, and an expiry that the source does not know is taken away.

use crate::resp::{Command, Value};

use super::super::carrier::{Answer, Job};
use super::super::error::MigrateError;
use super::super::hold::has_expiry;
use super::super::load::in_db;
use super::super::options::now_ms;
use super::super::spool::Spooled;
use super::Applier;

/// What is left of a key that is there and does not expire.
const LASTS: i64 = -1;

/// Keys asked for at once.
const AT_ONCE: usize = 500;

impl Applier {
    /// Notes keys that a write gives an expiry, of its own or that of another key.
    pub(super) fn note_relative(&mut self, write: &Spooled) {
        let carries = write.words.first().is_some_and(|name| {
            [&b"RENAME"[..], b"RENAMENX", b"COPY"].iter().any(|carrying| name.eq_ignore_ascii_case(carrying))
        });
        if has_expiry(&write.words) || carries {
            self.relative
                .extend(write.words.iter().skip(1).take(1 + usize::from(carries)).map(|key| (write.db, key.clone())));
        }
    }

    /// Sets the expiries of keys that were written with relative ones.
    pub(super) async fn exact_expiries(&mut self) -> Result<(), MigrateError> {
        let relative: Vec<_> = std::mem::take(&mut self.relative).into_iter().collect();
        let telling = self.source.side().telling();
        for keys in relative.chunks(AT_ONCE) {
            let ask = keys
                .iter()
                .map(|(from, key)| Job::plain(self.shared.source_lanes.of(key), in_db(*from, telling.ask(key))))
                .collect();
            let mut jobs = Vec::new();
            for ((from, key), answer) in keys.iter().zip(self.source.carry(ask).await?) {
                let Answer::Values(values) = answer else { continue };
                let values = values.get(usize::from(*from != 0)..).unwrap_or_default();
                let Some(db) = self.shared.options.databases.get(from).copied() else { continue };
                let set = match (telling.of(values), values.first().and_then(Value::int)) {
                    (Some(at), _) => {
                        self.shared.near(db, [key.clone()]);
                        Command::new("PEXPIREAT").arg(key).number(self.shared.expiry(at, now_ms()))
                    }
                    (None, Some(LASTS)) => Command::new("PERSIST").arg(key),
                    // It is gone, and its end comes later.
                    (None, _) => continue,
                };
                jobs.push(Job::plain(self.shared.lanes.of(key), in_db(db, vec![set])));
            }
            let lanes: Vec<_> = jobs.iter().map(|job| job.lane).collect();
            for (lane, answer) in lanes.into_iter().zip(self.carrier.carry(jobs).await?) {
                let Answer::Values(values) = answer else { continue };
                if let Some(Value::Error(message)) = values.iter().find(|value| matches!(value, Value::Error(_))) {
                    return Err(self.carrier.refused(lane, "PEXPIREAT or PERSIST", message));
                }
            }
        }
        Ok(())
    }
}
