"""Regrow's store beside Debian's etcd: the same load, on the same disk, both sync before they acknowledge."""

import os
import re
import statistics
import subprocess

from figures import Table, spread, version
from server import Etcd, Regrow

TITLE = "Store, beside etcd"
KEYS = 100_000
MANY_KEYS = 1_000_000


class Comparison:
    """Figures of both sides, measured in turns."""

    def __init__(self, rounds, **numbers):
        self.rounds, self.numbers = rounds, numbers
        self.table = Table("figure", "wanted", "regrow", "etcd", "ratio", "met")
        self.cost = Table("µs of processor time for each", "regrow", "etcd", "ratio", "load generator")
        self.servers = [Regrow(), Etcd()]

    def measure(self, what, **numbers):
        """Both sides in turns; the list of figures of each."""
        found = ([], [])
        for turn in range(self.rounds):
            # Who begins changes, so that what drifts is no advantage.
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                found[side].append(self.servers[side].load(what, **{**self.numbers, **numbers}))
        return found

    def throughput(self, title, wanted, what, **numbers):
        """A row of calls a second, and one of their p99. `wanted`: the least ratio of either."""
        ours, theirs = self.measure(what, **numbers)
        rate, p99 = wanted
        self.compare(f"{title}, calls/s", ours, theirs, "rate", "{:,.0f}", at_least=rate)
        self.compare(f"{title}, p99 ms", ours, theirs, "p99_ms", "{:.2f}", at_most=p99)
        self.costs(title, ours, theirs)

    def costs(self, title, ours, theirs):
        a, b = (statistics.median(one["cpu_us"] for one in side) for side in (ours, theirs))
        asking = statistics.median(one["load_cpu_us"] for one in ours + theirs)
        self.cost.row(title, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}" if b else "", f"{asking:.1f}")

    def compare(self, title, ours, theirs, figure, form, at_least=None, at_most=None):
        ours, theirs = ([one[figure] for one in side] for side in (ours, theirs))
        self.row(title, ours, theirs, form, at_least, at_most)

    def row(self, title, ours, theirs, form, at_least=None, at_most=None):
        a, b = statistics.median(ours), statistics.median(theirs)
        ratio = a / b if b else float("inf")
        wanted, met = "", ""
        if at_least is not None:
            wanted, met = f"≥ {at_least:g} ×", ratio >= at_least
        if at_most is not None:
            wanted, met = f"≤ {at_most:g} ×", ratio <= at_most
        self.table.row(title, wanted, spread(ours, form), spread(theirs, form), f"{ratio:.2f}", met)

    def close(self):
        for server in self.servers:
            server.close()


def section(quick):
    """The section of RESULTS.md."""
    seconds, rounds = (1, 3) if quick else (2, 5)
    comparison = Comparison(rounds, keys=KEYS, seconds=seconds)
    perf = []
    try:
        for server in comparison.servers:
            server.start()
            server.load("fill", keys=KEYS)
        calls(comparison)
        watches(comparison)
        if not quick:
            perf = [check_perf(server) for server in comparison.servers]
        for server in comparison.servers:
            server.close()
        comparison.servers = [Regrow(), Etcd()]
        size(comparison, MANY_KEYS // 10 if quick else MANY_KEYS)
    finally:
        comparison.close()
    return page(comparison, seconds, rounds, perf)


def calls(comparison):
    for clients in (1, 16, 64, 256):
        wanted = (2, 0.5) if clients >= 64 else (None, None)
        comparison.throughput(f"puts, {clients} clients", wanted, "put", clients=clients)
    for clients in (16, 64):
        comparison.throughput(f"transactions of a comparison and two puts, {clients} clients", (None, None), "txn",
                              clients=clients)
    for clients in (1, 64):
        comparison.throughput(f"reads, {clients} clients", (1.5, None), "get", clients=clients)
    comparison.throughput("ranges of 1,000 keys, 16 clients", (1.5, None), "range", clients=16)


def watches(comparison):
    # One watcher has few events: in 2 s the p99 would be the second worst of 200.
    for watchers, rate, longer in ((1, 100, 5), (100, 100, 1), (1000, 20, 1)):
        seconds = comparison.numbers["seconds"] * longer
        ours, theirs = comparison.measure("watch", watchers=watchers, rate=rate, seconds=seconds)
        title = f"put → event, {watchers:,} watchers, {rate} puts/s"
        comparison.compare(f"{title}, p99 ms", ours, theirs, "p99_ms", "{:.2f}", at_most=1)
        comparison.compare(f"{title}, p50 ms", ours, theirs, "p50_ms", "{:.2f}")
        comparison.costs(f"event, {watchers:,} watchers", ours, theirs)


def size(comparison, keys):
    """Memory and start-up with many keys."""
    filled, starts, memory = ([], []), ([], []), ([], [])
    for side, server in enumerate(comparison.servers):
        server.start()
        server.load("fill", keys=keys)
        filled[side].append(server.memory_mb())
        for _ in range(3):
            server.stop()
            starts[side].append(server.start())
            server.load("get", keys=keys, clients=16, seconds=1)
            memory[side].append(server.memory_mb())
        server.stop()
    comparison.row(f"start-up with {keys:,} keys, s", *starts, "{:.2f}", at_most=1)
    comparison.row(f"memory with {keys:,} keys after a start and reads, MB", *memory, "{:,.0f}", at_most=1)
    comparison.row(f"memory after {keys:,} keys were put, MB", *filled, "{:,.0f}", at_most=1)


def check_perf(server):
    """What `etcdctl check perf --load=xl` says: 1,000 clients that want 15,000 puts a second, for a minute."""
    done = subprocess.run(
        ["etcdctl", "--endpoints", server.url, "--command-timeout", "120s", "check", "perf", "--load=xl"],
        env=dict(os.environ, ETCDCTL_API="3"), capture_output=True, text=True, check=False,
    )
    said = re.findall(r"(PASS|FAIL): (.*?)(?:\s{2,}|\r|\n|$)", done.stdout + done.stderr)
    return server.name, "; ".join(f"{word}: {text}" for word, text in said)


def page(comparison, seconds, rounds, perf):
    said = "".join(f"- {name}: {text}\n" for name, text in perf)
    outside = f"`etcdctl check perf --load=xl`, 1,000 clients that want 15,000 puts a second:\n\n{said}" if perf else ""
    return f"""{version("etcd", "--version")}. Both on the same disk, both sync before they acknowledge; values of 256 bytes, {KEYS:,} keys, \
{rounds} runs of {seconds} s in turns (with one watcher five times as long): median (least to greatest). The load generator runs on the same cores.

{comparison.table}

{comparison.cost}

{outside}"""


if __name__ == "__main__":
    print(section(bool(os.environ.get("QUICK"))))
