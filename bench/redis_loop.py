"""What people write by hand to move a Redis data set: SCAN, DUMP, RESTORE, in pipelines of 500 keys.

`redis_loop.py FROM TO cluster|server`, ports of this machine.
"""

import sys

import redis

BATCH = 500


def main():
    source = redis.Redis(port=int(sys.argv[1]))
    if sys.argv[3] == "cluster":
        target = redis.cluster.RedisCluster(host="127.0.0.1", port=int(sys.argv[2]))
    else:
        target = redis.Redis(port=int(sys.argv[2]))
    cursor = 0
    while True:
        cursor, keys = source.scan(cursor, count=BATCH)
        asked = source.pipeline(transaction=False)
        for key in keys:
            asked.dump(key)
            asked.pttl(key)
        answers = asked.execute()
        given = target.pipeline(transaction=False) if sys.argv[3] == "server" else target.pipeline()
        for key, value, ttl in zip(keys, answers[::2], answers[1::2]):
            if value is not None:
                given.restore(key, max(ttl, 0), value, replace=True)
        given.execute()
        if cursor == 0:
            break


main()
