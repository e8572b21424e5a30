//! One answer out of several. Pure.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame;

/// How the answers of the parts of a command become one. An error of a part is the answer of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Merge {
    /// The first one: all say the same.
    First,
    /// Numbers are added.
    Sum,
    /// Elements in the order of the keys (`MGET`).
    Values,
    /// Elements one after the other.
    Concat,
    /// Elements, each once.
    Union,
    /// Pairs of a name and a number; the numbers of a name are added.
    SumPairs,
    /// Lists of 0 and 1; 1 where all say 1.
    Every,
    /// The first that is no error, else the first error.
    AnyGood,
    /// Any that is not nothing.
    OneOf,
    /// `INFO`: the first server's, the keys of all counted, and no word of clusters.
    Info,
    /// `SCAN`: a cursor that names the server after it. The number: of the server asked, and of all servers.
    Scan(u32, u32),
}

/// Answers of which some are still to come.
#[derive(Debug)]
pub(crate) struct Gather {
    merge: Merge,
    parts: Vec<Option<Bytes>>,
    left: usize,
    /// For [`Merge::Values`]: which elements of the whole a part has, in its order.
    places: Vec<Vec<u32>>,
}

impl Gather {
    pub(crate) fn new(merge: Merge, parts: usize, places: Vec<Vec<u32>>) -> Self {
        Self { merge, parts: vec![None; parts], left: parts, places }
    }

    /// Takes in the answer of a part; true when all are there.
    pub(crate) fn put(&mut self, part: usize, answer: Bytes) -> bool {
        if let Some(place) = self.parts.get_mut(part)
            && place.replace(answer).is_none()
        {
            self.left -= 1;
        }
        self.left == 0
    }

    /// The answer of the whole. `random`: any number, for [`Merge::OneOf`].
    pub(crate) fn merged(self, random: usize) -> Bytes {
        let parts: Vec<Bytes> = self.parts.into_iter().flatten().collect();
        if self.merge != Merge::AnyGood
            && let Some(error) = parts.iter().find(|part| matches!(part.first(), Some(b'-' | b'!')))
        {
            return error.clone();
        }
        merge(self.merge, &parts, &self.places, random).unwrap_or_else(|| {
            Bytes::from_static(
                b"-ERR regrow: the servers' answers do not fit together: are their versions different?\r\n",
            )
        })
    }
}

/// Servers that a cursor can name, as bits.
const SCAN_BITS: u32 = 12;

/// The server and the cursor for it that a client's cursor names; `None`: it was not made here.
pub(crate) fn cursor(text: &[u8], servers: u32) -> Option<(u32, u64)> {
    let cursor: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let server = (cursor & ((1 << SCAN_BITS) - 1)) as u32;
    (server < servers).then_some((server, cursor >> SCAN_BITS))
}

