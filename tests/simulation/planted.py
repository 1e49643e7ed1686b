"""Bugs that are planted to see whether a simulation finds them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Final

import pytest

from tests.simulation.ledger import Broken
from worker import lua

MOST_SEEDS: Final = 400
"""Worlds in which a planted bug has to show."""

Plant = Callable[[pytest.MonkeyPatch], None]


def in_script(name: str, right: str, wrong: str, module: ModuleType = lua) -> Plant:
    """Return what replaces a part of a script in a module, the worker's scripts unless said otherwise."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        script = getattr(module, name)
        assert right in script
        monkeypatch.setattr(module, name, script.replace(right, wrong))

    return plant


def assert_is_found(bug: str, simulate: Callable[[int], object], capsys: pytest.CaptureFixture[str]) -> None:
    """Run worlds until one breaks a rule, and print which one and why."""
    for seed in range(MOST_SEEDS):
        try:
            simulate(seed)
        except Broken as found:
            with capsys.disabled():
                sys.stdout.write(f"\n{bug}: found in world {seed + 1}: {str(found).splitlines()[0]}\n")
            return
    pytest.fail(f"not found in {MOST_SEEDS} worlds")


@contextmanager
def printed(
    config: pytest.Config, what: str, names: Sequence[str], ends: Callable[[Counter[str]], str]
) -> Iterator[Counter[str]]:
    """Yield counts that tests add to; in the end the named ones are printed, and what `ends` says of them."""
    found: Counter[str] = Counter()
    yield found
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        line = ", ".join(f"{found[name]} {name}" for name in names)
        sys.stdout.write(f"\n{what}: {line}, {ends(found)}\n")
