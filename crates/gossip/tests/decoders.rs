//! Shows that no bytes whatever make a decoder panic, loop or give back more than its limits: noise, and
//! real messages with bytes changed, cut and doubled. Bounded: 80,000 inputs to each decoder, or as many as
//! `REGROW_DECODER_INPUTS` says (ten million take some minutes with `--release`).

use regrow_gossip::Rng;
use regrow_gossip::wire::*;

/// How many inputs both tests make together.
#[expect(clippy::disallowed_methods, reason = "a longer run by hand")]
fn inputs() -> usize {
    std::env::var("REGROW_DECODER_INPUTS").ok().and_then(|inputs| inputs.parse().ok()).unwrap_or(80_000)
}

/// Every decoder, on the same bytes.
fn decode_all(bytes: &[u8]) {
    let envelope = Envelope::default();
    if let Ok(parts) = envelope.open_packet(bytes) {
        assert!(parts.len() <= regrow_gossip::limits::PACKET_PARTS_MAX);
    }
    for compress in [false, true] {
        let mut stream = StreamBuffer::default();
        let _ = stream.feed(bytes, &Envelope { compress, ..Envelope::default() });
        assert!(stream.len() <= bytes.len());
    }
    let ring = Envelope { keyring: Some(Keyring::new(Key::new(&[1; 16]).expect("length"))), ..Envelope::default() };
    let _ = ring.open_packet(bytes);
    let _ = StreamBuffer::default().feed(bytes, &ring);
    let _ = Ping::decode(bytes);
    let _ = IndirectPing::decode(bytes);
    let _ = Ack::decode(bytes);
    let _ = Nack::decode(bytes);
    let _ = ErrorReply::decode(bytes);
    let _ = Suspect::decode(bytes);
    let _ = Dead::decode(bytes);
    let _ = Alive::decode(bytes);
    let _ = split_compound(bytes);
    let _ = decompress(bytes, 1 << 16);
    let _ = JoinIntent::decode(bytes);
    let _ = LeaveIntent::decode(bytes);
    let _ = UserEvent::decode(bytes);
    let _ = Query::decode(bytes);
    let _ = QueryResponse::decode(bytes);
    let _ = RelayHeader::decode(bytes);
    let _ = SerfState::decode(bytes);
    let _ = ConflictMember::decode_address(bytes);
    let _ = KeyRequest::decode(bytes);
    let _ = KeyReply::decode(bytes);
    let _ = decode_tags(bytes);
    let _ = Reader::new(bytes).skip();
}

fn samples() -> Vec<Vec<u8>> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 7946));
    let alive = Alive {
        incarnation: 1,
        node: "node-1".into(),
        address,
        meta: encode_tags(&Tags::from([("role".into(), "web".into())])),
        versions: vec![1, 5, 2, 2, 5, 4],
    };
    let state = SerfState {
        ltime: 9,
        status_ltimes: [("node-1".to_owned(), 3)].into(),
        left: vec!["node-2".into()],
        event_ltime: 4,
        events: vec![SlotEvents { ltime: 3, events: vec![SlotEvent { name: "e".into(), payload: vec![1] }] }],
        query_ltime: 2,
    };
    let push_pull = PushPull {
        join: true,
        nodes: vec![NodeState { alive: alive.clone(), state: StateCode::Alive }],
        user_state: state.encode(),
    };
    let query = Query {
        ltime: 3,
        id: 4,
        source: address,
        source_node: "node-1".into(),
        filters: Some(vec![Filter::Tag { tag: "role".into(), expr: "web".into() }]),
        flags: 1,
        relay_factor: 1,
        timeout: std::time::Duration::from_secs(1),
        name: "q".into(),
        payload: vec![7; 30],
    };
    let messages = vec![
        alive.encode(),
        push_pull.encode(),
        state.encode(),
        user_message(&query.encode()),
        join_compound(&[alive.encode(), user_message(&query.encode())]),
        Ping { seq: 1, node: "node-2".into(), source: Some(address), source_node: "node-1".into(), brief: true }
            .encode(),
    ];
    let mut rng = Rng::new([9; 32]);
    let envelope = Envelope::default();
    let sealed: Vec<Vec<u8>> = messages
        .iter()
        .flat_map(|message| {
            [envelope.seal_packet(message.clone(), true, &mut rng), envelope.seal_stream(message, &mut rng)]
        })
        .collect();
    let bodies = messages.iter().map(|message| message[1..].to_vec()).collect();
    [messages, sealed, bodies].concat()
}

#[test]
fn noise_is_refused_or_read() {
    let seed = [42; 32];
    let mut rng = Rng::new(seed);
    for _ in 0..inputs() / 2 {
        let mut bytes = vec![0; rng.below(200)];
        rng.fill(&mut bytes);
        // Most first bytes mean nothing; steer half of them to a message type or a map.
        if let Some(first) = bytes.first_mut().filter(|_| rng.below(2) == 0) {
            *first = [0, 6, 7, 8, 9, 10, 12, 244, 0x82, 0x86, 0xde, 0xdf][rng.below(12)];
        }
        decode_all(&bytes);
    }
}

#[test]
fn damaged_messages_are_refused_or_read() {
    let seed = [43; 32];
    let mut rng = Rng::new(seed);
    let samples = samples();
    for _ in 0..inputs() / 2 {
        let mut bytes = samples[rng.below(samples.len())].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, rng.next_u64() as u8),
                _ => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend(tail);
                }
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        decode_all(&bytes);
    }
}
