//! What the fuzzing starts from: real packets of Serf agents, and a message of each kind of our own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use regrow_gossip::Rng;
use regrow_gossip::wire::*;

/// Which samples a target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bodies of a memberlist message of this type.
    Body(u8),
    /// Bodies of a Serf message of this type.
    Serf(u8),
    /// Serf's part of an exchanged state, type byte included.
    State,
    Keys,
    Tags,
    /// Whole datagrams.
    Packet,
    /// The same behind the label `blue`.
    Labelled,
    /// First bytes of streams.
    Stream,
    /// Datagrams and streams.
    Machine,
    /// Requests of Serf's RPC.
    Rpc,
}

const CAPTURED: &str = include_str!("../corpus/serf.txt");
const REDIS: &str = include_str!("../corpus/redis.txt");

/// What real Redis sent or wrote, by the word before it.
pub fn redis(wanted: &str) -> Vec<Vec<u8>> {
    lines(REDIS, wanted)
}

pub fn of(kind: Kind) -> Vec<Vec<u8>> {
    let mut samples = match kind {
        Kind::Packet => [captured("udp"), messages()].concat(),
        Kind::Labelled => {
            let behind = |packet: &Vec<u8>| [&[swim_type::LABEL, 4][..], b"blue", packet].concat();
            of(Kind::Packet).iter().map(behind).collect()
        }
        Kind::Stream => [captured("tcp"), streams()].concat(),
        Kind::Machine => [captured("udp"), captured("tcp"), messages(), streams()].concat(),
        Kind::Rpc => requests(),
        Kind::State => vec![state().encode()],
        Kind::Tags => vec![encode_tags(&tags()), b"web".to_vec()],
        Kind::Keys => {
            let key = Key::new(&[1; 16]).expect("sixteen bytes are a key");
            vec![
                KeyRequest { key: key.as_bytes().to_vec() }.encode(),
                KeyReply {
                    result: true,
                    message: "done".into(),
                    keys: vec![key.to_base64()],
                    primary: key.to_base64(),
                }
                .encode(),
            ]
        }
        Kind::Body(wanted) => {
            let all = [messages(), captured_parts()].concat();
            all.into_iter().filter(|m| m.first() == Some(&wanted)).map(|m| m[1..].to_vec()).collect()
        }
        Kind::Serf(wanted) => {
            let all = [messages(), captured_parts()].concat();
            let user = all.into_iter().filter(|m| m.len() > 2 && m[..2] == [swim_type::USER, wanted]);
            user.map(|m| m[2..].to_vec()).collect()
        }
    };
    if kind == Kind::Body(swim_type::COMPRESS) {
        samples.extend(messages().iter().map(|message| compress(message)[1..].to_vec()));
    }
    samples
}

fn captured(wanted: &str) -> Vec<Vec<u8>> {
    lines(CAPTURED, wanted)
}

fn lines(corpus: &str, wanted: &str) -> Vec<Vec<u8>> {
    let line = |line: &str| {
        let hex = line.strip_prefix(wanted)?.strip_prefix(' ')?;
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
    };
    corpus.lines().filter_map(line).collect()
}

/// The messages in the captured datagrams.
fn captured_parts() -> Vec<Vec<u8>> {
    let parts = captured("udp").into_iter().filter_map(|bytes| Envelope::default().open_packet(&bytes).ok()).flatten();
    parts.map(|part| [&[part.kind], &part.body[..]].concat()).collect()
}

fn tags() -> Tags {
    BTreeMap::from([("role".into(), "web".into()), ("zone".into(), "a".into())])
}

fn alive() -> Alive {
    let address = SocketAddr::from(([10, 0, 0, 9], 7946));
    Alive {
        incarnation: 7,
        node: "node-2".into(),
        address,
        meta: encode_tags(&tags()),
        versions: vec![1, 5, 2, 2, 5, 4],
    }
}

fn state() -> SerfState {
    SerfState {
        ltime: 9,
        status_ltimes: vec![("node-2".into(), 3), ("node-3".into(), 4)],
        left: vec!["node-3".into()],
        event_ltime: 4,
        events: vec![SlotEvents { ltime: 3, events: vec![SlotEvent { name: "e".into(), payload: vec![1] }] }],
        query_ltime: 2,
    }
}

