//! Snapshots of a real server, with every type and encoding: what we read, given to another server, makes the same data
//! (by `DEBUG DIGEST`, the server's own word). Damaged ones are refused.

mod world;

use std::fs::File;
use std::io::BufReader;

use anyhow::{Context, Result};
use bytes::Bytes;
use regrow_redis::rdb::{Fault, Key, Kind, Piece, Reader, Record, Value, dump, pieces_of};
use regrow_redis::rebuild::{Dialect, Rebuild};
use regrow_redis::resp::{self, Command};
use world::data::every_kind;
use world::{Server, need_redis, open, send};

fn server() -> Result<Server> {
    Server::start("127.0.0.1", &["--enable-debug-command", "yes"])
}

/// A snapshot of a server, as a file.
async fn snapshot(server: &Server) -> Result<std::path::PathBuf> {
    open(server).await?.ok(&Command::new("SAVE")).await?;
    Ok(server.folder().join("dump.rdb"))
}

/// What a server holds, in its own word; and its streams' groups, which that word leaves out.
async fn digest(server: &Server) -> Result<(String, String)> {
    let mut link = open(server).await?;
    let digest = link.text(&Command::new("DEBUG DIGEST")).await?;
    let mut groups = String::new();
    for key in ["stream", "stream empty"] {
        let full = link.call(&Command::new("XINFO STREAM").arg(key)).await?;
        let skip = ["radix-tree-keys", "radix-tree-nodes"];
        let pairs = full.array().context("stream")?;
        for pair in pairs.chunks(2).filter(|pair| !skip.contains(&pair[0].text().unwrap_or_default())) {
            groups += &format!("{pair:?}\n");
        }
        groups += &format!("{:?}\n", link.call(&Command::new("XINFO GROUPS").arg(key)).await?);
    }
    for consumer in ["ann", "bob"] {
        let pending =
            link.call(&Command::new("XPENDING").arg("stream").args(["readers", "-", "+", "100", consumer])).await?;
        for entry in pending.array().context("pending")? {
            let entry = entry.array().context("entry")?;
            groups += &format!("{:?} {:?} {:?}\n", entry[0], entry[1], entry[3]);
        }
    }
    groups += &format!("{:?}", link.call(&Command::new("FUNCTION LIST").arg("WITHCODE")).await?);
    Ok((digest, groups))
}

/// Gives a snapshot to a server: whole values by `RESTORE`, long ones by commands.
async fn give(path: &std::path::Path, whole: usize, server: &Server) -> Result<(usize, usize)> {
    let mut link = open(server).await?;
    let mut reader = Reader::new(BufReader::new(File::open(path)?))?.keep_whole(whole);
    let version = reader.version();
    let (mut wholes, mut longs, mut db) = (0, 0, 0);
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Note { .. } => {}
            Record::Function(code) => send(&mut link, &[Command::new("FUNCTION LOAD").arg(code)]).await?,
            Record::Key(Key { db: at, name, expires_ms, kind, value }) => {
                if db != at {
                    send(&mut link, &[Command::new("SELECT").number(at)]).await?;
                    db = at;
                }
                let mut commands = Vec::new();
                match value {
                    Value::Whole(bytes) => {
                        wholes += 1;
                        commands.push(Command::new("RESTORE").arg(&name).number(0).arg(dump(kind, &bytes, version)));
                    }
                    Value::Long => {
                        longs += 1;
                        let mut rebuild = Rebuild::new(name.clone(), Dialect::Seven);
                        reader.pieces(&mut |piece| {
                            commands.extend(rebuild.commands(&piece));
                            Ok(())
                        })?;
                    }
                }
                commands.extend(expires_ms.map(|at| Command::new("PEXPIREAT").arg(&name).number(at)));
                send(&mut link, &commands).await?;
            }
        }
    }
    Ok((wholes, longs))
}

/// Whole, in pieces, or the one for short and the other for long values: the data is the same each time.
#[tokio::test]
async fn what_is_read_is_what_was_written() -> Result<()> {
    need_redis!("what_is_read_is_what_was_written");
    let source = server()?;
    send(&mut open(&source).await?, &every_kind()).await?;
    let wanted = digest(&source).await?;
    let path = snapshot(&source).await?;
    for whole in [usize::MAX >> 1, 2000, 0] {
        let target = server()?;
        let (wholes, longs) = give(&path, whole, &target).await?;
        assert_eq!(
            (wholes == 0, longs == 0),
            (whole == 0, whole > 1 << 40),
            "{whole}: {wholes} whole, {longs} in pieces"
        );
        assert_eq!(digest(&target).await?, wanted, "values up to {whole} bytes whole");
        for key in ["fleeting", "hash"] {
            assert_eq!(target.cli(&["PEXPIRETIME", key])?, source.cli(&["PEXPIRETIME", key])?);
        }
    }
    Ok(())
}

/// Read all of a snapshot and take every value apart.
fn read_all(bytes: &[u8], whole: usize) -> Result<(), regrow_redis::rdb::RdbError> {
    let mut reader = Reader::new(bytes)?.keep_whole(whole);
    while let Some(record) = reader.next_record()? {
        if let Record::Key(Key { kind, value: Value::Whole(bytes), .. }) = record {
            pieces_of(kind, &bytes, &mut |_| Ok(()))?;
        }
    }
    Ok(())
}

