//! Shows what each node makes of what gossip says, and that nothing is replaced on the word of one source.

use super::{OWN_BUSINESS, TURN, confirm, plan};
use crate::features::{group, instance};
use crate::world::{World, id, lines, name};
use regrow_model::desired::Goal;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{Endpoint, EndpointState, Instance, Member, Node, Phase};
use regrow_model::process::ProcessId;
use regrow_model::{Action, InstanceId, Peer, Plan, Planned, Recorded, Standing, Time};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Nodes that are members, with a group `web` of one instance for each, all of which serve. The node that looks is `n1`.
fn cluster(count: u32) -> World {
    let mut world = World::web(json!({"size": count}));
    world.governor(json!({}));
    for number in 1..=count {
        let node = name(&format!("n{number}"));
        let record = Node { address: format!("10.0.0.{number}"), version: "1".into(), since: world.now, away: false };
        world.put(Record::Node(node.clone(), record));
        let cause = world.cause();
        let member = Member {
            standing: Standing::Alive,
            incarnation: 1,
            address: format!("10.0.0.{number}:7946"),
            tags: BTreeMap::new(),
            agent: true,
            listing: Some(format!("/members/{node}")),
            by: name(if number == 1 { "n2" } else { "n1" }),
            why: String::new(),
            since: world.now,
            confirmed: None,
            overruled: false,
            cause,
        };
        world.put(Record::Member(node.clone(), Box::new(member)));
        let peer = Peer {
            standing: Standing::Alive,
            suspect: false,
            quarantined: false,
            incarnation: 1,
            address: format!("10.0.0.{number}:7946"),
            tags: BTreeMap::new(),
            since: world.now,
            why: String::new(),
            trail: Vec::new(),
        };
        world.view.local.peers.by_name.insert(node, peer);
    }
    world.view.local.peers.listed_under = Some("/members/".into());
    for planned in group::plan(&world.view, world.now).actions {
        done(&mut world, &planned);
    }
    for id in world.view.assignments.keys().cloned().collect::<Vec<_>>() {
        runs(&mut world, &id, EndpointState::Passing);
    }
    let second = Duration::from_secs(1);
    world.now = world.now.after(second);
    for planned in group::plan(&world.view, world.now).actions {
        done(&mut world, &planned);
    }
    world
}

/// The node of an instance has started it.
fn runs(world: &mut World, id: &InstanceId, state: EndpointState) {
    let wanted = world.view.assignments[id].value.clone();
    let (node, incarnation, cause, since) = (wanted.node.clone(), wanted.incarnation, wanted.cause.clone(), world.now);
    let process = Some(ProcessId { pid: 7, start_ticks: 1 });
    let (version, phase) = (wanted.version, Phase::Running);
    let (exit, error, hooks) = (None, None, BTreeMap::new());
    let cause_ = cause.clone();
    let seen =
        Instance { node: node.clone(), incarnation, phase, version, process, exit, error, hooks, since, cause: cause_ };
    world.put(Record::Instance(id.clone(), Box::new(seen)));
    let (address, port, instance, checks) = (wanted.address.clone(), wanted.port, id.clone(), BTreeMap::new());
    let endpoint = Endpoint { node, instance, incarnation, address, port, state, checks, since, cause };
    world.put(Record::Endpoint(name("web"), id.clone(), Box::new(endpoint)));
}

fn done(world: &mut World, planned: &Planned) {
    let Action::Record { changes } = &planned.action else { panic!("records only: {}", planned.why) };
    let (listings, changes): (Vec<Change>, Vec<Change>) =
        changes.iter().cloned().partition(|change| matches!(change.key(), Key::Listing(_)));
    drop(listings);
    world.commit(Recorded { changes, events: planned.events.clone() });
}

fn sees(world: &mut World, node: &str, standing: Standing) {
    let now = world.now;
    let peer = world.view.local.peers.by_name.get_mut(&name(node)).expect("a member");
    (peer.standing, peer.since, peer.suspect) = (standing, now, false);
    peer.why = "no answer came".into();
    peer.trail = vec!["10:00  suspected by n2".into()];
}

/// Its lease has ended.
fn ends(world: &mut World, node: &str) {
    world.view.nodes.remove(&name(node));
}

fn looks(world: &World, node: &str, leads: bool) -> Plan {
    plan(&world.view, &name(node), leads, world.now)
}

fn keys(planned: &Planned) -> Vec<String> {
    let Action::Record { changes } = &planned.action else { panic!("records only") };
    let line = |change: &Change| match change {
        Change::Put(record) => format!("put {}", record.key()),
        Change::Delete(key) => format!("delete {key}"),
    };
    changes.iter().map(line).collect()
}

