//! The commands that make a key anew from the pieces of its value.
//!
//! For values that are too long to be restored whole, and for targets that are older than the source and cannot read its
//! form. Caveat: an entry of a stream that was deleted while it was pending cannot be made pending again by commands; it is
//! left out.

use bytes::Bytes;

use crate::rdb::{Piece, StreamPiece};
use crate::resp::Command;

/// What the target understands of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Redis 6.2.
    Six,
    /// Redis 7 and later: streams keep counts.
    Seven,
}

/// Makes one key anew. The key must not exist when its first command runs.
#[derive(Debug, Clone)]
pub struct Rebuild {
    key: Bytes,
    dialect: Dialect,
    begun: bool,
}

impl Rebuild {
    /// For a key.
    pub fn new(key: Bytes, dialect: Dialect) -> Self {
        Self { key, dialect, begun: false }
    }

    /// The commands for the next piece; pieces in the order of the snapshot.
    pub fn commands(&mut self, piece: &Piece) -> Vec<Command> {
        let begun = std::mem::replace(&mut self.begun, true);
        let on = |name| Command::new(name).arg(&self.key);
        match piece {
            Piece::Text(text) => vec![on(if begun { "APPEND" } else { "SET" }).arg(text)],
            Piece::Items(items) => vec![on("RPUSH").args(items)],
            Piece::Members(members) => vec![on("SADD").args(members)],
            Piece::Scores(scores) => {
                vec![scores.iter().fold(on("ZADD"), |command, (member, score)| command.arg(number(*score)).arg(member))]
            }
            Piece::Fields(fields) => {
                vec![fields.iter().fold(on("HSET"), |command, (field, value)| command.arg(field).arg(value))]
            }
            Piece::Stream(piece) => self.stream(piece, begun),
        }
    }

    fn stream(&self, piece: &StreamPiece, begun: bool) -> Vec<Command> {
        let key = &self.key;
        match piece {
            StreamPiece::Entry { id, fields } => {
                vec![fields.iter().fold(Command::new("XADD").arg(key).arg(id.to_string()), |command, (name, value)| {
                    command.arg(name).arg(value)
                })]
            }
            StreamPiece::Tail { last, deleted, added } => {
                let mut commands = Vec::new();
                if !begun {
                    // A stream can be empty, but nothing makes one so; a group makes one, and can go.
                    commands.push(Command::new("XGROUP CREATE").arg(key).arg("regrow").arg("0").arg("MKSTREAM"));
                    commands.push(Command::new("XGROUP DESTROY").arg(key).arg("regrow"));
                }
                let mut set = Command::new("XSETID").arg(key).arg(last.to_string());
                if let (Dialect::Seven, Some(deleted), Some(added)) = (self.dialect, deleted, added) {
                    set = set.arg("ENTRIESADDED").number(*added).arg("MAXDELETEDID").arg(deleted.to_string());
                }
                commands.push(set);
                commands
            }
            StreamPiece::Group { name, last, read } => {
                let create = Command::new("XGROUP CREATE").arg(key).arg(name).arg(last.to_string());
                vec![match (self.dialect, read) {
                    (Dialect::Seven, Some(read)) => create.arg("ENTRIESREAD").number(*read),
                    _ => create,
                }]
            }
            StreamPiece::Consumer { group, name } => {
                vec![Command::new("XGROUP CREATECONSUMER").arg(key).arg(group).arg(name)]
            }
            StreamPiece::Pending { group, consumer, id, given_ms, count } => {
                let claim = Command::new("XCLAIM").arg(key).arg(group).arg(consumer).number(0).arg(id.to_string());
                vec![claim.arg("TIME").number(*given_ms).arg("RETRYCOUNT").number(*count).arg("FORCE").arg("JUSTID")]
            }
        }
    }
}

/// A score in a form that Redis reads back to the same bits.
fn number(score: f64) -> String {
    if score.is_infinite() {
        if score > 0.0 { "+inf".to_owned() } else { "-inf".to_owned() }
    } else {
        format!("{score:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::StreamId;
    use bytes::BytesMut;

    fn words(commands: &[Command]) -> Vec<String> {
        let word = |command: &Command| {
            let mut wire = BytesMut::new();
            command.encode(&mut wire);
            let text = String::from_utf8(wire.to_vec()).unwrap();
            text.split("\r\n")
                .filter(|line| !line.starts_with(['*', '$']))
                .collect::<Vec<_>>()
                .join(" ")
                .trim()
                .to_owned()
        };
        commands.iter().map(word).collect()
    }

    #[test]
    fn commands() {
        let id = |ms, number| StreamId { ms, number };
        for (pieces, expect) in [
            (vec![Piece::Text("a".into()), Piece::Text("b".into())], vec!["SET k a", "APPEND k b"]),
            (vec![Piece::Items(vec!["a".into(), "b".into()])], vec!["RPUSH k a b"]),
            (
                vec![Piece::Scores(vec![("a".into(), 0.1), ("b".into(), f64::NEG_INFINITY), ("c".into(), 1e300)])],
                vec!["ZADD k 0.1 a -inf b 1e300 c"],
            ),
            (vec![Piece::Fields(vec![("f".into(), "v".into())])], vec!["HSET k f v"]),
            (
                vec![Piece::Stream(StreamPiece::Tail { last: id(0, 0), deleted: None, added: None })],
                vec!["XGROUP CREATE k regrow 0 MKSTREAM", "XGROUP DESTROY k regrow", "XSETID k 0-0"],
            ),
            (
                vec![
                    Piece::Stream(StreamPiece::Entry { id: id(5, 1), fields: vec![("f".into(), "v".into())] }),
                    Piece::Stream(StreamPiece::Tail { last: id(5, 2), deleted: Some(id(5, 2)), added: Some(9) }),
                    Piece::Stream(StreamPiece::Group { name: "g".into(), last: id(5, 1), read: Some(1) }),
                    Piece::Stream(StreamPiece::Pending {
                        group: "g".into(),
                        consumer: "c".into(),
                        id: id(5, 1),
                        given_ms: 7,
                        count: 3,
                    }),
                ],
                vec![
                    "XADD k 5-1 f v",
                    "XSETID k 5-2 ENTRIESADDED 9 MAXDELETEDID 5-2",
                    "XGROUP CREATE k g 5-1 ENTRIESREAD 1",
                    "XCLAIM k g c 0 5-1 TIME 7 RETRYCOUNT 3 FORCE JUSTID",
                ],
            ),
        ] {
            let mut rebuild = Rebuild::new("k".into(), Dialect::Seven);
            let commands: Vec<Command> = pieces.iter().flat_map(|piece| rebuild.commands(piece)).collect();
            assert_eq!(words(&commands), expect);
        }
    }
}
