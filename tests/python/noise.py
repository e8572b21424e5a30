"""Messages that are none, for every call of etcd's interface: `noise.py HOST PORT`. Each must be answered within its time:
done, or refused with a code that says whose fault it is, never with that the server fell over."""
import random
import sys

import grpc

CALLS = {
    "KV": ["Range", "Put", "DeleteRange", "Txn", "Compact"],
    "Lease": ["LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"],
    "Cluster": ["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"],
    "Maintenance": ["Alarm", "Status", "Defragment", "Hash", "HashKV", "MoveLeader", "Downgrade"],
}
channel = grpc.insecure_channel(f"{sys.argv[1]}:{sys.argv[2]}")
chance = random.Random(7)


def same(message):
    return message


def noises():
    yield b""
    # Nested as deep as it goes, a length beyond the end, millions of empty operations, a number without end.
    yield b"\x0a" * 200
    yield b"\x12\xff\xff\xff\xff\x0f"
    yield b"\x12\x00" * 1_000_000
    yield b"\x18" + b"\xff" * 20
    for size in (1, 7, 60, 900):
        yield chance.randbytes(size)


codes = {}
for noise in noises():
    for service, names in CALLS.items():
        for name in names:
            # A whole deletion or compaction is a good request too, and is what it asks for.
            call = channel.unary_unary(f"/etcdserverpb.{service}/{name}", same, same)
            try:
                call(noise, timeout=60)
                code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                code = error.code()
                assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), (name, error)
            codes[code.name] = codes.get(code.name, 0) + 1
    for service, name in [("Watch", "Watch"), ("Lease", "LeaseKeepAlive")]:
        call = channel.stream_stream(f"/etcdserverpb.{service}/{name}", same, same)
        answers = call(iter([noise] * 3), timeout=2)
        try:
            # A watch that understood nothing has nothing to tell until its time is over; one that is refused says so.
            for _ in range(10):
                next(answers)
        except StopIteration:
            pass
        except grpc.RpcError as error:
            assert error.code() != grpc.StatusCode.UNAVAILABLE, (name, error)
        answers.cancel()
print(codes)
print("done")
