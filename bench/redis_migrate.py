"""Moving a Redis data set, beside what comes with Redis and beside what people write by hand.

Debian's redis-server, redis-tools and python3-redis are the peers.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cluster import ROOT
from figures import Table, quantile, spread, version
from redis_proxy import REDIS, Place

TITLE = "Moving a Redis data set"
# Where Debian's python3-redis is.
PYTHON = "/usr/bin/python3"
WANTED = 5
# How much worse the source may answer meanwhile.
SLOWER = 2
# One command of a client that is not in a hurry, so many times a second.
ASKED = 500


def fill(port, count, size):
    """Keys of all kinds with values of so many bytes in all; every third expires in a day. From what `redis-cli --pipe` takes."""
    path = Path(tempfile.mkdtemp(prefix="regrow-redis-")) / "commands"
    def words(*parts):
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    with open(path, "wb") as out:
        for number in range(count):
            key, value = f"key:{number}", os.urandom(size // 2).hex().encode()
            kind = number % 10
            if kind < 6:
                out.write(words("SET", key, value))
            elif kind < 8:
                out.write(words("HSET", key, "name", number, "text", value))
            elif kind < 9:
                out.write(words("SADD", key, number, value))
            else:
                out.write(words("ZADD", key, number, value))
            if number % 3 == 0:
                out.write(words("EXPIRE", key, 86_400))
    pipe(path, port)
    return path


def cli(port, *command):
    done = subprocess.run(["redis-cli", "-p", str(port), *map(str, command)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def pipe(path, port):
    with open(path, "rb") as commands:
        subprocess.run(["redis-cli", "-p", str(port), "--pipe"], stdin=commands, capture_output=True, check=True)


@contextlib.contextmanager
def apart():
    """The first core is the source's alone, as if it were on a machine of its own; gives what puts a process there."""
    all_cores = os.sched_getaffinity(0)
    first = min(all_cores)
    others = all_cores - {first}
    os.sched_setaffinity(0, others)
    try:
        def put(pid):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {first})
        # What writes the snapshot is a child of the source, and has another core on any machine with more than one.
        yield put, ["--bgsave_cpulist", ",".join(map(str, sorted(others)))]
    finally:
        os.sched_setaffinity(0, all_cores)


