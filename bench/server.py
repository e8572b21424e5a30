"""Servers that speak etcd's protocol, to be compared: each a process with its data on the same disk."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import proc
from cluster import EXAMPLES, REGROW, WAIT_S, free_port

LOAD = EXAMPLES / "etcd_load"


class Server:
    """A server that can be stopped and started again on its data."""

    name = ""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-bench-"))
        self.process = None
        self.url = None

    def command(self):
        raise NotImplementedError

    def start(self):
        """Starts it; returns the seconds until it can be read and written."""
        words = self.command()
        with open(self.folder / "log", "ab") as log:
            start = time.monotonic()
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=self.environment())
        while time.monotonic() < start + WAIT_S:
            if self.is_healthy():
                return time.monotonic() - start
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        raise SystemExit(f"{self.name} did not start: see {self.folder}/log")

    def is_healthy(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return json.load(answer)["health"] == "true"
        except OSError:
            return False

    def environment(self):
        return dict(os.environ)

    def stop(self):
        """Stops it in order; its data stay."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, what, **numbers):
        """Runs the load generator: its figures, and the microseconds of processor time that each call cost here."""
        words = [LOAD, self.url, what, *(f"{name}={number}" for name, number in numbers.items())]
        before = proc.cpu_s(self.process.pid)
        asked = os.times()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"etcd_load against {self.name}: {done.stderr.strip()}")
        figures = json.loads(done.stdout)
        times = os.times()
        if calls := figures.get("calls"):
            figures["cpu_us"] = (proc.cpu_s(self.process.pid) - before) / calls * 1e6
            asking = times.children_user + times.children_system - asked.children_user - asked.children_system
            figures["load_cpu_us"] = asking / calls * 1e6
        return figures

    def memory_mb(self):
        return proc.memory_mb(self.process.pid)


class Etcd(Server):
    """Debian's etcd, as it comes but for room: a quota as large as it allows, and history given up as here."""

    name = "etcd"

    def command(self):
        self.url, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        return [
            "etcd", "--name", "bench", "--data-dir", self.folder / "data", "--logger", "zap", "--log-level", "error",
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls", peers,
            "--initial-advertise-peer-urls", peers, "--initial-cluster", f"bench={peers}",
            "--quota-backend-bytes", str(8 << 30),
            "--auto-compaction-mode", "revision", "--auto-compaction-retention", "100000",
        ]


class Regrow(Server):
    """The whole agent; its other doors are shut."""

    name = "regrow"

    def command(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        return [
            REGROW, "agent", "--data", self.folder / "data", "--node", "bench", "--etcd", f"127.0.0.1:{port}",
            "--http", "off", "--gossip", "off", "--rpc", "off",
        ]

    def environment(self):
        return {name: value for name, value in os.environ.items() if not name.startswith("REGROW_")}
