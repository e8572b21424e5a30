//! Measures the machine on a simulated network: how soon deaths are known, false alarms under loss, bytes
//! sent, large restarts. Prints Markdown tables.
//!
//! `cargo run --release -p regrow-gossip --example measure -- deaths|alarms|bytes|restarts|memory [COUNT]`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints its tables")]

#[path = "../tests/sim/mod.rs"]
mod sim;

use std::time::Duration;

use regrow_gossip::{Change, Config, Event, Input};
use sim::{Sim, address, config};

const SECOND: Duration = Duration::from_secs(1);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count = arguments.next().and_then(|count| count.parse().ok());
    match what.as_str() {
        "deaths" => deaths(count.unwrap_or(50)),
        "alarms" => alarms(count.unwrap_or(50)),
        "bytes" => bytes(count.unwrap_or(100)),
        "memory" => memory(count.unwrap_or(10_000)),
        "restarts" => restarts(count.unwrap_or(1000)),
        _ => {
            eprintln!("usage: measure deaths|alarms|bytes|restarts|memory [COUNT]");
            std::process::exit(2);
        }
    }
}

/// A name, and what it changes in the settings.
type Variant = (&'static str, fn(&mut Config));

/// Ours, and ours with Serf's intervals and without watching neighbours or probing suspects again.
fn settings() -> [Variant; 2] {
    fn ours(_: &mut Config) {}
    fn serf_numbers(config: &mut Config) {
        config.probe_interval = SECOND;
        config.probe_timeout = SECOND / 2;
        config.watch_neighbours = 0;
        config.retransmit_mult = 4;
        config.suspicion_mult = 4;
        config.suspect_probe_interval = Duration::ZERO;
        config.gossip_interval = SECOND / 5;
    }
    [("ours", ours), ("Serf's intervals", serf_numbers)]
}

fn percentile(sorted: &[Duration], share: f64) -> f64 {
    sorted.get(((sorted.len() - 1) as f64 * share) as usize).map_or(f64::NAN, Duration::as_secs_f64)
}

/// Time until the last of `count` nodes knows of a death, one death at a time.
fn deaths(count: usize) {
    const DEATHS: usize = 60;
    println!("| settings | death | nodes | deaths | p10 s | p50 s | p90 s | max s |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, change) in settings() {
        for (death, process) in [("SIGKILL", true), ("power-off", false)] {
            let mut sim = Sim::cluster(1, count, change);
            let mut times = Vec::new();
            let mut incarnation = 1;
            for _ in 0..DEATHS {
                let pause = sim.rng.within(5 * SECOND);
                sim.run(5 * SECOND + pause);
                let id = sim.rng.below(count);
                if process {
                    sim.kill(id)
                } else {
                    sim.power_off(id)
                }
                let victim = format!("n{id}");
                times.extend(sim.until(120 * SECOND, |sim| sim.all_see(&victim, "failed")));
                incarnation += 10;
                let mut again = config(&victim, address(id));
                change(&mut again);
                again.incarnation = incarnation;
                sim.restart(id, again, None);
                sim.join(id, address((id + 1) % count));
                sim.until(120 * SECOND, Sim::all_see_all);
            }
            times.sort_unstable();
            let [p10, p50, p90, max] = [0.1, 0.5, 0.9, 1.0].map(|share| percentile(&times, share));
            println!("| {name} | {death} | {count} | {} | {p10:.2} | {p50:.2} | {p90:.2} | {max:.2} |", times.len());
        }
    }
}

/// Living nodes declared failed, in an hour at each loss.
fn alarms(count: usize) {
    println!(
        "| settings | nodes | loss % | suspicions per node-hour | failures told per node-hour | bytes/s per node |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, change) in settings() {
        for loss in [0, 5, 10, 20, 30] {
            let mut sim = Sim::cluster(2, count, change);
            sim.network.loss = f64::from(loss) / 100.0;
            let since = sim.now;
            let before: u64 = sim.nodes.iter().map(|node| node.bytes_sent).sum();
            sim.run(3600 * SECOND);
            let told = sim.nodes.iter().flat_map(|node| &node.events).filter(|(at, _)| *at >= since);
            let (mut suspected, mut failed) = (0, 0);
            for (_, event) in told {
                match event {
                    Event::Suspected { .. } => suspected += 1,
                    Event::Member { change: Change::Failed, .. } => failed += 1,
                    _ => {}
                }
            }
            let bytes = sim.nodes.iter().map(|node| node.bytes_sent).sum::<u64>() - before;
            let hours = count as f64;
            println!(
                "| {name} | {count} | {loss} | {:.2} | {:.3} | {:.0} |",
                f64::from(suspected) / hours,
                f64::from(failed) / hours,
                bytes as f64 / 3600.0 / hours
            );
        }
    }
}

/// Bytes and packets of a cluster where nothing happens, with compression.
fn bytes(count: usize) {
    println!("| settings | nodes | bytes/s per node | packets/s per node |");
    println!("|---|---|---|---|");
    for (name, change) in settings() {
        let mut sim = Sim::cluster(3, count, |config| {
            change(config);
            config.envelope.compress = true;
        });
        sim.run(30 * SECOND);
        let sum = |sim: &Sim| {
            sim.nodes.iter().fold((0, 0), |(bytes, packets), n| (bytes + n.bytes_sent, packets + n.packets_sent))
        };
        let before = sum(&sim);
        let seconds = 300;
        sim.run(seconds * SECOND);
        let after = sum(&sim);
        let share = f64::from(seconds) * count as f64;
        let [bytes, packets] = [after.0 - before.0, after.1 - before.1].map(|total| total as f64 / share);
        println!("| {name} | {count} | {bytes:.0} | {packets:.1} |");
    }
}

/// A large cluster forms; 30 % restart at once; 45 % restart at once.
fn restarts(count: usize) {
    println!("| nodes | what | all see all after s |");
    println!("|---|---|---|");
    let mut sim = Sim::cluster(4, count, |_| {});
    println!("| {count} | forms | {:.1} |", sim.now.as_millis() as f64 / 1000.0);
    sim.run(30 * SECOND);
    for share in [30, 45] {
        let restarted = count * share / 100;
        (0..restarted).for_each(|id| sim.kill(id));
        sim.run(3 * SECOND);
        for id in 0..restarted {
            // Serf's first incarnation, the hardest: each has to refute what is remembered of it.
            sim.restart(id, config(&format!("n{id}"), address(id)), None);
            sim.join(id, address(count - 1 - id % (count - restarted)));
        }
        let took = sim.until(600 * SECOND, Sim::all_see_all);
        let took = took.map_or("never".to_owned(), |took| format!("{:.1}", took.as_secs_f64()));
        println!("| {count} | {share} % restart at once | {took} |");
        sim.run(30 * SECOND);
    }
}

/// Memory of one machine that knows `count` members, news told: resident bytes with it less those without.
fn memory(count: usize) {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
    };
    let before = resident();
    let mut sim = Sim::new(5);
    let id = sim.start(config("n0", address(0)), None);
    for n in 1..count {
        let alive = regrow_gossip::wire::Alive {
            incarnation: 1,
            node: format!("node-{n}.example.internal"),
            address: address(n),
            meta: regrow_gossip::wire::encode_tags(&[("role".to_owned(), "web".to_owned())].into()),
            versions: vec![1, 5, 2, 2, 5, 5],
        };
        sim.feed(id, Input::Packet { from: address(n), bytes: alive.encode() });
        sim.nodes[id].events.clear();
    }
    let after = resident();
    println!("| members | resident MiB | bytes per member |");
    println!("|---|---|---|");
    let grown = after - before;
    println!("| {count} | {:.1} | {} |", grown as f64 / f64::from(1 << 20), grown / count as u64);
}
