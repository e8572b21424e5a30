//! Data of every type and encoding.

use regrow_redis::resp::Command;

/// Bytes that do not pack, from a small generator.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Every type, in each encoding that Redis 7 writes, with and without expiry, in two databases.
pub(crate) fn every_kind() -> Vec<Command> {
    let set = |key: &[u8], value: &[u8]| Command::new("SET").arg(key).arg(value);
    let many = |name: &'static str, key: &str, count: usize, item: &dyn Fn(usize) -> Vec<Vec<u8>>| {
        Command::new(name).arg(key).args((0..count).flat_map(item))
    };
    let text = |index: usize| format!("member number {index}").into_bytes();
    let mut all = vec![
        Command::new("FUNCTION LOAD").arg("#!lua name=lib\nredis.register_function('f', function() return 1 end)"),
        set(b"empty", b""),
        set(b"byte", b"-5"),
        set(b"short", b"1234"),
        set(b"word", b"-123456789"),
        set(b"wide", b"12345678901234"),
        set(b"packs", &[b'a'; 5000]),
        set(b"noise", &noise(1, 3_000_000)),
        set(b"\x00binary\r\n\xff", b"\x00\xff\r\n"),
        many("RPUSH", "list small", 5, &|index| vec![index.to_string().into_bytes()]),
        many("RPUSH", "list mixed", 300, &|index| {
            vec![text(index), (index * index * 1_000_003).to_string().into_bytes(), noise(index as u64, index)]
        }),
        Command::new("DEBUG QUICKLIST-PACKED-THRESHOLD").arg("200b"),
        many("RPUSH", "list plain", 5, &|index| vec![noise(index as u64, 100 + 100 * index)]),
        many("SADD", "set of numbers 16", 100, &|index| vec![index.to_string().into_bytes()]),
        many("SADD", "set of numbers 64", 100, &|index| vec![(index as i64 * -5_000_000_000).to_string().into_bytes()]),
        many("SADD", "set", 1000, &|index| vec![text(index)]),
        many("ZADD", "zset small", 9, &|index| vec![(index as f64 / 3.0).to_string().into_bytes(), text(index)]),
        Command::new("ZADD").arg("zset small").args(["+inf", "top", "-inf", "bottom"]),
        many("ZADD", "zset", 2000, &|index| vec![(index as f64 / 7.0 - 50.0).to_string().into_bytes(), text(index)]),
        Command::new("ZADD").arg("zset").args(["+inf", "top", "-inf", "bottom", "1e-300", "tiny", "0.1", "tenth"]),
        many("HSET", "hash small", 9, &|index| vec![text(index), noise(9, index)]),
        many("HSET", "hash", 1000, &|index| vec![text(index), noise(9, index)]),
        Command::new("XADD").arg("stream").args(["5-5", "a", "1", "b", "2"]),
        Command::new("XADD").arg("stream").args(["5-9", "a", "-70000", "b", "text"]),
        Command::new("XADD").arg("stream").args(["6-1", "other", "field"]),
        Command::new("XADD").arg("stream").args(["7-0", "a", "gone", "b", "soon"]),
        Command::new("XADD").arg("stream").args(["8-0", "a", "x", "b", "y"]),
        Command::new("XGROUP CREATE").arg("stream").args(["readers", "0"]),
        Command::new("XGROUP CREATE").arg("stream").args(["idle", "$"]),
        Command::new("XGROUP CREATECONSUMER").arg("stream").args(["readers", "nobody"]),
        Command::new("XREADGROUP GROUP").args(["readers", "ann", "COUNT", "3", "STREAMS", "stream", ">"]),
        Command::new("XREADGROUP GROUP").args(["readers", "bob", "COUNT", "1", "STREAMS", "stream", ">"]),
        Command::new("XACK").arg("stream").args(["readers", "5-9", "7-0"]),
        Command::new("XDEL").arg("stream").arg("7-0"),
        Command::new("XGROUP CREATE").arg("stream empty").args(["g", "$", "MKSTREAM"]),
        Command::new("PFADD").arg("loglog").args(["a", "b", "c"]),
        Command::new("GEOADD").arg("geo").args(["13.361389", "38.115556", "Palermo"]),
        Command::new("SETBIT").arg("bits").args(["1000", "1"]),
        set(b"fleeting", b"x"),
        Command::new("PEXPIREAT").arg("fleeting").number(4_102_444_800_123_i64),
        Command::new("PEXPIREAT").arg("hash").number(4_102_444_800_456_i64),
    ];
    all.extend((0..3000).map(|index| {
        Command::new("XADD").arg("stream long").args([
            format!("{}-1", index / 3 + 1).replace("-1", &format!("-{}", index % 3 + 1)),
            "f".to_owned(),
            index.to_string(),
            "g".to_owned(),
            "h".repeat(index % 50),
        ])
    }));
    all.push(Command::new("XTRIM").arg("stream long").args(["MAXLEN", "2500"]));
    all.extend([Command::new("SELECT").arg("3"), set(b"byte", b"in three"), set(b"other", b"x")]);
    all
}

