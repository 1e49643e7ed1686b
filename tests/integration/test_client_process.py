"""The real `tlfif` process over real sockets: what arrives when, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from client.exits import ExitCode
from client.session import Client
from tests.client_service import JOB_ID, TOKEN, reply
from tests.integration.client_world import REPOSITORY, Tlfif, World

OTHER_ID = "5f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c6"


@pytest.fixture
def world() -> Iterator[World]:
    """Yield a running gateway and store."""
    with World() as world:
        yield world


def test_text_arrives_before_the_reply_is_finished(world: World) -> None:
    """Each piece is in the pipe while the worker still writes; characters stay whole."""
    with Tlfif(world, "infer", "why?") as tlfif:
        world.put(reply("Le ciel"))
        tlfif.read(b"Le ciel")
        world.put(reply("Le ciel est bleu 🌤"))
        tlfif.read(" est bleu 🌤".encode())
        assert tlfif.process.poll() is None
        world.put(reply("Le ciel est bleu 🌤️.", status="done"))

        code, out, err = tlfif.finish()

    assert (code, out) == (ExitCode.DONE, "\N{VARIATION SELECTOR-16}.\n")
    assert err.startswith(f"tlfif: job {JOB_ID}\ntlfif: 20 tokens, first token after ")
    assert world.bodies == [{"prompt": "why?"}]


def test_a_reply_is_sent_once_per_change(world: World) -> None:
    """Looks without news cost a 304 and no body."""
    with Tlfif(world, "infer", "why?") as tlfif:
        world.put(reply("a"))
        tlfif.read(b"a")
        world.await_looks(304, at_least=3)
        world.put(reply("ab", status="done"))
        tlfif.finish()

    assert world.looks[200] == 2
    assert set(world.looks) <= {200, 304, 404}


@pytest.mark.parametrize(
    ("status", "code"),
    [("failed", ExitCode.FAILED), ("expired", ExitCode.EXPIRED), ("cancelled", ExitCode.CANCELLED)],
)
def test_bad_ends_have_exit_codes(world: World, status: str, code: ExitCode) -> None:
    """The process ends with the code of the job's end."""
    world.put(reply("a", status=status))
    with Tlfif(world, "infer", "why?") as tlfif:
        assert tlfif.finish()[:2] == (code, "a\n")


def test_ctrl_c_ends_at_once(world: World) -> None:
    """SIGINT in the midst of a reply: code 130, the line ended, how to cancel the job, no traceback."""
    with Tlfif(world, "infer", "why?") as tlfif:
        world.put(reply("Bl"))
        tlfif.read(b"Bl")
        tlfif.interrupt()

        assert tlfif.finish() == (
            ExitCode.INTERRUPTED,
            "\n",
            f"tlfif: job {JOB_ID}\ntlfif: interrupted; the job runs on, unless `tlfif stop {JOB_ID}` cancels it\n",
        )


def test_a_reader_that_leaves_ends_the_command_quietly(world: World) -> None:
    """With `tlfif … | head -c 2` the next write fails: code 141 and no complaint."""
    with Tlfif(world, "infer", "why?") as tlfif:
        world.put(reply("Bl"))
        tlfif.read(b"Bl")
        tlfif.stdout.close()
        world.put(reply("Blue"))
        code = tlfif.process.wait(10)
        assert tlfif.process.stderr is not None
        assert (code, tlfif.process.stderr.read().decode()) == (ExitCode.PIPE_CLOSED, f"tlfif: job {JOB_ID}\n")
        tlfif.process.stdout = None


def test_an_outage_of_the_store_is_waited_out(world: World) -> None:
    """The server goes away and comes back; the text goes on where it was."""
    with Tlfif(world, "infer", "why?") as tlfif:
        world.put(reply("Bl"))
        tlfif.read(b"Bl")
        world.stop()
        world.put(reply("Blue", status="done"))
        world.start()

        assert tlfif.finish()[:2] == (ExitCode.DONE, "ue\n")


def test_a_post_without_an_answer_is_sent_again_under_its_key(world: World) -> None:
    """The gateway takes the job and dies in the midst of its answer; the second answer is that of the same job."""
    world.cut = 1
    world.put(reply("ab", status="done"))
    with Tlfif(world, "infer", "why?") as tlfif:
        code, out, _ = tlfif.finish()

    assert (code, out) == (ExitCode.DONE, "ab\n")
    assert len(world.keys) == 2
    assert len(set(world.keys)) == 1


