"""The package `python-etcd` with a token: `etcd2_token.py HOST PORT CA`, the token in TOKEN.

The token is for keys under `app/`. Prints `open` once a watch waits, until the token is revoked, and ends with `done`."""
import os
import sys
import threading

import etcd

host, port, ca, token = sys.argv[1], int(sys.argv[2]), sys.argv[3], os.environ["TOKEN"]


def connect(**credentials):
    return etcd.Client(host=host, port=port, protocol="https", ca_cert=ca, read_timeout=60, **credentials)


def refused(call, *words):
    try:
        call(*words)
    except etcd.EtcdException as error:
        return str(error)
    raise AssertionError(f"not refused: {call} {words}")


client = connect(username="ci", password=token)
client.write("/app/c", "1")
assert client.read("/app/c").value == "1"
for call, words in [(client.write, ("/web/c", "1")), (client.read, ("/web/c",)), (client.delete, ("/web/c",))]:
    why = refused(call, *words)
    assert "The request requires user authentication" in why, why
for nobody in (connect(), connect(username="ci", password="rgw_wrong")):
    why = refused(nobody.read, "/app/c")
    assert "The request requires user authentication" in why, why

seen, ends = threading.Event(), []


def follow():
    follower = connect(username="ci", password=token)
    try:
        while follower.watch("/app/w"):
            seen.set()
    except Exception as error:
        ends.append(error)


following = threading.Thread(target=follow, daemon=True)
following.start()
while not seen.wait(0.1):
    client.write("/app/w", "1")
# Nothing is written from here on: what ends the wait is the end of the token.
print("open", flush=True)
following.join(30)
assert ends, "the watch goes on after its token was revoked"
assert not isinstance(ends[0], etcd.EtcdWatchTimedOut), ends
why = refused(client.read, "/app/c")
assert "The request requires user authentication" in why, why
print("done")
