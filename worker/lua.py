"""The queue protocol: every change to a job's keys is one of these scripts, so that it happens whole or not at all.

Who may do what is decided by `lease:{id}` alone. Its holder runs the job, renews the lease, and is the only one whose
acknowledgement counts; everybody else is told so and stops.
"""

from __future__ import annotations

from typing import Final

LEASE_SECONDS: Final = 15
"""Life of a lease without renewal: how long a dead worker's job waits at most before somebody else takes it."""

CLAIM: Final = """
-- Takes the leases of a popped id and of others, which it pops itself. Popping, leasing, reading the payload and
-- counting the attempt belong to the same step: a worker that dies right after it has leases that run out and attempts
-- that count.
-- It pops at most half of what waits, rounded up, so that the worker that asks first leaves some to the others; and
-- nothing behind a job that has its last try: if that kills its worker, no other job has lost a try to it.
-- A BLPOP that was sent right before tells the worker what it popped, but not this script. If nothing waits, that is
-- the youngest open id, queued a moment ago, which nobody has. This one alone is taken then; the worker asks again if
-- it was another one, or if others wait.
-- Of each id it says what came of it. Somebody else's lease wins (`taken`). No payload and not open means that it ended
-- long ago: a second entry in the ready list, which is harmless (`gone`). What can name no job is dropped (`bad`).
-- Marked by its owner means that it must not start (`cancelled`); the mark then lives as long as the payload. No
-- payload but still open means that it waited too long (`expired`). A payload that is no string is handed over as an
-- empty one, which no job can be. Else `run`.
-- A worker of which a call got no answer says which ids it has. Its other leases are that call's; they are handed over,
-- and count no attempt. As in a sweep, only the oldest of what is open are looked at, as many as do not wait, and
-- `slack` more.
-- KEYS: queue:ready, queue:open, queue:attempts. ARGV: worker, lease seconds, job TTL seconds, most tries, most ids,
-- prefixes of lease, job and cancel keys, the popped id or `?` after a BLPOP or an empty string, and after a call
-- without an answer: slack, ids.
-- Returns how many wait, and lists of id, state and, if its lease is ours, attempt, enqueued_at, payload.
local worker, most, popped = ARGV[1], tonumber(ARGV[5]), ARGV[9]
local x = '[0-9a-f]'
local uuid4 = '^'..x:rep(8)..'%-'..x:rep(4)..'%-4'..x:rep(3)..'%-[89ab]'..x:rep(3)..'%-'..x:rep(12)..'$'
local said, last_try = {}, false
local function claim(id, mine)
  if not id:find(uuid4) then
    redis.call('ZREM', KEYS[2], id)
    said[#said + 1] = {id, 'bad'}
    return
  end
  local open = redis.call('ZSCORE', KEYS[2], id)
  local payload = redis.pcall('GET', ARGV[7]..id)
  if not open and not payload then
    said[#said + 1] = {id, 'gone'}
  elseif not mine and not redis.call('SET', ARGV[6]..id, worker, 'NX', 'EX', ARGV[2]) then
    said[#said + 1] = {id, 'taken'}
  else
    local attempt = redis.call('HINCRBY', KEYS[3], id, mine and 0 or 1)
    redis.call('EXPIRE', ARGV[7]..id, ARGV[3])
    local state = redis.call('EXPIRE', ARGV[8]..id, ARGV[3]) == 1 and 'cancelled' or payload and 'run' or 'expired'
    said[#said + 1] = {id, state, attempt, open or '', type(payload) == 'string' and payload or ''}
    last_try = last_try or attempt >= tonumber(ARGV[4])
  end
end
local waiting = redis.call('LLEN', KEYS[1])
if ARGV[10] then
  local known = {}
  for i = 11, #ARGV do known[ARGV[i]] = true end
  local look = math.max(0, redis.call('ZCARD', KEYS[2]) - waiting) + tonumber(ARGV[10])
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, look - 1)) do
    if not known[id] and redis.call('GET', ARGV[6]..id) == worker then
      redis.call('EXPIRE', ARGV[6]..id, ARGV[2])
      claim(id, true)
      if id == popped then popped = '' end
    end
  end
end
if popped == '?' then
  local id = redis.call('ZREVRANGE', KEYS[2], 0, 0)[1]
  local age = id and redis.call('TIME')[1] - redis.call('ZSCORE', KEYS[2], id)
  if waiting == 0 and id and math.abs(age) < 2 and redis.call('EXISTS', ARGV[6]..id) == 0 then claim(id, false) end
  return {waiting, said}
end
if popped ~= '' then claim(popped, false) end
most = math.min(most - #said, math.ceil(waiting / 2))
while most > 0 and not last_try do
  claim(redis.call('LPOP', KEYS[1]), false)
  most, waiting = most - 1, waiting - 1
end
return {waiting, said}
"""

