"""Moving a Redis data set, beside what comes with Redis and beside what people write by hand.

Debian's redis-server, redis-tools and python3-redis are the peers.
"""

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

    def __init__(self, port):
        super().__init__()
        command = [sys.executable, "-c", self.PROGRAM, str(port), str(ASKED)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.child.stdout.readline()
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


def section(quick):
    """The section of RESULTS.md."""
    runs = 1 if quick else 3
    small, large = ((50_000, 100), (500, 100_000)) if quick else ((1_000_000, 100), (5_000, 100_000))
    table = Table("data", "with", "keys/s", "MB/s", "of import", "wanted", "met", "its memory, MB", "source's p99, ms; of before")
    for (count, size), what in ((small, f"{small[0]:,} keys of {small[1]} B"), (large, f"{large[0]:,} keys of {large[1] // 1000} kB")):
        with Place() as place:
            source = place.redis()
            commands = fill(source, count, size)
            entry = place.cluster()
            ports = [int(node.split()[1].split(":")[1].split("@")[0]) for node in cli(entry, "CLUSTER", "NODES").splitlines()]
            migrate = [*REDIS, "migrate", "--from", f"redis://127.0.0.1:{source}", "--once", "--yes", "--state", place.folder / "state"]
            loop = [PYTHON, ROOT / "bench/redis_loop.py", source]
            to_cluster = [
                ("regrow", [*migrate, "--to", f"redis-cluster://127.0.0.1:{entry}", "--verify", "none"]),
                ("regrow, and all compared", [*migrate, "--to", f"redis-cluster://127.0.0.1:{entry}"]),
                ("`--cluster import`", ["redis-cli", "--cluster", "import", f"127.0.0.1:{entry}", "--cluster-from",
                                        f"127.0.0.1:{source}", "--cluster-copy", "--cluster-replace"]),
                ("a loop in Python", [*loop, entry, "cluster"]),
            ]
            compare(table, f"{what}, to three masters", place, source, ports, to_cluster, runs, count, size)
            target = place.redis()
            to_server = [
                ("regrow", [*migrate, "--to", f"redis://127.0.0.1:{target}", "--verify", "none"]),
                ("`--pipe`, from a file", ["sh", "-c", f"redis-cli -p {target} --pipe < {commands}"]),
                ("a loop in Python", [*loop, target, "server"]),
            ]
            compare(table, f"{what}, to one server", place, source, [target], to_server, runs, count, size)
            shutil.rmtree(commands.parent)
    return f"{version('redis-server', '--version').split(' sha')[0]}; python3-redis. Everything on this machine's cores.\n\n{table}\n"
