//! The targets: every decoder of gossip and of Serf's RPC, the layers around messages, and the machine itself; those of
//! Redis' protocol, of its replication stream and of its snapshots.

use std::net::SocketAddr;

use regrow_gossip::limits::{
    BROADCASTS_MAX, INTENTS_MAX, PACKET_PARTS_MAX, PACKET_PLAIN_BYTES_MAX, PROBES_MAX, STREAMS_MAX,
};
use regrow_gossip::wire::*;
use regrow_gossip::{Config, Gossip, Input, Rng, StreamId, Time};

use crate::engine::Target;
use crate::memory;
use crate::samples::{self, Kind};

/// A decoder keeps no more than what it was given, in its own form: a map's entry of a few bytes becomes a text.
const DECODED: (usize, usize) = (8 * 1024, 64);
/// What one datagram may grow to in a buffer that doubles, and is moved as it does; and the tables of the decompressor.
const UNFOLDED: (usize, usize) = (4 * PACKET_PLAIN_BYTES_MAX, 64);

/// Bytes that begin a value of MessagePack or a message of memberlist or Serf.
const SERF: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0xf4, 0xff, 0x7f, 0x80, 0x81,
    0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xc3, 0xc4, 0xc6, 0xca, 0xcb, 0xcc, 0xcf, 0xd3, 0xd9, 0xda, 0xdb, 0xdd,
    0xdf, 0xe0,
];
/// Bytes of Redis' protocol, and of commands.
const RESP: &[u8] = b"*$+-:_,#(!=~>%|\r\n0123456789tfSELECT \"'\\x";
/// Bytes that begin a record, a length or a string of a snapshot, and kinds of values.
const RDB: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0,
    0xc1, 0xc2, 0xc3, 0xe0, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 245, 247, 248, 249, 250, 251, 252, 253, 254, 255,
];

/// Room that is made before bytes have come, and moved as it grows; and each byte in a form of our own.
const REDIS: (usize, usize) = (4 << 20, 64);

fn decoder<T>(name: &'static str, kind: Kind, decode: impl Fn(&[u8]) -> T + 'static) -> Target {
    let run = move |bytes: &[u8]| drop(decode(bytes));
    Target { name, run: Box::new(run), samples: samples::of(kind), markers: SERF, bytes_max: DECODED }
}

fn unfolding(name: &'static str, kind: Kind, run: impl FnMut(&[u8]) + 'static) -> Target {
    Target { name, run: Box::new(run), samples: samples::of(kind), markers: SERF, bytes_max: UNFOLDED }
}

fn ring() -> Keyring {
    Keyring::new(Key::new(&[1; 16]).expect("sixteen bytes are a key"))
}

pub fn all() -> Vec<Target> {
    let plain = Envelope::default;
    let sealed = || Envelope { keyring: Some(ring()), ..Envelope::default() };
    let moving =
        || Envelope { keyring: Some(ring()), verify_incoming: false, label: "blue".into(), ..Envelope::default() };
    vec![
        decoder("ping", Kind::Body(swim_type::PING), |b| Ping::decode(b).is_ok()),
        decoder("indirect-ping", Kind::Body(swim_type::INDIRECT_PING), |b| IndirectPing::decode(b).is_ok()),
        decoder("ack", Kind::Body(swim_type::ACK), |b| Ack::decode(b).is_ok()),
        decoder("nack", Kind::Body(swim_type::NACK), |b| Nack::decode(b).is_ok()),
        decoder("error", Kind::Body(swim_type::ERROR), |b| ErrorReply::decode(b).is_ok()),
        decoder("suspect", Kind::Body(swim_type::SUSPECT), |b| Suspect::decode(b).is_ok()),
        decoder("dead", Kind::Body(swim_type::DEAD), |b| Dead::decode(b).is_ok()),
        decoder("alive", Kind::Body(swim_type::ALIVE), |b| Alive::decode(b).is_ok()),
        decoder("compound", Kind::Body(swim_type::COMPOUND), |b| split_compound(b).map(|parts| parts.len())),
        decoder("join", Kind::Serf(serf_type::JOIN), |b| JoinIntent::decode(b).is_ok()),
        decoder("leave", Kind::Serf(serf_type::LEAVE), |b| LeaveIntent::decode(b).is_ok()),
        decoder("user-event", Kind::Serf(serf_type::USER_EVENT), |b| UserEvent::decode(b).is_ok()),
        decoder("query", Kind::Serf(serf_type::QUERY), |b| Query::decode(b).is_ok()),
        decoder("query-response", Kind::Serf(serf_type::QUERY_RESPONSE), |b| QueryResponse::decode(b).is_ok()),
        decoder("relay", Kind::Serf(serf_type::RELAY), |b| RelayHeader::decode(b).is_ok()),
        decoder("serf-state", Kind::State, |b| SerfState::decode(b).is_ok()),
        decoder("conflict", Kind::Body(swim_type::ALIVE), |b| ConflictMember::decode_address(b).is_ok()),
        decoder("key-request", Kind::Keys, |b| KeyRequest::decode(b).is_ok()),
        decoder("key-reply", Kind::Keys, |b| KeyReply::decode(b).is_ok()),
        decoder("tags", Kind::Tags, |b| decode_tags(b).is_ok()),
        decoder("skip", Kind::State, |b| Reader::new(b).skip().is_ok()),
        decoder("rpc-request", Kind::Rpc, regrow_fuzz_rpc::read_all),
        unfolding("decompress", Kind::Body(swim_type::COMPRESS), |b| {
            if let Ok((plain, _)) = decompress(b, 1 << 16) {
                assert!(plain.len() <= 1 << 16);
            }
        }),
        unfolding("packet", Kind::Packet, packet(plain())),
        // What is in the seal is the peer's as much as what is around it.
        unfolding("packet-sealed", Kind::Packet, {
            let (envelope, mut open) = (sealed(), packet(sealed()));
            let mut rng = Rng::new([3; 32]);
            move |b: &[u8]| {
                open(&Envelope { compress: false, ..envelope.clone() }.seal_packet(b.to_vec(), false, &mut rng))
            }
        }),
        unfolding("packet-labelled", Kind::Labelled, packet(moving())),
        unfolding("stream", Kind::Stream, stream(plain())),
        unfolding("stream-sealed", Kind::Stream, {
            let (envelope, mut feed) = (Envelope { compress: false, ..sealed() }, stream(sealed()));
            let mut rng = Rng::new([3; 32]);
            move |b: &[u8]| feed(&envelope.seal_stream(b, &mut rng))
        }),
        machine(),
        redis("redis-resp", &["answer", "request", "entries"], RESP, regrow_fuzz_redis::resp),
        redis("redis-answer", &["answer"], RESP, regrow_fuzz_redis::answer),
        redis("redis-request", &["request"], RESP, regrow_fuzz_redis::request),
        redis("redis-entries", &["entries", "request"], RESP, regrow_fuzz_redis::entries),
        redis("redis-snapshot", &["rdb"], RDB, regrow_fuzz_redis::snapshot),
        Target {
            samples: samples::redis("rdb")
                .iter()
                .flat_map(|snapshot| regrow_fuzz_redis::values(snapshot))
                .chain(samples::redis("value"))
                .collect(),
            ..redis("redis-value", &[], RDB, regrow_fuzz_redis::value)
        },
    ]
}

