"""Regrow's gossip beside Serf's: as many agents of each, side by side, each fleet in a namespace of its own."""

import os
import random
import statistics
import subprocess
import time

import proc
from cluster import until
from figures import Table, spread
from fleet import Regrow, Serf, Silent

TITLE = "Gossip, beside Serf"
LOSS_PERCENT = 20


def section(quick):
    """The section of RESULTS.md."""
    count, deaths, calm_s, loss_s = (20, 2, 10, 20) if quick else (50, 5, 30, 90)
    table = Table("figure", "wanted", "regrow", "serf", "ratio", "met")
    fleets = []

    def row(title, pair, form, at_most=None):
        ours, theirs = ([one] if isinstance(one, (int, float)) else one for one in pair)
        a, b = statistics.median(ours), statistics.median(theirs)
        ratio = f"{a / b:.2f}" if b else ""
        wanted, met = ("", "") if at_most is None else (f"≤ {at_most:g} ×", a <= at_most * b)
        table.row(title, wanted, spread(ours, form), spread(theirs, form), ratio, met)

    try:
        joined = []
        for kind in (Regrow, Serf):
            fleet = kind(count)
            fleets.append(fleet)
            since = time.monotonic()
            fleet.start(*fleet.members)
            joined.append(fleet.until_joined(since))
        row(f"{count} agents started at once → all know all, s", joined, "{:.2f}")

        silent = Silent(10)
        fleets.append(silent)
        silent.start(*silent.members)
        time.sleep(15)
        calm(row, fleets, calm_s)
        fleets.pop().close()

        victims = random.Random(1).sample(sorted(fleets[0].members.keys() - {"n1"}), 2 * deaths)
        kills = [die(fleets, name, off=False) for name in victims[:deaths]]
        row("SIGKILL of an agent → the last other knows, s", zip(*kills), "{:.2f}", at_most=0.5)
        table.row("the longest of these, s", "≤ 1.5", f"{max(ours for ours, _ in kills):.2f}",
                  f"{max(theirs for _, theirs in kills):.2f}", "", max(ours for ours, _ in kills) <= 1.5)
        offs = [die(fleets, name, off=True) for name in victims[deaths:]]
        row("power off → the last other knows, s", zip(*offs), "{:.2f}", at_most=0.5)

        since = time.monotonic()
        for fleet in fleets:
            fleet.network.lose(LOSS_PERCENT)
        time.sleep(loss_s)
        for fleet in fleets:
            fleet.network.lose(0)
        row(f"false alarms, {LOSS_PERCENT} % of packets lost for {loss_s} s", [fleet.false_alarms(since) for fleet in fleets],
            "{:.0f}", at_most=1)
    finally:
        for fleet in fleets:
            fleet.close()
    return page(table, count, deaths)


def calm(row, fleets, seconds):
    """What it costs when nothing happens."""
    before = [[proc.cpu_s(pid) for pid in fleet.pids()] for fleet in fleets]
    bytes_before = [fleet.network.bytes() for fleet in fleets]
    start = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - start
    bytes_after = [fleet.network.bytes() for fleet in fleets]
    shares = []
    for fleet, was in zip(fleets, before):
        is_now = [proc.cpu_s(pid) for pid in fleet.pids()]
        shares.append(statistics.mean(b - a for a, b in zip(was, is_now)) / passed * 100)
    rss = [statistics.median(proc.memory_mb(pid) for pid in fleet.pids()) for fleet in fleets]
    pss = [statistics.median(proc.memory_mb(pid, "Pss") for pid in fleet.pids()) for fleet in fleets]
    row("resident memory of an agent, MB", rss[:2], "{:.1f}")
    row("the same, what is shared counted in parts (PSS), MB", pss[:2], "{:.1f}")
    row("memory of the gossip part, less what an agent without gossip has, MB", (rss[0] - rss[2], rss[1]), "{:.1f}", at_most=1)
    row("processor of an agent, % of a core", shares[:2], "{:.3f}")
    row("processor of the gossip part, % of a core", (shares[0] - shares[2], shares[1]), "{:.3f}", at_most=1)
    rate = [(b - a) / passed / len(fleet.agents) for a, b, fleet in zip(bytes_before, bytes_after, fleets)]
    row("bytes a second and agent, heads of packets too", rate[:2], "{:,.0f}")


def die(fleets, name, off):
    """The same agent of each fleet dies; how long it took until all knew. `off`: its host with it."""
    begun = []
    for fleet in fleets:
        if off:
            fleet.network.switch_off(fleet.members[name])
        begun.append(fleet.end(name))
    times = [fleet.until_known(name, since) for fleet, since in zip(fleets, begun)]
    for fleet in fleets:
        if off:
            fleet.network.switch_on(fleet.members[name])
        fleet.give_back(name)
    return times


def page(table, count, deaths):
    done = subprocess.run(["serf", "version"], capture_output=True, text=True, check=False)
    return f"""Serf {done.stdout.splitlines()[0].removeprefix("Serf v")}. {count} agents of each at the same time, each fleet in a network namespace with an address an agent; \
{deaths} deaths of each kind: median (least to greatest). Powered off: packets to and from the host are dropped, so nothing \
is refused. Of Regrow it is the whole agent, all doors shut but gossip, on a store elsewhere.

{table}
"""


if __name__ == "__main__":
    print(section(bool(os.environ.get("QUICK"))))
