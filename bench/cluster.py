"""A cluster to measure: `regrow up` in a folder of its own, and HAProxy's own word on who is in rotation."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGROW = ROOT / "target/release/regrow"
EXAMPLES = ROOT / "target/release/examples"
WAIT_S = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, look, every=0.02):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(every)
    raise SystemExit(f"not so after {WAIT_S} s: {what}")


class Cluster:
    """`regrow up` on a spec and its files."""

    def __init__(self, spec, files=()):
        self.folder = Path(tempfile.mkdtemp(prefix="regrow-bench-"))
        (self.folder / "run").mkdir()
        (self.folder / "regrow.yaml").write_text(spec)
        for name, text in files:
            (self.folder / name).write_text(text)
        self.env = dict(os.environ, REGROW_DATA=str(self.folder / "data"), REGROW_HTTP="off", REGROW_ETCD="off",
                        REGROW_GOSSIP="off")
        self.log = open(self.folder / "log", "wb")
        self.started = time.time()
        self.agent = subprocess.Popen(
            [REGROW, "up"], cwd=self.folder, env=self.env, stdout=self.log, stderr=self.log
        )

    def status(self):
        done = subprocess.run(
            [REGROW, "status", "--json"], cwd=self.folder, env=self.env, capture_output=True, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def until_healthy(self):
        return until("healthy", lambda: (s := self.status()) and s["health"] == "healthy" and s)

    def instances(self, group):
        groups = {g["name"]: g for g in self.status()["groups"]}
        return [i for i in groups[group]["instances"] if i["healthy"]]

    def logged(self, kind):
        for line in (self.folder / "log").read_text().splitlines():
            if f'"kind":"{kind}"' in line:
                return json.loads(line)
        return None

    def close(self):
        self.agent.send_signal(signal.SIGINT)
        try:
            self.agent.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.agent.kill()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def web(front, ports):
    """The example, on ports of its own."""
    example = ROOT / "examples/web"
    texts = {}
    for name in ("regrow.yaml", "haproxy.cfg.j2", "server.py"):
        texts[name] = (example / name).read_text().replace("8080", str(front))
    # The backoff of a crash loop is not what is measured: these deaths are ours.
    spec = texts.pop("regrow.yaml").replace(
        "    size: 3\n", f"    size: 3\n    port: {ports}\n    backoff: {{first: 1ms, max: 1ms, reset: 1ms}}\n"
    )
    return Cluster(spec, texts.items())


def in_rotation(path, server):
    """Whether HAProxy would send `server` something: it is known, up, and its administrative state is ready."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(path))
        s.sendall(b"show servers state web\n")
        out = b""
        while chunk := s.recv(65536):
            out += chunk
    for line in out.decode().splitlines():
        words = line.split()
        if len(words) > 6 and words[3] == server:
            return words[5] == "2" and words[6] == "0"
    return False