fn merge(merge: Merge, parts: &[Bytes], places: &[Vec<u32>], random: usize) -> Option<Bytes> {
    Some(match merge {
        Merge::First => parts.first()?.clone(),
        Merge::Sum => {
            let sum = parts.iter().try_fold(0i64, |sum, part| sum.checked_add(frame::int(part)?))?;
            Bytes::from(format!(":{sum}\r\n"))
        }
        Merge::Values => {
            let lists: Vec<_> = parts.iter().map(|part| frame::elements(part)).collect::<Option<_>>()?;
            let count: usize = places.iter().map(Vec::len).sum();
            let mut all: Vec<&[u8]> = vec![b"$-1\r\n"; count];
            for (list, places) in lists.iter().zip(places) {
                if list.len() != places.len() {
                    return None;
                }
                for (element, place) in list.iter().zip(places) {
                    *all.get_mut(*place as usize)? = element;
                }
            }
            array(b'*', &all)
        }
        Merge::Concat => {
            let lists: Vec<_> = parts.iter().map(|part| frame::elements(part)).collect::<Option<_>>()?;
            array(*parts.first()?.first()?, &lists.concat())
        }
        Merge::Union => {
            let lists: Vec<_> = parts.iter().map(|part| frame::elements(part)).collect::<Option<_>>()?;
            let all: BTreeSet<&[u8]> = lists.into_iter().flatten().collect();
            array(*parts.first()?.first()?, &all.into_iter().collect::<Vec<_>>())
        }
        Merge::SumPairs => {
            let lists: Vec<_> = parts.iter().map(|part| frame::elements(part)).collect::<Option<_>>()?;
            let first = lists.first()?;
            let mut sums = Vec::with_capacity(first.len());
            for (index, element) in first.iter().enumerate() {
                if index % 2 == 0 {
                    sums.push(Bytes::copy_from_slice(element));
                    continue;
                }
                let sum = lists.iter().try_fold(0i64, |sum, list| sum.checked_add(frame::int(list.get(index)?)?))?;
                sums.push(Bytes::from(format!(":{sum}\r\n")));
            }
            array(*parts.first()?.first()?, &sums)
        }
        Merge::Every => {
            let lists: Vec<_> = parts.iter().map(|part| frame::elements(part)).collect::<Option<_>>()?;
            let count = lists.iter().map(Vec::len).min()?;
            let every: Vec<&[u8]> = (0..count)
                .map(|index| -> &[u8] {
                    if lists.iter().all(|list| list[index] == b":1\r\n") { b":1\r\n" } else { b":0\r\n" }
                })
                .collect();
            array(b'*', &every)
        }
        Merge::AnyGood => {
            parts.iter().find(|part| !matches!(part.first(), Some(b'-' | b'!'))).or(parts.first())?.clone()
        }
        Merge::OneOf => {
            let something: Vec<&Bytes> = parts.iter().filter(|part| !frame::is_null(part)).collect();
            match something.len() {
                0 => parts.first()?.clone(),
                count => (*something.get(random % count)?).clone(),
            }
        }
        Merge::Info => info(parts)?,
        Merge::Scan(server, servers) => scan(parts.first()?, server, servers)?,
    })
}

fn array<E: AsRef<[u8]>>(kind: u8, elements: &[E]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + elements.iter().map(|element| element.as_ref().len()).sum::<usize>());
    out.put_u8(kind);
    out.put_slice(elements.len().to_string().as_bytes());
    out.put_slice(b"\r\n");
    for element in elements {
        out.put_slice(element.as_ref());
    }
    out.freeze()
}

/// A bulk of a text.
pub(crate) fn bulk(text: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(text.len() + 16);
    out.put_slice(format!("${}\r\n", text.len()).as_bytes());
    out.put_slice(text);
    out.put_slice(b"\r\n");
    out.freeze()
}

fn scan(answer: &Bytes, server: u32, servers: u32) -> Option<Bytes> {
    let elements = frame::elements(answer)?;
    let [place, keys] = elements.as_slice() else { return None };
    let place: u64 = std::str::from_utf8(frame::text(place)?).ok()?.parse().ok()?;
    let next = match (place, server + 1) {
        (0, next) if next >= servers => 0,
        (0, next) => u64::from(next),
        (place, _) if place >> (64 - SCAN_BITS) != 0 => {
            return Some(Bytes::from_static(b"-ERR regrow: the server's cursor is too large to carry\r\n"));
        }
        (place, _) => place << SCAN_BITS | u64::from(server),
    };
    Some(array(b'*', &[&bulk(next.to_string().as_bytes())[..], keys]))
}

