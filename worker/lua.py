"""The queue protocol: every change to a job's keys is one of these scripts, so that it happens whole or not at all.

Who may do what is decided by `lease:{id}` alone. Its holder runs the job, renews the lease, and is the only one whose
acknowledgement counts; everybody else is told so and stops.
"""

from __future__ import annotations

from typing import Final

LEASE_SECONDS: Final = 15
"""Life of a lease without renewal: how long a dead worker's job waits at most before somebody else takes it."""

CLAIM: Final = """
-- Takes the lease of a popped id. Reading the payload and counting the attempt belong to the same step: a worker that
-- dies right after it has a lease that runs out and an attempt that counts.
-- Somebody else's lease wins (`taken`). No payload and not open means that it ended long ago: a second entry in the
-- ready list, which is harmless (`gone`). Marked by its owner means that it must not start (`cancelled`). No payload
-- but still open means that it waited too long (`expired`). A payload that is no string is handed over as an empty one,
-- which no job can be.
-- A worker whose first call got no answer asks again: then a lease of its own is that call's, and counts no attempt.
-- KEYS: lease:{id}, job:{id}, cancel:{id}, queue:open, queue:attempts.
-- ARGV: id, worker, lease seconds, job TTL seconds, 1 if asked again.
local kind = redis.call('TYPE', KEYS[2]).ok
local open = redis.call('ZSCORE', KEYS[4], ARGV[1])
if kind == 'none' and not open then return {'gone'} end
local mine = ARGV[5] == '1' and redis.call('GET', KEYS[1]) == ARGV[2]
if not mine and not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'EX', ARGV[3]) then return {'taken'} end
local attempt = redis.call('HINCRBY', KEYS[5], ARGV[1], mine and 0 or 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
local state = redis.call('EXISTS', KEYS[3]) == 1 and 'cancelled' or kind == 'none' and 'expired' or 'run'
return {state, attempt, open or '', kind == 'string' and redis.call('GET', KEYS[2]) or ''}
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
-- Forgets a job whose final reply is written, all of its keys at once: nothing stays behind, and nobody sees half.
-- Whoever holds the lease may, and its writer after a lease that ran out: the reply is final either way.
-- KEYS: lease:{id}, job:{id}, cancel:{id}, queue:open, queue:attempts. ARGV: id, worker.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
return 1
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
