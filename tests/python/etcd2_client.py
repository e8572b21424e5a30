"""The package `python-etcd` against an etcd v2 server, through every public call: `etcd2_client.py HOST PORT`.

Ends with 0 when all is as it should be. A real etcd passes as well. `etcd.auth`, the package's Auth, is left out."""
import itertools
import sys
import threading

import etcd
from recorded import Recorded, check

host, port = sys.argv[1], int(sys.argv[2])
LONG = 30
client = Recorded(etcd.Client(host=host, port=port, read_timeout=LONG, lock_prefix="/locks"))


def raises(kind, call, *words, **more):
    try:
        call(*words, **more)
    except kind as error:
        return str(error)
    raise AssertionError(f"{call} {words} did not raise {kind}")


# Who it talks to.
url = f"http://{host}:{port}"
assert (client.host, client.port, client.protocol, client.base_uri) == (host, port, "http", url)
assert (client.read_timeout, client.allow_redirect, client.lock_prefix) == (LONG, True, "/locks")
assert client.key_endpoint == "/v2/keys" and client.http is not None
assert client.machines == [url], client.machines
(member,) = client.members.values()
assert member["clientURLs"] == [url], member
assert client.leader["id"] == member["id"]
assert client.version.startswith("3.") and client.cluster_version.startswith("3.")
assert client.stats["state"] == "StateLeader" and client.stats["id"] == member["id"]
assert client.leader_stats["leader"] == member["id"] and client.leader_stats["followers"] == {}
before = client.store_stats["setsSuccess"]

# Keys.
made = Recorded(client.write("/k/a", "1"))
assert (made.action, made.key, made.value, made.newKey, made.dir) == ("set", "/k/a", "1", True, False)
assert made.etcd_index == made.modifiedIndex and made.raft_index > 0
assert client.store_stats["setsSuccess"] == before + 1
again = client.set("/k/a", "2")
assert not again.newKey and again._prev_node.value == "1"
assert client.get("/k/a").value == client.read("/k/a", quorum=True).value == "2"
# `in` asks for the type, so it is asked without the recorder.
assert "/k/a" in client._target and "/k/none" not in client._target
assert client.write("/k/text", "ä <&> %+\n").value == client.read("/k/text").value == "ä <&> %+\n"
assert "Key not found" in raises(etcd.EtcdKeyNotFound, client.get, "/k/none")
raises(etcd.EtcdAlreadyExist, client.write, "/k/a", "3", prevExist=False)
raises(etcd.EtcdKeyNotFound, client.write, "/k/none", "3", prevExist=True)
raises(etcd.EtcdCompareFailed, client.write, "/k/a", "3", prevIndex=1)
assert client.write("/k/a", "3", prevValue="2").value == "3"
assert client.test_and_set("/k/a", "4", "3").action == "compareAndSwap"
raises(ValueError, client.test_and_set, "/k/a", "5", "3")
found = client.read("/k/a")
found.value = "6"
assert client.update(found).value == "6"
raises(etcd.EtcdCompareFailed, client.update, found)
raises(etcd.EtcdNotFile, client.write, "/k", "x")
raises(etcd.EtcdNotDir, client.write, "/k/a/b", "x")
raises(etcd.EtcdRootReadOnly, client.write, "/", "x")

# Time to live.
kept = client.write("/k/ttl", "1", ttl=600)
assert kept.ttl == 600 and kept.expiration
assert client.refresh("/k/ttl", 300).ttl == 300 and client.get("/k/ttl").value == "1"
raises(etcd.EtcdKeyNotFound, client.refresh, "/k/none", 300)
short = client.write("/k/short", "1", ttl=1)
gone = client.watch("/k/short", index=short.modifiedIndex + 1, timeout=LONG)
assert gone.action == "expire" and gone._prev_node.value == "1", gone

# Directories, and names in order.
client.write("/d", None, dir=True)
raises(etcd.EtcdNotFile, client.write, "/d", None, dir=True)
inner = [client.write("/d/q", value, append=True).key for value in "abc"]
assert inner == sorted(inner) and len(set(inner)) == 3
client.write("/d/s/t", "deep")
client.write("/d/_hidden", "x")
listed = Recorded(client.read("/d", recursive=True, sorted=True))
assert [leaf.value for leaf in listed.leaves] == ["a", "b", "c", "deep"]
assert [child.value for child in listed.children] == ["a", "b", "c", "deep"]
assert [node.key for node in listed.get_subtree()] == ["/d", "/d/q", *inner, "/d/s", "/d/s/t"]
assert client.get("/d/_hidden").value == "x"
raises(etcd.EtcdNotFile, client.delete, "/d")
raises(etcd.EtcdDirNotEmpty, client.delete, "/d", dir=True)
assert client.pop("/d/s/t").value == "deep"
assert client.delete("/d/s", dir=True).action == "delete"
raises(etcd.EtcdCompareFailed, client.delete, "/k/a", prevValue="x")
assert client.delete("/k/a", prevValue="6").action == "compareAndDelete"

# Watches: from the past, waiting, and one after the other.
start = client.write("/w/a", "1").modifiedIndex
client.write("/w/b", "2")
assert client.watch("/w/a", index=start).value == "1"
raises(etcd.EtcdWatchTimedOut, client.watch, "/w/a", timeout=0.3)
seen = list(itertools.islice(client.eternal_watch("/w", index=start, recursive=True), 2))
assert [event.value for event in seen] == ["1", "2"], seen
# Written until it is seen: nobody is told when a watch has begun.
over = threading.Event()


def write():
    other = etcd.Client(host=host, port=port)
    while not over.wait(0.05):
        other.write("/w/c", "now")


writer = threading.Thread(target=write)
writer.start()
assert client.watch("/w", timeout=LONG, recursive=True).value == "now"
over.set()
writer.join()

# Plain requests.
answer = client.api_execute("/v2/keys/w/b", "GET")
assert answer.status == 200 and b'"value":"2"' in answer.data
parsed = Recorded(etcd.EtcdResult(**{"action": "get", "node": {"key": "/w/b"}}))
parsed.parse_headers(answer)
assert parsed.etcd_index >= start
# Sends JSON, which is for `/v2/auth` alone; elsewhere it only shows that the answer is understood.
assert b"members" in client.api_execute_json("/v2/members", "GET").data
raises(etcd.EtcdException, client.api_execute, "/v2/keys/w/b", "PATCH")

# Locks, which the package makes on the client's side.
lock, second = Recorded(etcd.Lock(client._target, "one")), Recorded(etcd.Lock(client._target, "one"))
assert lock.acquire(lock_ttl=600) and lock.is_acquired and lock.lock_key.startswith("/locks/one/")
assert lock.uuid != second.uuid
assert not second.acquire(blocking=False, lock_ttl=600) and not second.is_acquired
threading.Timer(0.2, lock.release).start()
assert second.acquire(blocking=True, lock_ttl=600, timeout=LONG) and second.is_acquired
second.release()
assert not second.is_acquired
with Recorded(etcd.Lock(client._target, "one")) as held:
    assert held.is_acquired
# Removed from etcd 2.0, and the package says so.
raises(NotImplementedError, client.get_lock)
raises(NotImplementedError, lambda: client.election)

for name in ["/k", "/d", "/w", "/locks"]:
    client.delete(name, recursive=True)
check([etcd.Client, etcd.Lock, etcd.EtcdResult], {})
print("done")
