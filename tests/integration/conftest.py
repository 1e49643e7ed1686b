"""What several integration tests look into."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Yield a client of the Lambdas' Redis."""
    with redis.Redis.from_url(redis_url, socket_timeout=5) as made:
        yield made


@pytest.fixture
def openssl_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that gets the arguments and the environment of every call of openssl."""
    seen, real = tmp_path / "openssl-calls", shutil.which("openssl")
    if real is None:
        pytest.skip("the openssl program is not installed")
    program = tmp_path / "bin" / "openssl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >> {seen}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return seen
