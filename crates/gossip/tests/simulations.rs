//! Whole clusters on a simulated network. Each test states its property first; its seed is in its name's
//! constant and printed, and replays it exactly.

//! Most have two sizes: a small one, and with `REGROW_FULL=1` (`make soak`) the full one of up to 10,000 nodes.

#![expect(clippy::print_stdout, reason = "tests print their seed and what they measured")]

mod sim;

use std::net::SocketAddr;
use std::time::Duration;

use regrow_gossip::limits::TOMBSTONES_MIN;
use regrow_gossip::{Event, Input, Snapshot};
use sim::{Sim, address, config};

const SECOND: Duration = Duration::from_secs(1);

/// How much of something: `small`, or `full` when the long run is asked for.
#[expect(clippy::disallowed_methods, reason = "a longer run by hand")]
fn size(small: usize, full: usize) -> usize {
    if std::env::var("REGROW_FULL").is_ok_and(|full| full == "1") { full } else { small }
}

/// A cluster of so many nodes that has run for a while. A large one is not formed anew for each property.
fn settled(seed: u8, count: usize) -> Sim {
    if count > 500 {
        return Sim::settled(seed, count, count, |config| config.coordinates = false);
    }
    Sim::cluster(seed, count, |_| {})
}

/// Property: 100 nodes that join one of them at once see all 100 alive within 20 s, and nobody is ever declared
/// failed. In full: 10,000 nodes that start within 10 s and join one of the first sixteen, within 10 minutes.
#[test]
fn a_cluster_forms() {
    let seed = 1;
    let count = size(100, 10_000);
    let (sim, limit) = if count == 100 {
        (Sim::cluster(seed, count, |_| {}), 20 * SECOND)
    } else {
        let mut sim = Sim::large(seed, count, 10 * SECOND, |config| config.coordinates = false);
        sim.until_said(600 * SECOND, Sim::all_see_all);
        (sim, 610 * SECOND)
    };
    println!("seed {seed}: {count} nodes formed after {:?}", sim.now);
    assert!(sim.now.since(sim::START) < limit && sim.all_see_all(), "{:?}", sim.now);
    assert_eq!(sim.false_failures, 0);
}

/// Property: when 30 % of the nodes are killed at once and return 3 s later, within 30 s all see all alive,
/// and no node that stayed is ever declared failed. In full: of 10,000 nodes, within 10 minutes.
#[test]
fn thirty_percent_restart_at_once() {
    let seed = 2;
    println!("seed {seed}");
    let count = size(50, 10_000);
    let restarted = count * 3 / 10;
    let mut sim = settled(seed, count);
    restart_at_once(&mut sim, restarted, 3 * SECOND, true);
    let took = sim.until_said(SECOND * size(30, 600) as u32, Sim::all_see_all);
    assert!(took.is_some(), "not all see all");
    println!("{count} nodes whole after {took:?}");
    let stayed = |name: &str| name[1..].parse::<usize>().is_ok_and(|n| n >= restarted);
    let wrong: Vec<_> = sim.failures(sim::START).into_iter().filter(|(_, name)| stayed(name)).collect();
    assert_eq!(wrong, []);
}

/// Property: when 45 of 60 nodes restart at once, without snapshot and with the incarnation 1 that Serf starts
/// with, nobody stays dead: within 60 s all see all alive. In full: 4,500 of 10,000, within 10 minutes.
#[test]
fn mass_restart_and_none_stays_dead() {
    let seed = 3;
    println!("seed {seed}");
    let count = size(60, 10_000);
    let mut sim = settled(seed, count);
    restart_at_once(&mut sim, size(45, 4_500), SECOND, false);
    let took = sim.until_said(SECOND * size(60, 600) as u32, Sim::all_see_all);
    println!("{count} nodes whole after {took:?}");
    assert!(took.is_some(), "some stay dead");
}

/// Kills the nodes `0..count` and starts them again after `down`.
fn restart_at_once(sim: &mut Sim, count: usize, down: Duration, remembered: bool) {
    let snapshot = |id: usize| remembered.then(|| sim.nodes[id].gossip.snapshot());
    let snapshots: Vec<Option<Snapshot>> = (0..count).map(snapshot).collect();
    (0..count).for_each(|id| sim.kill(id));
    sim.run(down);
    let stayed = sim.nodes.len() - count;
    for (id, snapshot) in snapshots.into_iter().enumerate() {
        let mut config = config(&format!("n{id}"), address(id));
        config.coordinates = stayed < 500;
        sim.restart(id, config, snapshot);
        if !remembered {
            // Sixteen of those that stayed are what an operator would name.
            sim.join(id, address(count + id % stayed.min(16)));
        }
    }
}

