//! The machine by hand, without a network: what it refuses, what it bounds, what it remembers.

use std::net::SocketAddr;
use std::time::Duration;

use regrow_gossip::limits::{BROADCASTS_MAX, STREAMS_MAX};
use regrow_gossip::wire::{
    Alive, Envelope, Filter, Key, Keyring, NodeState, PushPull, Query, StateCode, Suspect, Tags, join_compound,
    user_message,
};
use regrow_gossip::{
    CommandError, Config, ConfigError, Event, Gossip, Input, KeyOp, Output, QueryRequest, Rng, Snapshot, StreamId, Time,
};

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 7946))
}

fn machine() -> Gossip {
    start(Config::lan("me", address(1)), None).0
}

fn start(config: Config, snapshot: Option<Snapshot>) -> (Gossip, Vec<Output>) {
    Gossip::new(config, snapshot, Rng::new([7; 32]), Time::ZERO).expect("valid")
}

fn alive(name: &str, host: u8, incarnation: u32) -> Alive {
    let versions = vec![1, 5, 2, 2, 5, 5];
    Alive { incarnation, node: name.to_owned(), address: address(host), meta: Vec::new(), versions }
}

/// A datagram with these messages from host 2.
fn packet(messages: &[Vec<u8>]) -> Input {
    let bytes = Envelope::default().seal_packet(join_compound(messages), false, &mut Rng::new([1; 32]));
    Input::Packet { from: address(2), bytes }
}

fn events(outputs: &[Output]) -> Vec<&Event> {
    outputs.iter().filter_map(|output| if let Output::Event(event) = output { Some(event) } else { None }).collect()
}

fn rejected(outputs: &[Output]) -> Option<&CommandError> {
    outputs.iter().find_map(|output| if let Output::Rejected(error) = output { Some(error) } else { None })
}

/// Shows which settings are refused.
#[test]
fn bad_settings_are_refused() {
    let check = |change: fn(&mut Config), expect: ConfigError| {
        let mut config = Config::lan("me", address(1));
        change(&mut config);
        let found = Gossip::new(config, None, Rng::new([7; 32]), Time::ZERO).map(|_| ());
        assert_eq!(found, Err(expect));
    };
    check(|config| config.name.clear(), ConfigError::Name(0));
    check(|config| config.address.set_port(0), ConfigError::Address(SocketAddr::from(([10, 0, 0, 1], 0))));
    check(|config| config.envelope.label = "x".repeat(256), ConfigError::Label(256));
    check(|config| config.probe_interval = Duration::ZERO, ConfigError::Zero("probe_interval"));
    check(|config| config.tags = Tags::from([("t".to_owned(), "x".repeat(600))]), ConfigError::Tags(607));
    check(|config| config.user_event_bytes_max = 10_000, ConfigError::UserEvents(10_000));
}

/// Shows that commands that cannot be done are refused with their reason, and change nothing.
#[test]
fn impossible_commands_are_refused() {
    let query = |payload: usize| {
        Input::Query(QueryRequest {
            token: 1,
            name: "q".to_owned(),
            payload: vec![0; payload],
            filters: Vec::new(),
            ack: false,
            relay_factor: 0,
            timeout: None,
        })
    };
    let check = |input: Input, expect: fn(&CommandError) -> bool| {
        let mut machine = machine();
        let before = (machine.snapshot(), machine.stats());
        let outputs = machine.handle(input.clone(), Time::ZERO);
        assert!(rejected(&outputs).is_some_and(expect), "{input:?}: {outputs:?}");
        assert_eq!((machine.snapshot(), machine.stats()), before);
    };
    let event = Input::UserEvent { name: "e".to_owned(), payload: vec![0; 600], coalesce: false };
    check(event, |error| matches!(error, CommandError::TooLong { what: "user event", limit: 512, .. }));
    check(query(2000), |error| matches!(error, CommandError::TooLong { what: "query", limit: 1024, .. }));
    check(Input::Reply { id: 9, payload: Vec::new() }, |error| *error == CommandError::UnknownQuery(9));
    let tags = Tags::from([("t".to_owned(), "x".repeat(600))]);
    check(Input::SetTags(tags), |error| matches!(error, CommandError::TooLong { what: "tags", .. }));
    let name = "nobody".to_owned();
    check(Input::ForceLeave { name, prune: false }, |error| matches!(error, CommandError::UnknownMember(_)));
    check(Input::Keys { token: 1, op: KeyOp::List, relay_factor: 0 }, |error| *error == CommandError::NoKeyring);
}

