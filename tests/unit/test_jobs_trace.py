"""Each line of the log that is about a job names its trace."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from tests.scripted_queue import Consumer, ScriptedQueue, consuming, ids, until
from worker import jobs as jobs_module


def traceparent(digit: str) -> str:
    """Return a traceparent of the W3C form, with a trace id of this digit."""
    return f"00-{digit * 32}-00f067aa0ba902b7-01"


async def test_every_line_of_a_job_names_its_trace_and_no_other_job_s() -> None:
    """The engine's own lines as well, while three jobs run side by side and a fourth comes after them."""
    one, two, untraced, later = (job.decode() for job in ids(4))
    queue = ScriptedQueue(one.encode(), two.encode(), untraced.encode())
    queue.traces = {one: traceparent("1"), two: traceparent("2")}
    consumer = Consumer(queue)
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 3)
            consumer.go.set()
            await until(lambda: len(queue.acknowledged) == 3)
            queue.popped.append(later.encode())
            await until(lambda: len(queue.acknowledged) == 4)
    for job in (one, two, untraced, later):
        lines = [line for line in logs if line.get("job") == job]
        assert [line["event"] for line in lines] == ["step", "step", "step", "job finished"]
        trace = queue.traces.get(job)
        assert {line.get("traceparent") for line in lines} == {trace}
        assert {line.get("trace_id") for line in lines} == {trace and trace[3:35]}
    assert get_contextvars() == {}


async def test_a_trace_that_is_none_does_not_stop_the_job() -> None:
    """It runs to its end, and its log lines carry nothing of it."""
    job = ids(1)[0]
    consumer = Consumer(ScriptedQueue(job))
    consumer.queue.traces = {job.decode(): "00-garbage\nwith a second line"}
    consumer.go.set()
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with consuming(consumer):
            await until(lambda: consumer.queue.acknowledged)
    assert "garbage" not in str(logs)
    assert not any("trace_id" in line for line in logs)
    assert b'"done"' in consumer.store.written[-1]


async def test_lines_about_a_job_from_elsewhere_name_its_trace_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second entry of it, and the loss of its lease, are seen by other tasks than its own."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0)
    job = ids(1)[0]
    consumer = Consumer(ScriptedQueue(job))
    consumer.queue.traces = {job.decode(): traceparent("3")}
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.jobs.keep_leases)
            async with consuming(consumer):
                await until(lambda: consumer.jobs.running == 1)
                consumer.queue.popped.append(job)
                await until(lambda: any("still runs here" in line["event"] for line in logs))
                consumer.queue.lost = set(consumer.queue.claims)
                await until(lambda: consumer.jobs.running == 0)
            tasks.cancel_scope.cancel()
    seen = {line["event"]: line.get("trace_id") for line in logs if line["log_level"] == "warning"}
    assert seen == {"popped a job that still runs here": "3" * 32, "lost the lease": "3" * 32}
