//! Big values in pieces, so that no server stands still and no memory is filled.
//!
//! What is written meanwhile may be in some pieces and not in others; it tells an event, and the key is copied again.

use bytes::Bytes;

use crate::connection::Error;
use crate::rdb::Piece;
use crate::rebuild::{Dialect, Rebuild};
use crate::resp::{Command, Value};

use super::super::carrier::{Job, Mark};
use super::super::error::MigrateError;
use super::super::load::{in_db, judge};
use super::Ended;
use super::copy::Copier;

/// Bytes of one piece, about.
const PIECE_BYTES: u64 = 4 << 20;
/// Elements of one piece, at most.
const ELEMENTS_MAX: u64 = 10_000;
/// Memory of a value that is not cut (a stream, a module's, a hash whose fields may expire), at most: what `DUMP` gives of it has to fit into one answer.
const WHOLE_MAX: u64 = 1 << 30;

impl Copier {
    /// Copies a value of so many bytes of memory in pieces. False: values of its type are not cut.
    pub(super) async fn copy_big(&mut self, db: u32, to: u32, name: &Bytes, size: u64) -> Result<bool, Ended> {
        let kind = self.ask(db, name, Command::new("TYPE").arg(name)).await?;
        let (count, read) = match kind.text().unwrap_or_default() {
            "none" => return Ok(false),
            "string" => ("STRLEN", "GETRANGE"),
            "list" => ("LLEN", "LRANGE"),
            "set" => ("SCARD", "SSCAN"),
            "zset" => ("ZCARD", "ZSCAN"),
            // What is read field by field says nothing of when fields expire.
            "hash" if !self.source.side().field_expiries() => ("HLEN", "HSCAN"),
            kind if size > WHOLE_MAX => {
                return Err(MigrateError::refused(
                    format!(
                        "key \"{}\" ({kind}) uses {} MiB: values of this type are not copied in pieces, and this one does not fit into one",
                        super::super::board::shown(name),
                        size >> 20
                    ),
                    "make it smaller, or migrate by replication",
                )
                .into());
            }
            _ => return Ok(false),
        };
        match self.pieces_of(db, to, name, size, count, read).await {
            // It is of another type now: there will be an event, but nothing of it may stay out of the queue until then.
            Err(Ended::Failed(MigrateError::Server(Error::Reply { message, .. })))
                if message.starts_with("WRONGTYPE") =>
            {
                if let Some(changes) = self.shared.scans.get(self.feed) {
                    changes.touch([(db, name.clone())]);
                }
                Ok(true)
            }
            done => done.map(|()| true),
        }
    }

    async fn pieces_of(
        &mut self,
        db: u32,
        to: u32,
        name: &Bytes,
        size: u64,
        count: &'static str,
        read: &'static str,
    ) -> Result<(), Ended> {
        let length = self.ask(db, name, Command::new(count).arg(name)).await?.int();
        let length = length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0).max(1);
        let step = match read {
            "GETRANGE" => PIECE_BYTES,
            _ => (PIECE_BYTES.saturating_mul(length) / size.max(1)).clamp(1, ELEMENTS_MAX),
        };
        let mut rebuild = Rebuild::new(name.clone(), Dialect::Seven);
        self.put(name, None, in_db(to, vec![Command::new("UNLINK").arg(name)])).await?;
        let (mut at, mut cursor) = (0, Bytes::from_static(b"0"));
        loop {
            let ask = match read {
                "GETRANGE" | "LRANGE" => Command::new(read).arg(name).number(at).number(at + step - 1),
                _ => Command::new(read).arg(name).arg(&cursor).arg("COUNT").number(step),
            };
            let answer = self.ask(db, name, ask).await?;
            let (piece, last) = match read {
                "GETRANGE" => {
                    let text = answer.bytes().cloned().unwrap_or_default();
                    let last = (text.len() as u64) < step;
                    ((!text.is_empty()).then_some(Piece::Text(text)), last)
                }
                "LRANGE" => {
                    let items = words(&answer);
                    let last = (items.len() as u64) < step;
                    ((!items.is_empty()).then_some(Piece::Items(items)), last)
                }
                _ => {
                    let parts = answer.array().unwrap_or_default();
                    cursor = parts.first().and_then(Value::bytes).cloned().unwrap_or_else(|| Bytes::from_static(b"0"));
                    (members(read, parts.get(1).map(words).unwrap_or_default()), cursor.as_ref() == b"0")
                }
            };
            at += step;
            if let Some(piece) = piece {
                self.pieces += 1;
                let piece_of = format!("{}/{}", self.word, self.pieces);
                self.put(name, Some(piece_of), in_db(to, rebuild.commands(&piece))).await?;
            }
            if last {
                break;
            }
        }
        let telling = self.source.side().telling();
        let lane = self.source.lanes().of(name);
        let expiry = self.source.values(lane, in_db(db, telling.ask(name))).await?;
        let mut end = vec![Command::new("DEL").arg(self.mark(name))];
        if let Some(at) = expiry.get(usize::from(db != 0)..).and_then(|values| telling.of(values)) {
            end.extend(in_db(to, vec![Command::new("PEXPIREAT").arg(name).number(at)]));
        }
        self.put(name, None, end).await
    }

    async fn ask(&mut self, db: u32, name: &Bytes, command: Command) -> Result<Value, Ended> {
        let lane = self.source.lanes().of(name);
        let values = self.source.values(lane, in_db(db, vec![command])).await?;
        Ok(values.into_iter().nth(usize::from(db != 0)).unwrap_or(Value::Null))
    }

    fn mark(&self, name: &[u8]) -> Bytes {
        self.target.lanes().key(self.target.lanes().of(name), &format!("l{}", self.feed))
    }

    /// Carries commands to the target; a piece exactly once.
    async fn put(&mut self, name: &Bytes, piece: Option<String>, commands: Vec<Command>) -> Result<(), Ended> {
        let lane = self.target.lanes().of(name);
        let mark = piece.map(|value| Mark { key: self.mark(name), value: value.into(), before: None });
        let answer = self.target.one(Job { lane, commands, mark }).await?;
        Ok(judge(&self.target, lane, name, &answer)?)
    }
}

fn words(answer: &Value) -> Vec<Bytes> {
    answer.array().unwrap_or_default().iter().filter_map(Value::bytes).cloned().collect()
}

/// What a scan of a value gave.
fn members(scan: &str, words: Vec<Bytes>) -> Option<Piece> {
    if words.is_empty() {
        return None;
    }
    let pairs = || words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    Some(match scan {
        "SSCAN" => Piece::Members(words),
        "HSCAN" => Piece::Fields(pairs().collect()),
        _ => Piece::Scores(
            pairs()
                .filter_map(|(member, score)| Some((member, std::str::from_utf8(&score).ok()?.parse().ok()?)))
                .collect(),
        ),
    })
}
