//! The machine and a real `serf agent` in one cluster, on loopback: each sees, hears and answers the other.
//! Without `serf` on the path each test says that it is skipped.

mod driver;

use driver::{Node, Serf, during_all, until_all};
use regrow_gossip::wire::{EncryptionVersion, Envelope, Filter, Key, Keyring, Tags};
use regrow_gossip::{Change, Event, Input, KeyOp, QueryRequest};

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn join(node: &mut Node, serf: &Serf) {
    node.feed(Input::Join { addresses: vec![serf.address], ignore_old_events: false });
    node.until("both see both alive", |node| node.status("serf") == Some("alive") && serf.sees("ours", "alive", &[]));
}

fn query(name: &str, filters: Vec<Filter>) -> Input {
    Input::Query(QueryRequest {
        token: 1,
        name: name.to_owned(),
        payload: b"how are you".to_vec(),
        filters,
        ack: true,
        relay_factor: 0,
        timeout: None,
    })
}

/// Shows that we join Serf, tags and their changes pass both ways, and that Serf sees our leave as one.
#[test]
fn join_tags_and_leave() {
    let Some(serf) = Serf::start("join_tags_and_leave", "serf", 2, &["-tag", "role=db"]) else { return };
    let mut node = Node::new("ours", 1, |config| config.tags = tags(&[("role", "web"), ("zone", "a")]));
    join(&mut node, &serf);
    assert!(serf.sees("ours", "alive", &["role=web", "zone=a", &node.address.to_string()]));
    assert_eq!(node.gossip.member("serf").expect("member").tags, tags(&[("role", "db")]));

    node.feed(Input::SetTags(tags(&[("role", "web"), ("zone", "b")])));
    node.until("serf sees our new tag", |_| serf.sees("ours", "alive", &["zone=b"]));
    node.during(serf.command(&["tags", "-set", "rack=9"]));
    node.until("we see serf's new tag", |node| {
        node.gossip.member("serf").is_some_and(|member| member.tags.contains_key("rack"))
    });
    node.until("each measures the way to the other", |node| {
        let rtt = serf.command(&["rtt", "ours"]).output().expect("serf runs");
        rtt.status.success() && node.gossip.coordinate("serf").is_some()
    });

    node.feed(Input::Leave);
    node.until("we have left", |node| node.events.contains(&Event::Left));
    assert!(serf.sees("ours", "left", &[]), "{}", serf.members());
    assert!(serf.handled().contains("member-leave"), "{}", serf.handled());
}

/// Shows that Serf joins us, and user events and queries with answers and acks pass both ways, filtered.
#[test]
fn events_and_queries() {
    let Some(serf) = Serf::start("events_and_queries", "serf", 2, &["-tag", "role=db"]) else { return };
    let mut node = Node::new("ours", 1, |config| config.tags = tags(&[("role", "web")]));
    let target = node.address.to_string();
    let printed = node.during(serf.command(&["join", &target]));
    assert!(printed.contains("Successfully joined"), "{printed}");
    node.until("we see serf", |node| node.status("serf") == Some("alive"));

    node.feed(Input::UserEvent { name: "deploy".to_owned(), payload: b"v1".to_vec(), coalesce: false });
    node.until("serf's handler ran", |_| serf.handled().contains("user deploy v1"));
    node.during(serf.command(&["event", "restart", "now"]));
    node.until("we get serf's event", |node| {
        node.events
            .iter()
            .any(|e| matches!(e, Event::User { name, payload, .. } if name == "restart" && payload == b"now"))
    });

    node.answer = Some(b"answer from ours".to_vec());
    let printed = node.during(serf.command(&["query", "-format=json", "load", "x"]));
    assert!(printed.contains("\"ours\""), "serf got our ack and answer: {printed}");
    assert!(
        node.events
            .iter()
            .any(|e| matches!(e, Event::Query { name, payload, .. } if name == "load" && payload == b"x"))
    );
    let printed = node.during(serf.command(&["query", "-format=json", "-tag", "role=w.b", "load"]));
    assert!(printed.contains("\"ours\"") && !printed.contains("\"serf\""), "only we match: {printed}");
    let printed = node.during(serf.command(&["query", "-format=json", "-node", "serf", "load"]));
    assert!(!printed.contains("\"ours\""), "we do not match: {printed}");

    node.events.clear();
    node.feed(query("load", vec![Filter::Tag { tag: "role".to_owned(), expr: "^db$".to_owned() }]));
    node.until("the query is over", |node| node.events.contains(&Event::QueryDone { token: 1 }));
    assert!(node.events.contains(&Event::QueryAck { token: 1, from: "serf".to_owned() }));
    let reply = Event::QueryReply { token: 1, from: "serf".to_owned(), payload: b"answer from serf".to_vec() };
    assert!(node.events.contains(&reply), "{:?}", node.events);
    assert!(!node.events.iter().any(|e| matches!(e, Event::QueryReply { from, .. } if from == "ours")));
    assert!(serf.handled().contains("query load how are you"), "{}", serf.handled());
}

