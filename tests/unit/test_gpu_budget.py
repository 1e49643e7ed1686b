"""What a budget that is used up keeps from being started, by whom, and what everybody hears of it."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from router_lambda.app import App
from router_lambda.budget import BUDGET_UNKNOWN, OVER_BUDGET
from router_lambda.ec2 import Ec2, Ec2Unavailable
from router_lambda.gpu import REFUSED_SECONDS, Gpu
from router_lambda.job import GPU_REFUSED, GPU_WAKING, QUEUE_OPEN, QUEUE_READY, job_key
from router_lambda.queue import Queue
from router_lambda.waker import PAUSES, Waker
from tests.router_samples import JOB, JOB_ID, event
from tests.router_world import BOOT, GPU_TAG, NOW, Clock, FakeEc2, beat, content, make_router, metrics, problem
from tests.waker_world import Replies, call, make_waker

FIGURE = "this month's spend is €20.13 of €20.00; the GPU is not started before 2026-12-01 00:00 UTC"
UNKNOWN = "the GPU is not started, as nobody knows whether this month's budget allows it"
SPENT = Ec2Unavailable(OVER_BUDGET, FIGURE, 432_000)
LOST = Ec2Unavailable(BUDGET_UNKNOWN, UNKNOWN, 60)
REFUSALS = pytest.mark.parametrize("refusal", [SPENT, LOST], ids=lambda refusal: refusal.code)
PROMPT = '{"prompt": "a"}'


class Budget:
    """Refuses as the test wants, and counts how often it was asked."""

    def __init__(self) -> None:
        self.refusal: Ec2Unavailable | None = SPENT
        self.asked = 0

    def __call__(self) -> None:
        """See `router_lambda.budget.Check`."""
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def budget() -> Budget:
    """Return a budget that is used up."""
    return Budget()


@pytest.fixture
def gpu(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, budget: Budget) -> Gpu:
    """Return what is tested."""
    return Gpu(Ec2(GPU_TAG, lambda: ec2), client, clock, clock.sleep, budget)


@pytest.fixture
def api(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, router: App, budget: Budget) -> App:
    """Return a router with that budget, in the environment of the one without."""
    return make_router(client, ec2, clock, check=budget)


@pytest.fixture
def waker(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, budget: Budget) -> Waker:
    """Return a waker with that budget, and one job that waits."""
    Queue(client).enqueue(JOB)
    return make_waker(client, ec2, clock, Replies(clock), budget)


def infer(api: App, sub: str = "user-1", **headers: str) -> dict[str, Any]:
    """Send a prompt."""
    return api(event("POST", "/infer", PROMPT, authorizer={"lambda": {"sub": sub}}, headers=headers))


# The start


@REFUSALS
def test_nothing_is_started_then(
    gpu: Gpu, ec2: FakeEc2, budget: Budget, refusal: Ec2Unavailable, capsys: pytest.CaptureFixture[str]
) -> None:
    """EC2 is not asked; it is counted as what it is."""
    budget.refusal = refusal
    with pytest.raises(Ec2Unavailable) as raised:
        gpu.wake(None)

    assert raised.value is refusal
    assert ec2.calls == ["describe_instances"]
    assert metrics(capsys.readouterr().out) == ["BudgetRefusals"]


@REFUSALS
def test_a_refusal_is_everybodys(
    gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, budget: Budget, refusal: Ec2Unavailable
) -> None:
    """For a moment the others hear the same, code and all, without another look; then somebody looks again.

    For people it is kept until a start succeeds.
    """
    budget.refusal = refusal
    said = []
    for _ in range(3):
        with pytest.raises(Ec2Unavailable) as raised:
            gpu.wake(None)
        said.append((raised.value.code, str(raised.value), raised.value.retry_after))

    assert said == [(refusal.code, str(refusal), refusal.retry_after)] * 3
    assert budget.asked == 1
    assert 0 < client.ttl(GPU_WAKING) <= REFUSED_SECONDS
    assert client.get(GPU_REFUSED) == str(refusal).encode()
    client.delete(GPU_WAKING)
    budget.refusal = None
    assert gpu.wake(None) == BOOT
    assert client.exists(GPU_REFUSED) == 0


@pytest.mark.parametrize("state", ["pending", "running", "stopping"])
def test_only_a_start_is_checked(gpu: Gpu, ec2: FakeEc2, budget: Budget, state: str) -> None:
    """What runs is the budget killer's business, and no request waits for S3 without need."""
    ec2.state, ec2.launched_at = state, NOW
    assert gpu.wake(None) >= BOOT
    assert budget.asked == 0


