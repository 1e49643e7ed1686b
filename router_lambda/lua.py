"""The scripts by which the Lambdas change the queue: each does all of its work in one step, or nothing of it.

`router_lambda.job` has the one that queues a job, which the worker uses too; `worker.lua` has the worker's own.
"""

from __future__ import annotations

from typing import Final

from router_lambda.job import ENQUEUE_LUA

PLACE_LUA: Final = (
    """
-- Queues a job by the one script that may, and then looks at what the router has to know of the worker, in one step.
-- KEYS: job:{id}, queue:open, queue:ready, gpu:closing, worker:{worker}, and idem:{sub}:{key} if there is one.
-- ARGV: those of that script. Returns what it returns, how many wait, the life of gpu:closing (ms), the heartbeat.
local function enqueue(KEYS)"""
    + ENQUEUE_LUA
    + """end
local result = enqueue({KEYS[1], KEYS[2], KEYS[3], KEYS[6]})
if type(result) == 'table' and result.err then return result end
return {result, redis.call('LLEN', KEYS[3]), redis.call('PTTL', KEYS[4]), redis.call('GET', KEYS[5])}
"""
)

WITHDRAW_LUA: Final = """
-- Takes back a job that still waits, as if it had never been queued; one that a worker has popped stays.
-- KEYS: queue:ready, queue:open, queue:attempts, job:{id}, and its idem:{sub}:{key} if there is one. ARGV: id.
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
if KEYS[5] and redis.call('GET', KEYS[5]) == ARGV[1] then
  redis.call('DEL', KEYS[5])
end
return 1
"""

CANCEL_LUA: Final = """
-- Marks a job as cancelled if it is its owner's and not finished; a finished one has no payload any more.
-- KEYS: job:{id}, cancel:{id}. ARGV: sub, life of the mark (seconds). Returns 1 if it marked.
local payload = redis.call('GET', KEYS[1])
if not payload or cjson.decode(payload)['sub'] ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
return 1
"""

CLOSE_LUA: Final = """
-- Closes the GPU if nothing waits and nothing runs: whoever queues a job after this sees gpu:closing and does not
-- count on the worker. Otherwise leaves word for the worker to stop once that is so.
-- A stop also ends the note that the GPU was started: the next request may have to start it again at once.
-- KEYS: queue:open, gpu:closing, gpu:stop, gpu:waking. ARGV: life of gpu:closing and of gpu:stop (seconds).
-- Returns 1 if closed.
if redis.call('ZCARD', KEYS[1]) == 0 then
  redis.call('SET', KEYS[2], 'router', 'EX', ARGV[1])
  redis.call('DEL', KEYS[4])
  return 1
end
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
return 0
"""

LOOK_IDS: Final = 1_000
"""How many open ids one step of a look for overdue jobs sees. Redis answers nobody else during a step."""

TAKE_OVERDUE_LUA: Final = """
-- One step of a look: counts those of the next open jobs, oldest first, that take a worker, and leases those to the
-- caller that take none any more, if nobody has them: cancelled ones, and those whose payload is gone because their
-- time ran out.
-- Only the oldest can have run out of time, but any may be cancelled; so a look goes on to the end of the open set. It
-- goes on behind the last id that was seen, wherever that stands by then, or where it stood if it has been finished:
-- what leaves the set between two steps moves nothing past the look.
-- KEYS: queue:open, gpu:refused. ARGV: prefixes of payload, cancel and lease keys, who leases, for how long (seconds),
-- how many ids to see, and unless it is the first step the last id that was seen, and its enqueue time.
-- Returns the count; id, enqueue time (Unix seconds) and final status of each that is leased; the last id seen and its
-- enqueue time, or nil if no more follow; and why a start was refused.
local live, moot, first = 0, {}, 0
if ARGV[7] then
  local rank = redis.call('ZRANK', KEYS[1], ARGV[7])
  first = rank and rank + 1 or redis.call('ZCOUNT', KEYS[1], '-inf', '('..ARGV[8])
end
local open = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[6]) - 1, 'WITHSCORES')
for i = 1, #open, 2 do
  local id = open[i]
  local status = redis.call('EXISTS', ARGV[2]..id) == 1 and 'cancelled'
    or redis.call('EXISTS', ARGV[1]..id) == 0 and 'expired'
  if not status then
    live = live + 1
  elseif redis.call('SET', ARGV[3]..id, ARGV[4], 'NX', 'EX', ARGV[5]) then
    for _, part in ipairs({id, open[i + 1], status}) do moot[#moot + 1] = part end
  end
end
local more = first + #open / 2 < redis.call('ZCARD', KEYS[1])
return {live, moot, more and {open[#open - 1], open[#open]}, redis.call('GET', KEYS[2])}
"""

FORGET_LUA: Final = """
-- Forgets a job that its lease holder has answered, all of its keys at once.
-- KEYS: lease:{id}, job:{id}, cancel:{id}, queue:open, queue:attempts, queue:ready. ARGV: id, the lease holder.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
redis.call('LREM', KEYS[6], 0, ARGV[1])
return 1
"""
