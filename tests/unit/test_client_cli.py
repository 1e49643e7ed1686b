"""The `tlfif` command from its arguments to its exit code, over a scripted service."""

from __future__ import annotations

import functools
import io
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import client.errors
import client.session
from client.cli import main
from client.exits import HELP, ExitCode
from router_lambda.job import FINAL_STATUSES
from tests.client_service import JOB_ID, TOKEN, Run, Service, Store, accepted, reply, run_command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `tlfif infer` with these arguments against this service."""
    return functools.partial(run_command, monkeypatch, "infer")


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Make these bytes the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def test_text_goes_to_stdout_and_the_receipt_to_stderr(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished job prints its text, one receipt line, and exits 0."""
    code = run(Service(Store.EMPTY, reply("Blue"), reply("Blue.", status="done")), "why?")

    out, err = capsys.readouterr()
    assert code == 0
    assert out == "Blue.\n"
    assert err.splitlines() == [
        f"tlfif: job {JOB_ID}",
        "tlfif: 5 tokens, first token after 0.02 s, total 0.07 s (worker: queued 3 ms, first token 41 ms)",
    ]


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("failed", 1), ("expired", 3), ("cancelled", 4)])
def test_each_end_has_its_exit_code(run: Run, capsys: pytest.CaptureFixture[str], status: str, code: int) -> None:
    """Scripts can tell how the job ended; what had arrived is printed in any case."""
    assert run(Service(reply("a", status=status)), "why?") == code
    assert capsys.readouterr().out == "a\n"


def test_a_failure_tells_its_error(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker's message and code are on stderr."""
    failed = reply(status="failed", error={"code": "prompt_too_long", "message": "shorten the prompt"})

    assert run(Service(failed), "why?") == ExitCode.FAILED
    assert "tlfif: the job failed: shorten the prompt [prompt_too_long]\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("service", "code", "words"),
    [
        (Service(posts=(httpx.Response(400),)), 2, "does not accept the request"),
        (Service(posts=(httpx.Response(401),)), 6, "does not accept the token"),
        (Service(posts=(httpx.Response(402, headers={"Retry-After": "3"}),)), 6, "raise the cap"),
        (Service(posts=(httpx.Response(429, headers={"Retry-After": "3"}),)), 6, "try again in 3 s"),
        (Service(posts=(httpx.Response(503),)), 6, "try again later"),
        (Service(posts=(httpx.ConnectError("refused"),)), 6, "cannot connect to gateway.test"),
        (Service(403), 6, "has expired"),
        (Service(b"{"), 6, "not JSON"),
        (Service(Store.EMPTY), 5, "no final reply within 600 s"),
    ],
    ids=["400", "401", "402", "429", "503", "network", "link", "JSON", "deadline"],
)
def test_each_error_has_its_exit_code_and_one_message(
    run: Run, capsys: pytest.CaptureFixture[str], service: Service, code: int, words: str
) -> None:
    """Errors are one line on stderr, never a traceback, and keep prompt and token to themselves."""
    assert run(service, "a secret prompt") == code

    out, err = capsys.readouterr()
    assert not out
    message = err.removeprefix(f"tlfif: job {JOB_ID}\n")
    assert words in message
    assert message.startswith("tlfif: ")
    assert message.count("\n") == 1
    assert "secret" not in err
    assert TOKEN not in err


def test_what_came_before_the_deadline_stays_on_stdout(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A reply that stalls leaves its beginning, on a line of its own."""
    assert run(Service(reply("Bl"), Store.SAME), "--deadline", "9", "why?") == ExitCode.DEADLINE

    out, err = capsys.readouterr()
    assert out == "Bl\n"
    assert "within 9 s" in err


def test_a_starting_gpu_is_announced_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The user learns why nothing comes yet, and for how long."""
    service = Service(*[Store.EMPTY] * 9, reply("a", status="done"), posts=(accepted("starting", eta=87.4),))

    assert run(service, "why?") == 0
    assert capsys.readouterr().err.count("tlfif: the GPU is starting, which takes about 87 s\n") == 1


def test_several_choices_are_labelled(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`--n 2` prints both answers, one after the other."""
    assert run(Service(reply("a", ""), reply("ab", "c", status="done")), "--n", "2", "why?") == 0
    assert capsys.readouterr().out == "--- choice 1 of 2 ---\nab\n--- choice 2 of 2 ---\nc\n"


def test_json_output_is_the_final_document(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`--output json` prints the last document, which a script can parse."""
    final = reply("ab", status="done")

    assert run(Service(reply("a"), final), "--output", "json", "why?") == 0
    assert json.loads(capsys.readouterr().out) == final


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["why?"], {"prompt": "why?"}),
        (["--", "-why"], {"prompt": "-why"}),
        (["--raw", "why?"], {"prompt": "why?", "raw": True}),
        (["--idle-minutes", "2", "why?"], {"prompt": "why?", "idle_minutes": 2}),
        (
            ["--system", "be brief", "why?"],
            {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]},
        ),
        (
            ["--max-tokens", "9", "--seed", "-1", "why?"],
            {"prompt": "why?", "params": {"max_tokens": 9, "seed": -1}},
        ),
        (
            ["--temperature", "0", "--top-p", "0.5", "--n", "1", "why?"],
            {"prompt": "why?", "params": {"temperature": 0, "top_p": 0.5, "n": 1}},
        ),
        (["--stop", "a", "--stop", "b", "why?"], {"prompt": "why?", "params": {"stop": ["a", "b"]}}),
        (["--json", "why?"], {"prompt": "why?", "params": {"response_format": {"type": "json_object"}}}),
    ],
    ids=" ".join,
)
def test_options_become_the_body(run: Run, arguments: list[str], body: dict[str, Any]) -> None:
    """Each option lands in its field, and nothing else is sent."""
    service = Service(reply(status="done"))

    run(service, *arguments)

    assert service.body == body