/// `INFO` of several servers, as one server would say it.
fn info(parts: &[Bytes]) -> Option<Bytes> {
    let texts: Vec<&str> =
        parts.iter().map(|part| std::str::from_utf8(frame::text(part)?).ok()).collect::<Option<_>>()?;
    let field = |text: &str, name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix("db0:"))
            .and_then(|line| line.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok()))
            .unwrap_or(0)
    };
    let sum = |name: &str| texts.iter().map(|text| field(text, name)).fold(0u64, u64::saturating_add);
    let (keys, expires) = (sum("keys"), sum("expires"));
    let mut all = String::new();
    for line in texts.first()?.lines() {
        match line {
            "redis_mode:cluster" => all += "redis_mode:standalone",
            "cluster_enabled:1" => all += "cluster_enabled:0",
            line if line.starts_with("db0:") => {}
            line => all += line,
        }
        if !line.starts_with("db0:") {
            all += "\r\n";
        }
        if line == "# Keyspace" && keys > 0 {
            all += &format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n");
        }
    }
    Some(if parts.first()?.first() == Some(&b'=') {
        Bytes::from(format!("={}\r\ntxt:{all}\r\n", all.len() + 4))
    } else {
        bulk(all.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(merge: Merge, parts: &[&'static str], places: Vec<Vec<u32>>) -> String {
        let mut gather = Gather::new(merge, parts.len(), places);
        for (index, part) in parts.iter().enumerate().rev() {
            assert_eq!(gather.put(index, Bytes::from_static(part.as_bytes())), index == 0);
        }
        String::from_utf8(gather.merged(1).to_vec()).unwrap()
    }

    /// Each way of putting answers together.
    #[test]
    fn merges() {
        let check = |merge, parts: &[&'static str], wanted: &str| assert_eq!(merged(merge, parts, vec![]), wanted);
        check(Merge::Sum, &[":1\r\n", ":2\r\n"], ":3\r\n");
        check(Merge::Sum, &[":1\r\n", "-ERR no\r\n"], "-ERR no\r\n");
        check(Merge::First, &["+OK\r\n", "+OK\r\n"], "+OK\r\n");
        check(Merge::Concat, &["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"], "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        check(Merge::Union, &["*1\r\n$1\r\na\r\n", "*1\r\n$1\r\na\r\n"], "*1\r\n$1\r\na\r\n");
        check(Merge::SumPairs, &["*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\na\r\n:4\r\n"], "*2\r\n$1\r\na\r\n:5\r\n");
        check(Merge::Every, &["*2\r\n:1\r\n:1\r\n", "*2\r\n:1\r\n:0\r\n"], "*2\r\n:1\r\n:0\r\n");
        check(Merge::AnyGood, &["-NOTBUSY no\r\n", "+OK\r\n"], "+OK\r\n");
        check(Merge::OneOf, &["$-1\r\n", "$1\r\na\r\n", "_\r\n"], "$1\r\na\r\n");
        check(Merge::OneOf, &["$-1\r\n", "$-1\r\n"], "$-1\r\n");
        check(
            Merge::Sum,
            &["+x\r\n"],
            "-ERR regrow: the servers' answers do not fit together: are their versions different?\r\n",
        );
        assert_eq!(
            merged(Merge::Values, &["*2\r\n:0\r\n:2\r\n", "*1\r\n:1\r\n"], vec![vec![0, 2], vec![1]]),
            "*3\r\n:0\r\n:1\r\n:2\r\n"
        );
    }

    /// A scan goes through all servers, one after the other, and ends.
    #[test]
    fn scans() {
        let step = |answer: &'static str, server| merged(Merge::Scan(server, 2), &[answer], vec![]);
        assert_eq!(step("*2\r\n$1\r\n5\r\n*0\r\n", 1), format!("*2\r\n$5\r\n{}\r\n*0\r\n", (5 << 12) + 1));
        assert_eq!(step("*2\r\n$1\r\n0\r\n*0\r\n", 0), "*2\r\n$1\r\n1\r\n*0\r\n");
        assert_eq!(step("*2\r\n$1\r\n0\r\n*0\r\n", 1), "*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(cursor(((5 << 12) + 1).to_string().as_bytes(), 2), Some((1, 5)));
        assert_eq!(cursor(b"0", 2), Some((0, 0)));
        assert_eq!((cursor(b"2", 2), cursor(b"x", 2), cursor(b"-1", 2)), (None, None, None));
    }

    #[test]
    fn infos() {
        let text = |keys| format!("redis_mode:cluster\r\n# Keyspace\r\ndb0:keys={keys},expires=1,avg_ttl=9\r\n");
        let parts: Vec<Bytes> = [2, 3].map(|keys| bulk(text(keys).as_bytes())).to_vec();
        let merged = info(&parts).unwrap();
        assert_eq!(
            frame::text(&merged).unwrap(),
            b"redis_mode:standalone\r\n# Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=0\r\n"
        );
    }
}