/// Property: two halves that are cut for an hour heal within two minutes of the cut's end, and nobody has declared one
/// of its own half failed. In full: of 1,000 nodes, within ten minutes.
#[test]
fn halves_split_for_an_hour_heal() {
    let seed = 17;
    println!("seed {seed}");
    let count = size(8, 1_000);
    let mut sim = settled(seed, count);
    sim.run(10 * SECOND);
    sim.keep = sim::Keep::FalseFailures;
    let half = move |at: SocketAddr| (0..count / 2).any(|n| address(n) == at);
    let halves: std::collections::BTreeSet<SocketAddr> = (0..count).map(address).filter(|at| half(*at)).collect();
    sim.network.link = Box::new(move |a, b| if halves.contains(&a) == halves.contains(&b) { 0.0 } else { 1.0 });
    sim.run(3600 * SECOND);
    let number = |name: &str| name[1..].parse::<usize>().unwrap_or_default();
    let own = |(told_by, about): &(usize, String)| (*told_by < count / 2) == (number(about) < count / 2);
    assert!(sim.failures(sim::START).iter().all(|failure| !own(failure)));
    let all_dead = |node: &sim::Node| node.gossip.stats().living == count / 2;
    assert!(sim.running().all(|(_, node)| all_dead(node)), "each half sees the other as dead");
    sim.network.link = Box::new(|_, _| 0.0);
    let took = sim.until_said(SECOND * size(120, 600) as u32, Sim::all_see_all);
    println!("{count} nodes healed after {took:?}");
    assert!(took.is_some(), "the halves do not heal");
}

/// Property: two halves that are cut for so long that each has forgotten the other entirely find each other
/// within two minutes of the cut's end, from their seeds alone.
#[test]
fn halves_that_forgot_each_other_heal() {
    let seed = 4;
    println!("seed {seed}");
    let count = 16;
    let mut sim = Sim::cluster(seed, count, |config| config.failed_kept = 60 * SECOND);
    let side = move |at: SocketAddr| (0..count / 2).any(|n| address(n) == at);
    sim.network.link = Box::new(move |a, b| if side(a) == side(b) { 0.0 } else { 1.0 });
    sim.run(600 * SECOND);
    for (_, node) in sim.running() {
        assert_eq!(node.gossip.stats().members, count / 2, "the other half is forgotten");
    }
    sim.network.link = Box::new(|_, _| 0.0);
    let took = sim.until(120 * SECOND, Sim::all_see_all);
    println!("healed after {took:?}");
    assert!(took.is_some(), "the halves do not heal");
}

/// Property: a node to which 90 % of the packets are lost does not make the others declare each other failed. In full:
/// of 1,000 nodes.
#[test]
fn asymmetric_loss_of_one_kills_no_other() {
    let seed = 5;
    println!("seed {seed}");
    let mut sim = settled(seed, size(30, 1_000));
    let since = sim.now;
    sim.network.link = Box::new(|_, to| if to == address(7) { 0.9 } else { 0.0 });
    sim.run(120 * SECOND);
    let wrong: Vec<_> =
        sim.failures(since).into_iter().filter(|(told_by, about)| *told_by != 7 && about != "n7").collect();
    assert_eq!(wrong, []);
    sim.network.link = Box::new(|_, _| 0.0);
    assert!(sim.until(60 * SECOND, Sim::all_see_all).is_some(), "whole again");
}

/// Property: a node that crashes and returns under a fresh name for ever leaves the state of the others
/// bounded, in every queue and table; and minutes after the last crash all its names are gone, since another
/// had the address each time. In full: 1,000 names in an hour.
#[test]
fn fresh_names_leave_the_state_bounded() {
    let seed = 6;
    println!("seed {seed}");
    let names = size(400, 1_000);
    let pause = if names == 400 { SECOND / 2 } else { SECOND * 8 / 5 };
    let mut sim = Sim::cluster(seed, 4, |_| {});
    let id = sim.start(config("fresh-0", address(100)), None);
    for n in 1..names {
        sim.join(id, address(n % 4));
        sim.run(2 * SECOND);
        sim.kill(id);
        sim.run(pause);
        sim.restart(id, config(&format!("fresh-{n}"), address(100)), None);
    }
    for (wait, members_max) in [(60 * SECOND, TOMBSTONES_MIN + 10), (360 * SECOND, 6)] {
        sim.run(wait);
        for (_, node) in sim.running().filter(|(node, _)| *node != id) {
            let stats = node.gossip.stats();
            println!("{stats:?}");
            assert!(stats.members <= members_max, "{stats:?}");
            assert!(stats.timers < 100 && stats.seeds < 20 && stats.queued.iter().sum::<usize>() < 100, "{stats:?}");
            assert!(stats.intents <= names && stats.probes < 20 && stats.streams < 10, "{stats:?}");
        }
    }
}