fn state(world: &World, id: &InstanceId) -> EndpointState {
    world.view.endpoints[&name("web")][id].state
}

fn told(events: &[Draft]) -> String {
    events.iter().map(|event| format!("{} {}: {}", event.kind, event.object, event.message)).collect()
}

#[test]
fn a_verdict_is_one_transaction_and_whoever_comes_second_finds_it_done() {
    let mut world = cluster(3);
    assert!(looks(&world, "n1", true).actions.is_empty(), "all is recorded");
    sees(&mut world, "n3", Standing::Failed);
    let mut plan = looks(&world, "n1", true);
    assert_eq!(plan.actions.len(), 1, "{}", lines(&plan));
    let verdict = plan.actions.remove(0);
    let wanted = [
        "put /regrow/observed/member/n3",
        "delete /members/n3",
        "put /regrow/observed/endpoint/web/web-2",
        "put /regrow/observed/service/web",
    ];
    assert_eq!(keys(&verdict), wanted);
    assert_eq!(verdict.given, [Key::Member(name("n1"))], "who is called dead itself calls nobody dead");
    assert_eq!(told(&verdict.events), "member-failed node/n3: no answer came; 1 of its endpoints leave the catalog");
    assert_eq!(verdict.events[0].detail.as_deref(), Some("10:00  suspected by n2"));
    done(&mut world, &verdict);
    assert_eq!(state(&world, &id("web-2")), EndpointState::Down);
    assert_eq!(world.view.endpoints[&name("web")][&id("web-2")].cause, verdict.cause);
    for (node, leads) in [("n1", true), ("n2", false)] {
        assert!(looks(&world, node, leads).actions.is_empty());
    }
}

#[test]
fn the_leader_judges_at_once_and_the_others_in_turn() {
    let mut world = cluster(4);
    sees(&mut world, "n1", Standing::Failed);
    assert_eq!(looks(&world, "n4", true).actions.len(), 1);
    for (node, turns) in [("n2", 1), ("n3", 2), ("n4", 3)] {
        let plan = looks(&world, node, false);
        assert_eq!((plan.actions.len(), plan.recheck_at), (0, Some(world.now.after(TURN * turns))), "{node}");
    }
    world.now = world.now.after(TURN);
    assert_eq!(looks(&world, "n2", false).actions.len(), 1, "a dead leader costs no more");
    let mut accused = cluster(4);
    sees(&mut accused, "n1", Standing::Failed);
    let verdict = looks(&accused, "n2", true).actions.remove(0);
    done(&mut accused, &verdict);
    sees(&mut accused, "n3", Standing::Failed);
    assert!(looks(&accused, "n1", true).actions.is_empty(), "n1 is called dead, and judges nobody");
}

#[test]
fn nothing_is_replaced_on_one_source() {
    let mut world = cluster(3);
    ends(&mut world, "n3");
    assert!(looks(&world, "n1", true).actions.is_empty() && confirm(&world.view, world.now).actions.is_empty());
    assert!(group::plan(&world.view, world.now).actions.is_empty(), "the end of a lease alone does nothing");

    let mut world = cluster(3);
    sees(&mut world, "n3", Standing::Failed);
    let verdict = looks(&world, "n1", true).actions.remove(0);
    done(&mut world, &verdict);
    assert!(group::plan(&world.view, world.now).actions.is_empty(), "gossip alone replaces nothing");
    let plan = confirm(&world.view, world.now);
    assert_eq!(
        lines(&plan),
        "held node/n3: replace 1 instances of n3 [second-source] gossip says that it is dead, and its lease in the \
         store is alive: one source is not enough\n"
    );

    ends(&mut world, "n3");
    let dead = confirm(&world.view, world.now).actions.remove(0);
    assert_eq!(
        told(&dead.events),
        "node-dead node/n3: dead by two sources: gossip says that it is dead, and its lease in the store has ended; \
         1 instances are replaced"
    );
    done(&mut world, &dead);
    let plan = group::plan(&world.view, world.now);
    assert_eq!(plan.actions.len(), 1, "{}", lines(&plan));
    assert_eq!((plan.actions[0].why.as_str(), &plan.actions[0].cause), ("web-2: its node n3 is dead", &verdict.cause));
    done(&mut world, &plan.actions[0]);
    let next = &world.view.assignments[&id("web-2")];
    assert_eq!((next.incarnation, next.crashes, next.goal), (2, 0, Goal::Run));
    assert!(next.node != name("n3"));
    assert!(confirm(&world.view, world.now).actions.is_empty(), "said once");
}