GIVE_BACK: Final = """
-- Undoes `CLAIM` for jobs that were never begun: first in line again, no lease, and no attempt counted.
-- KEYS: queue:ready, queue:attempts. ARGV: worker, prefix of lease keys, ids.
for i = #ARGV, 3, -1 do
  if redis.call('GET', ARGV[2]..ARGV[i]) == ARGV[1] then
    redis.call('DEL', ARGV[2]..ARGV[i])
    redis.call('HINCRBY', KEYS[2], ARGV[i], -1)
    redis.call('LPUSH', KEYS[1], ARGV[i])
  end
end
"""

RENEW: Final = """
-- Renews the leases and payloads of everything that a worker runs, in one step for all of them. Returns two lists of
-- ids: those whose lease somebody else holds, and those whose lease nobody holds. The latter are left alone, because a
-- job that is just being acknowledged looks the same.
-- KEYS: lease:{id} and job:{id} in turn. ARGV: worker, lease seconds, job TTL seconds, then the ids.
local lost, free = {}, {}
for i = 1, #KEYS / 2 do
  local holder = redis.call('GET', KEYS[2 * i - 1])
  if holder == ARGV[1] then
    redis.call('EXPIRE', KEYS[2 * i - 1], ARGV[2])
    redis.call('EXPIRE', KEYS[2 * i], ARGV[3])
  else
    local list = holder and lost or free
    list[#list + 1] = ARGV[3 + i]
  end
end
return {lost, free}
"""

RETAKE: Final = """
-- Takes a lease back that ran out while its worker stood still or Redis was away, unless somebody else took it first.
-- Looking and taking are one step, so that only one of two workers gets it.
-- KEYS: lease:{id}, job:{id}, queue:open. ARGV: id, worker, lease seconds, job TTL seconds.
-- Returns `lost` if it is somebody else's, `held` if all is well, `unknown` if Redis has forgotten the job meanwhile.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return 'lost' end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
local known = redis.call('EXPIRE', KEYS[2], ARGV[4]) == 1 and redis.call('ZSCORE', KEYS[3], ARGV[1])
return known and 'held' or 'unknown'
"""

ACKNOWLEDGE: Final = """
-- Forgets jobs whose final replies are written, all keys of a job at once: nothing stays behind, and nobody sees half.
-- Whoever holds the lease may, and its writer after a lease that ran out: the reply is final either way.
-- KEYS: queue:open, queue:attempts. ARGV: worker, prefixes of lease, job and cancel keys, then ids.
-- Returns the ids whose lease is somebody else's.
local refused = {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local holder = redis.call('GET', ARGV[2]..id)
  if holder and holder ~= ARGV[1] then
    refused[#refused + 1] = id
  else
    redis.call('DEL', ARGV[2]..id, ARGV[3]..id, ARGV[4]..id)
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
  end
end
return refused
"""

