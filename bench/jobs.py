"""The job server beside RQ, `regrow exec` beside other parallel SSH tools, and a playbook run beside `ansible-playbook`.

Needs root for its `sshd`s, which listen on 127.0.60.0/24. Debian's redis-server, python3-rq, clustershell, pssh and
ansible-core are the peers.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cluster import REGROW, free_port, until
from figures import Table, spread, version

TITLE = "Jobs"
# Where Debian's python3-rq is.
PYTHON = "/usr/bin/python3"
CLIENTS = 8
FANOUT = 32
# Runs that a worker process of ours carries out at a time.
ROOM = 32
NET = "127.0.60"
ENQUEUE = """
import sys, time
from redis import Redis
from rq import Queue
queue = Queue(connection=Redis(port=int(sys.argv[1])))
queue.enqueue_many([Queue.prepare_data("bench_job.nothing", result_ttl=5000) for _ in range(int(sys.argv[2]))])
"""
SPANS = """
import json, sys
from redis import Redis
from rq import Queue
from rq.job import Job
queue = Queue(connection=(redis := Redis(port=int(sys.argv[1]))))
ids = queue.finished_job_registry.get_job_ids()
jobs = Job.fetch_many(ids, connection=redis)
print(json.dumps([(job.started_at.timestamp(), job.ended_at.timestamp()) for job in jobs]))
"""
LATENCY = """
import json, sys, time
from redis import Redis
from rq import Queue
queue = Queue(connection=Redis(port=int(sys.argv[1])))
waits = []
for _ in range(int(sys.argv[2])):
    job = queue.enqueue("bench_job.nothing", result_ttl=5000)
    while job.get_status(refresh=True) != "finished":
        time.sleep(0.002)
    job.refresh()
    waits.append((job.started_at - job.enqueued_at).total_seconds() * 1000)
print(json.dumps(waits))
"""


class Place:
    """A folder, and processes that end with it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="regrow-jobs-"))
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *command, **more):
        with open(self.folder / "log", "ab") as log:
            child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=self.folder, **more)
        self.children.append(child)
        return child

    def redis(self):
        port = free_port()
        data = self.folder / f"redis-{port}"
        data.mkdir()
        self.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly",
                   "yes", "--appendfsync", "always")
        until("redis answers", lambda: subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True,
                                                      check=False).stdout == b"PONG\n")
        return port


def python(script, *words):
    done = subprocess.run([PYTHON, "-c", script, *map(str, words)], capture_output=True, text=True, check=True)
    return done.stdout


def rate(spans):
    """Runs a second, from the first start to the last end."""
    return len(spans) / (max(end for _, end in spans) - min(start for start, _ in spans))


def rq(workers, count):
    """Runs a second of an empty job, and milliseconds from its submission to its start."""
    with Place() as place:
        port = place.redis()
        (place.folder / "bench_job.py").write_text("def nothing():\n    pass\n")
        env = dict(os.environ, PYTHONPATH=str(place.folder))
        worker = ("rq", "worker", "--url", f"redis://127.0.0.1:{port}", "--quiet")
        python(ENQUEUE, port, count)
        for _ in range(workers):
            place.start(*worker, env=env)
        until("all have ended", lambda: len(json.loads(python(SPANS, port))) == count, every=1)
        runs = rate(json.loads(python(SPANS, port)))
        return runs, json.loads(python(LATENCY, port, 50))


