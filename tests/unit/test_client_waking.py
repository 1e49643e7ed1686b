"""What `tlfif infer` shows of a GPU that wakes."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import sys
from typing import Any

import httpx
import pytest

import client.session
from client.exits import ExitCode
from client.gpu import Status
from client.waking import Display, Waking
from tests.client_service import JOB_ID, Clock, Run, Service, Store, Terminal, accepted, gpu, reply, run_command

NO_GPU = "AWS has no GPU of this type left in this availability zone"
FIRST_LINES = [f"tlfif: job {JOB_ID}", "tlfif: the GPU is starting, which takes about 90 s"]
STARTING = accepted("starting", eta=90)


def status(state: str, phase: str | None = None, eta: int | None = None, **fields: Any) -> Status:
    """Return a status."""
    return Status.from_json(json.dumps(gpu(state, phase, eta, **fields)).encode())


def test_a_terminal_has_a_line_that_goes_with_the_time() -> None:
    """Seconds so far grow, seconds to go shrink, and none are claimed once the estimate is used up."""
    display = Display(on_terminal=True)
    assert display.line(0) is None

    assert display.heard(status("starting", "instance", 61), 12) == []

    assert display.line(12) == "tlfif: the instance boots, 12 s so far, about 61 s to go"
    assert display.line(13) == "tlfif: the instance boots, 13 s so far, about 60 s to go"
    assert display.line(72) == "tlfif: the instance boots, 72 s so far, about 1 s to go"
    assert display.line(73) == "tlfif: the instance boots, 73 s so far"
    assert display.line(99) == "tlfif: the instance boots, 99 s so far"


def test_the_newest_estimate_counts() -> None:
    """Each status brings another phase, or only another estimate."""
    display = Display(on_terminal=True)

    display.heard(status("starting", "instance", 61), 0)
    display.heard(status("booting", "imports", 70), 3)
    assert display.line(4) == "tlfif: the worker imports vLLM, 4 s so far, about 69 s to go"
    display.heard(status("booting", "imports", 30), 6)
    assert display.line(7) == "tlfif: the worker imports vLLM, 7 s so far, about 29 s to go"
    display.heard(status("booting", "engine"), 9)
    assert display.line(9) == "tlfif: vLLM loads the model, 9 s so far"


def test_elsewhere_each_change_is_a_line() -> None:
    """A state or a phase is said once; estimates and numbers of jobs do not repeat it."""
    display = Display(on_terminal=False)

    assert display.heard(status("starting", "instance", 61), 0.2) == [
        "tlfif: the instance boots, 0 s so far, about 61 s to go"
    ]
    assert display.heard(status("starting", "instance", 58, waiting=2), 3.2) == []
    assert display.heard(status("booting", "imports", 40), 6) == [
        "tlfif: the worker imports vLLM, 6 s so far, about 40 s to go"
    ]
    assert display.heard(status("booting", "engine", 20), 9) == [
        "tlfif: vLLM loads the model, 9 s so far, about 20 s to go"
    ]
    assert display.heard(status("ready"), 12) == ["tlfif: the GPU is ready, 12 s so far"]
    assert display.line(12) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (status("stopped"), "the GPU is stopped, 5 s so far"),
        (status("stopping", eta=95), "the GPU is stopping, 5 s so far, about 95 s to go"),
        (status("starting"), "the GPU is starting, 5 s so far"),
        (status("booting", "warming up"), "warming up, 5 s so far"),
        (status("a\x1b[2Jb"), "the GPU is a�[2Jb, 5 s so far"),
    ],
    ids=["stopped", "stopping", "no phase", "new phase", "control characters"],
)
def test_every_status_has_words(now: Status, words: str) -> None:
    """Those that nobody expects on the way to a reply, or does not know yet, included."""
    elsewhere, terminal = Display(on_terminal=False), Display(on_terminal=True)

    assert elsewhere.heard(now, 5) == [f"tlfif: {words}"]
    assert terminal.heard(now, 5) == []
    assert terminal.line(5) == f"tlfif: {words}"


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_problem_is_a_line_of_its_own_once(*, on_terminal: bool) -> None:
    """It is not repeated when it goes and comes back; another one is another line."""
    display = Display(on_terminal=on_terminal)
    display.heard(status("starting", "instance"), 0)

    heard = [display.heard(status("starting", "instance", problem=problem), 3) for problem in (NO_GPU, NO_GPU, None)]
    assert heard == [[f"tlfif: {NO_GPU}"], [], []]
    assert display.heard(status("starting", "instance", problem=NO_GPU), 9) == []
    assert display.heard(status("starting", "instance", problem="another\none"), 9) == ["tlfif: another�one"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `tlfif infer` with these arguments against this service."""
    return functools.partial(run_command, monkeypatch, "infer")


