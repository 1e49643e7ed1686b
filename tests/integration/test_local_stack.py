"""Everything but vLLM in one piece: the router behind the gateway, with real Redis and S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from jose import jwt

from local.run_directory import RunDirectory
from local.stack import Plan, running
from router_lambda import authorizer, handler, logs
from router_lambda.job import QUEUE_READY, Job, job_key
from tests.process.local_world import STAND_IN_WORKER


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that takes SeaweedFS's sockets along when it goes."""
    with RunDirectory() as directory:
        yield directory.path


@pytest.fixture(autouse=True)
def cold_lambdas() -> Iterator[None]:
    """Let the Lambdas forget what they built for other tests, and for this one."""
    for built in (authorizer._verifier, handler._app):
        built.cache_clear()
    yield
    for built in (authorizer._verifier, handler._app):
        built.cache_clear()


async def test_prompt_is_queued_through_every_part(folder: Path) -> None:
    """A POST to the gateway becomes a job in Redis and an address in S3 where the reply will be."""
    before = dict(os.environ)
    plan = Plan(folder=folder, logs=folder, model="none", worker=STAND_IN_WORKER)
    async with running(plan) as addresses, httpx.AsyncClient() as client:
        url, ours = f"{addresses.gateway}/infer", {"authorization": f"Bearer {addresses.token}"}
        accepted = await client.post(url, headers=ours, json={"prompt": "Grüße 🦙"})
        refused = await client.post(url, headers=ours, content=b'{"prompt": "\xff"}')
        reply = await client.get(accepted.headers["location"])
        shown = (await client.get(f"{addresses.gateway}/healthz")).json()

        assert (accepted.status_code, refused.status_code, reply.status_code) == (202, 400, 404)
        job_id = accepted.json()["id"]
        with redis.Redis.from_url(addresses.redis, decode_responses=True) as queue:
            assert queue.lrange(QUEUE_READY, 0, -1) == [job_id]
            job = Job.from_json(str(queue.get(job_key(job_id))))
        assert (job.prompt, job.sub) == ("Grüße 🦙", jwt.get_unverified_claims(addresses.token)["sub"])
        assert shown["pids"] == addresses.pids
        assert shown["worker"]["state"] == "ready"
    assert dict(os.environ) == before
    assert logs._elsewhere is None
    for name in ("worker", "router", "aws", "redis", "s3"):
        assert (folder / f"{name}.log").exists()
