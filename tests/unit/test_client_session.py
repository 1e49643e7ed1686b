"""The client as a library: submitting, following, and what it does when network or store misbehave."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest

from client.answers import Submission
from client.errors import (
    BadRequest,
    DeadlinePassed,
    LinkExpired,
    UnexpectedAnswer,
)
from client.pacing import FIRST_SECONDS, SHORTEST_SECONDS
from client.reply import Snapshot
from client.session import Client
from tests.client_service import JOB_ID, REPLY_URL, TOKEN, URL, Clock, Service, Store, accepted, reply


async def ask(client: Client) -> list[Snapshot]:
    """Submit a prompt and return every snapshot of its reply."""
    async with client:
        submission = await client.submit(prompt="why?")
        return [snapshot async for snapshot in client.follow(submission)]


async def test_each_change_is_one_snapshot() -> None:
    """404s and 304s yield nothing; every new document does, and the final one ends the iteration."""
    service = Service(
        Store.EMPTY, Store.EMPTY, reply("a"), Store.SAME, Store.SAME, reply("ab"), reply("abc", status="done")
    )

    snapshots = await ask(service.client())

    assert [(snapshot.status, snapshot.text) for snapshot in snapshots] == [
        ("streaming", "a"),
        ("streaming", "ab"),
        ("done", "abc"),
    ]
    assert len(service.requests) == 8


async def test_the_post_is_what_the_contract_says() -> None:
    """The body, the token and the address of the POST."""
    service = Service(reply(status="done"))
    async with service.client() as client:
        submission = await client.submit(prompt="why?", raw=True, idle_minutes=2, params={"seed": 1})

    request = service.requests[0]
    assert (request.method, str(request.url)) == ("POST", f"{URL}/infer")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == "application/json"
    assert service.body == {"prompt": "why?", "raw": True, "idle_minutes": 2, "params": {"seed": 1}}
    assert submission == Submission(JOB_ID, "queued", None, REPLY_URL, 1_000.0)


async def test_the_store_never_sees_the_token() -> None:
    """Looks at the reply carry the presigned link and no Authorization."""
    service = Service(Store.EMPTY, reply(status="done"))

    await ask(service.client())

    for request in service.requests[1:]:
        assert str(request.url) == REPLY_URL
        assert "authorization" not in request.headers


async def test_a_location_without_a_host_is_relative_to_the_gateway() -> None:
    """A gateway that serves the replies itself may give a path."""
    post = httpx.Response(202, json={"id": JOB_ID, "status": "queued"}, headers={"Location": "/replies/x"})
    service = Service(reply(status="done"), posts=(post,))

    await ask(service.client())

    assert str(service.requests[1].url) == "https://gateway.test/replies/x"


async def test_a_starting_gpu_has_an_eta() -> None:
    """`starting` and its eta reach the caller."""
    async with Service(reply(), posts=(accepted("starting", eta=90),)).client() as client:
        submission = await client.submit(prompt="why?")

    assert (submission.status, submission.eta_seconds) == ("starting", 90.0)


async def test_elapsed_time_counts_from_the_post() -> None:
    """A snapshot says how long the caller had waited for it."""
    clock = Clock()
    snapshots = await ask(Service(Store.EMPTY, reply("a"), reply("ab", status="done")).client(clock))

    assert [snapshot.elapsed_seconds for snapshot in snapshots] == pytest.approx(
        [FIRST_SECONDS, FIRST_SECONDS + SHORTEST_SECONDS]
    )


async def test_waits_grow_in_silence_and_shrink_with_text() -> None:
    """The pacing is fed with what each look showed."""
    clock = Clock()
    await ask(Service(*[Store.EMPTY] * 6, reply("a"), reply("ab"), reply("ab", status="done")).client(clock))

    assert clock.slept[5] > clock.slept[0]
    assert clock.slept[6:] == [SHORTEST_SECONDS] * 2


@pytest.mark.parametrize(
    "failure",
    [
        500,
        503,
        429,
        408,
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
    ],
    ids=repr,
)
async def test_passing_failures_of_the_store_are_waited_out(failure: int | Exception) -> None:
    """A look that fails is repeated, and the reply goes on where it was."""
    snapshots = await ask(Service(reply("a"), failure, failure, reply("ab", status="done")).client())

    assert [snapshot.text for snapshot in snapshots] == ["a", "ab"]


async def test_the_deadline_ends_a_silence() -> None:
    """Nothing for as long as the deadline: an error, exactly then."""
    clock = Clock()

    with pytest.raises(DeadlinePassed, match="within 20 s"):
        await ask(Service(Store.EMPTY).client(clock, deadline_seconds=20))

    assert clock.now == pytest.approx(1_020)


async def test_the_deadline_covers_text_that_never_ends() -> None:
    """New text does not move the deadline, and what had come was yielded."""
    async with Service(reply("a"), reply("ab"), Store.SAME).client(deadline_seconds=1) as client:
        snapshots = client.follow(await client.submit(prompt="why?"))
        assert [(await anext(snapshots)).text, (await anext(snapshots)).text] == ["a", "ab"]
        with pytest.raises(DeadlinePassed):
            await anext(snapshots)


async def test_the_deadline_tells_why_nothing_came() -> None:
    """An outage that outlasts the deadline is named."""
    with pytest.raises(DeadlinePassed, match="the last trouble being: the store answered 503"):
        await ask(Service(503).client(deadline_seconds=5))


async def test_a_request_that_hangs_ends_with_the_deadline() -> None:
    """An answer that never comes cannot outlast the deadline, whatever httpx's own timeouts are."""

    async def hang(_request: httpx.Request) -> httpx.Response:
        return await asyncio.Event().wait()  # type: ignore[return-value] # never returns

    async with Client(URL, TOKEN, deadline_seconds=0.01, transport=httpx.MockTransport(hang)) as client:
        with pytest.raises(DeadlinePassed):
            await client.submit(prompt="why?")


