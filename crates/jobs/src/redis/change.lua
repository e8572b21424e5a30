-- Changes runs, each only while it has its fence. One script for all changes, so that there is one place where the
-- lines, the slots and the ends are kept.
-- ARGV: prefix, now in ms, a worker that must have its lease or '', a worker that must have none or '', then a JSON
-- object for each change: id, fence ('' for a new run), json, state, line, due, deadline, slots ([[key, limit]...]),
-- kept (ms), word, word_kept (ms), by.
-- Gives 'lost' when the worker is not as it must be, else for each change: 'f' and its fence, 'n' not done, 'w' it waits
-- for a slot, 'k' and the run that its word stands for.
local p, now = ARGV[1], tonumber(ARGV[2])
if ARGV[3] ~= '' and redis.call('EXISTS', p .. 'lease:' .. ARGV[3]) == 0 then return 'lost' end
if ARGV[4] ~= '' and redis.call('EXISTS', p .. 'lease:' .. ARGV[4]) == 1 then return 'lost' end

local function enqueue(id, line)
  redis.call('SADD', p .. 'labels', string.match(line, '^(.*):%d$'))
  redis.call('XADD', p .. 'line:' .. line, '*', 'run', id)
  redis.call('XADD', p .. 'bell', 'MAXLEN', '~', 16, '*', 'run', id)
end

-- Takes the run's entry off its line.
local function dequeue(run)
  local at = redis.call('HGET', run, 'at')
  if at then
    local stream, entry = string.match(at, '^(.*)|(.*)$')
    redis.call('XACK', stream, 'workers', entry)
    redis.call('XDEL', stream, entry)
    redis.call('HDEL', run, 'at')
  end
end

-- Gives back the places that a run holds, and lets the next in line try.
local function release(run)
  local held = redis.call('HGET', run, 'held')
  if not held then return end
  redis.call('HDEL', run, 'held')
  for key, place in string.gmatch(held, '(%x+)/(%d+)') do
    redis.call('HDEL', p .. 'slot:' .. key, place)
    for _ = 1, 4 do
      local next = redis.call('ZPOPMIN', p .. 'aside:' .. key)
      if next[1] then
        local other = p .. 'run:' .. next[1]
        local found = redis.call('HMGET', other, 'state', 'line')
        if found[1] == 'queued' then enqueue(next[1], found[2]) end
      end
    end
  end
end

-- The places that a run may take, or the key of a slot that has none.
local function places(slots)
  local take = {}
  for _, slot in ipairs(slots) do
    local free = nil
    for place = 0, slot[2] - 1 do
      if redis.call('HEXISTS', p .. 'slot:' .. slot[1], place) == 0 then
        free = place
        break
      end
    end
    if free == nil then return nil, slot[1] end
    table.insert(take, { slot[1], free })
  end
  return take, nil
end

local out = {}
for index = 5, #ARGV do
  local change = cjson.decode(ARGV[index])
  local run = p .. 'run:' .. change.id
  local fence = redis.call('HGET', run, 'fence') or ''
  local known = change.word and redis.call('GET', p .. 'word:' .. change.word)
  if known and known ~= change.id then
    table.insert(out, 'k' .. known)
  elseif fence ~= change.fence then
    table.insert(out, 'n')
  else
    local take, full = {}, nil
    if change.state == 'running' then take, full = places(change.slots) end
    if full then
      dequeue(run)
      local line = redis.call('HGET', run, 'line')
      local priority = tonumber(string.match(line, ':(%d)$'))
      redis.call('ZADD', p .. 'aside:' .. full, (9 - priority) * 1e14 + change.born, change.id)
      table.insert(out, 'w')
    else
      local is = redis.call('INCR', p .. 'fences')
      if change.state ~= 'running' then
        dequeue(run)
        release(run)
      end
      redis.call('HSET', run, 'json', change.json, 'state', change.state, 'line', change.line, 'fence', is)
      redis.call('ZREM', p .. 'delayed', change.id)
      redis.call('ZREM', p .. 'deadlines', change.id)
      if change.state == 'running' then
        local held = ''
        for _, slot in ipairs(take) do
          redis.call('HSET', p .. 'slot:' .. slot[1], slot[2], change.id)
          held = held .. slot[1] .. '/' .. slot[2] .. ' '
        end
        if held ~= '' then redis.call('HSET', run, 'held', held) end
      elseif change.final then
        redis.call('ZREM', p .. 'live', change.id)
        redis.call('ZREM', p .. 'parked', change.id)
        redis.call('DEL', p .. 'cancel:' .. change.id)
        redis.call('ZADD', p .. 'done', change.born, change.id)
        redis.call('PEXPIRE', run, change.kept)
        redis.call('PEXPIRE', p .. 'log:' .. change.id, change.kept)
        redis.call('XADD', p .. 'ended', 'MAXLEN', '~', 100000, '*', 'run', change.id, 'state', change.state)
      else
        redis.call('DEL', p .. 'cancel:' .. change.id)
        redis.call('ZADD', p .. 'live', change.born, change.id)
        if change.deadline then redis.call('ZADD', p .. 'deadlines', change.deadline, change.id) end
        if change.state == 'parked' then
          redis.call('ZADD', p .. 'parked', change.born, change.id)
        else
          redis.call('ZREM', p .. 'parked', change.id)
          if change.due > now then
            redis.call('ZADD', p .. 'delayed', change.due, change.id)
            redis.call('XADD', p .. 'bell', 'MAXLEN', '~', 16, '*', 'run', change.id)
          else
            enqueue(change.id, change.line)
          end
        end
      end
      if change.word then redis.call('SET', p .. 'word:' .. change.word, change.id, 'PX', change.word_kept) end
      table.insert(out, 'f' .. is)
    end
  end
end
return out