@pytest.mark.parametrize(
    ("arguments", "body", "code", "out", "err"),
    [
        ([], b"", ExitCode.DONE, "stopping: the GPU stops as soon as no job is running\n", ""),
        ([JOB_ID], json.dumps({"id": JOB_ID}).encode(), ExitCode.DONE, f"cancelling {JOB_ID}\n", ""),
        ([OTHER_ID], json.dumps({"id": OTHER_ID}).encode(), ExitCode.SERVICE, "", "no such job of yours is waiting"),
    ],
    ids=["the GPU", "a job", "an unknown job"],
)
def test_stop(world: World, *, arguments: list[str], body: bytes, code: ExitCode, out: str, err: str) -> None:
    """What is posted, what is said on which stream, and the exit code."""
    with Tlfif(world, "stop", *arguments) as tlfif:
        finished = tlfif.finish()

    assert world.stops == [body]
    assert finished[:2] == (code, out)
    assert err in finished[2]
    assert bool(err) == bool(finished[2])


def test_the_deadline_ends_the_wait(world: World) -> None:
    """No worker ever takes the job."""
    with Tlfif(world, "infer", "--deadline", "0.5", "why?") as tlfif:
        code, out, err = tlfif.finish()

    assert (code, out) == (ExitCode.DEADLINE, "")
    assert "no final reply within 0.5 s" in err


def test_a_wrong_token_is_refused(world: World) -> None:
    """401: the service's words, the advice, and not the token."""
    with Tlfif(world, "infer", "why?", token="wrong-token") as tlfif:
        code, _, err = tlfif.finish()

    assert code == ExitCode.SERVICE
    assert "401: send a valid token" in err
    assert "wrong-token" not in err


def test_an_expired_link_is_refused(world: World) -> None:
    """403 from the store ends the wait."""
    world.link_status = 403
    with Tlfif(world, "infer", "why?") as tlfif:
        code, _, err = tlfif.finish()

    assert code == ExitCode.SERVICE
    assert "expired" in err


def test_a_service_that_is_down_cannot_be_reached(world: World) -> None:
    """Nobody listens: the message names the host and what to check."""
    world.stop()
    with Tlfif(world, "infer", "why?") as tlfif:
        code, _, err = tlfif.finish()

    assert code == ExitCode.SERVICE
    assert "cannot connect to 127.0.0.1" in err
    assert "Traceback" not in err


def test_the_prompt_comes_through_a_pipe(world: World) -> None:
    """`-` reads stdin; a starting GPU is announced; JSON output is the document."""
    world.accepted = {"status": "starting", "eta": 90}
    world.put(reply("ab", status="done"))
    with Tlfif(world, "infer", "--output", "json", "-", stdin="Grüße\n".encode()) as tlfif:
        code, out, err = tlfif.finish()

    assert code == ExitCode.DONE
    assert json.loads(out) == reply("ab", status="done")
    assert "the GPU is starting" in err
    assert world.bodies == [{"prompt": "Grüße\n"}]


def test_a_prompt_that_is_not_utf8_is_refused(world: World) -> None:
    """Bad bytes, from stdin or as an argument, exit 2 and are never sent."""
    with Tlfif(world, "infer", "-", stdin=b"caf\xe9") as tlfif:
        code, _, err = tlfif.finish()

    assert code == ExitCode.USAGE
    assert "stdin is not UTF-8: bad byte at offset 3" in err
    assert not world.bodies


def test_the_command_line_loads_without_httpx() -> None:
    """`--help` and mistyped options do not wait for the HTTP library."""
    check = "import sys, client.cli; print('httpx' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=REPOSITORY)

    assert done.stdout == "False\n"


async def test_loopback_is_reached_without_the_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment gets neither the token nor a request for this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    world.put(reply("ab", status="done"))

    async with Client(world.url, TOKEN) as client:
        submission = await client.submit(prompt="why?")
        texts = [snapshot.text async for snapshot in client.follow(submission)]

    assert texts == ["ab"]
