"""The Redis proxy beside direct access to the cluster, and beside HAProxy in TCP mode: throughput and latency.

Debian's redis-server, redis-tools and haproxy are the peers.
"""

import csv
import shutil
import signal
import statistics
import subprocess
import tempfile
from pathlib import Path

from cluster import REGROW, free_port, until
from figures import Table, spread, version
from proc import cpu_s

TITLE = "The Redis proxy"
# The toolbox: of the binary, or the example of its crate.
REDIS = [REGROW, "redis"]
CLIENTS = 50
KEYS = 100_000
WANTED = 0.6


class Place:
    """A folder, and processes that end with it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="regrow-redis-"))
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *command):
        with open(self.folder / "log", "ab") as log:
            child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=self.folder)
        self.children.append(child)
        return child

    def answers(self, port):
        until("it answers", lambda: subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True,
                                                   check=False).stdout == b"PONG\n")

    def redis(self, *settings):
        port = free_port()
        data = self.folder / f"redis-{port}"
        data.mkdir()
        self.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", data, "--save", "", *settings)
        self.answers(port)
        return port

    def cluster(self):
        ports = [self.redis("--cluster-enabled", "yes", "--cluster-port", free_port(), "--cluster-announce-ip", "127.0.0.1")
                 for _ in range(3)]
        subprocess.run([*REDIS, "create", "--replicas", "0", "--yes", *(f"127.0.0.1:{port}" for port in ports)], check=True,
                       capture_output=True)
        return ports[0]

    def proxy(self, to):
        port = free_port()
        child = self.start(*REDIS, "proxy", "--listen", f"127.0.0.1:{port}", "--to", to)
        self.answers(port)
        return port, child.pid

    def haproxy(self, to):
        port = free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen redis
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{to}
""")
        child = self.start("haproxy", "-db", "-f", config)
        self.answers(port)
        return port, child.pid


def load(port, pipeline, size, count, cluster=False):
    """Of SET and of GET: requests a second, and the 99th percentile in milliseconds."""
    command = ["redis-benchmark", "-p", port, "-t", "set,get", "-n", count, "-P", pipeline, "-c", CLIENTS, "-r", KEYS, "-d",
               size, "--csv", *(["--cluster"] if cluster else [])]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    rows = [row for row in csv.reader(done.stdout.splitlines()) if row and row[0] in ("SET", "GET")]
    assert len(rows) == 2, done.stdout
    return {row[0]: (float(row[1]), float(row[6])) for row in rows}


def compare(table, what, ways, runs, pipeline, size, count):
    """One load on each way in turn, several times. `ways`: name, port, process if any, cluster or not."""
    seen = {name: {"SET": [], "GET": []} for name, *_ in ways}
    cpu = {name: [] for name, *_ in ways}
    for turn in range(runs):
        for name, port, pid, cluster in ways if turn % 2 == 0 else reversed(ways):
            before = cpu_s(pid) if pid else 0
            for kind, figures in load(port, pipeline, size, count, cluster).items():
                seen[name][kind].append(figures)
            if pid:
                cpu[name].append((cpu_s(pid) - before) / (2 * count) * 1e6)
    first = ways[0][0]
    for kind in ("SET", "GET"):
        base = statistics.median(rate for rate, _ in seen[first][kind])
        for name, *_ in ways:
            rates, tails = zip(*seen[name][kind])
            ratio = statistics.median(rates) / base
            wanted = name == "regrow" and first == "direct, cluster" and pipeline > 1
            table.row(f"{what}, {kind}", name, spread(rates, "{:,.0f}"), f"{ratio:.0%}",
                      f"≥ {WANTED:.0%}" if wanted else "", (ratio >= WANTED) if wanted else "", spread(tails, "{:.2f}"),
                      spread(cpu[name], "{:.2f}") if cpu[name] else "")


def section(quick):
    """The section of RESULTS.md."""
    runs, count = (1, 100_000) if quick else (5, 500_000)
    table = Table("load", "way", "commands/s", "of direct", "wanted", "met", "p99, ms", "proxy's CPU, µs/command")
    with Place() as place:
        entry = place.cluster()
        port, pid = place.proxy(f"redis-cluster://127.0.0.1:{entry}")
        ways = [("direct, cluster", entry, None, True), ("regrow", port, pid, False)]
        compare(table, "pipelines of 16, 16 B", ways, runs, 16, 16, count)
        compare(table, "pipelines of 16, 1 KiB", ways, runs, 16, 1024, count)
        compare(table, "one at a time, 16 B", ways, runs, 1, 16, count // 4)
    with Place() as place:
        server = place.redis()
        port, pid = place.proxy(f"redis://127.0.0.1:{server}")
        tcp, tcp_pid = place.haproxy(server)
        ways = [("direct, server", server, None, False), ("regrow", port, pid, False), ("haproxy", tcp, tcp_pid, False)]
        compare(table, "pipelines of 16, 16 B", ways, runs, 16, 16, count)
        compare(table, "one at a time, 16 B", ways, runs, 1, 16, count // 4)
    return f"{version('redis-server', '--version')}; {version('haproxy', '-v')}.\n\n{table}\n"