def waking(*statuses: Any, looks: int = 54) -> Service:
    """Return a service that tells these statuses in turn, and has the reply after so many looks."""
    return Service(
        *[Store.EMPTY] * looks, reply("Blue"), reply("Blue.", status="done"), posts=(STARTING,), statuses=statuses
    )


def test_the_phases_are_listed_off_a_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Between the first lines and the receipt, with the problem when it comes."""
    service = waking(
        gpu("starting", "instance", 61),
        gpu("starting", "instance", 58, problem=NO_GPU),
        gpu("booting", "engine", 20),
        gpu("ready"),
    )

    assert run(service, "why?") == ExitCode.DONE

    out, err = capsys.readouterr()
    assert out == "Blue.\n"
    assert err.splitlines()[:-1] == [
        *FIRST_LINES,
        "tlfif: the instance boots, 0 s so far, about 61 s to go",
        f"tlfif: {NO_GPU}",
        "tlfif: vLLM loads the model, 6 s so far, about 20 s to go",
        "tlfif: the GPU is ready, 9 s so far",
    ]
    assert "\r" not in err
    assert err.splitlines()[-1].startswith("tlfif: 5 tokens, ")


def test_a_terminal_shows_the_line_until_the_text_comes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both streams on one terminal, the line passes each second, makes room for a problem, and is gone."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)

    assert run(waking(gpu("starting", "instance", 61), gpu("booting", "engine", 20, problem=NO_GPU)), "why?") == 0

    assert [line for line in terminal.lines if not line.startswith("tlfif: 5 tokens")] == [
        *FIRST_LINES,
        f"tlfif: {NO_GPU}",
        "Blue.",
        "",
    ]
    before, _, after = terminal.getvalue().partition(NO_GPU)
    for second in range(3):
        assert f"\rtlfif: the instance boots, {second} s so far, about {61 - second} s to go\x1b[K" in before
    assert "\rtlfif: vLLM loads the model, 3 s so far, about 20 s to go\x1b[K" in after
    assert "\rtlfif: vLLM loads the model, 5 s so far, about 18 s to go\x1b[K" in after
    assert "\r\x1b[KBlue" in after


def test_the_service_is_asked_every_3_s(run: Run) -> None:
    """Beside the reply, and no more once it has begun."""
    service, clock = waking(gpu("starting", "instance", 61)), Clock()

    run(service, "why?", clock=clock)

    took = clock.now - Clock().now
    assert took > 30
    assert len(service.asked_for_status) == took // 3 + 1


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (httpx.Response(429, headers={"Retry-After": "20"}), 3),
        (httpx.Response(429), 10),
        (503, 10),
        (404, 1),
        (401, 1),
        (403, 1),
        (500, 19),
        (b"{", 19),
        (b'{"state": 7}', 19),
        (httpx.ConnectError("refused"), None),
        (httpx.ReadTimeout("slow"), None),
        (RuntimeError("a fault of the client's"), 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_failure_changes_nothing(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    *,
    answer: int | bytes | httpx.Response | Exception,
    asked: int | None,
    on_terminal: bool,
) -> None:
    """All else is as it is with a service that has no such route; it is asked `asked` times in the 56 s."""

    def outcome(statuses: list[Any]) -> tuple[tuple[int, str, str, int], int]:
        out, err = io.StringIO(), Terminal() if on_terminal else io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        service = Service(
            *[Store.EMPTY] * 54, reply("a"), reply("ab", status="failed"), posts=(STARTING,), statuses=statuses
        )
        code = run(service, "why?")
        times = len(service.asked_for_status)
        return (code, out.getvalue(), err.getvalue(), len(service.requests) - times), times

    seen, times = outcome([answer])

    assert seen == outcome([404])[0]
    assert seen[:2] == (ExitCode.FAILED, "ab\n")
    assert times == asked or (asked is None and times > 1)


def test_a_service_that_recovers_is_shown_again(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Failures in between end nothing."""
    run(waking(500, b"{", httpx.Response(429), gpu("booting", "engine", 20)), "why?")

    assert "tlfif: vLLM loads the model, 12 s so far, about 20 s to go\n" in capsys.readouterr().err