/// The key of a number in a large data set, with the commands that make it: every type in small and large encodings, binary names, hash
/// tags, and expiries of all kinds.
pub(crate) fn numbered(index: u64, now_ms: u64) -> Vec<Command> {
    let seed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let roll = |below: u64| (seed >> 20) % below;
    let key: Vec<u8> = match index % 10 {
        0 => [&b"\x00\xff\r\n "[..], &index.to_le_bytes()].concat(),
        1 => format!("{{user:{}}}:{index}", index / 50).into_bytes(),
        _ => format!("key:{index}").into_bytes(),
    };
    let on = |name: &'static str| Command::new(name).arg(&key);
    let items = |count: u64| (0..count).map(move |item| format!("item {}", seed.wrapping_add(item) % 1_000_003));
    // One in a thousand is long, one in fifty thousand very long.
    let count = if index % 50_000 == 7 {
        10_000
    } else if index % 1000 == 7 {
        500
    } else {
        1 + roll(5)
    };
    let mut commands = vec![match index / 10 % 12 {
        0 => on("SET").number(roll(1 << 40) as i64 - (1 << 39)),
        1 => on("SET").arg([b'a' + roll(26) as u8]),
        2 => on("SET").arg(noise(seed, roll(200) as usize)),
        3 => on("SET").arg(if index % 10_000 == 32 { noise(seed, 100_000) } else { vec![b'z'; roll(80) as usize] }),
        4 | 5 => on("HSET").args(items(count).flat_map(|item| [item.clone(), item])),
        6 => on("RPUSH").args(items(count)),
        7 => on("SADD").args((0..count).map(|item| (seed.wrapping_add(item) % 70_000).to_string())),
        8 => on("SADD").args(items(count)),
        9 => on("ZADD").args(items(count).enumerate().flat_map(|(at, item)| [(at as f64 / 3.0).to_string(), item])),
        10 if index.is_multiple_of(5) => on("XADD").args(["1-1", "field", "value"]),
        10 => on("PFADD").args(items(count)),
        _ => on("SETBIT").number(roll(800)).number(1),
    }];
    if index / 10 % 12 == 10 && index.is_multiple_of(5) {
        commands.extend([
            on("XADD").args(["2-1", "field", "other"]),
            Command::new("XGROUP CREATE").arg(&key).args(["g", "0"]),
            Command::new("XREADGROUP GROUP").args(["g", "ann", "COUNT", "1", "STREAMS"]).arg(&key).arg(">"),
        ]);
    }
    match index % 7 {
        0 => commands.push(on("PEXPIREAT").number(now_ms + 3_600_000 + roll(86_400_000))),
        1 => commands.push(on("PEXPIREAT").number(now_ms + 30_000 + roll(600_000))),
        _ => {}
    }
    commands
}

/// What Redis 6.2 has of [`every_kind`], in database 0.
pub(crate) fn every_kind_of_six() -> Vec<Command> {
    let mut all = every_kind();
    // The last three are of another database.
    all.truncate(all.len() - 3);
    all.retain(|command| !["FUNCTION LOAD", "DEBUG QUICKLIST-PACKED-THRESHOLD"].contains(&command.name()));
    all
}

/// Values that are as large as they get: a string of so many bytes; a set, a sorted set, a hash and a list of so many members.
pub(crate) fn largest(bytes: usize, members: u64) -> impl Iterator<Item = Command> {
    const STEP: u64 = 1000;
    let text = noise(3, 1 << 20);
    let strings = (0..bytes >> 20).map(move |_| Command::new("APPEND").arg("largest:string").arg(&text));
    let lists = (0..members / STEP).flat_map(|step| {
        let numbers = move || (0..STEP).map(move |item| step * STEP + item);
        [
            Command::new("SADD").arg("largest:set").args(numbers().map(|n| format!("member {n}"))),
            Command::new("ZADD")
                .arg("largest:zset")
                .args(numbers().flat_map(|n| [n.to_string(), format!("member {n}")])),
            Command::new("HSET")
                .arg("largest:hash")
                .args(numbers().flat_map(|n| [format!("field {n}"), n.to_string()])),
            Command::new("RPUSH").arg("largest:list").args(numbers().map(|n| format!("item {n}"))),
        ]
    });
    strings.chain(lists)
}
