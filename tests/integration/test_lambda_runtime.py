"""Small functions in the real runtime client: how their ends and errors reach the caller."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.lambda_runtime import FunctionFailed, LambdaFunction
from tests.integration.lambda_world import runtime

MODULE = """
import os, time

calls = []

def echo(event, context):
    calls.append(event)
    left = context.get_remaining_time_in_millis()
    return {"event": event, "calls": len(calls), "left": left, "name": context.function_name, "env": dict(os.environ)}

def angry(event, context):
    raise KeyError("hunter")

def slow(event, context):
    time.sleep(event["seconds"])
    return {"slept": event["seconds"]}

def dies(event, context):
    os._exit(3)
"""

Start = Callable[..., LambdaFunction]


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Fail a test in which we write anything: what a function says goes to its log, and how it dies to its caller."""
    yield
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return what makes a function of the name of a handler in `MODULE`."""
    package = tmp_path / "task"
    package.mkdir()
    (package / "module.py").write_text(MODULE, encoding="utf-8")
    (package / "broken.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    (package / "endless.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")

    def make(handler: str, **environment: str) -> LambdaFunction:
        return LambdaFunction(runtime(), package, handler, environment, tmp_path / "function.log")

    return make


def test_an_event_comes_back_and_the_process_is_kept(start: Start) -> None:
    """Each invocation gets its own answer from the same process."""
    with start("module.echo") as function:
        answers = [function.invoke({"number": number, "text": "é😀"}, seconds=5) for number in range(3)]

    assert [answer["event"] for answer in answers] == [{"number": number, "text": "é😀"} for number in range(3)]
    assert [answer["calls"] for answer in answers] == [1, 2, 3]
    assert all(4_000 < answer["left"] <= 5_000 for answer in answers)


def test_the_environment_is_lambda_s_and_what_is_given(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's environment is inherited."""
    monkeypatch.setenv("TLFIF_BUCKET", "of-this-machine")
    with start("module.echo", TLFIF_REDIS_URL="redis://host") as function:
        environment = function.invoke({})["env"]

    assert environment["TLFIF_REDIS_URL"] == "redis://host"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "module"
    assert "TLFIF_BUCKET" not in environment
    assert "HOME" not in environment


def test_what_the_handler_raises_is_raised(start: Start) -> None:
    """By name and message; the next invocation is answered as well."""
    with start("module.angry") as function:
        for _ in range(2):
            with pytest.raises(FunctionFailed, match=r"KeyError: 'hunter'") as failed:
                function.invoke({})
            assert failed.value.kind == "KeyError"


@pytest.mark.parametrize(
    ("handler", "kind"),
    [("broken.echo", "Runtime.ImportModuleError"), ("module.nothing", "Runtime.HandlerNotFound")],
)
def test_a_handler_that_cannot_be_imported_fails_the_start(start: Start, handler: str, kind: str) -> None:
    """No invocation is needed to find it out."""
    with pytest.raises(FunctionFailed) as failed, start(handler):
        pytest.fail("it started")
    assert failed.value.kind == kind


def test_an_import_without_end_fails_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lambda, which grants ten seconds."""
    monkeypatch.setattr("local.lambda_runtime.INIT_SECONDS", 0.3)
    with pytest.raises(FunctionFailed, match="Timeout"), start("endless.handler"):
        pytest.fail("it started")


def test_a_late_answer_is_nobody_s(start: Start) -> None:
    """The invocation fails at its deadline, and its answer is not taken for that of the next one."""
    with start("module.slow") as function:
        with pytest.raises(FunctionFailed, match="Timeout"):
            function.invoke({"seconds": 0.5}, seconds=0.1)
        assert function.invoke({"seconds": 0}) == {"slept": 0}


def test_a_death_fails_every_invocation_from_then_on(start: Start) -> None:
    """At once, with the exit status."""
    with start("module.dies") as function:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(FunctionFailed, match="Exit: with status 3"):
                function.invoke({})
            assert time.monotonic() - began < 5


def test_nothing_is_left_after_the_end(start: Start) -> None:
    """Neither process nor thread; stopping again is harmless."""
    before = set(threading.enumerate())
    with start("module.echo") as function:
        process = function.pid
        function.invoke({})
    function.stop()

    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before