/// Shows that keys are replaced whole, told only when they are others, and not given to one that has none.
#[test]
fn keys_are_replaced() {
    let ring = |byte: u8| Keyring::new(Key::new(&[byte; 32]).expect("fits"));
    let outputs = machine().handle(Input::SetKeys(ring(1)), Time::ZERO);
    assert_eq!(rejected(&outputs), Some(&CommandError::NoKeyring));
    let mut config = Config::lan("me", address(1));
    config.envelope.keyring = Some(ring(1));
    let mut machine = start(config, None).0;
    assert_eq!(events(&machine.handle(Input::SetKeys(ring(1)), Time::ZERO)), Vec::<&Event>::new());
    let outputs = machine.handle(Input::SetKeys(ring(2)), Time::ZERO);
    let keys = vec![Key::new(&[2; 32]).expect("fits").to_base64()];
    assert_eq!(events(&outputs), [&Event::KeyringChanged { keys: keys.clone() }]);
    assert_eq!(machine.keys(), keys);
}

/// Shows that one that is alone leaves at once, and then does nothing whatever comes.
#[test]
fn after_leaving_nothing_is_done() {
    let mut machine = machine();
    machine.handle(Input::Leave, Time::ZERO);
    let outputs = machine.handle(Input::Tick, Time::from_millis(1000));
    assert!(events(&outputs).contains(&&Event::Left));
    assert_eq!(machine.handle(packet(&[alive("a", 2, 1).encode()]), Time::from_millis(2000)), []);
    assert!(machine.snapshot().left);
}

/// Shows that a clock that goes back is taken as standing still.
#[test]
fn the_clock_may_step_back() {
    let mut machine = machine();
    machine.handle(packet(&[alive("a", 2, 1).encode()]), Time::from_millis(5000));
    for millis in [10, 4000, 0] {
        machine.handle(Input::Tick, Time::from_millis(millis));
    }
    assert!(machine.wake_at() >= Some(Time::from_millis(5000)));
    assert_eq!(machine.member("a").map(|member| member.status.as_str()), Some("alive"));
}

/// Shows that a restart with a snapshot beats its old incarnation, asks its old members in, and does not
/// take old events again.
#[test]
fn a_snapshot_carries_over() {
    let mut first = machine();
    first.handle(packet(&[alive("a", 2, 1).encode()]), Time::ZERO);
    let fire = |name: &str| Input::UserEvent { name: name.to_owned(), payload: Vec::new(), coalesce: false };
    first.handle(fire("one"), Time::ZERO);
    let accused = Suspect { incarnation: 41, node: "me".to_owned(), from: "a".to_owned(), refused: false };
    first.handle(packet(&[accused.encode()]), Time::ZERO);
    let snapshot = first.snapshot();
    assert_eq!((snapshot.incarnation, snapshot.left), (42, false));

    let (second, outputs) = start(Config::lan("me", address(1)), Some(snapshot));
    assert!(second.member("me").is_some_and(|me| me.incarnation > 42));
    assert!(outputs.iter().any(|output| matches!(output, Output::Open { to, .. } if *to == address(2))));
    let mut second = second;
    let old = regrow_gossip::wire::UserEvent { ltime: 1, name: "one".to_owned(), payload: vec![], coalesce: false };
    let outputs = second.handle(packet(&[user_message(&old.encode())]), Time::from_millis(1));
    assert!(events(&outputs).is_empty(), "{outputs:?}");
    let outputs = second.handle(fire("two"), Time::from_millis(2));
    assert!(matches!(events(&outputs)[..], [Event::User { ltime: 2, .. }]), "{outputs:?}");
}