def test_no_other_gpu_is_added(
    gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, budget: Budget, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that runs costs enough; who reads the status is not told, as a GPU is there."""
    ec2.state, ec2.beside = "running", {"i-2": "stopped"}
    gpu.reinforce(1e6, 2)

    assert ec2.beside == {"i-2": "stopped"}
    assert (budget.asked, metrics(capsys.readouterr().out)) == (1, ["BudgetRefusals"])
    assert client.exists(GPU_REFUSED) == 0


# The route


def test_who_asks_hears_of_the_budget(
    api: App, ec2: FakeEc2, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """402 with figure and date; nothing is queued and no key remembered, so that it can be sent again."""
    first, second = infer(api, **{"Idempotency-Key": "k"}), infer(api, "user-2")

    for answer in (first, second):
        assert answer["statusCode"] == 402
        assert answer["headers"]["retry-after"] == "432000"
        assert (problem(answer)["title"], problem(answer)["detail"]) == ("Payment Required", FIGURE)
        assert "location" not in answer["headers"]
    assert "start_instances" not in ec2.calls
    assert {key.split(b":")[0] for key in client.scan_iter()} <= {b"rate", b"gpu"}
    assert metrics(capsys.readouterr().out) == ["BudgetRefusals"]


def test_who_asks_hears_that_nobody_knows(api: App, client: fakeredis.FakeRedis, budget: Budget) -> None:
    """503, as for everything that is away."""
    budget.refusal = LOST
    for sub in ("user-1", "user-2"):
        answer = infer(api, sub)
        assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "60")
        assert problem(answer)["detail"] == UNKNOWN
    assert client.exists(QUEUE_READY, QUEUE_OPEN) == 0


def test_a_worker_that_is_there_goes_on(api: App, client: fakeredis.FakeRedis, budget: Budget) -> None:
    """What runs is paid for already, until the budget killer stops it."""
    beat(client)
    assert content(infer(api))["status"] == "queued"
    assert budget.asked == 0


def test_the_status_says_so(api: App) -> None:
    """Whoever asks why the GPU sleeps; not only the one who was refused."""
    infer(api)
    answer = api(event("GET", "/status", authorizer={"lambda": {"sub": "user-2"}}))

    assert answer["statusCode"] == 200
    assert (content(answer)["state"], content(answer)["problem"]) == ("stopped", FIGURE)


# The waker


def test_the_waker_does_not_ask_again_at_once(
    waker: Waker, ec2: FakeEc2, clock: Clock, budget: Budget, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that ends within a minute."""
    assert call(waker, clock) == "refused: OverBudget"

    assert (budget.asked, clock.now) == (1, NOW)
    assert "start_instances" not in ec2.calls
    assert metrics(capsys.readouterr().out) == ["BudgetRefusals"]  # nobody has to mend anything


def test_a_cap_that_is_raised_while_a_job_waits_is_in_time(
    waker: Waker, client: fakeredis.FakeRedis, clock: Clock, budget: Budget
) -> None:
    """The job stays for as long as it lives, and each minute somebody looks."""
    call(waker, clock)
    assert client.zrange(QUEUE_OPEN, 0, -1) == [JOB_ID.encode()]

    client.delete(GPU_WAKING)
    budget.refusal = None
    assert call(waker, clock) == "started"


def test_the_waker_asks_again_if_nobody_knows(waker: Waker, clock: Clock, budget: Budget) -> None:
    """S3 may be back in a moment."""
    budget.refusal = LOST
    assert call(waker, clock) == "refused: BudgetUnknown"
    assert (budget.asked, clock.now) == (len(PAUSES) + 1, NOW + sum(PAUSES))


def test_a_job_that_waited_hears_why(waker: Waker, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """It came while the instance stopped, so that nobody could refuse it; its reply has the figure in the end."""
    call(waker, clock)
    client.delete(job_key(JOB_ID), GPU_WAKING)
    replies = waker._overdue
    assert isinstance(replies, Replies)

    assert call(waker, clock) == "nothing waits"
    assert [(job.id, job.status, why) for job, why in replies.answered] == [(JOB_ID, "expired", FIGURE)]