#[test]
fn a_partition_replaces_nothing_and_empties_nothing() {
    let mut world = cluster(5);
    for node in ["n3", "n4", "n5"] {
        sees(&mut world, node, Standing::Failed);
    }
    let plan = looks(&world, "n1", true);
    let held = lines(&plan);
    assert!(plan.actions.is_empty(), "nobody is called dead by one who may be cut off: {held}");
    assert!(held.contains("held node/n3: record that n3 has failed [freeze] 3 of 5 nodes look dead at once"), "{held}");
    for node in ["n3", "n4", "n5"] {
        ends(&mut world, node);
    }
    let verdicts = looks(&world, "n1", true).actions;
    assert_eq!(verdicts.len(), 3);
    for verdict in &verdicts {
        assert_eq!(keys(verdict).len(), 2, "the record and the key, no endpoint: {:?}", keys(verdict));
        done(&mut world, verdict);
    }
    let plan = confirm(&world.view, world.now);
    assert!(plan.actions.is_empty(), "{}", lines(&plan));
    assert!(lines(&plan).contains("take what n3 serves out of the catalog [freeze]"), "{}", lines(&plan));
    assert!(group::plan(&world.view, world.now).actions.is_empty());
    // One that an operator gives up, and there are fewer than half.
    sees(&mut world, "n3", Standing::Left);
    for planned in looks(&world, "n1", true).actions {
        done(&mut world, &planned);
    }
    assert_eq!(world.view.members[&name("n3")].standing, Standing::Left);
    let plan = confirm(&world.view, world.now);
    assert!(plan.actions.iter().any(|planned| planned.object.name == name("n4")), "{}", lines(&plan));
}

#[test]
fn a_member_in_quarantine_drives_no_replacement() {
    let mut world = cluster(3);
    sees(&mut world, "n3", Standing::Failed);
    let verdict = looks(&world, "n1", true).actions.remove(0);
    done(&mut world, &verdict);
    ends(&mut world, "n3");
    world.view.local.peers.by_name.get_mut(&name("n3")).expect("a member").quarantined = true;
    let plan = confirm(&world.view, world.now);
    assert!(plan.actions.is_empty() && lines(&plan).contains("[quarantine] it comes and goes"), "{}", lines(&plan));
    world.view.local.peers.by_name.get_mut(&name("n3")).expect("a member").quarantined = false;
    assert_eq!(confirm(&world.view, world.now).actions.len(), 1);
    // An operator knows better.
    world.view.local.peers.by_name.get_mut(&name("n3")).expect("a member").quarantined = true;
    sees(&mut world, "n3", Standing::Left);
    let left = looks(&world, "n1", true).actions.remove(0);
    done(&mut world, &left);
    assert_eq!(confirm(&world.view, world.now).actions.len(), 1);
}

#[test]
fn one_that_is_back_has_its_key_again_and_its_endpoints_when_their_checks_pass() {
    let mut world = cluster(3);
    sees(&mut world, "n3", Standing::Failed);
    let verdict = looks(&world, "n1", true).actions.remove(0);
    done(&mut world, &verdict);
    // It hears nobody: it is not for it to say that it is back.
    let own = |world: &mut World, others: Standing| {
        sees(world, "n1", others);
        sees(world, "n2", others);
        sees(world, "n3", Standing::Alive);
        looks(world, "n3", false).actions
    };
    assert!(own(&mut world, Standing::Failed).is_empty());
    // Nor before its lease lives again: it may have been asleep.
    let node = Node::clone(&world.view.nodes[&name("n3")]);
    ends(&mut world, "n3");
    assert!(own(&mut world, Standing::Alive).is_empty());
    world.put(Record::Node(name("n3"), node));
    let back = own(&mut world, Standing::Alive).remove(0);
    assert_eq!(keys(&back), ["put /members/n3", "put /regrow/observed/member/n3"]);
    assert!(told(&back.events).contains("it had failed (no answer came)"), "{}", told(&back.events));
    assert_eq!(back.cause, verdict.cause, "one chain from the death to the return");
    done(&mut world, &back);
    let plan = instance::plan(&world.view, &name("n3"), world.now);
    done(&mut world, &plan.actions[0]);
    assert_eq!(state(&world, &id("web-2")), EndpointState::Failing, "in the pool when its checks pass");
    assert_eq!(world.view.endpoints[&name("web")][&id("web-2")].checks.len(), 1);

    // The same life called dead once more: gossip alone is not believed again.
    assert!(world.view.members[&name("n3")].overruled);
    sees(&mut world, "n3", Standing::Failed);
    let plan = looks(&world, "n1", true);
    assert!(plan.actions.is_empty() && lines(&plan).contains("[second-source]"), "{}", lines(&plan));
    ends(&mut world, "n3");
    assert_eq!(looks(&world, "n1", true).actions.len(), 1);
}

