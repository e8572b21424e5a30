"""The package `etcd3` against an etcd v3 server, through every public call: `etcd3_client.py HOST PORT regrow|etcd`.

Ends with 0 when all is as it should be. With `etcd` the server is a real one, which has to pass as well: that shows that
the script asks for what etcd does. The package has no call of etcd's Auth but its constructor's `user` and `password`."""
import io
import sys
import threading

import etcd3
import grpc
from recorded import Recorded, check

host, port, is_regrow = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "regrow"
client = Recorded(etcd3.client(host=host, port=port, timeout=30))
LONG = 30


def refused(code, call, *words, **more):
    try:
        call(*words, **more)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error.details()
    raise AssertionError(f"not refused: {call}")


def keys(pairs):
    return [(meta.key, value) for value, meta in pairs]


# Keys.
assert client.get("p/none") == (None, None)
first = client.put("p/a", "1").header.revision
assert client.put("p/a", b"2", prev_kv=True).prev_kv.value == b"1"
value, meta = client.get("p/a", serializable=True)
assert (value, meta.version, meta.create_revision, meta.mod_revision) == (b"2", 2, first, first + 1), meta
assert client.get_response("p/a").count == 1
binary = bytes(range(256)) * 100
client.put("p/b", binary)
assert client.get("p/b")[0] == binary
assert keys(client.get_prefix("p/")) == [(b"p/a", b"2"), (b"p/b", binary)]
assert keys(client.get_prefix("p/", keys_only=True, sort_order="descend")) == [(b"p/b", b""), (b"p/a", b"")]
assert client.get_prefix_response("p/", sort_order="descend", sort_target="mod").kvs[0].key == b"p/b"
assert keys(client.get_range("p/a", "p/b")) == [(b"p/a", b"2")]
assert client.get_range_response("p/a", "p/c", sort_order="ascend", sort_target="version").kvs[0].key == b"p/b"
everything = [meta.key for _, meta in client.get_all()]
assert b"p/a" in everything and b"p/b" in everything
assert client.get_all_response(keys_only=True).count == len(everything)
assert client.put_if_not_exists("p/c", "1") is True
assert client.put_if_not_exists("p/c", "2") is False
assert client.replace("p/c", "1", "2") is True
assert client.replace("p/c", "1", "3") is False
assert client.delete("p/none") is False
gone = client.delete("p/c", prev_kv=True, return_response=True)
assert gone.deleted == 1 and gone.prev_kvs[0].value == b"2"
assert client.delete_prefix("p/").deleted == 2
assert "request is too large" in refused(grpc.StatusCode.INVALID_ARGUMENT, client.put, "p/large", b"x" * 2_000_000)

# Transactions, with each comparison and operation. Comparisons of inner ones are made before anything is done.
t = Recorded(client.transactions)
client.put("t/a", "1")
revision = client.get("t/a")[1].mod_revision
done, answers = client.transaction(
    compare=[
        t.value("t/a") == "1", t.version("t/a") == 1, t.version("t/a") > 0, t.version("t/a") < 2,
        t.create("t/a") == revision, t.mod("t/a") != revision + 1, t.value("t/a") != "x",
    ],
    success=[
        t.put("t/b", "2"), t.get("t/a"), t.delete("t/a"),
        t.txn(compare=[t.version("t/b") == 0], success=[t.put("t/c", "3")], failure=[]),
    ],
    failure=[t.put("t/no", "x")],
)
assert done and answers[1][0][0] == b"1", answers
done, answers = client.transaction(compare=[t.version("t/a") > 0], success=[], failure=[t.get("t/b")])
assert not done and answers[0][0][0] == b"2", answers
assert keys(client.get_prefix("t/")) == [(b"t/b", b"2"), (b"t/c", b"3")]

# Watches. Something is written until it is seen, for calls that begin to watch and wait in one.
def while_written(key, call):
    over = threading.Event()

    def write():
        while not over.wait(0.05):
            client.put(key, "w")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return call()
    finally:
        over.set()
        writer.join()


events, cancel = client.watch("w/a")
client.put("w/a", "1")
client.put("w/other", "1")
client.delete("w/a")
put, delete = next(events), next(events)
assert isinstance(put, etcd3.events.PutEvent) and (put.key, put.value) == (b"w/a", b"1")
assert isinstance(delete, etcd3.events.DeleteEvent) and delete.key == b"w/a"
past = put.mod_revision
cancel()
events, cancel = client.watch_prefix("w/", start_revision=past, prev_kv=True)
seen = [next(events) for _ in range(3)]
assert [event.key for event in seen] == [b"w/a", b"w/other", b"w/a"] and seen[2].prev_value == b"1", seen
cancel()
answers, cancel = client.watch_response("w/a", start_revision=past, filters=None)
assert next(answers).events[0].value == b"1"
cancel()
answers, cancel = client.watch_prefix_response("w/", start_revision=past)
assert next(answers).header.revision >= past
cancel()
assert while_written("w/o", lambda: client.watch_once("w/o", timeout=LONG)).value == b"w"
assert while_written("w/o", lambda: client.watch_prefix_once("w/", timeout=LONG)).value == b"w"
assert while_written("w/o", lambda: client.watch_once_response("w/o", timeout=LONG)).events
assert while_written("w/o", lambda: client.watch_prefix_once_response("w/", timeout=LONG)).events
try:
    client.watch_once("w/never", timeout=0.2)
    raise AssertionError("nothing happened, and it was told")
