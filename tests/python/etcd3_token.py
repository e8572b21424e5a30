"""The package `etcd3` with a token: `etcd3_token.py HOST PORT CA`, the token in TOKEN.

The token is for keys under `app/`. Prints `open` once a watch is, waits for the token to be revoked, and ends with `done`."""
import os
import sys
import threading

import etcd3
import grpc

host, port, ca, token = sys.argv[1], int(sys.argv[2]), sys.argv[3], os.environ["TOKEN"]


def connect(**credentials):
    return etcd3.client(host=host, port=port, ca_cert=ca, timeout=30, **credentials)


def refused(call, *words, **more):
    try:
        call(*words, **more)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"not refused: {call} {words}")


client = connect(user="ci", password=token)
client.put("app/b", "1")
assert client.get("app/b")[0] == b"1"
assert [meta.key for _, meta in client.get_prefix("app/b")] == [b"app/b"]
for call, words in [(client.put, ("web/b", "1")), (client.get, ("web/b",)), (client.delete, ("web/b",))]:
    assert refused(call, *words) == ("PERMISSION_DENIED", "etcdserver: permission denied"), call

assert refused(connect, user="ci", password="rgw_wrong") == (
    "INVALID_ARGUMENT",
    "etcdserver: authentication failed, invalid user ID or password",
)
assert refused(connect().get, "app/b") == ("INVALID_ARGUMENT", "etcdserver: user name is empty")

seen, over = threading.Event(), threading.Event()


def told(answer):
    (over if isinstance(answer, Exception) else seen).set()


client.add_watch_prefix_callback("app/", told)
while not seen.wait(0.1):
    client.put("app/b", "2")
print("open", flush=True)
assert over.wait(60), "the watch goes on after its token was revoked"
code, why = refused(client.get, "app/b")
assert (code, why) == ("UNAUTHENTICATED", "etcdserver: invalid auth token"), (code, why)
print("done")