/// Shows that Serf's leave, its death by SIGKILL and its return are seen as such.
#[test]
fn serf_leaves_dies_and_returns() {
    let Some(mut serf) = Serf::start("serf_leaves_dies_and_returns", "serf", 2, &[]) else { return };
    let mut node = Node::new("ours", 1, |_| {});
    join(&mut node, &serf);
    serf.kill();
    node.until("we see it failed", |node| node.status("serf") == Some("failed"));
    let address = serf.address;
    // It starts with incarnation 1 again, knowing nobody; we find it, and it refutes its death.
    let serf = Serf::start_at("serf", address, &[]);
    node.until("we see it back", |node| node.status("serf") == Some("alive") && serf.sees("ours", "alive", &[]));
    let joins = node
        .events
        .iter()
        .filter(|event| matches!(event, Event::Member { change: Change::Join, member, .. } if member.name == "serf"));
    assert_eq!(joins.count(), 2);

    node.during(serf.command(&["leave"]));
    node.until("we see it left", |node| node.status("serf") == Some("left"));
    let failures = node.events.iter().filter(|event| matches!(event, Event::Member { change: Change::Failed, .. }));
    assert_eq!(failures.count(), 1, "the leave is no failure");
}

/// Shows that our death without a word is seen as failure by Serf.
#[test]
fn our_death_is_seen() {
    let Some(serf) = Serf::start("our_death_is_seen", "serf", 2, &[]) else { return };
    let mut node = Node::new("ours", 1, |_| {});
    join(&mut node, &serf);
    drop(node);
    let mut other = Node::new("other", 3, |_| {});
    other.until("serf sees us failed", |_| serf.sees("ours", "failed", &[]));
}

/// Shows that when we die and return with another address and a higher incarnation, Serf, which still thinks
/// that we live at the old one, soon knows us at the new one.
#[test]
fn we_return_with_another_address() {
    let Some(serf) = Serf::start("we_return_with_another_address", "serf", 2, &[]) else { return };
    let mut node = Node::new("ours", 1, |_| {});
    join(&mut node, &serf);
    let old = node.address.to_string();
    drop(node);
    let mut node = Node::new("ours", 5, |config| config.incarnation = 1_000_000);
    let new = node.address.to_string();
    assert!(serf.sees("ours", "alive", &[&old]));
    node.feed(Input::Join { addresses: vec![serf.address], ignore_old_events: false });
    node.until("serf knows us at the new address", |_| serf.sees("ours", "alive", &[&new]));
    assert!(!node.events.iter().any(|event| matches!(event, Event::NameLost { .. })));
}

/// Shows that with encryption both still meet, keys are rotated from either side, and a stranger's key is
/// kept out.
#[test]
fn keys_are_rotated() {
    let keys = [1u8, 2, 3].map(|n| Key::new(&[n; 32]).expect("length"));
    let [first, second, third] = &keys;
    let encrypt = format!("-encrypt={}", first.to_base64());
    let Some(serf) = Serf::start("keys_are_rotated", "serf", 2, &[&encrypt]) else { return };
    let ring = |key: &Key| Envelope { keyring: Some(Keyring::new(key.clone())), ..Envelope::default() };
    let mut stranger = Node::new("stranger", 4, |config| config.envelope = ring(third));
    stranger.feed(Input::Join { addresses: vec![serf.address], ignore_old_events: false });
    stranger.until("the stranger is kept out", |node| {
        node.events.iter().any(|event| matches!(event, Event::JoinFailed { .. }))
    });

    let mut node = Node::new("ours", 1, |config| config.envelope = ring(first));
    join(&mut node, &serf);
    assert!(serf.members().lines().count() == 2, "{}", serf.members());

    for verb in ["-install", "-use"] {
        let printed = node.during(serf.command(&["keys", &format!("{verb}={}", second.to_base64())]));
        assert!(!printed.contains("Error") && !printed.contains("failed"), "{verb}: {printed}");
    }
    let printed = node.during(serf.command(&["keys", &format!("-remove={}", first.to_base64())]));
    assert!(!printed.contains("Error"), "{printed}");
    assert_eq!(node.gossip.keys(), [second.to_base64()]);

    let rotate = |node: &mut Node, op: KeyOp| {
        node.events.clear();
        node.feed(Input::Keys { token: 7, op, relay_factor: 0 });
        node.until("the keys are done", |node| node.events.iter().any(|e| matches!(e, Event::KeysDone { .. })));
        let report = node.events.iter().find_map(|event| match event {
            Event::KeysDone { token: 7, report } => Some(report.clone()),
            _ => None,
        });
        let report = report.expect("report");
        assert_eq!((report.nodes, report.answers, report.errors), (2, 2, 0), "{report:?}");
        report
    };
    rotate(&mut node, KeyOp::Install(third.clone()));
    rotate(&mut node, KeyOp::Use(third.clone()));
    rotate(&mut node, KeyOp::Remove(second.clone()));
    let report = rotate(&mut node, KeyOp::List);
    assert_eq!(report.keys, [(third.to_base64(), 2)].into());
    assert_eq!(report.primary, [(third.to_base64(), 2)].into());

    node.feed(Input::UserEvent { name: "deploy".to_owned(), payload: b"v2".to_vec(), coalesce: false });
    node.until("news passes under the last key", |_| serf.handled().contains("user deploy v2"));
    assert!(!node.events.iter().any(|e| matches!(e, Event::Member { change: Change::Failed, .. })));
}