except etcd3.exceptions.WatchTimedOut:
    pass
told, arrived = [], threading.Event()


def tell(answer):
    told.append(answer)
    arrived.set()


ids = [client.add_watch_callback("w/c", tell, start_revision=past), client.add_watch_prefix_callback("w/c", tell)]
client.put("w/c", "1")
assert arrived.wait(LONG) and told[0].events[0].value == b"1"
for one in ids:
    client.cancel_watch(one)

# Leases.
lease = Recorded(client.lease(600, lease_id=4711))
assert (lease.id, lease.granted_ttl) == (4711, 600) and 590 < lease.remaining_ttl <= 600
client.put("l/a", "1", lease=lease)
client.put("l/b", "1", lease=4711)
assert sorted(lease.keys) == [b"l/a", b"l/b"]
assert lease.refresh()[0].TTL == 600
assert client.refresh_lease(4711)
assert client.get_lease_info(4711).grantedTTL == 600
lease.revoke()
assert client.get("l/a") == (None, None)
other = client.lease(600)
client.revoke_lease(other.id)
assert "lease not found" in refused(grpc.StatusCode.NOT_FOUND, client.put, "l/a", "1", lease=4711)
assert client.get_lease_info(4711).TTL == -1

# Locks: one holds it at a time.
lock, second = Recorded(client.lock("one", ttl=60)), Recorded(client.lock("one", ttl=60))
assert lock.acquire(timeout=LONG) and lock.is_acquired()
assert lock.refresh()[0].TTL == 60
assert client.get(lock.lock_prefix + "one")[0] == lock.uuid
# The package's way to wait does not fit the `tenacity` that it asks for: it asks the server once and falls over.
try:
    assert not second.acquire(timeout=1)
except TypeError as error:
    assert "delay_since_first_attempt" in str(error), error
assert not second.is_acquired()
assert lock.release() and not lock.is_acquired()
with Recorded(client.lock("one")) as held:
    assert held.is_acquired()
assert second.acquire(timeout=LONG) and second.release()

# Members.
members = [Recorded(member) for member in client.members]
assert len(members) == 1 and members[0].client_urls == [f"http://{host}:{port}"], members[0].client_urls
assert list(members[0].active_alarms) == []
excluded = {}
if is_regrow:
    peer, code = ["http://127.0.0.1:1"], grpc.StatusCode.UNIMPLEMENTED
    for call, words in [
        (client.add_member, [peer]), (client.remove_member, [1]), (client.update_member, [1, peer]),
        (members[0].remove, []), (members[0].update, [peer]),
    ]:
        assert "members cannot be added" in refused(code, call, *words)
else:
    # A change of its own address changes nothing. One more member that never comes would stop the one there is.
    client.update_member(members[0].id, members[0].peer_urls)
    members[0].update(members[0].peer_urls)
    never = "it would end a real cluster of one member"
    excluded = {("Etcd3Client", "add_member"): never, ("Etcd3Client", "remove_member"): never, ("Member", "remove"): never}

# Upkeep.
status = client.status()
assert status.leader.id == members[0].id and status.version.startswith("3."), status.version
assert status.db_size > 0 and status.raft_index > 0 and status.raft_term > 0
assert client.hash() == client.hash()
before = client.hash()
client.put("h", "1")
assert client.hash() != before
now = client.get("h")[1].mod_revision
client.compact(now, physical=True)
# A watch from what is compacted ends with the revision that is kept.
answers, _ = client.watch_response("h", start_revision=1)
try:
    next(answers)
    raise AssertionError("the past is compacted, and was told")
except etcd3.exceptions.RevisionCompactedError as error:
    assert error.compacted_revision == now, error.compacted_revision
client.defragment()
copy = io.BytesIO()
client.snapshot(copy)
assert copy.tell() > 4096 and b"h" in copy.getvalue()
assert client.list_alarms() is not None and list(client.list_alarms(alarm_type="no space")) == []
if is_regrow:
    assert "alarms cannot be raised by hand" in refused(grpc.StatusCode.UNIMPLEMENTED, client.create_alarm)
    assert list(client.disarm_alarm()) == []
else:
    # By hand, where it can be: puts are refused until it is lowered.
    assert len(client.create_alarm()) == 1
    assert "database space exceeded" in refused(grpc.StatusCode.RESOURCE_EXHAUSTED, client.put, "h", "2")
    client.disarm_alarm()

client.close()
check([etcd3.Etcd3Client, etcd3.Lock, etcd3.Lease, etcd3.Member, etcd3.Transactions], excluded)
# As a context, and closed with it.
with etcd3.client(host=host, port=port) as last:
    assert last.get("h")[0] is not None
print("done")