class Agent:
    """An agent without a worker, and workers beside it."""

    def __init__(self, place, queue, spec):
        self.place = place
        self.folder = place.folder / "agent"
        self.folder.mkdir()
        (self.folder / "regrow.yaml").write_text(spec)
        ports = [free_port(), free_port()]
        self.http, self.etcd = ports
        self.queue = queue
        env = {**os.environ, "REGROW_QUEUE": queue, "REGROW_GOSSIP": "off", "REGROW_RPC": "off"}
        self.env = env
        place.start(REGROW, "up", self.folder / "regrow.yaml", "--data", self.folder / "data", "--jobs", "0", "--http",
                    f"127.0.0.1:{self.http}", "--etcd", f"127.0.0.1:{self.etcd}", env=env)
        until("the agent answers", self.answers)

    def answers(self):
        with contextlib.suppress(OSError):
            return "nothing" in json.loads(self.ask("GET", "/api/jobs"))
        return False

    def ask(self, method, path, body=None, connection=None):
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return text

    def worker(self, number):
        store = ("--store", f"http://127.0.0.1:{self.etcd}")
        self.place.start(REGROW, "worker", *store, "--node", f"w{number}", "--jobs", str(ROOM), "--data",
                         self.place.folder / f"worker-{number}", env=self.env)

    def submit(self, count):
        def client(share):
            connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
            for _ in range(share):
                self.ask("POST", "/api/runs", {"job": "nothing"}, connection)

        threads = [threading.Thread(target=client, args=(count // CLIENTS,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ended(self, count):
        runs = json.loads(self.ask("GET", "/api/runs?state=succeeded&limit=10000"))
        return runs if len(runs) >= count else None


def ours(workers, count, queue):
    with Place() as place:
        queue = f"redis://127.0.0.1:{place.redis()}" if queue == "redis" else queue
        agent = Agent(place, queue, "cluster: bench\njobs:\n  nothing: {steps: []}\n")
        agent.submit(count)
        for number in range(workers):
            agent.worker(number)
        runs = until("all have ended", lambda: agent.ended(count), every=1)
        runs_a_second = rate([(run["started"] / 1000, run["ended"] / 1000) for run in runs])
        waits = []
        for _ in range(50):
            run = json.loads(agent.ask("POST", "/api/runs", {"job": "nothing"}))["id"]
            detail = until("it has ended", lambda: (d := json.loads(agent.ask("GET", f"/api/runs/{run}")))["state"]
                           == "succeeded" and d, every=0.002)
            waits.append(detail["started"] - detail["submitted"])
        return runs_a_second, waits


def queues(quick, table):
    count, many = (100, 1_000) if quick else (400, 8_000)
    for workers in (1, 8):
        beside, waits = rq(workers, count)
        name = f"{workers} worker process{'es' if workers > 1 else ''}"
        table.row(f"RQ on Redis, {name}: empty jobs a second", "", f"{beside:,.0f}", "")
        table.row(f"RQ, {name}: submit → start", "", f"median {statistics.median(waits):.1f} ms", "")
        for queue in ("store", "redis"):
            mine, waits = ours(workers, many, queue)
            table.row(f"`regrow worker` on the {queue}, {name}: empty jobs a second", "≥ 50 × RQ's",
                      f"{mine:,.0f} = {mine / beside:.0f} ×", mine >= 50 * beside)
            median = statistics.median(waits)
            table.row(f"the {queue}, {name}: submit → start", "≤ 2 ms", f"median {median:.0f} ms, worst {max(waits)} ms",
                      median <= 2)


class Hosts:
    """Real sshds on loopback."""

    def __init__(self, place, count):
        self.folder = place.folder / "ssh"
        (self.folder / "home").mkdir(parents=True)
        (self.folder / "run").mkdir()
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True)
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        self.port = free_port()
        self.names = [f"{NET}.{number}" for number in range(1, count + 1)]
        for name in self.names:
            place.start("/usr/sbin/sshd", "-D", "-f", "/dev/null", "-o", f"ListenAddress={name}", "-o",
                        f"Port={self.port}", "-o", f"HostKey={self.folder / 'host'}", "-o",
                        f"AuthorizedKeysFile={self.folder / 'authorized_keys'}", "-o", "StrictModes=no", "-o", "UsePAM=no",
                        "-o", "PermitRootLogin=yes", "-o", f"SetEnv=HOME={self.folder / 'home'}", "-o",
                        f"PidFile={self.folder / (name + '.pid')}")
        (self.folder / "known_hosts").write_text("".join(f"[{name}]:{self.port} {key}\n" for name in self.names))
        (self.folder / "hosts").write_text("\n".join(self.names) + "\n")
        self.config = self.folder / "config"
        self.config.write_text(f"Host *\n  User root\n  Port {self.port}\n  IdentityFile {self.folder / 'user'}\n"
                               f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.folder / 'known_hosts'}\n")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(self.folder / "run"), ANSIBLE_SSH_ARGS=f"-F {self.config}",
                        ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3")
        until("the last sshd listens", lambda: (self.folder / f"{self.names[-1]}.pid").exists())

    def seconds(self, *command):
        start = time.monotonic()
        done = subprocess.run([str(word) for word in command], env=self.env, cwd=self.folder, capture_output=True,
                              text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return time.monotonic() - start


def exec_hosts(quick, table):
    count, runs = (20, 1) if quick else (200, 5)
    with Place() as place:
        hosts = Hosts(place, count)
        listed = hosts.folder / "hosts"

        def regrow(keep):
            return hosts.seconds(REGROW, "exec", "--ssh-config", hosts.config, "--fanout", FANOUT, "--keep", keep,
                                 f"@{listed}", "--", "true")

        cold, clush, pssh = [], [], []
        tools = [
            (cold, lambda: regrow("0s")),
            (clush, lambda: hosts.seconds("clush", "-q", "-f", FANOUT, "-O", f"ssh_options=-F {hosts.config}", "--hostfile",
                                          listed, "true")),
            (pssh, lambda: hosts.seconds("parallel-ssh", "-p", FANOUT, "-x", f"-F {hosts.config}", "-h", listed, "true")),
        ]
        for turn in range(runs):
            # Who goes first changes, as the machine does.
            for values, run in tools[turn % 3:] + tools[:turn % 3]:
                values.append(run())
        regrow("120s")
        warm = [regrow("120s") for _ in range(runs)]
        shell = [hosts.seconds("ansible", "all", "-i", listed, "-f", FANOUT, "-m", "shell", "-a", "true")]
        subprocess.run(["pkill", "-f", f"^ssh: {hosts.folder}/"], check=False)
    cold_s, best, warm_s = (statistics.median(values) for values in (cold, min(clush, pssh, key=statistics.median), warm))
    form = "{:.2f} s"
    table.row(f"`clush`: `true` on {count} sshds on loopback, fan-out {FANOUT}", "", spread(clush, form), "")
    table.row("`parallel-ssh`", "", spread(pssh, form), "")
    table.row("`ansible -m shell`", "", spread(shell, form), "")
    table.row("`regrow exec`, cold", "≤ the best of clush and pssh", f"{spread(cold, form)} = {cold_s / best:.2f} ×",
              cold_s <= best)
    table.row("`regrow exec`, cold, beside `ansible -m shell`", "≥ 5 × faster", f"{shell[0] / cold_s:.1f} ×",
              shell[0] >= 5 * cold_s)
    table.row("`regrow exec`, connections kept", "≥ 10 × faster than cold", f"{spread(warm, form)} = {cold_s / warm_s:.0f} ×",
              cold_s >= 10 * warm_s)


PLAYBOOK = """- hosts: all
  gather_facts: true
  tasks:
""" + "".join(f"    - shell: 'echo {number}; sleep 0.1'\n" for number in range(3))


def playbook(quick, table):
    pairs = 1 if quick else 10
    with Place() as place:
        hosts = Hosts(place, 8)
        # Connections are kept as Ansible keeps them when it is told nothing.
        hosts.env["ANSIBLE_SSH_ARGS"] += " -C -o ControlMaster=auto -o ControlPersist=60s"
        agent = Agent(place, "store", "cluster: bench\njobs:\n  nothing: {steps: []}\n  play: {ansible: {playbook: play.yaml, target: {inventory: hosts, forks: 8}}}\n")
        (agent.folder / "play.yaml").write_text(PLAYBOOK)
        shutil.copy(hosts.folder / "hosts", agent.folder / "hosts")
        agent.env = {**agent.env, **hosts.env}
        agent.worker(0)
        play = agent.folder / "play.yaml"
        by_hand = ("ansible-playbook", "-i", agent.folder / "hosts", "-f", "8", play)
        by_job = (REGROW, "--agent", f"http://127.0.0.1:{agent.http}", "job", "run", "play")
        hosts.seconds(*by_hand)
        hand, job = [], []
        for pair in range(pairs):
            both = [(hand, by_hand), (job, by_job)]
            for values, command in both if pair % 2 == 0 else reversed(both):
                values.append(hosts.seconds(*command))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(job, hand))
    table.row("`ansible-playbook` by hand: 4 tasks on 8 sshds", "", spread(hand, "{:.2f} s"), "")
    table.row("`regrow job run` of the same", "≤ 3 % over", f"{spread(job, '{:.2f} s')} = {(ratio - 1) * 100:+.1f} %",
              ratio <= 1.03)


def section(quick):
    """The section of RESULTS.md."""
    table = Table("figure", "wanted", "measured", "met")
    for part in (queues, exec_hosts, playbook):
        part(quick, table)
    peers = ", ".join((f"RQ {version('rq', '--version').split()[-1]}", version("redis-server", "--version").split(" sha")[0],
                       version("clush", "--version"), version("ansible", "--version"), version("ssh", "-V")))
    return f"{peers}. Redis syncs each write for both.\n\n{table}\n"