/// Shows that uncompressed states and the padded form of encryption, which Serf reads but does not write, are
/// understood both ways.
#[test]
fn uncompressed_and_padded() {
    let key = Key::new(&[5; 24]).expect("length");
    let encrypt = format!("-encrypt={}", key.to_base64());
    let arguments = ["-disable-compression", encrypt.as_str()];
    let Some(serf) = Serf::start("uncompressed_and_padded", "serf", 2, &arguments) else { return };
    let mut node = Node::new("ours", 1, |config| {
        config.envelope.keyring = Some(Keyring::new(key));
        config.envelope.encryption = EncryptionVersion::Padded;
        config.envelope.compress = false;
    });
    join(&mut node, &serf);
    node.during(serf.command(&["event", "restart", "now"]));
    node.feed(Input::UserEvent { name: "deploy".to_owned(), payload: b"v3".to_vec(), coalesce: false });
    node.until("events pass both ways", |node| {
        let got = node.events.iter().any(|e| matches!(e, Event::User { name, .. } if name == "restart"));
        got && serf.handled().contains("user deploy v3")
    });
}

/// Shows that two Serf agents and we make one cluster through each other, that answers relayed by a third
/// come, and that all see the SIGKILL of one alike.
#[test]
fn three_of_two_kinds() {
    let Some(mut first) = Serf::start("three_of_two_kinds", "serf", 2, &[]) else { return };
    let Some(second) = Serf::start("three_of_two_kinds", "serf2", 3, &["-join", &first.address.to_string()]) else {
        return;
    };
    let mut node = Node::new("ours", 1, |_| {});
    join(&mut node, &first);
    node.until("all see all", |node| node.status("serf2") == Some("alive") && second.sees("ours", "alive", &[]));
    node.answer = Some(b"fine".to_vec());
    let printed = node.during(second.command(&["query", "-format=json", "-relay-factor=1", "load"]));
    assert!(["\"ours\"", "\"serf\"", "\"serf2\""].iter().all(|name| printed.contains(name)), "{printed}");
    node.feed(Input::Query(QueryRequest {
        token: 2,
        name: "load".to_owned(),
        payload: Vec::new(),
        filters: Vec::new(),
        ack: false,
        relay_factor: 1,
        timeout: None,
    }));
    node.until("our relayed query is over", |node| node.events.contains(&Event::QueryDone { token: 2 }));
    let replies = node.events.iter().filter(|event| matches!(event, Event::QueryReply { token: 2, .. }));
    assert_eq!(replies.count(), 3, "each once, though some came twice");

    first.kill();
    node.until("all see it failed", |node| node.status("serf") == Some("failed") && second.sees("serf", "failed", &[]));
    node.feed(Input::ForceLeave { name: "serf".to_owned(), prune: false });
    node.until("all see it left", |node| node.status("serf") == Some("left") && second.sees("serf", "left", &[]));
}