/// Some commands alone, and each other one behind those before it.
fn requests() -> Vec<Vec<u8>> {
    let bodies: [(&str, fn(&mut Writer)); 8] = [
        ("handshake", |w| w.uint_field("Version", 1)),
        ("auth", |w| w.raw_field("AuthKey", b"secret")),
        ("event", |w| w.raw_field("Payload", &[1, 2])),
        ("force-leave", |w| w.bool_field("Prune", true)),
        ("join", |w| list(w, "Existing", &["10.0.0.1:7946", "b"])),
        ("tags", |w| list(w, "DeleteTags", &["zone"])),
        ("query", |w| list(w, "FilterNodes", &["node-1"])),
        ("respond", |w| w.uint_field("ID", 7)),
    ];
    let mut all = Vec::new();
    for (seq, (command, body)) in (1..).zip(bodies) {
        let mut writer = Writer::new();
        writer.map(2);
        writer.raw_field("Command", command.as_bytes());
        writer.uint_field("Seq", seq);
        writer.map(2);
        writer.text("Tags");
        writer.map(1);
        writer.text("role");
        writer.text("web");
        body(&mut writer);
        all.push(writer.finish());
    }
    let mut writer = Writer::new();
    for command in ["leave", "stats", "members", "list-keys", "nonsense"] {
        writer.map(2);
        writer.raw_field("Command", command.as_bytes());
        writer.uint_field("Seq", 1);
    }
    all.push(writer.finish());
    all.push(all.concat());
    all
}

fn list(writer: &mut Writer, field: &str, items: &[&str]) {
    writer.text(field);
    writer.array(items.len());
    items.iter().for_each(|item| writer.text(item));
}

fn streams() -> Vec<Vec<u8>> {
    let nodes = vec![NodeState { alive: alive(), state: StateCode::Alive }];
    let exchange = PushPull { join: true, nodes, user_state: state().encode() }.encode();
    let mut rng = Rng::new([1; 32]);
    let plain = Envelope { compress: false, ..Envelope::default() };
    let mut all = vec![exchange.clone(), Envelope::default().seal_stream(&exchange, &mut rng)];
    all.extend(messages().iter().map(|message| plain.seal_stream(message, &mut rng)));
    all
}

/// One message of each kind, type byte included; then some together.
fn messages() -> Vec<Vec<u8>> {
    let source = Some(SocketAddr::from(([10, 0, 0, 9], 7946)));
    let query = Query {
        ltime: 3,
        id: 4,
        source: SocketAddr::from(([10, 0, 0, 9], 7946)),
        source_node: "node-2".into(),
        filters: Some(vec![
            Filter::Tag { tag: "role".into(), expr: "^web".into() },
            Filter::Nodes(vec!["node-1".into(), "node-2".into()]),
        ]),
        flags: FLAG_ACK,
        relay_factor: 1,
        timeout: Duration::from_secs(1),
        name: "load".into(),
        payload: vec![7; 30],
    };
    let response = QueryResponse { ltime: 3, id: 4, from: "node-2".into(), flags: 0, payload: vec![5; 20] };
    let (node, from) = ("node-2".to_owned(), "node-3".to_owned());
    let mut all = vec![
        Ping { seq: 1, node: "node-1".into(), source, source_node: node.clone(), brief: false }.encode(),
        IndirectPing {
            seq: 2,
            target: SocketAddr::from(([10, 0, 0, 8], 7946)),
            node: node.clone(),
            nack: true,
            source,
            source_node: from.clone(),
            refused: true,
        }
        .encode(),
        Ack { seq: 1, payload: vec![1, 0x80] }.encode(),
        Nack { seq: 1 }.encode(),
        ErrorReply { error: "no".into() }.encode(),
        Suspect { incarnation: 7, node: node.clone(), from: from.clone(), refused: true }.encode(),
        Dead { incarnation: 7, node: node.clone(), from }.encode(),
        alive().encode(),
        user_message(&JoinIntent { ltime: 3, node: node.clone() }.encode()),
        user_message(&LeaveIntent { ltime: 4, node: node.clone(), prune: true }.encode()),
        user_message(&UserEvent { ltime: 2, name: "deploy".into(), payload: vec![1; 40], coalesce: true }.encode()),
        user_message(&query.encode()),
        user_message(&response.encode()),
        user_message(&RelayHeader { address: query.source, node }.encode(&response.encode())),
    ];
    all.push(join_compound(&all));
    all
}
