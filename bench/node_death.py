"""From SIGKILL of a whole node (all its processes) to HAProxy on another node sending it nothing.

usage: node_death.py [RUNS]      (default and most: 6; as root: it makes network namespaces, and removes them)

Four hosts: etcd on one, an agent on each of the other three with a web server each, HAProxy on the first. A node's
processes are killed all at once, in turn on the second and the third, whoever leads; then it comes back, and the next run
begins when all is whole. What counts is HAProxy's own word on its runtime socket. Prints one JSON object: milliseconds
of each run, median, least, most; and the same for the time until its slot serves again elsewhere.
"""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Table

TITLE = "The death of a node"
ROOT = Path(__file__).resolve().parent.parent
REGROW = Path(os.environ.get("REGROW_BINARY", ROOT / "target/release/regrow"))
WAIT_S = 90
# A node that returns from death for the third time within ten minutes is in quarantine: nothing is replaced because of it.
RUNS_MAX = 6
PREFIX = f"rgb{os.getpid()}"
SPEC = """cluster: shop
services:
  web:
    checks: [{http: /, interval: 500ms, timeout: 500ms}]
groups:
  web: {service: web, size: 3, provider: process, command: [python3, server.py]}
  proxy:
    size: 1
    provider: process
    command: [haproxy, -W, -db, -f, run/haproxy.cfg]
    port: 8080
    after: [template/haproxy]
templates:
  haproxy:
    source: haproxy.cfg.j2
    destination: run/haproxy.cfg
    check: [haproxy, -c, -f, "{staged}"]
    reload: {group: proxy, signal: USR2, haproxy_socket: run/haproxy.sock}
    guard: {min: {web: 1}}
"""
HAPROXY = """global
    stats socket unix@run/haproxy.sock mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 300ms
    timeout client 10s
    timeout server 2s
    option redispatch 1
frontend front
    bind *:8080
    default_backend web
backend web
{% for endpoint in services.web %}
    server {{ endpoint.id }} {{ endpoint.address }}:{{ endpoint.port }}
{% endfor %}
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def until(what, look, every=0.02):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(every)
    raise SystemExit(f"not so after {WAIT_S} s: {what}")


class Hosts:
    """Network namespaces on a bridge."""

    def __init__(self, count):
        self.names = [f"{PREFIX}h{n}" for n in range(1, count + 1)]
        self.switch = f"{PREFIX}sw"
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for n, name in enumerate(self.names, 1):
            ip("netns", "add", name)
            ip("link", "add", f"v{n}", "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", self.switch, "link", "set", f"v{n}", "master", "br0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"{self.address(n)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    @staticmethod
    def address(n):
        return f"10.78.0.{n}"

    def pids(self, n):
        said = subprocess.run(["ip", "netns", "pids", self.names[n - 1]], capture_output=True, text=True, check=False)
        return [int(pid) for pid in said.stdout.split()]

    def kill(self, n):
        for pid in self.pids(n):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self):
        for n, name in enumerate(self.names, 1):
            self.kill(n)
            ip("netns", "del", name)
        ip("netns", "del", self.switch)


class Cluster:
    """etcd and three agents."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="regrow-bench-"))
        self.site = self.folder / "site"
        self.site.mkdir()
        self.hosts = Hosts(4)
        self.store = f"http://{Hosts.address(4)}:2379"
        self.children = {}
        for n in (1, 2, 3):
            (self.folder / f"site{n}").mkdir()
            shutil.copy(ROOT / "examples/web/server.py", self.folder / f"site{n}")
        (self.site / "regrow.yaml").write_text(SPEC)
        (self.site / "haproxy.cfg.j2").write_text(HAPROXY)
        self.run(4, ["etcd", "--data-dir", str(self.folder / "etcd"), "--log-level", "error",
                     "--listen-client-urls", self.store, "--advertise-client-urls", self.store])
        for n in (1, 2, 3):
            self.start(n)

    def run(self, n, words, env=None):
        log = open(self.folder / f"log{n}", "ab")
        words = ["ip", "netns", "exec", self.hosts.names[n - 1], *words]
        self.children[n] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def start(self, n):
        at = Hosts.address(n)
        mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
        agent = [str(REGROW), "agent", "--node", f"n{n}", "--store", self.store, "--gossip", f"{at}:7946",
                 "--address", at, "--rpc", "off", "--http", "off", "--insecure"]
        env = dict(os.environ, REGROW_DATA=str(self.folder / f"data{n}"))
        self.run(n, ["sh", "-c", mount, str(self.folder / f"site{n}"), str(self.site), *agent], env)

    def command(self, *words):
        env = dict(os.environ, REGROW_DATA=str(self.folder / "data1"))
        return subprocess.run([str(REGROW), *words], cwd=self.site, env=env, capture_output=True, check=False)

    def status(self):
        done = self.command("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def whole(self):
        status = self.status()
        if not status or status["health"] != "healthy" or len(status["nodes"]) != 3:
            return None
        alive = [member for member in status["members"] if member["state"] == "alive"]
        return status if len(alive) == 3 else None

    def rotation(self):
        """The addresses that HAProxy sends requests to, by its own word."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            s.connect(str(self.folder / "site1/run/haproxy.sock"))
            s.sendall(b"show servers state web; show stat\n")
            said = b""
            while chunk := s.recv(65536):
                said += chunk
        up = set()
        for line in said.decode().splitlines():
            words = line.split(" ")
            # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …
            if len(words) > 6 and words[1] == "web" and words[5] != "0" and words[6] == "0":
                up.add(words[4])
        return up

    def remove(self):
        self.hosts.remove()
        for child in self.children.values():
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def spread(values):
    return {"median_ms": round(statistics.median(values)), "least_ms": round(min(values)),
            "most_ms": round(max(values)), "runs_ms": [round(value) for value in values]}


def measure(runs):
    cluster = Cluster()
    out, again = [], []
    try:
        until("the agent answers", cluster.status)
        until("three nodes", lambda: (s := cluster.status()) and len(s["nodes"]) == 3)
        done = cluster.command("apply")
        if done.returncode:
            raise SystemExit(done.stderr.decode())
        until("all is whole", cluster.whole, 0.2)
        victim = 2
        while len(out) < runs:
            if not spread_out(cluster.whole()):
                balance(cluster)
            at = Hosts.address(victim)
            until("it is in rotation", lambda: at in cluster.rotation())
            began = time.monotonic()
            cluster.hosts.kill(victim)
            until("it is in rotation no more", lambda: at not in cluster.rotation(), 0.005)
            out.append((time.monotonic() - began) * 1000)
            until("three are in rotation", lambda: (s := cluster.status()) and healthy(s) == 3, 0.05)
            again.append((time.monotonic() - began) * 1000)
            cluster.children[victim].wait()
            cluster.start(victim)
            until("all is whole", cluster.whole, 0.2)
            victim = 5 - victim
    finally:
        cluster.remove()
    return {"out_of_rotation": spread(out), "whole_again": spread(again)}


def section(quick):
    """The section of RESULTS.md."""
    found = measure(2 if quick else RUNS_MAX)
    text = {name: f"median {one['median_ms']:,} ms ({one['least_ms']:,} to {one['most_ms']:,})" for name, one in found.items()}
    table = Table("figure", "wanted", "measured", "met")
    table.row("SIGKILL of all of a node → HAProxy on another sends it nothing more", "median ≤ 2,000 ms",
              text["out_of_rotation"], found["out_of_rotation"]["median_ms"] <= 2000)
    table.row("SIGKILL of all of a node → its slot serves again elsewhere", "", text["whole_again"], "")
    return f"""Four hosts as network namespaces: etcd on one, an agent and a web server on each of three, HAProxy on the first.

{table}

The chain of separate tools took 7 to 16 s for the first figure (measured once on a machine of this kind).
"""


def web(status):
    return next(group["instances"] for group in status["groups"] if group["name"] == "web")


def healthy(status):
    return sum(instance["healthy"] for instance in web(status))


def spread_out(status):
    return len({instance["node"] for instance in web(status)}) == 3


def balance(cluster):
    """Instances are not moved back to a node that returns: the group is made anew, one on each node."""
    for size in ("0", "3"):
        cluster.command("group", "scale", "web", size)
        until("it has its size", lambda: (s := cluster.status()) and len(web(s)) == int(size) and healthy(s) == int(size))
    until("all is whole", cluster.whole, 0.2)


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("node_death.py makes network namespaces: run it as root")
    print(json.dumps(measure(min(int(sys.argv[1]), RUNS_MAX) if len(sys.argv) > 1 else RUNS_MAX), indent=2))
