"""The floor: a list of ids and a key for each payload, worked off by a plain loop of redis-py's own commands.

No lease, no retry, no attempts: a job whose worker dies is lost. As somebody would write it by hand: BLPOP, GET, the
handler, DEL, in sixteen loops of one process, with redis-py's own settings and hiredis.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import redis.asyncio

from benchmarks.peers.side import PROMPT, SLOTS, Send, Started, run

READY: Final = "ready"


async def work(url: str, _variant: str, started: Started) -> None:
    """Run `SLOTS` loops."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await asyncio.gather(*(_loop(client, started) for _ in range(SLOTS)))


async def _loop(client: redis.asyncio.Redis, started: Started) -> None:
    while True:
        popped: Any = await client.blpop([READY], timeout=1)
        if popped is None:
            continue
        key = b"job:" + popped[1]
        payload: Any = await client.get(key)
        started(json.loads(payload)["number"])
        await client.delete(key)


@asynccontextmanager
async def sender(url: str, _variant: str) -> AsyncIterator[Send]:
    """Queue by one round trip."""
    with redis.Redis.from_url(url) as client:

        async def send(number: int) -> None:
            job_id = str(uuid4())
            pipeline = client.pipeline(transaction=False)
            pipeline.set(f"job:{job_id}", json.dumps({"number": number, "prompt": PROMPT}))
            pipeline.rpush(READY, job_id)
            pipeline.execute()

        yield send


if __name__ == "__main__":
    run(work, sender)