/// Shows that our answer to Serf's name conflict query makes the second of two agents with one name give up,
/// and that we stay with the first.
#[test]
fn of_two_serfs_with_one_name_the_second_gives_up() {
    let test = "of_two_serfs_with_one_name_the_second_gives_up";
    let Some(first) = Serf::start(test, "serf", 2, &[]) else { return };
    let mut node = Node::new("ours", 1, |_| {});
    join(&mut node, &first);
    let Some(mut second) = Serf::start(test, "serf", 3, &[]) else { return };
    let target = node.address.to_string();
    node.during(second.command(&["join", &target]));
    node.until("the second gives up", |_| second.has_ended() || second.log().contains("minority in name conflict"));
    assert!(!first.log().contains("minority in name conflict"), "{}", first.log());
    let known = node.gossip.member("serf").expect("member");
    assert_eq!((known.address, known.status.as_str()), (first.address, "alive"));
}

/// Shows that three Serf agents and three of ours make one encrypted cluster in which all see all with tags, an
/// event and a rotation of keys reach all, and SIGKILL, silence and leave of either kind are seen alike by all.
#[test]
fn three_and_three() {
    let key = Key::new(&[9; 32]).expect("length");
    let encrypt = format!("-encrypt={}", key.to_base64());
    let mut serfs: Vec<Serf> = Vec::new();
    for n in 1..=3u8 {
        let (tag, name) = (format!("number=s{n}"), format!("serf{n}"));
        let join = serfs.first().map(|first| format!("-join={}", first.address));
        let mut arguments = vec![encrypt.as_str(), "-tag", &tag];
        arguments.extend(join.as_deref());
        let Some(serf) = Serf::start("three_and_three", &name, 10 + n, &arguments) else { return };
        serfs.push(serf);
    }
    let mut nodes: Vec<Node> = (1..=3u8)
        .map(|n| {
            Node::new(&format!("ours{n}"), n, |config| {
                config.tags = tags(&[("number", &format!("o{n}"))]);
                config.envelope.keyring = Some(Keyring::new(key.clone()));
            })
        })
        .collect();
    for (node, serf) in nodes.iter_mut().zip(&serfs) {
        node.feed(Input::Join { addresses: vec![serf.address], ignore_old_events: false });
    }
    let all: Vec<String> = (1..=3).flat_map(|n| [format!("serf{n}"), format!("ours{n}")]).collect();
    let tag_of = |name: &str| format!("{}{}", &name[..1], &name[4..]);
    until_all(&mut nodes, "all see all with tags", |nodes| {
        all.iter().all(|name| {
            nodes.iter().all(|node| {
                let member = node.gossip.member(name);
                member.is_some_and(|m| m.status.as_str() == "alive" && m.tags.get("number") == Some(&tag_of(name)))
            }) && serfs.iter().all(|serf| serf.sees(name, "alive", &[&format!("number={}", tag_of(name))]))
        })
    });

    nodes[1].feed(Input::UserEvent { name: "deploy".to_owned(), payload: b"v1".to_vec(), coalesce: false });
    until_all(&mut nodes, "the event reaches all", |nodes| {
        serfs.iter().all(|serf| serf.handled().contains("user deploy v1"))
            && nodes.iter().all(|node| node.events.iter().any(|event| matches!(event, Event::User { .. })))
    });
    let second = Key::new(&[8; 16]).expect("length");
    for (at, verb, key) in [(0, "-install", &second), (1, "-use", &second), (2, "-remove", &key)] {
        let printed = during_all(&mut nodes, serfs[at].command(&["keys", &format!("{verb}={}", key.to_base64())]));
        assert!(!printed.contains("Error"), "{verb}: {printed}");
    }
    assert!(nodes.iter().all(|node| node.gossip.keys() == [second.to_base64()]));

    serfs.remove(0).kill();
    drop(nodes.remove(0));
    until_all(&mut nodes, "all see both failed", |nodes| {
        ["serf1", "ours1"].iter().all(|name| {
            nodes.iter().all(|node| node.status(name) == Some("failed"))
                && serfs.iter().all(|serf| serf.sees(name, "failed", &[]))
        })
    });
    nodes[0].feed(Input::Leave);
    during_all(&mut nodes, serfs[0].command(&["leave"]));
    until_all(&mut nodes, "those that stay see both left", |nodes| {
        nodes[0].events.contains(&Event::Left)
            && ["serf2", "ours2"]
                .iter()
                .all(|name| nodes[1].status(name) == Some("left") && serfs[1].sees(name, "left", &[]))
    });
    let wrong: Vec<&Event> = nodes[1].events.iter().filter(
        |event| matches!(event, Event::Member { change: Change::Failed, member, .. } if !member.name.ends_with('1')),
    ).collect();
    assert!(wrong.is_empty(), "nobody else was declared failed: {wrong:?}");
}
