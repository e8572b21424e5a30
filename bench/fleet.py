"""Agents of gossip on addresses of their own in one network namespace, and what each of them tells of the others."""

import os
import re
import selectors
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cluster import REGROW, until

PORT = 7946
STORE = "127.0.0.1:2379"


class Network:
    """A namespace of which packets can be lost, and hosts be switched off."""

    def __init__(self, name):
        self.name = f"{name}-bench-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        self.nft(f"""
            table ip bench {{
                set off {{ type ipv4_addr; }}
                counter gossip {{ }}
                chain loss {{ }}
                chain input {{
                    type filter hook input priority 0; policy accept;
                    ip saddr @off drop
                    ip daddr @off drop
                    udp dport {PORT} counter name gossip jump loss
                    tcp dport {PORT} counter name gossip jump loss
                    tcp sport {PORT} counter name gossip jump loss
                }}
            }}""")

    def nft(self, text):
        return subprocess.run(self.within("nft", "-f", "-"), input=text, check=True, text=True)

    def within(self, *words):
        return ["ip", "netns", "exec", self.name, *words]

    def lose(self, percent):
        """Loses this share of the packets of gossip, UDP and TCP alike."""
        rule = f"add rule ip bench loss numgen random mod 100 < {percent} drop" if percent else ""
        self.nft(f"flush chain ip bench loss\n{rule}\n")

    def switch_off(self, address):
        """From now on nothing comes from this address and nothing arrives there."""
        self.nft(f"add element ip bench off {{ {address} }}\n")

    def switch_on(self, address):
        self.nft(f"delete element ip bench off {{ {address} }}\n")

    def bytes(self):
        """Bytes of gossip that have gone over the network, with the heads of their packets."""
        done = subprocess.run(self.within("nft", "list", "counter", "ip", "bench", "gossip"), check=True,
                              capture_output=True, text=True)
        return int(re.search(r"bytes (\d+)", done.stdout).group(1))

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Fleet:
    """Agents of one kind; each is heard, so that it is known when it knows something."""

    name = ""
    # What an agent says of a member: the kind of change, and the name.
    told = None
    kinds = {}

    def __init__(self, count):
        self.network = Network(self.name)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-bench-"))
        self.members = {f"n{number}": f"127.0.1.{number}" for number in range(1, count + 1)}
        self.agents = {}
        self.heard = []
        self.lock = threading.Lock()
        self.ears = selectors.DefaultSelector()
        self.ended = False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def command(self, name, address):
        raise NotImplementedError

    def start(self, *names):
        for name in names:
            words = self.network.within(*self.command(name, self.members[name]))
            env = {name: value for name, value in os.environ.items() if not name.startswith("REGROW_")}
            agent = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, env=env)
            os.set_blocking(agent.stdout.fileno(), False)
            self.agents[name] = agent
            self.ears.register(agent.stdout, selectors.EVENT_READ, [name, b""])

    def listen(self):
        while not self.ended:
            for key, _ in self.ears.select(timeout=0.2):
                now = time.monotonic()
                try:
                    some = os.read(key.fd, 1 << 16)
                except BlockingIOError:
                    continue
                if not some:
                    self.ears.unregister(key.fileobj)
                    continue
                observer, before = key.data
                *lines, key.data[1] = (before + some).split(b"\n")
                found = [match for line in lines if (match := self.told.search(line))]
                with self.lock:
                    self.heard += [
                        (now, observer, self.kinds[match["kind"]], match["name"].decode()) for match in found
                    ]

    def those_who_said(self, kind, name, since):
        with self.lock:
            heard = list(self.heard)
        return {observer: at for at, observer, said, about in reversed(heard)
                if at >= since and said == kind and about == name}

    def until_joined(self, since):
        """The seconds from `since` until every agent has told of every other."""
        def all_known():
            with self.lock:
                heard = list(self.heard)
            pairs = {}
            for at, observer, said, about in heard:
                if at >= since and said == "join" and observer != about:
                    pairs.setdefault((observer, about), at)
            wanted = len(self.members) * (len(self.members) - 1)
            return len(pairs) == wanted and max(pairs.values())

        return until(f"{self.name}: all have joined", all_known, 0.1) - since

    def end(self, name):
        """SIGKILL; when it was sent."""
        at = time.monotonic()
        self.agents[name].kill()
        self.agents.pop(name).wait()
        return at

    def until_known(self, name, since):
        """The seconds from `since` until the last living agent has told that this one has failed."""
        living = self.agents.keys() - {name}
        found = until(f"{self.name}: all know of {name}'s death", lambda: (
            (said := self.those_who_said("failed", name, since)).keys() >= living and said), 0.05)
        return max(found[observer] for observer in living) - since

    def give_back(self, name):
        """Starts it again and waits until all know."""
        since = time.monotonic()
        self.start(name)
        others = self.agents.keys() - {name}
        until(f"{self.name}: {name} is back",
              lambda: self.those_who_said("join", name, since).keys() >= others, 0.05)

    def false_alarms(self, since):
        """How often an agent has told that one that lived has failed."""
        with self.lock:
            return sum(1 for at, _, kind, name in self.heard if at >= since and kind == "failed" and name in self.agents)

    def pids(self):
        return [agent.pid for agent in self.agents.values()]

    def close(self):
        self.ended = True
        self.thread.join()
        for agent in self.agents.values():
            agent.kill()
        for agent in self.agents.values():
            agent.wait()
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Serf(Fleet):
    """`serf agent` as it comes. Its log tells of a death before its handlers do, who wait 1 to 3 s for more."""

    name = "serf"
    told = re.compile(rb"serf: EventMember(?P<kind>Join|Failed): (?P<name>\S+)")
    kinds = {b"Join": "join", b"Failed": "failed"}

    def command(self, name, address):
        join = [] if name == "n1" else ["-join", f"{self.members['n1']}:{PORT}"]
        return ["serf", "agent", "-node", name, "-bind", f"{address}:{PORT}", "-rpc-addr", f"{address}:7373", *join]


class Regrow(Fleet):
    """Whole agents, all doors shut but gossip, on a store elsewhere: one more agent, which no figure counts."""

    name = "regrow"
    told = re.compile(rb'"msg":"member-(?P<kind>join|failed)\b.*"object":"member/(?P<name>[^"]+)"')
    kinds = {b"join": "join", b"failed": "failed"}
    gossips = True

    def __init__(self, count):
        super().__init__(count)
        words = [REGROW, "agent", "--data", self.folder / "store", "--node", "store", "--etcd", STORE,
                 "--http", "off", "--rpc", "off", "--gossip", "off"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("REGROW_")}
        self.store = subprocess.Popen(self.network.within(*words), stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, env=env)
        until("the store is there", lambda: (self.folder / "store/doors.json").exists())

    def command(self, name, address):
        gossip = f"{address}:{PORT}" if self.gossips else "off"
        join = [] if name == "n1" or not self.gossips else ["--join", f"{self.members['n1']}:{PORT}"]
        return [REGROW, "agent", "--data", self.folder / name, "--node", name, "--store", f"http://{STORE}",
                "--gossip", gossip, "--etcd", "off", "--http", "off", "--rpc", "off", *join]

    def close(self):
        super().close()
        self.store.kill()
        self.store.wait()


class Silent(Regrow):
    """The same without gossip: what of an agent is not gossip."""

    name = "silent"
    gossips = False
