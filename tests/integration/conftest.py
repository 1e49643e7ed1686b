"""What several integration tests look into."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.lambda_world import REPOSITORY, build, runtime


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


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the package is built from."""
    runtime()  # skips, where nothing can be built
    folder = tmp_path_factory.mktemp("sources")
    for name in ("router_lambda", ".ci"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("node_modules"))
    return folder


@pytest.fixture(scope="session")
def packages(sources: Path) -> Path:
    """Return the folder with both zips."""
    build(sources, PYTHONHASHSEED="1")
    return sources / "dist"


@pytest.fixture(scope="session")
def unpacked(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package for this machine's processor, unpacked."""
    folder = tmp_path_factory.mktemp("task")
    architecture = "arm64" if os.uname().machine in {"aarch64", "arm64"} else "x86_64"
    with zipfile.ZipFile(packages / f"tl-fif-router-{architecture}.zip") as archive:
        archive.extractall(folder)
    return folder
