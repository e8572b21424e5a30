"""The loop: deaths of instances under load, rendering, planning, an idle agent."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import proc
from cluster import EXAMPLES, ROOT, Cluster, free_port, in_rotation, until, web
from figures import Table, quantile, version

TITLE = "The loop"


def kills(count):
    """Kills under load: times until out of rotation, and until back in it, in milliseconds."""
    front = free_port()
    cluster = web(front, "23000-23019")
    out, back = [], []
    try:
        cluster.until_healthy()
        path = cluster.folder / "run/haproxy.sock"
        load = subprocess.Popen(
            ["wrk", "-t1", "-c4", f"-d{count * 3 + 60}s", f"http://127.0.0.1:{front}/"], stdout=subprocess.DEVNULL
        )
        for _ in range(count):
            until("all serve", lambda: len(cluster.instances("web")) == 3)
            victim = random.choice(cluster.instances("web"))
            until("in rotation", lambda: in_rotation(path, victim["id"]))
            start = time.monotonic()
            os.kill(victim["pid"], signal.SIGKILL)
            until("out of rotation", lambda: not in_rotation(path, victim["id"]), 0.001)
            out.append((time.monotonic() - start) * 1000)
            until("in rotation again", lambda: in_rotation(path, victim["id"]), 0.001)
            back.append((time.monotonic() - start) * 1000)
        load.kill()
        load.wait()
    finally:
        cluster.close()
    return out, back


def program_start():
    """How long the example's program takes alone until it answers, in milliseconds."""
    times = []
    for _ in range(10):
        port = free_port()
        env = dict(os.environ, ADDRESS="127.0.0.1", PORT=str(port), INSTANCE="alone")
        start = time.monotonic()
        server = subprocess.Popen(
            [sys.executable, ROOT / "examples/web/server.py"], env=env, stdout=subprocess.DEVNULL
        )

        def answers():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).status == 200
            except OSError:
                return False

        until("it answers", answers, 0.001)
        times.append((time.monotonic() - start) * 1000)
        server.kill()
        server.wait()
    return statistics.median(times)


def first_plan():
    """From the start of the process to its first assignment, in milliseconds."""
    times = []
    for _ in range(10):
        cluster = web(free_port(), "23020-23039")
        try:
            times.append((until("assigned", lambda: cluster.logged("assigned"))["ts"] - cluster.started) * 1000)
            cluster.until_healthy()
        finally:
            cluster.close()
    return times


def idle(count, seconds):
    """Resident MB of the agent, its share of a core in percent, and the MB of all shims."""
    spec = f"""
cluster: idle
services:
  s: {{checks: [{{tcp: true, interval: 1s}}]}}
groups:
  g:
    service: s
    size: {count}
    provider: process
    command: [python3, -S, -E, server.py]
    port: 23040-{23040 + count + 20}
    stop: {{grace: 1s}}
"""
    server = (
        "import os, socket\n"
        "s = socket.create_server((os.environ['ADDRESS'], int(os.environ['PORT'])))\n"
        "while True:\n    s.accept()[0].close()\n"
    )
    cluster = Cluster(spec, [("server.py", server)])
    try:
        cluster.until_healthy()
        pid = cluster.agent.pid

        time.sleep(5)
        before, start = proc.cpu_s(pid), time.monotonic()
        time.sleep(seconds)
        share = (proc.cpu_s(pid) - before) / (time.monotonic() - start) * 100
        shims = 0
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"\0shim\0" in (entry / "cmdline").read_bytes():
                    shims += proc.memory_mb(entry.name, "Pss")
            except OSError:
                pass
        return proc.memory_mb(pid), share, shims
    finally:
        cluster.close()


def example(name, *words):
    return subprocess.run([EXAMPLES / name, *words], capture_output=True, check=True, text=True).stdout


def section(quick):
    """The section of RESULTS.md."""
    count, seconds = (10, 5) if quick else (50, 30)
    table = Table("figure", "wanted", "measured", "met")
    out, back = kills(count)
    median = statistics.median(out)
    table.row(f"SIGKILL of an instance → HAProxy sends it nothing more, {count} kills under load", "median ≤ 100 ms",
              f"median {median:.0f} ms, p99 {quantile(out, 0.99):.0f} ms", median <= 100)
    start, median = program_start(), statistics.median(back)
    table.row("SIGKILL → the replacement is healthy and in rotation",
              f"the program's own start ({start:.0f} ms) + one interval (1,000 ms) + ≤ 300 ms",
              f"median {median:.0f} ms, p99 {quantile(back, 0.99):.0f} ms", median <= start + 1300)
    speed = json.loads(example("speed"))
    for figure, wanted, name in (
        ("1,000 services × 10 endpoints rendered into one file", 20, "render_10000_endpoints_ms"),
        ("planning a view of 10,000 instances", 10, "plan_10000_instances_ms"),
    ):
        median, worst = speed[name]
        table.row(figure, f"≤ {wanted} ms", f"median {median:.1f} ms, worst {worst:.1f} ms", median <= wanted)
    memory, share, shims = idle(100, seconds)
    table.row("idle agent with 100 instances: resident memory", "≤ 40 MB",
              f"{memory:.1f} MB (and its 100 shims together {shims:.0f} MB)", memory <= 40)
    table.row("idle agent with 100 instances: processor", "≤ 1 % of a core", f"{share:.2f} %", share <= 1)
    times = first_plan()
    table.row("start of the process → first plan", "≤ 200 ms",
              f"median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms", statistics.median(times) <= 200)
    return f"""{version("haproxy", "-v").split(" - ")[0]}, Python {sys.version.split()[0]}.

{table}

A chain of separate tools (gossip agent, key-value store, template daemon) was measured once at 7 s (watching) and 16 s
(polling) for the first figure on a machine of this kind.
"""


if __name__ == "__main__":
    print(section(bool(os.environ.get("QUICK"))))