RELEASE: Final = """
-- Hands a job back, first in line, because it has waited longest; only its lease holder may. Lease and ready list
-- change together, so that nobody pops an id that is still leased.
-- KEYS: lease:{id}, queue:ready. ARGV: id, worker.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""

SWEEP_SLACK: Final = 1_000
"""How far out of order ids may wait, beyond what runs, for a sweep to find a lost one among them at once."""

SWEEP: Final = """
-- Puts back, oldest first in line, every open id that neither waits nor is leased: popped by a worker that died before
-- the claim, or leased by one that stopped renewing. An id that is on its way from pop to claim right now gets a second
-- entry, which `CLAIM` turns away. Forgets attempts of what is not open any more.
-- Given a worker that has just begun, its leases are an earlier life's and end at once, unless its heartbeat says that
-- this other life goes on. What is leased has an attempt.
-- All in one step, because an id that moves between two looks would seem to be nowhere. What does not wait is the
-- oldest of what is open, as many ids as there are more open than waiting. So only these are looked at, and `slack`
-- more, since routers' clocks differ and jobs go back to the head of the line: all of a queue up to that length, and
-- of a longer one a part that does not grow with it.
-- KEYS: queue:open, queue:ready, queue:attempts, worker:{worker}. ARGV: prefix of lease keys, the worker if it has just
-- begun, else an empty string, slack. Returns how many ids it put back.
local began = redis.call('EXISTS', KEYS[4]) == 0 and ARGV[2] or ''
for _, id in ipairs(redis.call('HKEYS', KEYS[3])) do
  if began ~= '' and redis.call('GET', ARGV[1]..id) == began then redis.call('DEL', ARGV[1]..id) end
  if not redis.call('ZSCORE', KEYS[1], id) then redis.call('HDEL', KEYS[3], id) end
end
local slack = tonumber(ARGV[3])
local look = math.max(0, redis.call('ZCARD', KEYS[1]) - redis.call('LLEN', KEYS[2])) + slack
local waiting = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, look + slack - 1)) do waiting[id] = true end
local found, oldest = 0, redis.call('ZRANGE', KEYS[1], 0, look - 1)
for i = #oldest, 1, -1 do
  local id = oldest[i]
  if not waiting[id] and redis.call('EXISTS', ARGV[1]..id) == 0 then
    redis.call('LPUSH', KEYS[2], id)
    found = found + 1
  end
end
return found
"""

BEGIN: Final = """
-- Shows a worker's first heartbeat and ends what was noted of its boot, in one step: whoever finds no note finds a
-- worker. Whatever was closing has stopped and started again. Keeps how long the boot took, if a start was noted.
-- KEYS: worker:{worker}, gpu:waking, gpu:closing, gpu:booting, gpu:boots.
-- ARGV: heartbeat, its life (seconds), now (Unix seconds), most boots to keep.
-- Returns when the start was noted, in Unix seconds, or an empty string.
local started = (redis.call('GET', KEYS[2]) or ''):match('^started:(.+)$')
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
if not tonumber(started) then return '' end
redis.call('LPUSH', KEYS[5], string.format('%.3f', math.max(0, tonumber(ARGV[3]) - tonumber(started))))
redis.call('LTRIM', KEYS[5], 0, tonumber(ARGV[4]) - 1)
return started
"""

CLOSE: Final = """
-- Closes the GPU for its worker if there is nothing to do, so that it can stop its instance.
-- For the last worker that takes jobs that means that no job is open, and gpu:closing tells the routers; looking and
-- telling are one step, so that a job that is queued is either seen here or has seen it. With others there it means
-- that none waits, and the heartbeat is all that has to change: a worker that drains no longer counts.
-- A worker whose first call got no answer may have closed already. If a job has come since, it opens again.
-- KEYS: queue:open, queue:ready, gpu:closing, gpu:stop, gpu:waking, worker:{worker}, and worker:{id} of the others.
-- ARGV: worker, life of gpu:closing (seconds), heartbeat of a worker that drains, its life (seconds).
-- Returns 1 if closed.
local others = false
for i = 7, #KEYS do
  local beat = redis.call('GET', KEYS[i])
  local read, said = pcall(cjson.decode, beat or '')
  if beat and not (read and type(said) == 'table' and said.state == 'draining') then others = true end
end
local busy = redis.call('LLEN', KEYS[2]) > 0 or not others and redis.call('ZCARD', KEYS[1]) > 0
if busy then
  if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
  return 0
end
if not others then
  redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
  redis.call('DEL', KEYS[4], KEYS[5])
end
redis.call('SET', KEYS[6], ARGV[3], 'EX', ARGV[4])
return 1
"""