def test_a_schema_file_becomes_the_response_format(run: Run, tmp_path: Path) -> None:
    """`--json-schema` sends the file in the shape of the OpenAI API."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    service = Service(reply(status="done"))

    run(service, "--json-schema", str(path), "why?")

    assert service.body["params"]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema},
    }


@pytest.mark.parametrize(
    ("content", "words"), [("{", "is not JSON"), ("[]", "must hold a JSON object"), (None, "cannot read")]
)
def test_a_bad_schema_file_is_refused_before_anything_is_sent(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, words: str
) -> None:
    """A file that is missing or holds no schema exits 2 and names the file."""
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    service = Service()

    assert run(service, "--json-schema", str(path), "why?") == ExitCode.USAGE
    err = capsys.readouterr().err
    assert words in err
    assert "schema.json" in err
    assert not service.requests


def test_a_dash_reads_the_prompt_from_stdin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stdin is sent as it is, its last newline included."""
    give_stdin(monkeypatch, "Grüße 👋\n".encode())
    service = Service(reply(status="done"))

    assert run(service, "-") == 0
    assert service.body == {"prompt": "Grüße 👋\n"}


def test_stdin_that_is_not_utf8_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the place and keeps the content to itself."""
    give_stdin(monkeypatch, b"secret \xff")
    service = Service()

    assert run(service, "-") == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "stdin is not UTF-8: bad byte at offset 7" in err
    assert "secret" not in err
    assert not service.requests


def test_an_argument_that_is_not_utf8_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes of the command line that are no UTF-8 reach Python as surrogates and go no further."""
    assert run(Service(), "secret \udcff") == ExitCode.USAGE
    assert "secret" not in capsys.readouterr().err


def test_missing_settings_are_named_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without URL and token, one message names both."""
    monkeypatch.delenv("TLFIF_URL", raising=False)
    monkeypatch.delenv("TLFIF_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    assert main(["infer", "why?"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "TLFIF_URL" in err
    assert "TLFIF_TOKEN" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["infer"],
        ["infer", "--n", "two", "why?"],
        ["infer", "--raw", "--system", "x", "why?"],
        ["infer", "--json", "--json-schema", "f", "why?"],
        ["infer", "--max", "3", "why?"],
        ["status", "gpu"],
        ["status", "--output", "yaml"],
        ["stop", "one", "two"],
        ["stop", "--deadline", "3"],
        ["login", "--password", "sesame"],
    ],
    ids=" ".join,
)
def test_bad_usage_exits_2(arguments: list[str]) -> None:
    """Missing, contradicting, abbreviated and mistyped options are argparse's to refuse."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == ExitCode.USAGE


def test_ctrl_c_exits_130_without_a_traceback(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupt ends the line of what was printed before, and tells how to cancel the job."""
    assert run(Service(reply("Bl"), KeyboardInterrupt()), "why?") == ExitCode.INTERRUPTED

    out, err = capsys.readouterr()
    assert out == "Bl\n"
    assert err.splitlines() == [
        f"tlfif: job {JOB_ID}",
        f"tlfif: interrupted; the job runs on, unless `tlfif stop {JOB_ID}` cancels it",
    ]


def test_ctrl_c_before_the_answer_names_no_job(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """While the POST is under way, nobody knows yet which job could be cancelled."""
    assert run(Service(posts=(KeyboardInterrupt(),)), "why?") == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "tlfif: interrupted; a job that was accepted runs on\n"


def test_an_idempotency_key_becomes_the_header(run: Run) -> None:
    """`--idempotency-key` is sent as it is, and outside the body."""
    service = Service(reply(status="done"))

    run(service, "--idempotency-key", "my key", "why?")

    assert service.requests[0].headers["idempotency-key"] == "my key"
    assert service.body == {"prompt": "why?"}


def test_help_documents_every_exit_code() -> None:
    """The table in --help has a line for each code that the command can return."""
    lines = {line.split()[0] for line in HELP.splitlines()[1:]}

    assert lines == {str(int(code)) for code in ExitCode}


def test_the_manual_has_the_same_table() -> None:
    """docs/client.md says about each exit code what --help says."""
    manual = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")

    for line in HELP.splitlines()[1:]:
        code, meaning = line.split(maxsplit=1)
        assert f"| {code} | {meaning} |" in manual


def test_every_final_status_has_an_exit_code(run: Run) -> None:
    """A status added to the job definition cannot be forgotten here."""
    codes = {run(Service(reply(status=status)), "why?") for status in FINAL_STATUSES}

    assert len(codes) == len(FINAL_STATUSES)


def test_the_tree_of_errors_is_complete() -> None:
    """Every error of the client has one root and its line in the tree that the docstring draws."""
    raised = [error for error in vars(client.errors).values() if isinstance(error, type)]
    errors = [error for error in raised if issubclass(error, Exception)]

    assert all(issubclass(error, client.errors.ClientError) for error in errors)
    assert all(error.__name__ in str(client.errors.__doc__) for error in errors)
