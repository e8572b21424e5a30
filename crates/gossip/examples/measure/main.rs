//! Measures the machine on a simulated network: how soon deaths are known, false alarms under loss, bytes
//! sent, large restarts. Prints Markdown tables.
//!
//! `cargo run --release -p regrow-gossip --example measure -- report [SVG]` prints the tables of
//! `docs/design/0010-gossip.md` and writes their plot.
//! `… -- deaths|alarms|bytes|restarts|memory [COUNT]` prints one of them for so many nodes.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints its tables")]

mod plot;
#[path = "../../tests/sim/mod.rs"]
mod sim;

use std::time::Duration;

use plot::{Axis, Curve, Panel};
use regrow_gossip::{Change, Config, Event, Input};
use sim::{Sim, address, config};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let argument = arguments.next();
    let count = argument.as_ref().and_then(|count| count.parse().ok());
    match what.as_str() {
        "deaths" => drop(deaths(&[count.unwrap_or(50)])),
        "alarms" => drop(alarms(count.unwrap_or(50))),
        "bytes" => drop(bytes(&[count.unwrap_or(100)])),
        "memory" => memory(count.unwrap_or(10_000)),
        "restarts" => restarts(count.unwrap_or(1000)),
        "report" => report(argument.as_deref().unwrap_or("docs/design/0010-gossip.svg"))?,
        _ => {
            eprintln!("usage: measure report [SVG] | deaths|alarms|bytes|restarts|memory [COUNT]");
            std::process::exit(2);
        }
    }
    Ok(())
}

/// A name, a colour, and what it changes in the settings.
type Variant = (&'static str, &'static str, fn(&mut Config));

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
    [("ours", "#1f5fa8", ours), ("Serf's intervals", "#c2571a", serf_numbers)]
}

/// All tables, and the plot of them.
fn report(path: &str) -> std::io::Result<()> {
    let deaths = deaths(&[50, 200]);
    println!();
    let alarms = alarms(50);
    println!();
    let bytes = bytes(&[100, 1000, 10_000]);
    let linear = |value: f64| value;
    let from_zero = |value: f64| (value + 1.0).log10();
    let share = || Axis { label: "share of the deaths", ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0], scale: linear };
    let seconds = |last: u32, step: usize| Axis {
        label: "seconds until the last node knows",
        ticks: (0..=last).step_by(step).map(f64::from).collect(),
        scale: linear,
    };
    let killed = deaths.iter().filter(|(killed, _)| *killed).map(|(_, curve)| curve);
    let off = deaths.iter().filter(|(killed, _)| !*killed).map(|(_, curve)| curve);
    let panels = [
        Panel { title: "A process dies (SIGKILL)", x: seconds(6, 1), y: share(), curves: killed.cloned().collect() },
        Panel { title: "A host dies (power-off)", x: seconds(21, 3), y: share(), curves: off.cloned().collect() },
        Panel {
            title: "False alarms of 50 nodes",
            x: Axis { label: "packets lost, %", ticks: vec![0.0, 5.0, 10.0, 20.0, 30.0], scale: linear },
            y: Axis {
                label: "told by all, per node-hour",
                ticks: vec![0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0],
                scale: from_zero,
            },
            curves: alarms,
        },
        Panel {
            title: "Sent at rest",
            x: Axis { label: "nodes", ticks: vec![100.0, 1000.0, 10_000.0], scale: f64::log10 },
            y: Axis { label: "bytes a second by each", ticks: ticks_over(&bytes), scale: linear },
            curves: bytes,
        },
    ];
    let note = "Simulated by “cargo run --release -p regrow-gossip --example measure -- report”. \
                “Serf's intervals”: our machine with Serf's numbers.";
    std::fs::write(path, plot::svg("Gossip, measured", note, &panels))
}

