//! The targets: every decoder of gossip and of Serf's RPC, the layers around messages, and the machine itself.

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

fn decoder<T>(name: &'static str, kind: Kind, decode: impl Fn(&[u8]) -> T + 'static) -> Target {
    let run = move |bytes: &[u8]| drop(decode(bytes));
    Target { name, run: Box::new(run), samples: samples::of(kind), bytes_max: DECODED }
}

fn unfolding(name: &'static str, kind: Kind, run: impl FnMut(&[u8]) + 'static) -> Target {
    Target { name, run: Box::new(run), samples: samples::of(kind), bytes_max: UNFOLDED }
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
    ]
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
    Target { name: "machine", run: Box::new(run), samples: samples::of(Kind::Machine), bytes_max: (4 << 20, 64) }
}