fn redis(name: &'static str, samples: &[&str], markers: &'static [u8], run: fn(&[u8])) -> Target {
    let samples = samples.iter().flat_map(|wanted| samples::redis(wanted)).collect();
    Target { name, run: Box::new(run), samples, markers, bytes_max: REDIS }
}

fn packet(envelope: Envelope) -> impl FnMut(&[u8]) {
    move |bytes| {
        if let Ok(parts) = envelope.open_packet(bytes) {
            assert!(parts.len() <= PACKET_PARTS_MAX);
        }
    }
}

/// In two pieces, the first as long as the first byte says.
fn stream(envelope: Envelope) -> impl FnMut(&[u8]) {
    move |bytes| {
        let mut buffer = StreamBuffer::default();
        let (first, second) = bytes.split_at(bytes.len().min(usize::from(bytes.first().copied().unwrap_or_default())));
        if matches!(buffer.feed(first, &envelope), Ok(Feed::More)) {
            let _ = buffer.feed(second, &envelope);
        }
        assert!(buffer.len() <= bytes.len());
    }
}

/// A machine that lives on from input to input and is started anew now and then: its state stays within its limits.
fn machine() -> Target {
    const LIFE: u32 = 20_000;
    /// All that limits allow one machine with a few thousand members to hold.
    const HELD_MAX: usize = 96 << 20;
    let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 7946));
    let start = move || {
        let config = Config::lan("node-1", address(1));
        Gossip::new(config, None, Rng::new([7; 32]), Time::ZERO).expect("valid settings").0
    };
    let held_before = memory::held();
    let (mut gossip, mut age, mut stream, mut millis) = (start(), 0, 0, 0);
    let run = move |bytes: &[u8]| {
        age += 1;
        millis += 3;
        let now = Time::from_millis(millis);
        let from = address(2 + (age % 200) as u8);
        if age % 2 == 0 {
            gossip.handle(Input::Packet { from, bytes: bytes.to_vec() }, now);
        } else {
            stream += 1;
            let id = StreamId::accepted(stream);
            gossip.handle(Input::StreamAccepted { stream: id, from }, now);
            gossip.handle(Input::StreamData { stream: id, bytes: bytes.to_vec() }, now);
        }
        if gossip.wake_at().is_some_and(|wake| wake <= now) {
            gossip.handle(Input::Tick, now);
        }
        if age == LIFE {
            let stats = gossip.stats();
            assert!(stats.queued.iter().all(|queued| *queued <= BROADCASTS_MAX), "{stats:?}");
            assert!(stats.intents <= INTENTS_MAX && stats.probes <= PROBES_MAX, "{stats:?}");
            assert!(stats.streams <= STREAMS_MAX, "{stats:?}");
            let held = memory::held().saturating_sub(held_before);
            assert!(held < HELD_MAX, "{held} bytes held: {stats:?}");
            gossip = start();
            (age, millis) = (0, 0);
        }
    };
    Target {
        name: "machine",
        run: Box::new(run),
        samples: samples::of(Kind::Machine),
        markers: SERF,
        bytes_max: (4 << 20, 64),
    }
}