def test_a_job_that_a_worker_is_there_for_asks_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`queued` means that no GPU wakes."""
    service = Service(*[Store.EMPTY] * 54, reply("a", status="done"), statuses=[gpu("ready")])

    assert run(service, "why?") == ExitCode.DONE
    assert not service.asked_for_status
    assert "GPU" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "last_look", "code", "words"),
    [
        (["--deadline", "7"], Store.EMPTY, ExitCode.DEADLINE, "tlfif: no final reply within 7 s"),
        ([], 403, ExitCode.SERVICE, "tlfif: the store refuses the link"),
        (
            [],
            KeyboardInterrupt(),
            ExitCode.INTERRUPTED,
            f"tlfif: interrupted; the job runs on, unless `tlfif stop {JOB_ID}`",
        ),
    ],
    ids=["deadline", "link", "Ctrl-C"],
)
def test_the_line_is_gone_however_the_wait_ends(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    *,
    arguments: list[str],
    last_look: Any,
    code: ExitCode,
    words: str,
) -> None:
    """An error stands where the line was."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    service = Service(*[Store.EMPTY] * 20, last_look, posts=(STARTING,), statuses=[gpu("starting", "instance", 61)])

    assert run(service, *arguments, "why?") == code

    *shown, message, rest = terminal.lines
    assert "the instance boots, 1 s so far" in terminal.getvalue()
    assert (shown, rest) == (FIRST_LINES, "")
    assert message.startswith(words)


class Gone(Terminal):
    """A terminal whose window was closed once the first status was on it."""

    def write(self, text: str) -> int:
        """Fail from then on."""
        if "boots" in self.getvalue():
            raise OSError(5, "Input/output error")
        return super().write(text)


async def test_a_terminal_that_is_gone_keeps_no_reply_back() -> None:
    """The reply may go to a file, which is still there."""
    service = waking(gpu("starting", "instance", 61))
    async with service.client() as session:
        submission = await session.submit(prompt="why?")
        async with Waking(session, submission, Gone()) as shown:
            texts = []
            async for snapshot in session.follow(submission):
                shown.end()
                texts.append(snapshot.text)

    assert texts == ["Blue", "Blue."]


async def test_an_answer_that_never_comes_holds_nothing_up() -> None:
    """The end of the reply is the end of the question, and no task is left."""
    hangs = asyncio.Event()
    service = Service(reply("a", status="done"), posts=(STARTING,))

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            hangs.set()
            await asyncio.Event().wait()
        return await service.handle_async_request(request)

    session = client.session.Client("https://gateway.test", "token", transport=httpx.MockTransport(answer))
    async with session:
        submission = await session.submit(prompt="why?")
        async with Waking(session, submission, io.StringIO()) as shown:
            await hangs.wait()
            async for _ in session.follow(submission):
                shown.end()

    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_nothing_goes_to_stdout_where_stderr_is_closed(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `2>&-` Python has no stderr, and `print` would take the other stream."""
    monkeypatch.setattr(sys, "stderr", None)

    assert run(waking(gpu("starting", "instance", 61)), "why?") == ExitCode.DONE
    assert capsys.readouterr().out == "Blue.\n"