class Asking(threading.Thread):
    """A client of the source: how long each of its commands takes, in milliseconds. A process of its own, before all others, so
    that what is seen is the server's delay."""

    PROGRAM = """
import os, socket, sys, time
os.nice(-10)
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print("ready", flush=True)
due = time.perf_counter()
while True:
    start = time.perf_counter()
    s.sendall(b"GET asked\\r\\n")
    s.recv(4096)
    end = time.perf_counter()
    print((end - start) * 1000, flush=True)
    due = max(due + 1 / int(sys.argv[2]), end)
    time.sleep(max(0, due - time.perf_counter()))
"""

    def __init__(self, port, put=lambda pid: None):
        super().__init__()
        command = [sys.executable, "-c", self.PROGRAM, str(port), str(ASKED)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.child.stdout.readline()
        put(self.child.pid)
        self.taken = []
        self.start()

    def run(self):
        for line in self.child.stdout:
            self.taken.append(float(line))

    def end(self):
        """The 99th percentile."""
        self.child.terminate()
        self.child.wait()
        self.join()
        return quantile(self.taken, 0.99)


def run(command, folder):
    """Seconds, and the most megabytes of memory that the program had."""
    with open(folder / "log", "ab") as log:
        start = time.monotonic()
        child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=folder)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {child.returncode}\n{(folder / 'log').read_text()[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


def compare(table, what, place, source, targets, ways, runs, count, size):
    """Each way in turn, several times, to empty targets. `ways`: name, command."""
    seen = {name: [] for name, _ in ways}
    megabytes = count * size / 1e6
    for turn in range(runs):
        for name, command in ways if turn % 2 == 0 else reversed(ways):
            for target in targets:
                cli(target, "FLUSHALL")
            shutil.rmtree(place.folder / "state", ignore_errors=True)
            asking = Asking(source)
            time.sleep(2)
            quiet = asking.end()
            asking = Asking(source)
            seconds, memory = run(command, place.folder)
            slow = asking.end()
            there = sum(int(cli(target, "DBSIZE")) for target in targets)
            assert there == count, f"{name}: {there} of {count} keys"
            seen[name].append((count / seconds, megabytes / seconds, memory, slow / quiet, slow))
    base = next((statistics.median(rate for rate, *_ in seen[name]) for name in seen if name.startswith("`--cluster import`")), None)
    for name, _ in ways:
        rates, bytes_s, memories, slower, slow = zip(*seen[name])
        ratio = statistics.median(rates) / base if base else None
        wanted = name == "regrow" and base is not None
        table.row(what, name, spread(rates, "{:,.0f}"), spread(bytes_s, "{:,.0f}"), f"{ratio:.1f} ×" if base else "",
                  f"≥ {WANTED} ×" if wanted else "", (ratio >= WANTED) if wanted else "", spread(memories, "{:,.0f}"),
                  f"{spread(slow, '{:.2f}')}; {statistics.median(slower):.1f} ×")


def latency(table, runs, count, size, what):
    """What clients of the source feel, while it has a core of its own."""
    with apart() as (put, settings), Place() as place:
        source = place.redis(*settings)
        commands = fill(source, count, size)
        put(place.children[0].pid)
        entry = place.cluster()
        ports = [int(node.split()[1].split(":")[1].split("@")[0]) for node in cli(entry, "CLUSTER", "NODES").splitlines()]
        seen = {name: [] for name, _ in to_cluster(place, source, entry)}
        for _ in range(runs):
            for name, command in to_cluster(place, source, entry):
                for target in ports:
                    cli(target, "FLUSHALL")
                shutil.rmtree(place.folder / "state", ignore_errors=True)
                asking = Asking(source, put)
                time.sleep(2)
                quiet = asking.end()
                asking = Asking(source, put)
                seconds, _ = run(command, place.folder)
                seen[name].append((count / seconds, quiet, asking.end()))
        for name, figures in seen.items():
            rates, before, during = zip(*figures)
            ratio = statistics.median(slow / quiet for _, quiet, slow in figures)
            ours = name.startswith("regrow")
            table.row(what, name, spread(rates, "{:,.0f}"), spread(before, "{:.2f}"), spread(during, "{:.2f}"), f"{ratio:.1f} ×",
                      f"≤ {SLOWER} ×" if ours else "", (ratio <= SLOWER) if ours else "")
        shutil.rmtree(commands.parent)


def to_cluster(place, source, entry):
    """Each way to three masters: name, command."""
    migrate = [*REDIS, "migrate", "--from", f"redis://127.0.0.1:{source}", "--to", f"redis-cluster://127.0.0.1:{entry}", "--once",
               "--yes", "--state", place.folder / "state"]
    return [
        ("regrow", [*migrate, "--verify", "none"]),
        ("regrow, and all compared", migrate),
        ("`--cluster import`", ["redis-cli", "--cluster", "import", f"127.0.0.1:{entry}", "--cluster-from", f"127.0.0.1:{source}",
                                "--cluster-copy", "--cluster-replace"]),
        ("a loop in Python", [PYTHON, ROOT / "bench/redis_loop.py", source, entry, "cluster"]),
    ]


def section(quick):
    """The section of RESULTS.md."""
    runs = 1 if quick else 3
    small, large = ((50_000, 100), (500, 100_000)) if quick else ((500_000, 100), (5_000, 100_000))
    table = Table("data", "with", "keys/s", "MB/s", "of import", "wanted", "met", "its memory, MB", "source's p99, ms; of before")
    for (count, size), what in ((small, f"{small[0]:,} keys of {small[1]} B"), (large, f"{large[0]:,} keys of {large[1] // 1000} kB")):
        with Place() as place:
            source = place.redis()
            commands = fill(source, count, size)
            entry = place.cluster()
            ports = [int(node.split()[1].split(":")[1].split("@")[0]) for node in cli(entry, "CLUSTER", "NODES").splitlines()]
            migrate = [*REDIS, "migrate", "--from", f"redis://127.0.0.1:{source}", "--once", "--yes", "--state", place.folder / "state"]
            compare(table, f"{what}, to three masters", place, source, ports, to_cluster(place, source, entry), runs, count, size)
            target = place.redis()
            to_server = [
                ("regrow", [*migrate, "--to", f"redis://127.0.0.1:{target}", "--verify", "none"]),
                ("`--pipe`, from a file", ["sh", "-c", f"redis-cli -p {target} --pipe < {commands}"]),
                ("a loop in Python", [PYTHON, ROOT / "bench/redis_loop.py", source, target, "server"]),
            ]
            compare(table, f"{what}, to one server", place, source, [target], to_server, runs, count, size)
            shutil.rmtree(commands.parent)
    felt = Table("data, to three masters", "with", "keys/s", "source's p99 before, ms", "during, ms", "of before", "wanted", "met")
    for count, size, what in ((20_000, 100, "20,000 keys of 100 B"), (200, 100_000, "200 keys of 100 kB")) if quick else (
            (200_000, 100, "200,000 keys of 100 B"), (2_000, 100_000, "2,000 keys of 100 kB")):
        latency(felt, runs, count, size, what)
    return (f"{version('redis-server', '--version').split(' sha')[0]}; python3-redis. Everything on this machine's cores.\n\n{table}\n\n"
            f"What clients of the source feel, when it has a core of its own, and all else the others:\n\n{felt}\n")
