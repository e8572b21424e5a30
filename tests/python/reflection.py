"""A gRPC client that learns a server's interface by reflection: `reflection.py HOST PORT`. Ends with 0 when it can use it."""
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2 as messages
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(f"{sys.argv[1]}:{sys.argv[2]}")
database = ProtoReflectionDescriptorDatabase(channel)
services = set(database.get_services())
expected = {f"etcdserverpb.{name}" for name in ("KV", "Watch", "Lease", "Cluster", "Maintenance")}
assert expected | {"grpc.health.v1.Health"} <= services, services
pool = descriptor_pool.DescriptorPool(database)


def call(service, name, **fields):
    method = pool.FindServiceByName(service).FindMethodByName(name)
    asked, answered = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    path = f"/{service}/{name}"
    unary = channel.unary_unary(path, asked.SerializeToString, answered.FromString)
    return unary(asked(**fields), timeout=30)


call("etcdserverpb.KV", "Put", key=b"reflected", value=b"1")
found = call("etcdserverpb.KV", "Range", key=b"reflected")
assert found.kvs[0].value == b"1" and found.count == 1, found
assert call("etcdserverpb.Maintenance", "Status").version.startswith("3.")

# Version 1 has the same messages under another name.
path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
stream = channel.stream_stream(
    path, messages.ServerReflectionRequest.SerializeToString, messages.ServerReflectionResponse.FromString
)
asked = [
    messages.ServerReflectionRequest(list_services=""),
    messages.ServerReflectionRequest(file_containing_symbol="mvccpb.KeyValue"),
]
listed, file = stream(iter(asked), timeout=30)
assert expected <= {one.name for one in listed.list_services_response.service}, listed
assert file.file_descriptor_response.file_descriptor_proto, file
print("done")