/// Property: a node that is paused for 20 s is found, and when it goes on it blames nobody for its sleep and
/// is a member again within 10 s.
#[test]
fn a_paused_node_blames_nobody() {
    let seed = 7;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 20, |_| {});
    let since = sim.now;
    sim.pause(3);
    sim.run(20 * SECOND);
    assert!(sim.all_see("n3", "failed"));
    sim.resume(3);
    assert!(sim.until(10 * SECOND, Sim::all_see_all).is_some(), "whole again");
    assert!(sim.failures(since).iter().all(|(_, name)| name == "n3"), "{:?}", sim.failures(since));
    assert!(sim.nodes[3].events.iter().any(|(_, event)| matches!(event, Event::Paused { .. })));
}

/// Property: of 50 nodes, the death of a process is known to the last one within 1.5 s, and that of a host
/// within 6 s; nobody else is declared failed.
#[test]
fn deaths_are_known_soon() {
    let seed = 8;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 50, |_| {});
    sim.run(10 * SECOND);
    for id in [10, 20, 30] {
        sim.kill(id);
        let took = sim.until(10 * SECOND, |sim| sim.all_see(&format!("n{id}"), "failed"));
        println!("killed: known to all after {took:?}");
        assert!(took.is_some_and(|took| took <= SECOND * 3 / 2), "{took:?}");
    }
    for id in [11, 21] {
        sim.power_off(id);
        let took = sim.until(20 * SECOND, |sim| sim.all_see(&format!("n{id}"), "failed"));
        println!("powered off: known to all after {took:?}");
        assert!(took.is_some_and(|took| took <= 6 * SECOND), "{took:?}");
    }
    let dead = ["n10", "n20", "n30", "n11", "n21"];
    assert!(sim.failures(sim::START).iter().all(|(_, name)| dead.contains(&name.as_str())));
}

/// Property: with 20 % of all packets lost, some doubled and many reordered, in two minutes nobody is declared
/// failed, and a user event reaches each node exactly once.
#[test]
fn loss_alone_kills_nobody() {
    let seed = 9;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 30, |_| {});
    sim.network.loss = 0.2;
    sim.network.duplicate = 0.1;
    sim.network.delay = (Duration::from_millis(1), Duration::from_millis(80));
    let since = sim.now;
    sim.run(60 * SECOND);
    sim.feed(4, Input::UserEvent { name: "deploy".to_owned(), payload: vec![1], coalesce: false });
    sim.run(60 * SECOND);
    assert_eq!(sim.failures(since), []);
    for (id, node) in sim.running() {
        let got = node.events.iter().filter(|(_, event)| matches!(event, Event::User { .. })).count();
        assert_eq!(got, 1, "node {id}");
    }
}

/// Property: a node that dies and returns again and again is in quarantine after the third return, is not
/// before, and is released after it has stayed.
#[test]
fn a_flapping_node_is_quarantined() {
    let seed = 10;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 8, |_| {});
    for n in 1..=3 {
        sim.kill(5);
        assert!(sim.until(20 * SECOND, |sim| sim.all_see("n5", "failed")).is_some());
        let mut config = config("n5", address(5));
        config.incarnation = 100 * n;
        sim.restart(5, config, None);
        sim.join(5, address(0));
        assert!(sim.until(20 * SECOND, Sim::all_see_all).is_some());
        let quarantined = sim.nodes[0].gossip.member("n5").unwrap().quarantined_until.is_some();
        assert_eq!(quarantined, n == 3, "after return {n}");
    }
    sim.run(320 * SECOND);
    assert!(sim.nodes[0].gossip.member("n5").unwrap().quarantined_until.is_none());
    assert!(sim.nodes[0].events.iter().any(|(_, event)| matches!(event, Event::Released { .. })));
}

