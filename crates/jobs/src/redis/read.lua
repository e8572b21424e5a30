-- A set of labels that is new is read from in the next call: the bell given back stands before it.
-- Takes what a worker may run from the streams, at most `room`, highest priority first.
-- ARGV: prefix, now in ms, worker, room, label sets...
-- Gives: the bell's last entry, the time of the next delayed run or '', then for each run: stream, entry, id, fence, record.
local p, now, worker, room = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local bell = redis.call('XREVRANGE', p .. 'bell', '+', '-', 'COUNT', 1)
local due = redis.call('ZRANGEBYSCORE', p .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
for _, id in ipairs(due) do
  redis.call('ZREM', p .. 'delayed', id)
  local line = redis.call('HGET', p .. 'run:' .. id, 'line')
  if line then
    redis.call('SADD', p .. 'labels', string.match(line, '^(.*):%d$'))
    redis.call('XADD', p .. 'line:' .. line, '*', 'run', id)
    redis.call('XADD', p .. 'bell', 'MAXLEN', '~', 16, '*', 'run', id)
  end
end
local next = redis.call('ZRANGE', p .. 'delayed', 0, 0, 'WITHSCORES')
local out = { bell[1] and bell[1][1] or '0-0', next[2] or '' }
local left = room
for priority = 9, 0, -1 do
  for index = 5, #ARGV do
    local stream = p .. 'line:' .. ARGV[index] .. ':' .. priority
    if left > 0 and redis.call('EXISTS', stream) == 1 then
      redis.pcall('XGROUP', 'CREATE', stream, 'workers', '0')
      local got = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', left, 'STREAMS', stream, '>')
      if got then
        for _, entry in ipairs(got[1][2]) do
          local id = entry[2][2]
          local run = redis.call('HMGET', p .. 'run:' .. id, 'fence', 'json', 'state', 'at')
          if run[3] == 'queued' then
            redis.call('HSET', p .. 'run:' .. id, 'at', stream .. '|' .. entry[1])
            table.insert(out, stream)
            table.insert(out, entry[1])
            table.insert(out, id)
            table.insert(out, run[1])
            table.insert(out, run[2])
            left = left - 1
          else
            redis.call('XACK', stream, 'workers', entry[1])
            redis.call('XDEL', stream, entry[1])
          end
        end
      end
    end
  end
end
return out
