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
-- ready list, which is harmless (`gone`). No payload but still open means that it waited too long (`expired`).
-- A payload that is no string is handed over as an empty one, which no job can be.
-- KEYS: lease:{id}, job:{id}, queue:open, queue:attempts. ARGV: id, worker, lease seconds, job TTL seconds.
local kind = redis.call('TYPE', KEYS[2]).ok
local open = redis.call('ZSCORE', KEYS[3], ARGV[1])
if kind == 'none' and not open then return {'gone'} end
if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'EX', ARGV[3]) then return {'taken'} end
local attempt = redis.call('HINCRBY', KEYS[4], ARGV[1], 1)
if kind == 'none' then return {'expired', attempt, open, ''} end
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {'run', attempt, open or '', kind == 'string' and redis.call('GET', KEYS[2]) or ''}
"""

RENEW: Final = """
-- Renews the leases and payloads of everything that a worker runs, and returns the ids whose lease it holds no more.
-- KEYS: lease:{id} and job:{id} in turn. ARGV: worker, lease seconds, job TTL seconds, then the ids.
local lost = {}
for i = 1, #KEYS / 2 do
  if redis.call('GET', KEYS[2 * i - 1]) == ARGV[1] then
    redis.call('EXPIRE', KEYS[2 * i - 1], ARGV[2])
    redis.call('EXPIRE', KEYS[2 * i], ARGV[3])
  else
    lost[#lost + 1] = ARGV[3 + i]
  end
end
return lost
"""

ACKNOWLEDGE: Final = """
-- Forgets a job whose final reply is written; only its lease holder may. Nothing of it stays behind.
-- KEYS: lease:{id}, job:{id}, cancel:{id}, queue:open, queue:attempts. ARGV: id, worker.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
return 1
"""

RELEASE: Final = """
-- Hands a job back, first in line, because it has waited longest; only its lease holder may.
-- KEYS: lease:{id}, queue:ready. ARGV: id, worker.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""

SWEEP: Final = """
-- Puts back every open id that neither waits nor is leased: popped by a worker that died before the claim, or leased by
-- one that stopped renewing. An id that is on its way from pop to claim right now gets a second entry, which `CLAIM`
-- turns away. Reads the ready list once: the cost is linear in what waits.
-- KEYS: queue:open, queue:ready. ARGV: prefix of lease keys.
local open = redis.call('ZRANGE', KEYS[1], 0, -1)
if #open == 0 then return 0 end
local waiting = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do waiting[id] = true end
local found = 0
for _, id in ipairs(open) do
  if not waiting[id] and redis.call('EXISTS', ARGV[1]..id) == 0 then
    redis.call('RPUSH', KEYS[2], id)
    found = found + 1
  end
end
return found
"""