/// A snapshot that is cut off anywhere is said to be so; one with a wrong byte anywhere is never taken for good.
#[tokio::test]
async fn damage_is_named() -> Result<()> {
    need_redis!("damage_is_named");
    let source = server()?;
    let add = |name, key, words: &[&str]| Command::new(name).arg(key).args(words);
    let few = [
        add("SET", "packs", &[&"a".repeat(50)]),
        add("SET", "number", &["77777"]),
        add("RPUSH", "list", &["a", "-1", "300"]),
        add("SADD", "set", &["a", "b"]),
        add("SADD", "numbers", &["1", "2"]),
        add("ZADD", "zset", &["1.5", "a", "2", "b"]),
        add("HSET", "hash", &["f", "v"]),
        add("CONFIG SET", "hash-max-listpack-entries", &["0"]),
        add("HSET", "wide", &["f", "v"]),
        add("CONFIG SET", "zset-max-listpack-entries", &["0"]),
        add("ZADD", "wide zset", &["1.5", "a"]),
        add("XADD", "stream", &["5-5", "a", "1"]),
        add("XGROUP CREATE", "stream", &["g", "0"]),
        add("XREADGROUP GROUP", "g", &["c", "STREAMS", "stream", ">"]),
        add("PEXPIREAT", "set", &["4102444800123"]),
    ];
    send(&mut open(&source).await?, &few).await?;
    let bytes = std::fs::read(snapshot(&source).await?)?;
    read_all(&bytes, 1 << 20)?;
    for whole in [0, 1 << 20] {
        for cut in 0..bytes.len() {
            let error = read_all(&bytes[..cut], whole).expect_err("cut off");
            assert!(matches!(error.fault, Fault::Truncated(_)), "cut at {cut}: {error:?}");
            assert!(error.offset <= cut as u64);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            if damaged[bytes.len() - 8..] != [0; 8] {
                assert!(read_all(&damaged, whole).is_err(), "byte {at} of {} is wrong", bytes.len());
            }
        }
    }
    Ok(())
}

/// Encodings that only older servers write: the server itself reads them as we do.
#[tokio::test]
async fn old_encodings() -> Result<()> {
    need_redis!("old_encodings");
    let server = server()?;
    let mut link = open(&server).await?;
    // Length before a string of up to 63 bytes.
    let string = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    // Its size and the place of its last element are filled in below, as the server checks them.
    let mut ziplist = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 4, 0][..],
        &[0, 1, b'a'],
        &[3, 0xf2],
        &[2, 1, b'b'],
        &[3, 0xc0, 0xe8, 0x03],
        &[0xff],
    ]
    .concat();
    let size = ziplist.len() as u32;
    ziplist[..4].copy_from_slice(&size.to_le_bytes());
    ziplist[4..8].copy_from_slice(&(size - 5).to_le_bytes());
    let zipmap = [&[1u8, 1, b'f', 2, 0, b'v', b'w', 0xff][..]].concat();
    let cases: Vec<(Kind, Vec<u8>, &[&str], &str)> = vec![
        (Kind::List, [&[2][..], &string(b"x"), &[0xc0, 5]].concat(), &["LRANGE", "k", "0", "-1"], "x\n5"),
        (Kind::Set, [&[1][..], &string(b"x")].concat(), &["SMEMBERS", "k"], "x"),
        (
            Kind::Zset,
            [&[1][..], &string(b"x"), &[3], b"1.5"].concat(),
            &["ZRANGE", "k", "0", "-1", "WITHSCORES"],
            "x\n1.5",
        ),
        (Kind::Hash, [&[1][..], &string(b"f"), &string(b"v")].concat(), &["HGETALL", "k"], "f\nv"),
        (Kind::ListZiplist, string(&ziplist), &["LRANGE", "k", "0", "-1"], "a\n1\nb\n1000"),
        (Kind::HashZiplist, string(&ziplist), &["HGETALL", "k"], "a\n1\nb\n1000"),
        (Kind::ZsetZiplist, string(&ziplist), &["ZRANGE", "k", "0", "-1", "WITHSCORES"], "a\n1\nb\n1000"),
        (
            Kind::ListQuicklist,
            [&[2][..], &string(&ziplist), &string(&ziplist)].concat(),
            &["LRANGE", "k", "0", "-1"],
            "a\n1\nb\n1000\na\n1\nb\n1000",
        ),
        (Kind::HashZipmap, string(&zipmap), &["HGETALL", "k"], "f\nvw"),
    ];
    for (kind, bytes, ask, says) in cases {
        send(
            &mut link,
            &[Command::new("DEL").arg("k"), Command::new("RESTORE").arg("k").number(0).arg(dump(kind, &bytes, 9))],
        )
        .await
        .with_context(|| format!("{kind:?}"))?;
        assert_eq!(server.cli(ask)?, says, "{kind:?}");
        let mut ours: Vec<String> = Vec::new();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        pieces_of(kind, &bytes, &mut |piece| {
            match piece {
                Piece::Items(items) | Piece::Members(items) => ours.extend(items.iter().map(text)),
                Piece::Scores(scores) => {
                    ours.extend(scores.iter().flat_map(|(member, score)| [text(member), score.to_string()]))
                }
                Piece::Fields(fields) => {
                    ours.extend(fields.iter().flat_map(|(field, value)| [text(field), text(value)]))
                }
                other => ours.push(format!("{other:?}")),
            }
            Ok(())
        })?;
        assert_eq!(ours.join("\n"), says, "{kind:?}");
    }
    assert!(matches!(link.call(&Command::new("PING")).await?, resp::Value::Simple(_)));
    Ok(())
}
