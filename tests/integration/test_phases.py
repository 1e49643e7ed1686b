"""What the phases of a boot take."""

from __future__ import annotations

import json
import os
import time

import psutil
import pytest
import redis

from router_lambda.job import GPU_BOOTING
from worker.phases import Phases, announce, process_began


def test_phases_follow_each_other() -> None:
    """Each from the end of the one before; the instance's ends where the process began."""
    times = iter([101.5, 107.0, 110.0, 110.25, 112.0])
    phases = Phases(100.0, lambda: next(times))
    for phase in ("daemon", "imports", "engine", "ready"):
        phases.ended(phase)
    phases.asked_for(60.0)
    assert phases.total_seconds == 50.25
    phases.ended("first_token")

    assert phases.seconds == {
        "instance": 40.0,
        "daemon": 1.5,
        "imports": 5.5,
        "engine": 3.0,
        "ready": 0.25,
        "first_token": 1.75,
    }


def test_a_start_that_nobody_asked_for_has_no_instance() -> None:
    """A worker that was started again on an instance that runs."""
    phases = Phases(100.0, lambda: 101.0)
    phases.asked_for(None)
    phases.ended("daemon")
    assert phases.seconds == {"daemon": 1.0}


def test_a_clock_that_is_set_back_gives_no_negative_time() -> None:
    """As happens when a machine that has just booted first hears the right time."""
    phases = Phases(100.0, lambda: 90.0)
    phases.asked_for(130.0)
    phases.ended("daemon")
    assert phases.seconds == {"instance": 0.0, "daemon": 0.0}


def test_the_process_knows_when_it_began() -> None:
    """As the kernel has it."""
    assert process_began() == pytest.approx(psutil.Process(os.getpid()).create_time(), abs=1.5)
    assert process_began() < time.time()


def test_a_phase_is_announced(redis_url: str) -> None:
    """For as long as the boot may take."""
    announce(redis_url, "engine", 12.5)
    with redis.Redis.from_url(redis_url) as client:
        noted = json.loads(client.get(GPU_BOOTING) or b"")
        assert noted["phase"] == "engine"
        assert noted["at"] == pytest.approx(time.time(), abs=30)
        assert 0 < client.pttl(GPU_BOOTING) <= 12_500


def test_nobody_hears_it_where_redis_is_away() -> None:
    """The boot goes on."""
    announce("redis://127.0.0.1:1/0", "imports", 10.0)