#[test]
fn others_record_who_does_not_itself_and_programs_of_others_are_listed_too() {
    let mut world = cluster(2);
    let mut serf = world.view.local.peers.by_name[&name("n2")].clone();
    serf.since = world.now;
    world.view.local.peers.by_name.insert(name("serf"), serf);
    assert!(looks(&world, "n1", true).actions.is_empty(), "it may record itself");
    world.now = world.now.after(OWN_BUSINESS);
    let joined = looks(&world, "n1", true).actions.remove(0);
    assert_eq!(keys(&joined), ["put /members/serf", "put /regrow/observed/member/serf"]);
    done(&mut world, &joined);
    assert!(!world.view.members[&name("serf")].agent);
    sees(&mut world, "serf", Standing::Failed);
    let failed = looks(&world, "n1", true).actions.remove(0);
    assert_eq!(keys(&failed), ["put /regrow/observed/member/serf", "delete /members/serf"]);
    done(&mut world, &failed);
    world.view.local.peers.by_name.remove(&name("serf"));
    assert!(confirm(&world.view, world.now).actions.is_empty());
    world.now = world.now.after(super::FRESH);
    assert_eq!(keys(&confirm(&world.view, world.now).actions[0]), ["delete /regrow/observed/member/serf"]);
}

#[test]
fn silence_counts_only_about_those_that_were_met() {
    let mut world = cluster(3);
    world.view.local.peers.by_name.remove(&name("n3"));
    ends(&mut world, "n3");
    let plan = looks(&world, "n1", true);
    assert!(plan.actions.is_empty(), "n1 may not have met it yet");
    world.now = plan.recheck_at.expect("it looks again");
    let gone = looks(&world, "n1", true).actions.remove(0);
    assert!(told(&gone.events).contains("gossip has not heard of it, and its lease in the store has ended"));

    let mut unmet = cluster(3);
    let alone = Member { by: name("n3"), ..Member::clone(&unmet.view.members[&name("n3")]) };
    unmet.put(Record::Member(name("n3"), Box::new(alone)));
    unmet.view.local.peers.by_name.remove(&name("n3"));
    ends(&mut unmet, "n3");
    unmet.now = unmet.now.after(Duration::from_secs(3_600));
    assert!(looks(&unmet, "n1", true).actions.is_empty(), "gossip reaches nobody there: it says nothing");
}

#[test]
fn one_that_has_come_back_is_not_called_gone_by_those_who_have_not_heard() {
    let mut world = cluster(3);
    let back = Member { incarnation: 2, ..Member::clone(&world.view.members[&name("n3")]) };
    world.put(Record::Member(name("n3"), Box::new(back)));
    for standing in [Standing::Left, Standing::Failed] {
        sees(&mut world, "n3", standing);
        assert!(looks(&world, "n1", true).actions.is_empty(), "{standing:?}");
    }
}

#[test]
fn an_agent_that_has_ended_in_order_costs_no_endpoint_until_its_lease_ends() {
    let mut world = cluster(3);
    let node = Node { away: true, ..Node::clone(&world.view.nodes[&name("n3")]) };
    world.put(Record::Node(name("n3"), node));
    sees(&mut world, "n3", Standing::Failed);
    let verdict = looks(&world, "n1", true).actions.remove(0);
    assert_eq!(keys(&verdict).len(), 2, "{:?}", keys(&verdict));
    done(&mut world, &verdict);
    assert!(confirm(&world.view, world.now).actions.is_empty());
    assert_eq!(state(&world, &id("web-2")), EndpointState::Passing);
    ends(&mut world, "n3");
    let out = confirm(&world.view, world.now).actions.remove(0);
    done(&mut world, &out);
    assert_eq!(state(&world, &id("web-2")), EndpointState::Down);
    let dead = confirm(&world.view, world.now).actions.remove(0);
    assert!(dead.events.iter().any(|event| event.kind == EventKind::NodeDead));
}

#[test]
fn a_version_is_not_bad_because_a_node_died() {
    let mut world = cluster(3);
    world.group("web", json!({"size": 3, "command": ["v2", "${PORT}"], "update": {"health_within": "1s"}}));
    sees(&mut world, "n3", Standing::Failed);
    let verdict = looks(&world, "n1", true).actions.remove(0);
    done(&mut world, &verdict);
    let mut newest = (*world.view.assignments[&id("web-2")].value).clone();
    newest.version = world.view.groups[&name("web")].version();
    world.put(Record::Assignment(id("web-2"), Box::new(newest)));
    world.now = Time(world.now.0 + 60_000);
    let plan = group::plan(&world.view, world.now);
    assert!(!lines(&plan).contains("known-bad"), "{}", lines(&plan));
    let bad = plan.actions.iter().any(|planned| planned.events.iter().any(|event| event.kind == EventKind::Held));
    assert!(!bad, "{}", lines(&plan));
}
