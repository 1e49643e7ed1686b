"""`tlfif status` and what stands behind it in the library."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import httpx
import pytest

from client.connection import TRIES
from client.errors import Busy, DeadlinePassed, NotAuthorized, NotFound, Refused, UnexpectedAnswer, Unreachable
from client.exits import ExitCode
from client.gpu import Status
from client.status import summary
from tests.client_service import TOKEN, URL, Clock, Run, Service, Terminal, gpu, run_command

NO_GPU = "AWS has no GPU of this type left in this availability zone"
BUSY = httpx.Response(429, headers={"Retry-After": "9"})


def read(document: dict[str, Any]) -> Status:
    """Read a document as the service sends it."""
    return Status.from_json(json.dumps(document).encode())


async def ask(service: Service, clock: Clock | None = None) -> Status:
    """Ask once what the GPU does."""
    async with service.client(clock) as client:
        return await client.status()


async def test_asking_is_a_get_with_the_token() -> None:
    """Nothing else is sent, and every field of the answer has its place."""
    document = gpu("booting", "engine", 20, waiting=2, running=1, problem=NO_GPU, novelty=[1])
    service = Service(statuses=[document])

    status = await ask(service)

    assert status == Status("booting", "engine", 20.0, 2, 1, "tiny", None, NO_GPU, document)
    assert status.document == document
    request = service.requests[0]
    assert (request.method, str(request.url), request.content) == ("GET", f"{URL}/status", b"")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert "content-type" not in request.headers
    assert len(service.requests) == 1


def test_what_may_be_null_may_be_absent() -> None:
    """Only the state and the two counts are indispensable, and an unknown state is no error."""
    status = read({"state": "hibernating", "waiting": 0, "running": 0})

    assert status == Status("hibernating", None, None, 0, 0, None, None, None, {})


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "status.state is missing"),
        (gpu("ready") | {"state": None}, "status.state has the wrong type"),
        (gpu("ready") | {"waiting": None}, "status.waiting has the wrong type"),
        (gpu("ready") | {"waiting": True}, "status.waiting has the wrong type"),
        (gpu("ready") | {"running": 1.5}, "status.running has the wrong type"),
        (gpu("ready") | {"phase": 1}, "status.phase has the wrong type"),
        (gpu("ready") | {"eta": "61"}, "status.eta has the wrong type"),
        (gpu("ready") | {"eta": float("nan")}, "status.eta is no finite number"),
        (gpu("ready") | {"idle_seconds": float("inf")}, "status.idle_seconds is no finite number"),
        (gpu("ready") | {"idle_seconds": 10**400}, "status.idle_seconds is no finite number"),
        (gpu("ready") | {"model": {}}, "status.model has the wrong type"),
        (gpu("ready") | {"problem": ["no GPU"]}, "status.problem has the wrong type"),
    ],
)
async def test_a_malformed_answer_is_named(content: bytes | dict[str, Any], field: str) -> None:
    """The error says which field is wrong, and not what it held."""
    with pytest.raises(UnexpectedAnswer, match=field):
        await ask(Service(statuses=[content]))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (401, NotAuthorized),
        (404, NotFound),
        (BUSY, Busy),
        (httpx.Response(503, content=b'{"status": 503}', headers={"Content-Type": "application/problem+json"}), Busy),
        (500, Refused),
        (202, Refused),
    ],
)
async def test_refusals_are_those_of_infer(answer: int | httpx.Response, kind: type[Refused]) -> None:
    """Each is asked for once."""
    service = Service(statuses=[answer])
    with pytest.raises(Refused) as caught:
        await ask(service)

    assert type(caught.value) is kind
    assert len(service.requests) == 1


async def test_asking_is_repeated_until_answered() -> None:
    """A cut connection is tried three times, and a deadline names what did not come."""
    service = Service(statuses=[httpx.ReadTimeout("slow")])
    with pytest.raises(Unreachable):
        await ask(service)
    assert len(service.requests) == TRIES

    async with service.client(deadline_seconds=0.01) as client:
        with pytest.raises(DeadlinePassed, match=r"no answer to GET /status within 0\.01 s"):
            await client.status()


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (gpu("ready", model="SmolLM2", running=1, waiting=2), "ready: SmolLM2, 1 job runs, 2 wait"),
        (gpu("ready", running=2, waiting=1), "ready: tiny, 2 jobs run, 1 waits"),
        (gpu("ready", running=1), "ready: tiny, 1 job runs"),
        (gpu("ready", waiting=1), "ready: tiny, 1 job waits"),
        (gpu("ready", waiting=3), "ready: tiny, 3 jobs wait"),
        (gpu("ready", idle_seconds=252), "ready: tiny, idle, stops in 4 min 12 s"),
        (gpu("ready", idle_seconds=59.6), "ready: tiny, idle, stops in 1 min 0 s"),
        (gpu("ready", idle_seconds=9.4, model=None), "ready: idle, stops in 9 s"),
        (gpu("ready"), "ready: tiny, idle"),
        (gpu("starting", "instance", 61), "starting: the instance boots, ready in about 61 s"),
        (gpu("starting", "instance", 61, waiting=1), "starting: the instance boots, ready in about 61 s, 1 job waits"),
        (gpu("booting", "imports", 40), "booting: the worker imports vLLM, ready in about 40 s"),
        (gpu("booting", "engine", 20), "booting: vLLM loads the model, ready in about 20 s"),
        (gpu("booting", "engine"), "booting: vLLM loads the model"),
        (gpu("booting", "warming up", 5), "booting: warming up, ready in about 5 s"),
        (gpu("starting"), "starting"),
        (gpu("starting", "instance", problem=NO_GPU), f"starting: the instance boots; {NO_GPU}"),
        (gpu("stopping"), "stopping"),
        (gpu("stopping", eta=95, running=1, waiting=1), "stopping: ready in about 95 s, 1 job runs, 1 waits"),
        (gpu("stopped"), "stopped"),
        (gpu("stopped", problem=NO_GPU), f"stopped; {NO_GPU}"),
        (gpu("hibernating"), "hibernating"),
        (gpu("a\x1b[2Jb", problem="c\nd"), "a�[2Jb; c�d"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_status_has_its_line(document: dict[str, Any], line: str) -> None:
    """What is not known is left out, and no text of the service's can do more than be read."""
    assert summary(read(document)) == line