/// Five steps from zero past the highest point, each a whole number of hundreds.
fn ticks_over(curves: &[Curve]) -> Vec<f64> {
    let highest = curves.iter().flat_map(|curve| &curve.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let step = (highest / 500.0).ceil() * 100.0;
    (0..=5).map(|n| f64::from(n) * step).collect()
}

fn percentile(sorted: &[Duration], share: f64) -> f64 {
    sorted.get(((sorted.len() - 1) as f64 * share) as usize).map_or(f64::NAN, Duration::as_secs_f64)
}

/// Shares of the deaths whose time is told.
const SHARES: [f64; 5] = [0.1, 0.5, 0.9, 0.99, 1.0];

/// Time until the last of so many nodes knows of a death, one death at a time: whether of a process, and the share of
/// the deaths that is known by each time.
fn deaths(counts: &[usize]) -> Vec<(bool, Curve)> {
    println!("| settings | death | nodes | deaths | p10 s | median s | p90 s | p99 s | longest s |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut curves = Vec::new();
    for (name, colour, change) in settings() {
        for (at, count) in counts.iter().enumerate() {
            for (death, process) in [("SIGKILL", true), ("power-off", false)] {
                let times = death_times(*count, process, change);
                let points = SHARES.map(|share| (percentile(&times, share), share));
                let [p10, p50, p90, p99, most] = points.map(|(time, _)| time);
                println!(
                    "| {name} | {death} | {count} | {} | {p10:.2} | {p50:.2} | {p90:.2} | {p99:.2} | {most:.2} |",
                    times.len()
                );
                let name = format!("{name}, {count} nodes");
                let curve = Curve { name, colour, dashed: at > 0, points: points.to_vec() };
                curves.push((process, curve));
            }
        }
    }
    curves
}

fn death_times(count: usize, process: bool, change: fn(&mut Config)) -> Vec<Duration> {
    const DEATHS: u32 = 100;
    let mut sim = Sim::cluster(1, count, change);
    let mut times = Vec::new();
    for death in 0..DEATHS {
        let pause = sim.rng.within(5 * SECOND);
        sim.run(5 * SECOND + pause);
        let id = sim.rng.below(count);
        if process {
            sim.kill(id);
        } else {
            sim.power_off(id);
        }
        let victim = format!("n{id}");
        times.extend(sim.until(120 * SECOND, |sim| sim.all_see(&victim, "failed")));
        let mut again = config(&victim, address(id));
        change(&mut again);
        again.incarnation = 10 * (death + 1);
        sim.restart(id, again, None);
        sim.join(id, address((id + 1) % count));
        sim.until(120 * SECOND, Sim::all_see_all);
    }
    times.sort_unstable();
    times
}

/// Living nodes suspected and declared failed, in an hour at each loss.
fn alarms(count: usize) -> Vec<Curve> {
    println!(
        "| settings | nodes | loss % | suspicions per node-hour | false failures per node-hour | bytes/s per node |"
    );
    println!("|---|---|---|---|---|---|");
    let mut curves = Vec::new();
    for (name, colour, change) in settings() {
        let [mut suspicions, mut failures] = [Vec::new(), Vec::new()];
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
            let [suspected, failed] = [suspected, failed].map(|told| f64::from(told) / hours);
            let rate = bytes as f64 / 3600.0 / hours;
            println!("| {name} | {count} | {loss} | {suspected:.2} | {failed:.3} | {rate:.0} |");
            suspicions.push((f64::from(loss), suspected));
            failures.push((f64::from(loss), failed));
        }
        for (what, dashed, points) in [("suspicions", true, suspicions), ("failures", false, failures)] {
            curves.push(Curve { name: format!("{what}, {name}"), colour, dashed, points });
        }
    }
    curves
}

/// Bytes and packets of clusters where nothing happens.
///
/// Of a large cluster, as many know of all others as is enough; the rest only answer them. Each ping that one sends and
/// each answer that it gets is counted for it: in a whole cluster it answers as many as it asks. Datagrams are counted
/// for a minute, without compression. Exchanges of states are rare and large: a few are counted on their own, with
/// compression, and each node begins one in each interval.
fn bytes(counts: &[usize]) -> Vec<Curve> {
    const KNOWING: usize = 100;
    /// What an answer lacks to one that is not known to take it.
    const CHECKSUM_BYTES: u64 = 5;
    const MINUTE: u32 = 60;
    println!("| settings | nodes | packets/s | bytes/s in datagrams | bytes/s in exchanges of states | bytes/s |");
    println!("|---|---|---|---|---|---|");
    let mut curves = Vec::new();
    for (name, colour, change) in settings() {
        let mut points = Vec::new();
        for count in counts {
            let knowing = (*count).min(KNOWING);
            let mut sim = Sim::settled(3, *count, knowing, |config| {
                change(config);
                config.push_pull_interval = 24 * 3600 * SECOND;
            });
            let sent = |sim: &Sim| {
                let sum = |nodes: &[sim::Node], of: fn(&sim::Node) -> u64| nodes.iter().map(of).sum::<u64>();
                let packets = sum(&sim.nodes, |node| node.packets_sent);
                let bytes = sum(&sim.nodes, |node| node.bytes_sent);
                let unsummed = sum(&sim.nodes[knowing..], |node| node.packets_sent);
                [packets, bytes + unsummed * CHECKSUM_BYTES].map(|sum| sum as f64)
            };
            sim.run(10 * SECOND);
            let before = sent(&sim);
            sim.run(MINUTE * SECOND);
            let after = sent(&sim);
            let [packets, datagrams] = [0, 1].map(|at| (after[at] - before[at]) / f64::from(MINUTE) / knowing as f64);
            let states = exchange_bytes(*count, change) / push_pull_interval(*count, change).as_secs_f64();
            let total = datagrams + states;
            println!("| {name} | {count} | {packets:.1} | {datagrams:.0} | {states:.0} | {total:.0} |");
            points.push((*count as f64, total));
        }
        curves.push(Curve { name: name.to_owned(), colour, dashed: false, points });
    }
    curves
}

/// Bytes of an exchange of states in a cluster of so many, both ways.
fn exchange_bytes(count: usize, change: fn(&mut Config)) -> f64 {
    const EXCHANGES: usize = 10;
    let mut sim = Sim::settled(3, count, 2 * EXCHANGES, |config| {
        change(config);
        config.envelope.compress = true;
        config.push_pull_interval = 24 * 3600 * SECOND;
    });
    (0..EXCHANGES).for_each(|id| sim.join(id, address(id + EXCHANGES)));
    sim.run(5 * SECOND);
    sim.nodes.iter().map(|node| node.stream_bytes).sum::<u64>() as f64 / EXCHANGES as f64
}

/// Time between two exchanges that a node begins in a cluster of so many: docs of `Config::push_pull_interval`.
fn push_pull_interval(count: usize, change: fn(&mut Config)) -> Duration {
    let mut config = config("any", address(0));
    change(&mut config);
    config.push_pull_interval.mul_f64((count as f64 / 32.0).log2().ceil().max(0.0) + 1.0)
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