/// Shows that an accusation is refuted with a higher incarnation, and a death with the same one is not believed.
#[test]
fn accusations_are_refuted() {
    let mut machine = machine();
    let accuse = |incarnation: u32| {
        let suspect = Suspect { incarnation, node: "me".to_owned(), from: "a".to_owned(), refused: true };
        packet(&[suspect.encode()])
    };
    machine.handle(accuse(7), Time::ZERO);
    assert_eq!(machine.member("me").map(|me| me.incarnation), Some(8));
    machine.handle(accuse(7), Time::ZERO);
    assert_eq!(machine.member("me").map(|me| me.incarnation), Some(8), "it is refuted already");
    machine.handle(accuse(u32::MAX), Time::ZERO);
    assert_eq!(machine.member("me").map(|me| me.incarnation), Some(u32::MAX), "and the number does not wrap");
    assert!(machine.stats().health_score > 0);
}

/// Shows that tag filters are regular expressions found anywhere, a missing tag is empty text, and one that
/// does not compile or is enormous matches nobody.
#[test]
fn filters_choose() {
    let asked = |filters: Vec<Filter>| {
        let mut config = Config::lan("me", address(1));
        config.tags = Tags::from([("role".to_owned(), "web-1".to_owned())]);
        let query = Query {
            ltime: 5,
            id: 1,
            source: address(2),
            source_node: "a".to_owned(),
            filters: Some(filters),
            flags: 0,
            relay_factor: 0,
            timeout: Duration::from_secs(1),
            name: "load".to_owned(),
            payload: Vec::new(),
        };
        let outputs = start(config, None).0.handle(packet(&[user_message(&query.encode())]), Time::ZERO);
        events(&outputs).iter().any(|event| matches!(event, Event::Query { .. }))
    };
    let tag = |tag: &str, expr: &str| vec![Filter::Tag { tag: tag.to_owned(), expr: expr.to_owned() }];
    assert!(asked(Vec::new()));
    assert!(asked(tag("role", "eb")));
    assert!(asked(tag("role", r"^web-\d+$")));
    assert!(!asked(tag("role", "^eb")));
    assert!(asked(tag("zone", "^$")));
    assert!(!asked(tag("role", "(")));
    assert!(!asked(tag("role", r"(\w{1000}){1000}")));
    assert!(asked(vec![Filter::Nodes(vec!["you".to_owned(), "me".to_owned()])]));
    assert!(!asked(vec![Filter::Nodes(vec!["you".to_owned()])]));
}

/// Shows that streams are bounded in number, that noise on them is answered with an error and closed, and that
/// those that say nothing time out.
#[test]
fn streams_are_bounded() {
    let mut machine = machine();
    let mut closed = 0;
    for number in 0..300 {
        let accepted = Input::StreamAccepted { stream: StreamId::accepted(number), from: address(2) };
        let outputs = machine.handle(accepted, Time::ZERO);
        closed += outputs.iter().filter(|output| matches!(output, Output::Close { .. })).count();
    }
    assert_eq!((machine.stats().streams, closed), (STREAMS_MAX, 300 - STREAMS_MAX));
    let stream = StreamId::accepted(0);
    let outputs = machine.handle(Input::StreamData { stream, bytes: vec![99, 1, 2] }, Time::ZERO);
    assert!(matches!(outputs[..], [Output::Write { .. }, .., Output::Close { .. }]), "{outputs:?}");
    let mut now = Time::ZERO;
    while let Some(wake) = machine.wake_at().filter(|wake| *wake <= Time::from_millis(11_000)) {
        now = wake;
        machine.handle(Input::Tick, now);
    }
    assert_eq!(machine.stats().streams, 0, "at {now:?}");
}

