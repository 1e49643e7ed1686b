"""What is read of supervisord's log and the worker's while a worker is proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from ami.supervised import Watch

BEFORE = "2026-11-26 exited: worker (exit status 70; not expected)\n"


def said(folder: Path, text: str, name: str = "supervisord.log") -> None:
    """Append to a log."""
    with (folder / name).open("a") as log:
        log.write(text)


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("INFO spawned: 'worker' with pid 7", None),
        ("INFO success: worker entered RUNNING state", None),
        ("INFO exited: worker (exit status 0; expected)", "exit status 0"),
        ("WARN exited: worker (exit status 2; not expected)", "exit status 2"),
        ("WARN exited: worker (terminated by SIGKILL; not expected)", "terminated by SIGKILL"),
        ("INFO spawnerr: can't find command '/x'", "can't find command '/x'"),
    ],
)
def test_how_the_worker_ended(tmp_path: Path, line: str, how: str | None) -> None:
    """In supervisord's words, but for whether it was expected, which depends on how long the worker has lived."""
    watch = Watch(tmp_path)
    said(tmp_path, f"{line}\n")

    assert watch.ended() == how


def test_what_was_said_before_does_not_count(tmp_path: Path) -> None:
    """The same unit is proven twice, with the same logs."""
    said(tmp_path, BEFORE)
    watch = Watch(tmp_path)

    assert watch.ended() is None
    assert watch.last_words("secret") == []
    said(tmp_path, BEFORE)
    assert watch.ended() == "exit status 70"


def test_the_last_words_are_few_and_without_the_prompt(tmp_path: Path) -> None:
    """Of each log that there is."""
    watch = Watch(tmp_path)
    said(tmp_path, "".join(f"line {number}\n" for number in range(100)), "worker.log")
    said(tmp_path, "failed at: What is it?\n", "worker-stderr.log")
    words = watch.last_words("What is it?")

    assert words[0] == "worker.log: line 85"
    assert words[-1] == "worker-stderr.log: failed at: …"
    assert len(words) == 16
