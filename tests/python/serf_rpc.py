"""Python's serfclient against an agent's RPC: `serf_rpc.py HOST PORT AUTH NODE`. Ends with 0 when all is as it should be."""
import sys
import serfclient.client

host, port, auth, node = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
client = serfclient.client.SerfClient(host=host, port=port, rpc_auth=auth)

def body(result):
    assert not result.head["Error"], result.head
    return result.body

def port_of(member):
    return member["Port"]

members = {member["Name"]: member for member in body(client.members())["Members"]}
assert members[node]["Status"] == "alive", members
assert members[node]["Addr"] == bytes([127, 0, 0, 1]), members[node]
assert members[node]["Tags"]["role"] == "web", members[node]
body(client.event("deploy", "1.2", coalesce=False))
filtered = body(client.members(name=node, status="alive"))["Members"]
assert [member["Name"] for member in filtered] == [node], filtered
assert body(client.members(tags={"role": "nobody"}))["Members"] == []
assert body(client.join([f"{host}:{port_of(members[node])}"]))["Num"] == 1
stats = body(client.stats())
assert stats["agent"]["name"] == node and stats["serf"]["members"] == "1", stats
missing = client.force_leave("nobody")
assert missing.head["Error"] == "no member named nobody", missing
client.close()
wrong = serfclient.client.SerfClient(host=host, port=port, rpc_auth="wrong")
refused = wrong.event("deploy", "1.3")
assert refused.head["Error"] == "Authentication required", refused
wrong.close()
print("done")