/// Shows that a peer that floods names, intents and events by whole states leaves all queues bounded.
#[test]
fn floods_are_bounded() {
    let mut machine = machine();
    let envelope = Envelope::default();
    let mut rng = Rng::new([3; 32]);
    for round in 0..5u64 {
        let nodes = (0..1000)
            .map(|n| NodeState { alive: alive(&format!("flood-{round}-{n}"), 9, 1), state: StateCode::Alive })
            .collect();
        let state = regrow_gossip::wire::SerfState {
            ltime: 10,
            status_ltimes: (0..3000).map(|n| (format!("ghost-{round}-{n}"), 5)).collect(),
            ..Default::default()
        };
        let message = PushPull { join: true, nodes, user_state: state.encode() }.encode();
        let stream = StreamId::accepted(round);
        machine.handle(Input::StreamAccepted { stream, from: address(2) }, Time::ZERO);
        machine.handle(Input::StreamData { stream, bytes: envelope.seal_stream(&message, &mut rng) }, Time::ZERO);
    }
    let stats = machine.stats();
    assert!(stats.queued.iter().all(|queued| *queued <= BROADCASTS_MAX), "{stats:?}");
    assert!(stats.intents <= regrow_gossip::limits::INTENTS_MAX, "{stats:?}");
    assert!(stats.seeds <= regrow_gossip::limits::SEEDS_MAX, "{stats:?}");
    assert!(stats.probes <= regrow_gossip::limits::PROBES_MAX, "{stats:?}");
}

/// Shows that news which the queues had no room for goes by an exchange of states a few seconds later, again when that has
/// brought news, and that there is no such exchange as long as there is room.
#[test]
fn dropped_news_goes_by_an_exchange() {
    let exchanges = |members: u16, bring: u16| {
        let mut config = Config::lan("me", address(1));
        config.push_pull_interval = Duration::from_secs(3600);
        config.reconnect_interval = Duration::from_secs(3600);
        let mut machine = start(config, None).0;
        let envelope = Envelope::default();
        let nodes = |members: std::ops::Range<u16>| {
            let node = |n: u16| {
                let [high, low] = n.to_be_bytes();
                let at = SocketAddr::from(([10, 1, high, low], 7946));
                NodeState { alive: Alive { address: at, ..alive(&format!("n{n}"), 9, 1) }, state: StateCode::Alive }
            };
            PushPull { join: true, nodes: members.map(node).collect(), user_state: Vec::new() }.encode()
        };
        // The first state that is heard is no news.
        for (number, message) in [nodes(0..10), nodes(10..members)].into_iter().enumerate() {
            let stream = StreamId::accepted(number as u64);
            let bytes = envelope.seal_stream(&message, &mut Rng::new([3; 32]));
            machine.handle(Input::StreamAccepted { stream, from: address(2) }, Time::ZERO);
            machine.handle(Input::StreamData { stream, bytes }, Time::ZERO);
        }
        let mut opened = Vec::new();
        while let Some(wake) = machine.wake_at().filter(|wake| *wake <= Time::from_millis(30_000)) {
            let whole = |output: &Output| match output {
                Output::Open { bytes, stream, .. } if bytes.len() > 10_000 => Some(*stream),
                _ => None,
            };
            let Some(stream) = machine.handle(Input::Tick, wake).iter().find_map(whole) else { continue };
            let first = members + opened.len() as u16;
            let answer = if opened.len() < usize::from(bring) { nodes(first..first + 1) } else { nodes(0..10) };
            let bytes = envelope.seal_stream(&answer, &mut Rng::new([3; 32]));
            machine.handle(Input::StreamData { stream, bytes }, wake);
            opened.push(wake);
        }
        opened
    };
    let room = BROADCASTS_MAX as u16;
    assert_eq!(exchanges(room - 100, 1), []);
    for (bring, expected) in [(0, 1), (1, 2), (2, 3)] {
        let opened = exchanges(room + 100, bring);
        assert_eq!(opened.len(), expected, "{opened:?}");
        assert!((Time::from_millis(3_000)..Time::from_millis(9_000)).contains(&opened[0]), "{opened:?}");
    }
}

/// Shows that the same seed and inputs give the same outputs, byte for byte.
#[test]
fn runs_repeat() {
    let run = || {
        let mut machine = machine();
        let mut all = machine.handle(packet(&[alive("a", 2, 1).encode(), alive("b", 3, 1).encode()]), Time::ZERO);
        for _ in 0..500 {
            let now = machine.wake_at().expect("a timer is always set");
            all.extend(machine.handle(Input::Tick, now));
        }
        all
    };
    assert_eq!(run(), run());
}