def test_only_a_countdown_is_no_change() -> None:
    """Seconds may differ, but that they are known or not is a change like any other."""
    status = read(gpu("booting", "engine", 20))

    assert status.is_like(read(gpu("booting", "engine", 3)))
    assert read(gpu("ready", idle_seconds=9)).is_like(read(gpu("ready", idle_seconds=6)))
    for other in (
        gpu("booting", "engine"),
        gpu("booting", "imports", 20),
        gpu("starting", "engine", 20),
        gpu("booting", "engine", 20, waiting=1),
        gpu("booting", "engine", 20, idle_seconds=1),
        gpu("booting", "engine", 20, problem=NO_GPU),
    ):
        assert not status.is_like(read(other))
        assert not read(other).is_like(status)


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the command."""
    return Clock()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Run:
    """Return a function that runs `tlfif status` with these arguments against this service."""
    return functools.partial(run_command, monkeypatch, "status", clock=clock)


def test_one_line_is_on_stdout(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, a quiet stderr, and one request."""
    service = Service(statuses=[gpu("ready", idle_seconds=252)])

    assert run(service) == ExitCode.DONE
    assert capsys.readouterr() == ("ready: tiny, idle, stops in 4 min 12 s\n", "")
    assert len(service.requests) == 1


def test_json_is_the_whole_document(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of ASCII, with what a later version added."""
    document = gpu("ready", model="modèle", novelty={"a": 1})

    assert run(Service(statuses=[document]), "--output", "json") == ExitCode.DONE

    out = capsys.readouterr().out
    assert json.loads(out) == document
    assert out.isascii()
    assert out.count("\n") == 1


@pytest.mark.parametrize("watch", [[], ["--watch"]], ids=["once", "watch"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (401, "tlfif login"),
        (404, "check --url"),
        (503, "try again later"),
        (b"{}", "status.state is missing"),
        (httpx.ConnectError("refused"), "cannot connect to gateway.test"),
    ],
    ids=["401", "404", "503", "JSON", "network"],
)
def test_a_failure_exits_6(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    *,
    answer: int | bytes | Exception,
    words: str,
    watch: list[str],
) -> None:
    """Nothing on stdout, one line on stderr, watched or not."""
    assert run(Service(statuses=[answer]), *watch) == ExitCode.SERVICE

    out, err = capsys.readouterr()
    assert not out
    assert words in err
    assert err.count("\n") == 1


def test_a_busy_service_says_when_to_ask_again(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --watch, 429 is an error like any other."""
    assert run(Service(statuses=[BUSY])) == ExitCode.SERVICE
    assert "try again in 9 s" in capsys.readouterr().err


WALK = [
    gpu("stopping", running=1),
    gpu("stopping", running=1),
    gpu("starting", "instance", 61, waiting=1),
    gpu("starting", "instance", 58, waiting=1),
    gpu("booting", "engine", 20, waiting=1),
    gpu("ready", idle_seconds=6),
    gpu("ready", idle_seconds=3),
    gpu("stopped"),
]


def test_watching_prints_each_change_until_the_gpu_has_stopped(
    run: Run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off a terminal, seconds that go by are no line; the service is asked every 3 s."""
    service = Service(statuses=WALK)

    assert run(service, "--watch") == ExitCode.DONE

    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "stopping: 1 job runs",
        "starting: the instance boots, ready in about 61 s, 1 job waits",
        "booting: vLLM loads the model, ready in about 20 s, 1 job waits",
        "ready: tiny, idle, stops in 6 s",
        "stopped",
    ]
    assert not err
    assert clock.slept == [3.0] * 7
    assert len(service.requests) == len(WALK)


def test_watching_as_json_prints_documents(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a change, as without --output."""
    assert run(Service(statuses=WALK), "--watch", "--output", "json") == ExitCode.DONE
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        WALK[index] for index in (0, 2, 4, 5, 7)
    ]


def test_watching_waits_as_long_as_a_busy_service_asks_for(
    run: Run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """429 is no failure, not even at first; without Retry-After the interval doubles."""
    service = Service(statuses=[BUSY, gpu("ready"), httpx.Response(429), gpu("stopped")])

    assert run(service, "--watch") == ExitCode.DONE
    assert capsys.readouterr() == ("ready: tiny, idle\nstopped\n", "")
    assert clock.slept == [9.0, 3.0, 6.0]


def test_a_terminal_shows_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rewritten each time, a longer text leaves nothing behind, and the last one stays."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    assert run(Service(statuses=WALK), "--watch") == ExitCode.DONE
    assert terminal.lines == ["stopped", ""]
    assert [piece.partition("\x1b")[0] for piece in terminal.getvalue().split("\r")[1:9]] == [
        summary(read(document)) for document in WALK
    ]


def test_a_terminal_without_watch_and_json_are_left_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person may copy has no control characters."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    run(Service(statuses=[gpu("ready")]))
    run(Service(statuses=[gpu("stopped")]), "--watch", "--output", "json")

    assert terminal.getvalue() == f"ready: tiny, idle\n{json.dumps(gpu('stopped'))}\n"


@pytest.mark.parametrize("document", [gpu("starting", problem=NO_GPU * 2), gpu("ready")], ids=["long", "short"])
def test_ctrl_c_leaves_the_last_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: dict[str, Any]
) -> None:
    """Code 130; what did not fit into the line is there in the end, and the cursor stands below."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    assert run(Service(statuses=[document, KeyboardInterrupt()]), "--watch") == ExitCode.INTERRUPTED
    assert terminal.lines == [summary(read(document)), ""]
    assert capsys.readouterr().err == "tlfif: interrupted\n"