/// Property: a node that returns with another address, while it is still thought to live at the old one, is
/// known at the new one within 10 s; and one with a fresh name that takes the old address replaces it there.
#[test]
fn addresses_may_change_hands() {
    let seed = 11;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 10, |_| {});
    sim.power_off(4);
    let mut moved = config("n4", address(104));
    moved.incarnation = 1000;
    sim.restart(4, moved, None);
    sim.join(4, address(0));
    let at_new = |sim: &Sim| {
        sim.running().all(|(_, node)| {
            node.gossip.member("n4").is_some_and(|m| m.address == address(104) && m.status.as_str() == "alive")
        })
    };
    let took = sim.until(10 * SECOND, at_new);
    println!("moved: known to all after {took:?}");
    assert!(took.is_some());

    sim.power_off(6);
    let id = sim.start(config("heir", address(6)), None);
    sim.join(id, address(0));
    let took = sim.until(10 * SECOND, |sim| sim.all_see("heir", "alive") && sim.all_see("n6", "failed"));
    println!("address taken: known to all after {took:?}");
    assert!(took.is_some());
}

/// Property: of two living nodes with one name the one that most members know stays, and the other stops.
#[test]
fn of_two_with_one_name_one_stays() {
    let seed = 12;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 9, |_| {});
    let twin = sim.start(config("n2", address(200)), None);
    sim.join(twin, address(0));
    sim.run(30 * SECOND);
    assert!(sim.nodes[twin].events.iter().any(|(_, event)| matches!(event, Event::NameLost { .. })));
    assert!(!sim.nodes[2].events.iter().any(|(_, event)| matches!(event, Event::NameLost { .. })));
    let others = sim.running().filter(|(id, _)| *id != twin);
    assert!(others.into_iter().all(|(_, node)| node.gossip.member("n2").unwrap().address == address(2)));
}

/// Property: a link that is cut in one direction, or in both, between two of the members is no death: others
/// vouch for each.
#[test]
fn a_cut_link_is_no_death() {
    let seed = 14;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 6, |_| {});
    let since = sim.now;
    sim.network.link = Box::new(|from, to| if (from, to) == (address(1), address(2)) { 1.0 } else { 0.0 });
    sim.run(60 * SECOND);
    let both = [address(1), address(2)];
    sim.network.link = Box::new(move |from, to| if both.contains(&from) && both.contains(&to) { 1.0 } else { 0.0 });
    sim.run(60 * SECOND);
    assert_eq!(sim.failures(since), []);
    assert!(sim.until(10 * SECOND, Sim::all_see_all).is_some());
}

/// Property: a member that only TCP reaches stays a member, and that is told, once a minute at most.
#[test]
fn a_member_without_udp_stays() {
    let seed = 16;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 6, |_| {});
    let since = sim.now;
    sim.network.udp = Box::new(|_, to| to != address(2));
    sim.run(150 * SECOND);
    let wrong: Vec<_> = sim.failures(since).into_iter().filter(|(told_by, _)| *told_by != 2).collect();
    assert_eq!(wrong, []);
    let told = sim.nodes[3].events.iter().filter(|(_, e)| matches!(e, Event::UdpBlocked { name } if name == "n2"));
    assert!((1..=3).contains(&told.count()));
}

/// Property: a leave is seen as one by all, never as a failure, and the machine that left says nothing more.
#[test]
fn a_leave_is_no_failure() {
    let seed = 15;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 20, |_| {});
    sim.feed(3, Input::Leave);
    assert!(sim.until(10 * SECOND, |sim| sim.nodes[3].events.iter().any(|(_, e)| *e == Event::Left)).is_some());
    let sent = sim.nodes[3].packets_sent;
    sim.power_off(3);
    sim.run(30 * SECOND);
    assert!(sim.all_see("n3", "left"));
    assert_eq!(sim.nodes[3].packets_sent, sent);
    assert_eq!(sim.failures(sim::START), []);
}

/// Property: random bytes and truncated real packets, hundreds to each node, change nothing.
#[test]
fn garbage_changes_nothing() {
    let seed = 13;
    println!("seed {seed}");
    let mut sim = Sim::cluster(seed, 5, |_| {});
    let since = sim.now;
    for n in 0..3000 {
        let mut bytes = vec![0; sim.rng.below(300)];
        sim.rng.fill(&mut bytes);
        if n % 2 == 0 && !bytes.is_empty() {
            bytes[0] = sim.rng.below(14) as u8;
        }
        sim.feed(n % 5, Input::Packet { from: address(999), bytes });
    }
    sim.run(10 * SECOND);
    assert!(sim.all_see_all());
    assert_eq!(sim.failures(since), []);
    assert!(sim.nodes[0].gossip.stats().members == 5);
}