@pytest.mark.parametrize(
    "refused",
    [403, httpx.Response(400, content=b"<Error><Code>ExpiredToken</Code></Error>")],
    ids=["403", "ExpiredToken"],
)
async def test_an_expired_link_is_named_without_showing_it(refused: int | httpx.Response) -> None:
    """A link that ran out, or whose signer's credentials did, ends at once; it stays secret."""
    with pytest.raises(LinkExpired, match="expired") as caught:
        await ask(Service(reply("a"), refused).client())

    assert "signature" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 301, 412])
async def test_a_status_that_no_repeat_would_change_ends_the_wait(status: int) -> None:
    """Other refusals of the store are errors at once."""
    with pytest.raises(UnexpectedAnswer, match=f"the store answered {status}"):
        await ask(Service(status).client())


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ((b"{",), "not JSON"),
        ((reply() | {"status": 1},), "the reply.status"),
        ((reply() | {"id": "other"},), "another job"),
        ((reply("abc"), reply("abd")), "went back"),
    ],
    ids=["JSON", "field", "job", "text"],
)
async def test_a_reply_that_breaks_the_contract_is_an_error(
    looks: tuple[dict[str, object] | bytes, ...], message: str
) -> None:
    """Broken JSON, wrong fields, a foreign reply and text that changes are told apart."""
    with pytest.raises(UnexpectedAnswer, match=message):
        await ask(Service(*looks).client())


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(202, content=b"ok", headers={"Location": REPLY_URL}),
        httpx.Response(202, json={"status": "queued"}, headers={"Location": REPLY_URL}),
        httpx.Response(202, json={"status": "queued", "id": "7"}, headers={"Location": REPLY_URL}),
        httpx.Response(202, json={"status": "queued", "id": JOB_ID}),
        httpx.Response(202, json={"status": "queued", "id": JOB_ID}, headers={"Location": "ftp://x/y"}),
        httpx.Response(202, json={"status": "queued", "id": JOB_ID}, headers={"Location": "https://xn--zz-/"}),
    ],
    ids=["no JSON", "no id", "bad id", "no Location", "ftp", "bad host"],
)
async def test_an_acceptance_that_breaks_the_contract_is_an_error(answer: httpx.Response) -> None:
    """A 202 from something that is no gateway is noticed before any waiting."""
    async with Service(posts=(answer,)).client() as client:
        with pytest.raises(UnexpectedAnswer):
            await client.submit(prompt="why?")


async def test_a_refusal_is_raised() -> None:
    """Error answers to the POST arrive as the errors of `client.refusals`, after one try."""
    service = Service(posts=(httpx.Response(400),))
    async with service.client() as client:
        with pytest.raises(BadRequest):
            await client.submit(prompt="why?")

    assert len(service.requests) == 1


async def test_cancelling_the_consumer_leaves_nothing_running() -> None:
    """A cancelled task ends in the midst of a wait, and no other task is left."""
    started = asyncio.Event()

    async def sleep_for_ever(_seconds: float) -> None:
        started.set()
        await asyncio.Event().wait()

    client = Client(URL, TOKEN, transport=Service(Store.EMPTY), sleep=sleep_for_ever)
    consumer = asyncio.create_task(ask(client))
    await started.wait()

    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_the_iteration_early_asks_no_more() -> None:
    """A consumer that has seen enough may go; no further look is made."""
    service = Service(reply("a"), reply("ab"))
    async with service.client() as client:
        submission = await client.submit(prompt="why?")
        async with aclosing(client.follow(submission)) as snapshots:
            async for _ in snapshots:
                break

    assert len(service.requests) == 2


async def test_two_replies_can_be_followed_at_once() -> None:
    """One client serves several consumers, each with its own state."""
    service = Service(Store.EMPTY, reply("a"), reply("ab", status="done"))
    async with service.client() as client:
        submission = await client.submit(prompt="why?")

        async def last_text() -> str:
            return [snapshot.text async for snapshot in client.follow(submission)][-1]

        assert set(await asyncio.gather(last_text(), last_text())) == {"ab"}
